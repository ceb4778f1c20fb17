"""The trail: one line per change, in a schema that does not change, whatever somebody put into it."""

from __future__ import annotations

import json
import os
import re
import socket
import syslog
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from containarium.host.audittrail import IDENTIFIER, Who, caller, deliver, peer, record
from containarium.host.logins import Logs
from containarium.host.loglines import changes

ANNA = Who("anna", "cli", 0, 1000, "anna")


def written(who: Who, action: str, details: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    lines: list[str] = []

    def send(line: str) -> bool:
        lines.append(line)
        return True

    assert record(who, action, details, send=send, **more)
    (line,) = lines
    assert line.isascii()
    assert line.isprintable()
    found: dict[str, Any] = json.loads(line)
    return found


def test_the_schema() -> None:
    assert written(
        ANNA, "resize", {"memory": "8GiB"}, environments=["alice"], result="ok", before="aa", after="bb"
    ) == {
        "event": "audit",
        "v": 1,
        "who": "anna",
        "via": "cli",
        "uid": 0,
        "login": 1000,
        "sudo": "anna",
        "action": "resize",
        "environments": ["alice"],
        "result": "ok",
        "before": "aa",
        "after": "bb",
        "details": {"memory": "8GiB"},
    }
    assert written(Who("admin", "mtls", certificate="SHA256:x"), "approve") == {
        "event": "audit",
        "v": 1,
        "who": "admin",
        "via": "mtls",
        "certificate": "SHA256:x",
        "action": "approve",
        "result": "ok",
    }


def test_what_strangers_chose_is_bounded_and_on_one_line() -> None:
    evil = "x\n{}\x1b[31m\u202e" + "y" * 100_000
    found = written(Who(evil, "mtls"), evil, {evil: evil, "list": [evil] * 1000}, environments=[evil] * 1000)
    assert len(json.dumps(found)) < 100_000
    assert len(found["who"]) == 200
    assert len(found["environments"]) == len(found["details"]["list"]) == 50


def test_the_login_counts_more_than_what_sudo_says(tmp_path: Path) -> None:
    (tmp_path / "loginuid").write_text("0")
    found = caller({"SUDO_USER": "mallory"}, tmp_path)
    assert (found.name, found.login, found.sudo, found.uid) == ("root", 0, "mallory", os.getuid())


@pytest.mark.parametrize("text", ["4294967295", "", "nonsense", None])
def test_where_nobody_logged_in_sudo_and_the_user_id_speak(tmp_path: Path, text: str | None) -> None:
    if text is not None:
        (tmp_path / "loginuid").write_text(text)
    assert caller({"SUDO_USER": "anna"}, tmp_path).name == "anna"
    alone = caller({}, tmp_path)
    assert alone.login is None
    assert alone.name == peer(os.getuid()).name


def test_a_peer_without_an_account_has_its_number() -> None:
    assert peer(4_000_000_000) == Who("4000000000", "socket", 4_000_000_000)


def test_where_nobody_takes_it_nothing_breaks() -> None:
    assert record(ANNA, "apply", send=lambda _line: False) is False


class Logger:
    """A logger's socket. ``lines`` are those that it was given, in the order of their coming."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))
        self._socket.settimeout(10)

    def line(self) -> str:
        return self._socket.recv(1 << 20).decode("ascii")

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def logger(tmp_path: Path) -> Iterator[Logger]:
    found = Logger(tmp_path / "dev-log")
    yield found
    found.close()


def test_a_line_arrives_as_loggers_want_it(logger: Logger, tmp_path: Path) -> None:
    assert deliver('{"a": 1}', (tmp_path / "nowhere", logger.path))
    form = rf"<85>[A-Z][a-z]{{2}} [ 1-3]\d \d\d:\d\d:\d\d containarium-audit\[{os.getpid()}\]: \{{\"a\": 1\}}"
    assert re.fullmatch(form, logger.line())


def test_a_line_is_found_again_in_auth_log(logger: Logger, tmp_path: Path) -> None:
    assert record(ANNA, "resize", environments=["alice"], send=lambda line: deliver(line, (logger.path,)))
    came = logger.line().removeprefix("<85>")
    (tmp_path / "auth.log").write_text(f"{came[:15]} host{came[15:]}\n")  # as rsyslog writes it
    now = datetime.now(UTC)
    (line,) = Logs(tmp_path, which=lambda _name: None).trail(now - timedelta(hours=1), now + timedelta(hours=1)).lines
    found = changes(line)
    assert found is not None
    assert (line.pid, found["who"], found["environments"]) == (os.getpid(), "anna", ["alice"])


def test_lines_of_many_threads_are_each_whole_and_under_their_own_name(logger: Logger) -> None:
    def write(number: int) -> bool:
        return deliver(json.dumps({"number": number}), (logger.path,), 10)

    syslog.openlog("somebody-else")
    with ThreadPoolExecutor(8) as pool:
        written = pool.map(write, range(200))
        lines = [logger.line() for _ in range(200)]
        assert all(written)
    syslog.closelog()
    assert all(f" {IDENTIFIER}[{os.getpid()}]: " in line for line in lines)
    assert sorted(json.loads(line.partition("]: ")[2])["number"] for line in lines) == list(range(200))


def test_a_logger_that_is_stuck_holds_nobody_up(logger: Logger, tmp_path: Path) -> None:
    began = time.monotonic()
    for _ in range(10_000):
        if not deliver("x", (logger.path, logger.path), 0.05):
            break
    else:
        pytest.fail("nobody read, and yet it took everything")
    assert time.monotonic() - began < 10


def test_where_there_is_no_logger_that_is_said(logger: Logger, tmp_path: Path) -> None:
    assert deliver("x", (tmp_path / "nowhere",)) is False
    logger.close()
    assert deliver("x", (logger.path,)) is False, "a socket that nobody holds open"
    assert deliver("x" * (16 << 20), (logger.path,)) is False
