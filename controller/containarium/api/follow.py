"""Waiting for the controller: ask it to look once, then read how it goes from its status until an environment is there.

Only the controller changes the host. Whoever stops waiting stops nothing.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from pathlib import Path

import grpc

from containarium.api.errors import CallError
from containarium.api.gate import Call
from containarium.model.status import ConditionStatus
from containarium.report import statusfile
from containarium.report.status import UNREACHABLE
from containarium.report.statusfile import EnvironmentStatus, Status

_POLL = 0.2
_PATIENCE = 3
"""Attempts that may fail before somebody who waits is told that it does not work; the controller goes on."""
_ASKING = 120.0
_SETTLING = "Settling"
_ABSENT = "Absent"


class State(StrEnum):
    """How far an environment is."""

    WORKING = "working"
    DONE = "done"
    FAILED = "failed"


class Goal(StrEnum):
    """What somebody waits for."""

    READY = "ready"
    """As declared, with its person let in."""
    IN_FORCE = "in force"
    """As declared. That its own SSH server does not answer is no part of an edit, and may never end."""
    SHUT = "shut"
    """Nobody gets in any more."""
    GONE = "gone"
    """Nothing of it is left."""


@dataclass(frozen=True, slots=True)
class Step:
    """What is told of one environment. ``action`` is the kind of an action, empty while none is under way."""

    environment: str
    state: State
    verb: str = ""
    action: str = ""
    message: str = ""


class Nudge:
    """Has the controller make a pass that begins after the call. Those who ask at once share the same pass."""

    def __init__(self, ask: Callable[[float], None]) -> None:
        """``ask`` waits for one pass, for so many seconds at most, and raises HostError."""
        self._ask = ask
        self._changed = threading.Condition()
        self._begun = 0
        self._ended = 0
        self._running = False
        self._error: Exception | None = None

    def __call__(self, call: Call) -> None:
        """Returns when the pass is over. Raises what ``ask`` raises, and CallError when the call is over."""
        with self._changed:
            mine = self._begun + 1
            while self._ended < mine:
                if not self._running:
                    # In a thread of its own: others may wait for this pass longer than whoever was first.
                    self._begun, self._running = mine, True
                    threading.Thread(target=self._pass, args=(mine,), name="nudge", daemon=True).start()
                self._changed.wait(_POLL)
                call.check()
            if self._error is not None:
                raise self._error

    def _pass(self, number: int) -> None:
        error: Exception | None = None
        try:
            self._ask(_ASKING)
        except Exception as failed:  # noqa: BLE001 - everybody who waits for it gets it
            error = failed
        with self._changed:
            self._running, self._ended, self._error = False, number, error
            self._changed.notify_all()


class StatusFile:
    """The controller's status, parsed once for all who ask while the file stays the same."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._stamp: tuple[int, int] | None = None
        self._status: Status | None = None

    def __call__(self) -> Status | None:
        """The last status; None where there is none."""
        try:
            found = self._path.stat()
        except OSError:
            return None
        with self._lock:
            stamp = (found.st_ino, found.st_mtime_ns)
            if stamp != self._stamp:
                self._status, self._stamp = statusfile.read(self._path), stamp
            return self._status


class Follower:
    """Tells how environments get on."""

    def __init__(self, status: Callable[[], Status | None], nudge: Callable[[Call], None]) -> None:
        self._status = status
        self._nudge = nudge

    def until_there(
        self, call: Call, names: Collection[str], since: datetime, goal: Goal = Goal.READY
    ) -> Iterator[Step]:
        """Tell every step until all of them are there, or have failed. No names: whoever is not as declared now.

        ``since`` is a time after which a pass has to have begun. Raises HostError where no controller runs, and
        CallError when the call is over first.
        """
        self._nudge(call)
        since = since.replace(microsecond=since.microsecond // 1000 * 1000)  # a status has no more of it
        if not names and (status := self._status()) is not None:
            names = [e.name for e in status.environments if e.work is not None or e.has("Reconciling")]
        left, told = dict.fromkeys(sorted(names)), dict[str, Step]()
        while left:
            status = self._status()
            if status is not None and status.last_pass.started >= since:
                for name in tuple(left):
                    step = judge(status, name, goal)
                    if told.get(name) != step:
                        told[name] = step
                        yield step
                    if step.state is not State.WORKING:
                        del left[name]
            if left and call.wait(_POLL):
                raise late(left, told)

    def watch(self, call: Call, names: Collection[str]) -> Iterator[Step]:
        """Tell what changes, from what it is like now on, until the call is over."""
        told: dict[str, Step] = {}
        while True:
            status = self._status()
            for environment in status.environments if status is not None else ():
                name = environment.name
                if (names and name not in names) or status is None:
                    continue
                step = judge(status, name)
                if told.get(name) != step:
                    told[name] = step
                    yield step
            if call.wait(_POLL):
                return


def judge(status: Status, name: str, goal: Goal = Goal.READY) -> Step:
    """What a status says of an environment that was changed before it was made."""
    environment = status.environment(name)
    problem = next((p for p in status.problems if p.environment == name), None)
    if problem is not None:
        return Step(name, State.FAILED, message=problem.message)
    for interlock in status.interlocks:
        if name in interlock.environments and interlock.reason != _SETTLING:
            approve = f"; containarium approve {interlock.digest}" if interlock.digest else ""
            return Step(name, State.FAILED, message=f"held back: {interlock.message}{approve}")
    if status.last_pass.error:
        return Step(name, State.WORKING, message=f"the host could not be looked at: {status.last_pass.error}")
    if environment is None:
        left = goal in (Goal.SHUT, Goal.GONE)
        return Step(name, State.DONE) if left else Step(name, State.WORKING, message="not seen yet")
    return _judge(environment, goal)


def _judge(environment: EnvironmentStatus, goal: Goal) -> Step:
    name, work, trouble, ready = environment.name, environment.work, environment.trouble, environment.ready
    if work is not None:
        return Step(name, State.WORKING, work.verb, work.action, work.step)
    if trouble is not None and not trouble.waiting:
        given_up = trouble.stalled or trouble.retry_at is None or trouble.attempts >= _PATIENCE
        again = "" if given_up else " (it is tried again)"
        return Step(
            name,
            State.FAILED if given_up else State.WORKING,
            action=trouble.action,
            message=f"{trouble.message}{again}",
        )
    if trouble is not None:
        return Step(name, State.WORKING, message=trouble.message)
    if goal is Goal.GONE:  # of a manifest that stays a status still tells that it has expired
        return Step(name, State.DONE if environment.status == _ABSENT else State.WORKING)
    if goal is Goal.SHUT:
        left = environment.has("Retired") or ready.reason == "Expired"
        return Step(name, State.DONE if left else State.WORKING, message=ready.message if left else "")
    if ready.status is ConditionStatus.TRUE:
        notes = [c.message for c in environment.conditions if c.type == "RestartRequired"]
        return Step(name, State.DONE, message=f"after its next restart: {notes[0]}" if notes else "")
    if environment.has("Suspended"):
        return Step(name, State.DONE, message=f"suspended: {ready.message}")
    if ready.reason == UNREACHABLE:
        shut_out = f"{UNREACHABLE}: {ready.message}"
        return Step(name, State.DONE if goal is Goal.IN_FORCE else State.WORKING, message=shut_out)
    if environment.has("Reconciling") or ready.reason == "HostNotSeen":
        return Step(name, State.WORKING)
    if ready.status is ConditionStatus.UNKNOWN:
        return Step(name, State.WORKING, message=ready.message)
    return Step(name, State.FAILED, message=f"{ready.reason}: {ready.message}" if ready.message else ready.reason)


def late(left: Collection[str], told: dict[str, Step]) -> CallError:
    """The time of the call is over, and the controller goes on."""
    last = [f"{name}: {told[name].message or told[name].action}" for name in left if name in told]
    return CallError(
        grpc.StatusCode.DEADLINE_EXCEEDED,
        f"not there yet: {'; '.join(last) or ', '.join(left)}",
        "the controller goes on with it; ask again, or see containarium status",
        reason="StillWorking",
    )
