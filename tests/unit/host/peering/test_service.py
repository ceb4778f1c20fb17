"""The controller's end: who asks too much or nonsense is told so, and what was begun ends with the line."""

from __future__ import annotations

import json
import os
import socket
import stat
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from containarium.host.peering.service import PeerService
from containarium.host.peering.wire import Request
from containarium.model.host import TerminalError


class Desk:
    """Answers, and counts what it has begun."""

    def __init__(self) -> None:
        self.held = threading.Semaphore(0)
        self.ended = threading.Semaphore(0)

    @contextmanager
    def answered(self, request: Request) -> Iterator[Mapping[str, Any]]:
        if request.ask == "keys":
            raise TerminalError("not\x1b that\none", remedy="none", reason="X")
        if request.name == "bug":
            raise ZeroDivisionError
        self.held.release()
        try:
            yield {"asked": request.ask, **({"operation": "x"} if request.ask == "offer" else {})}
        finally:
            self.ended.release()


@pytest.fixture
def desk() -> Desk:
    return Desk()


@pytest.fixture
def path(tmp_path: Path, desk: Desk) -> Iterator[Path]:
    """Give the socket of a service."""
    service = PeerService(tmp_path / "peer.sock", os.getgid, desk.answered)
    service.start()
    yield tmp_path / "peer.sock"
    service.stop()


def line(ask: str, name: str = "alice", caller: str = "jump-2") -> bytes:
    return json.dumps({"from": caller, "request": {"ask": ask, "name": name}}).encode() + b"\n"


def connect(path: Path) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.settimeout(20)
    connection.connect(str(path))
    return connection


def ask(path: Path, request: bytes) -> Any:
    with connect(path) as connection:
        connection.sendall(request)
        return json.loads(connection.makefile("rb").readline())


def test_the_group_may_connect_and_nobody_else(path: Path) -> None:
    assert stat.S_IMODE(path.stat().st_mode) == 0o660
    assert path.stat().st_gid == os.getgid()


def test_an_answer_ends_the_line(path: Path, desk: Desk) -> None:
    with connect(path) as connection:
        connection.sendall(line("list"))
        assert connection.makefile("rb").read() == b'{"asked": "list"}\n'
    assert desk.ended.acquire(timeout=20)


@pytest.mark.parametrize("request_line", [b"\n", b"x\n", b"x" * 10_000, line("shell"), line("offer", "root")])
def test_nonsense_is_told(path: Path, request_line: bytes) -> None:
    assert ask(path, request_line) == {"error": "this request makes no sense", "remedy": ""}


def test_a_refusal_and_a_bug_are_told_in_a_line(path: Path) -> None:
    refused = ask(path, line("keys"))
    assert refused["error"].isprintable()
    assert refused["error"].startswith("not")
    assert ask(path, line("offer", "bug"))["error"] == "ZeroDivisionError in its controller"
    assert ask(path, line("list")) == {"asked": "list"}


def test_what_was_begun_lasts_as_long_as_the_line(path: Path, desk: Desk) -> None:
    with connect(path) as connection:
        connection.sendall(line("offer"))
        assert connection.recv(100)
        assert desk.held.acquire(timeout=20)
        assert not desk.ended.acquire(blocking=False)
    assert desk.ended.acquire(timeout=20)


def test_what_was_begun_ends_with_the_service(tmp_path: Path, desk: Desk) -> None:
    service = PeerService(tmp_path / "peer.sock", os.getgid, desk.answered)
    service.start()
    with connect(tmp_path / "peer.sock") as connection:
        connection.sendall(line("offer"))
        assert connection.recv(100)
        service.stop()
        assert desk.ended.acquire(blocking=False)
    assert not (tmp_path / "peer.sock").exists()


def test_one_caller_leaves_room_for_others(path: Path, desk: Desk) -> None:
    held = []
    for _ in range(6):
        held.append(connect(path))
        held[-1].sendall(line("offer"))
        assert b"operation" in held[-1].recv(100)
    assert ask(path, line("list"))["error"] == "jump-2 asks too much at once"
    assert ask(path, line("list", caller="jump-3")) == {"asked": "list"}
    for connection in held:
        connection.close()
    for _ in range(6):
        assert desk.ended.acquire(timeout=20)


def test_without_the_group_nobody_is_served(tmp_path: Path, desk: Desk) -> None:
    number: list[int | None] = [None]
    service = PeerService(tmp_path / "peer.sock", lambda: number[0], desk.answered)
    service.start()
    assert not (tmp_path / "peer.sock").exists()
    number[0] = os.getgid()
    service.start()
    assert ask(tmp_path / "peer.sock", line("list")) == {"asked": "list"}
    service.stop()
