"""Errands: bounded, told to whoever listens, and written down however they end."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import NoReturn

import grpc
import pytest

from containarium.api.errands import Errands
from containarium.api.errors import CallError
from containarium.api.follow import State
from containarium.api.gate import Call
from containarium.api.who import Role, Who
from containarium.model.host import Progress, TerminalError
from tests.unit.api.conftest import FakeLog


@pytest.fixture
def call() -> Call:
    """Give a call of an admin that has a minute."""
    return Call(Who("admin", Role.ADMIN, uid=0), "Backup", time.monotonic() + 60, threading.Event())


@pytest.fixture
def no_threads(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """Let the machine have no thread left."""

    def start(_self: threading.Thread) -> NoReturn:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", start)
        yield patch


def test_what_it_says_is_told_and_its_end_is_logged(call: Call) -> None:
    log = FakeLog()

    def errand(tell: Progress) -> str:
        tell("packing")
        return "packed"

    steps = list(Errands(logger=log).run(call, "alice", errand))
    assert [(step.state, step.message) for step in steps] == [(State.WORKING, "packing"), (State.DONE, "packed")]
    (line,) = log.said("errand ended")
    assert line == {"call": "Backup", "who": "admin", "environment": "alice", "unattended": False, "said": "packed"}


def test_how_it_ends_is_logged_when_its_client_has_gone(call: Call) -> None:
    log, go = FakeLog(), threading.Event()

    def errand(_tell: Progress) -> str:
        go.wait(10)
        raise TerminalError("the pool is full", remedy="free space", reason="NoSpace")

    errands = Errands(logger=log)
    steps = errands.run(call, "alice", errand)
    call._ended.set()
    with pytest.raises(CallError, match="the host goes on with it"):
        next(steps)
    assert errands.wait(0.05) == ["alice"]
    go.set()
    assert errands.wait(10) == []
    (line,) = log.said("errand failed")
    assert (line["environment"], line["unattended"]) == ("alice", True)
    assert "the pool is full" in line["error"]


def test_an_error_that_nobody_thought_of_is_logged_with_its_place(call: Call) -> None:
    log = FakeLog()
    with pytest.raises(ZeroDivisionError):
        list(Errands(logger=log).run(call, "alice", lambda _tell: str(1 // 0)))
    assert isinstance(log.said("errand failed")[0]["exc_info"], ZeroDivisionError)


def test_without_a_thread_its_place_is_free_again(call: Call, no_threads: pytest.MonkeyPatch) -> None:
    errands = Errands(1, FakeLog())
    for _ in range(2):
        with pytest.raises(CallError, match="no thread left") as refused:
            errands.run(call, "alice", lambda _tell: "")
        assert refused.value.code is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert refused.value.retry_after
    assert errands.wait(0) == []
    no_threads.undo()
    assert [step.state for step in errands.run(call, "alice", lambda _tell: "there")] == [State.DONE]


def test_no_more_than_so_many_at_once(call: Call) -> None:
    go = threading.Event()
    errands = Errands(1, FakeLog())
    errands.run(call, "alice", lambda _tell: str(go.wait(10)))
    with pytest.raises(CallError, match="enough to do"):
        errands.run(call, "bob", lambda _tell: "")
    go.set()
    assert errands.wait(10) == []
