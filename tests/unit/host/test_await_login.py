"""Waiting for a guest's SSH server, which is whatever the guest makes of it."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from containarium.host import login
from containarium.host.incus import Incus
from containarium.host.settings import HostSettings
from containarium.model.host import RetryableError

ADDRESS = "192.0.2.7"
LOCAL = "Local:\n  +-- 0.0.0.0/0 3 0 5\n           |-- 192.0.2.7\n              /32 host LOCAL\n"
OTHER = "Local:\n  +-- 0.0.0.0/0 3 0 5\n           |-- 192.0.2.70\n              /32 host LOCAL\n"


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
    assert login._greeting("192.0.2.1", 0.3).startswith(b"x")
    assert time.monotonic() - started < 1.5


def test_a_greeting_in_two_parts_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    def hesitate(peer: socket.socket) -> None:
        with peer:
            peer.sendall(b"SSH-")
            time.sleep(0.05)
            peer.sendall(b"2.0-x\r\n")

    serve(monkeypatch, hesitate)
    assert login._greeting("192.0.2.1", 5.0) == b"SSH-2.0-x\r\n"


class State(Incus):
    """An Incus that knows one guest's state."""

    def __init__(self, **state: Any) -> None:
        super().__init__(HostSettings())
        network = {"eth0": {"addresses": [{"family": "inet", "scope": "global", "address": ADDRESS}]}}
        self.state = {"status": "Running", "pid": 42, "network": network, **state}
        self.asked = 0

    def get(self, *path: str, timeout: float | None = None, **params: str) -> Any:
        self.asked += 1
        return self.state


class Always:
    """A port that is always worth a try."""

    def ready(self) -> bool:
        return True

    def explain(self, patience: float) -> None:
        pass


def addresses(proc: Path, pid: int = 42, table: str = "") -> None:
    folder = proc / str(pid) / "net"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "fib_trie").write_text(table)


@pytest.mark.parametrize(("table", "ready"), [(LOCAL, True), (OTHER, False), ("", False)])
def test_a_port_is_tried_when_its_address_is_there(tmp_path: Path, table: str, ready: bool) -> None:
    addresses(tmp_path, table=table)
    assert login.Doorstep(State(), "alice-container", ADDRESS, tmp_path).ready() is ready


def test_looking_costs_one_request_however_often(tmp_path: Path) -> None:
    incus = State()
    addresses(tmp_path)
    doorstep = login.Doorstep(incus, "alice-container", ADDRESS, tmp_path)
    assert not any(doorstep.ready() for _ in range(5))
    addresses(tmp_path, table=LOCAL)
    assert doorstep.ready()
    assert incus.asked == 1


def test_a_guest_that_restarts_is_followed(tmp_path: Path) -> None:
    incus = State()
    addresses(tmp_path)
    doorstep = login.Doorstep(incus, "alice-container", ADDRESS, tmp_path)
    doorstep.ready()
    (tmp_path / "42").rename(tmp_path / "gone")
    assert not doorstep.ready()
    incus.state["pid"] = 43
    addresses(tmp_path, 43, LOCAL)
    assert doorstep.ready()


def test_a_guest_that_ends_is_waited_for_no_longer(tmp_path: Path) -> None:
    incus = State()
    addresses(tmp_path)
    doorstep = login.Doorstep(incus, "alice-container", ADDRESS, tmp_path)
    doorstep.ready()
    (tmp_path / "42").rename(tmp_path / "gone")
    incus.state |= {"status": "Stopped", "pid": 0}
    with pytest.raises(RetryableError, match="exited at once"):
        login.await_login(ADDRESS, doorstep, 60.0)


def test_a_port_whose_guest_cannot_be_seen_is_tried(tmp_path: Path) -> None:
    assert login.Doorstep(State(), "alice-container", ADDRESS, tmp_path).ready()


def test_the_kernels_table_is_read_to_a_bound(tmp_path: Path) -> None:
    addresses(tmp_path, table="x" * 200_000 + "\n" + LOCAL)
    assert not login.Doorstep(State(), "alice-container", ADDRESS, tmp_path).ready()


def test_what_greets_later_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = [b"", b"nonsense\r\n", b"SSH-2.0-x\r\n"]

    def talk(peer: socket.socket) -> None:
        with peer:
            peer.sendall(answers.pop(0))

    serve(monkeypatch, talk)
    login.await_login(ADDRESS, Always(), 60.0)
    assert answers == []


@pytest.mark.parametrize(
    ("state", "reason"),
    [({"status": "Stopped"}, "GuestDied"), ({"network": {}}, "NoAddress"), ({}, "NoLogin")],
)
def test_a_login_that_never_comes_is_explained(tmp_path: Path, state: dict[str, Any], reason: str) -> None:
    incus = State()
    addresses(tmp_path)
    doorstep = login.Doorstep(incus, "alice-container", ADDRESS, tmp_path)
    doorstep.ready()
    incus.state |= state
    with pytest.raises(RetryableError) as caught:
        login.await_login(ADDRESS, doorstep, 0.1)
    assert caught.value.reason == reason
