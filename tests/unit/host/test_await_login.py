"""Waiting for a guest's SSH server, which is whatever the guest makes of it."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable

import pytest

from containarium.host import guest


def serve(monkeypatch: pytest.MonkeyPatch, talk: Callable[[socket.socket], None]) -> None:
    """Let every connection end at ``talk``."""

    def connect(_address: tuple[str, int], timeout: float) -> socket.socket:
        ours, theirs = socket.socketpair()
        ours.settimeout(timeout)
        threading.Thread(target=talk, args=(theirs,), daemon=True).start()
        return ours

    monkeypatch.setattr(socket, "create_connection", connect)


def test_a_guest_that_sends_one_byte_at_a_time_gains_no_time(monkeypatch: pytest.MonkeyPatch) -> None:
    def drip(peer: socket.socket) -> None:
        with peer:
            for _ in range(40):
                try:
                    peer.sendall(b"x")
                except OSError:
                    return
                time.sleep(0.1)

    serve(monkeypatch, drip)
    started = time.monotonic()
    assert guest._greeting("192.0.2.1", 0.3).startswith(b"x")
    assert time.monotonic() - started < 1.5


def test_a_greeting_in_two_parts_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    def hesitate(peer: socket.socket) -> None:
        with peer:
            peer.sendall(b"SSH-")
            time.sleep(0.05)
            peer.sendall(b"2.0-x\r\n")

    serve(monkeypatch, hesitate)
    assert guest._greeting("192.0.2.1", 5.0) == b"SSH-2.0-x\r\n"
