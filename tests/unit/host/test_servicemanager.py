"""What the service manager hears, over real sockets."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from containarium.host.servicemanager import ServiceManager


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[socket.socket]:
    """The socket of a service manager."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as heard:
        heard.bind(str(tmp_path / "notify"))
        heard.settimeout(5)
        yield heard


def service(heard: socket.socket) -> ServiceManager:
    return ServiceManager({"NOTIFY_SOCKET": str(heard.getsockname())})


def test_plain_messages(manager: socket.socket) -> None:
    told = service(manager)
    told.ready()
    told.stopping()
    told.watchdog()
    told.extend(12.5)
    assert [manager.recv(4096) for _ in range(4)] == [
        b"READY=1",
        b"STOPPING=1",
        b"WATCHDOG=1",
        b"EXTEND_TIMEOUT_USEC=12500000",
    ]


def test_a_reload_says_when_it_began(manager: socket.socket) -> None:
    before = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    service(manager).reloading()
    first, second = manager.recv(4096).decode().split("\n")
    assert first == "RELOADING=1"
    assert before <= int(second.removeprefix("MONOTONIC_USEC=")) <= time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000


@pytest.mark.parametrize(
    ("said", "heard"),
    [
        ("20 environments, all ready", "STATUS=20 environments, all ready"),
        ("two\nREADY=1\x1b[2J lines", "STATUS=two READY=1 [2J lines"),
        ("größer", "STATUS=größer"),
        ("x" * 500, "STATUS=" + "x" * 199 + "…"),
    ],
)
def test_a_status_is_one_printable_line(manager: socket.socket, said: str, heard: str) -> None:
    service(manager).status(said)
    assert manager.recv(4096).decode() == heard


def test_an_abstract_name() -> None:
    name = f"containarium-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as heard:
        heard.bind(b"\0" + name.encode())
        heard.settimeout(5)
        ServiceManager({"NOTIFY_SOCKET": f"@{name}"}).ready()
        assert heard.recv(4096) == b"READY=1"


@pytest.mark.parametrize("named", ["", "/", "@", "relative", "vsock:2:1234", "/nowhere/at/all", "/" + "x" * 300])
def test_nobody_to_tell(named: str) -> None:
    told = ServiceManager({"NOTIFY_SOCKET": named})
    told.ready()
    told.status("x")
    assert told.watchdog_interval() is None


def test_a_manager_that_does_not_read_holds_nobody_up(manager: socket.socket) -> None:
    told = service(manager)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as filler:
        filler.setblocking(False)
        with suppress(BlockingIOError):
            while True:
                filler.sendto(b"x", manager.getsockname())
    told.watchdog()  # lost
    manager.recv(1)


@pytest.mark.parametrize(
    ("environ", "interval"),
    [
        ({"WATCHDOG_USEC": "30000000"}, 15.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "77"}, 15.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "78"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "-5"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({}, None),
    ],
)
def test_the_watchdogs_interval(environ: dict[str, str], interval: float | None) -> None:
    assert ServiceManager(environ, pid=77).watchdog_interval() == interval
