"""Waiting until the host is as the edited manifests say: one pass in this process, or the running controller's work."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

from containarium.cli.errors import FAILED, OK, UNSAFE, keep
from containarium.cli.known import known
from containarium.cli.output import complain, say
from containarium.cli.stages import Stages
from containarium.cli.survey import read
from containarium.cli.wiring import Wiring
from containarium.model.host import HostError
from containarium.report.status import UNREACHABLE

if TYPE_CHECKING:
    from containarium.cli.outcome import Outcome
    from containarium.report.statusfile import EnvironmentStatus, Status

LOOK: Final = 0.2
"""Seconds between two looks at the controller's status."""
TRIES: Final = 3
"""Failures of one environment after which nobody waits any more; the controller tries on."""
_PASSING: Final = "Settling"


@dataclass(frozen=True, slots=True)
class Verdict:
    """How it went for one environment. ``message`` is one line, empty where all is well."""

    name: str
    code: int = OK
    message: str = ""


Judge = Callable[["EnvironmentStatus | None"], bool]
"""Whether the status of an environment is what was wanted; None: the controller knows none of this name any more."""


def ready(environment: EnvironmentStatus | None) -> bool:
    """It is as its manifest says, or nobody expects it to be ready here."""
    if environment is None or environment.work is not None:
        return False
    return environment.ready.status.value == "True" or not environment.expected


def in_force(environment: EnvironmentStatus | None) -> bool:
    """It is as its manifest says. That its own SSH server does not answer is no part of an edit, and may never end."""
    if environment is None or environment.work is not None or environment.trouble is not None:
        return False
    return ready(environment) or environment.ready.reason == UNREACHABLE


def gone(environment: EnvironmentStatus | None) -> bool:
    """Nobody gets in any more: it is retired, or its data is gone too."""
    return environment is None or (environment.work is None and (environment.has("Retired") or _absent(environment)))


def erased(environment: EnvironmentStatus | None) -> bool:
    """Nothing of it is here any more."""
    return environment is None or (environment.work is None and _absent(environment))


def _absent(environment: EnvironmentStatus) -> bool:
    return environment.status == "Absent"


def reach(
    wired: Wiring,
    folder: Path,
    names: Collection[str],
    told: Stages,
    *,
    wait: float,
    judge: Judge = ready,
) -> tuple[Verdict, ...]:
    """Wait until the host is as the manifests of these environments say, at most ``wait`` seconds. Sorted by name.

    Where no controller runs, one pass is made here, for these environments alone. Raises HostError where the host
    cannot be looked at.
    """
    since = wired.clock()
    try:
        return _one_pass(wired, folder, frozenset(names), told)
    except HostError as error:
        if error.reason != "Locked":
            raise
    if wired.settings.control.exists():
        found = _Watch(wired, frozenset(names), told, judge, since).until(wait)
        if found is not None:
            return found
    return _one_pass(wired, folder, frozenset(names), told, wait)


def settle(verdicts: Collection[Verdict], *, notes: bool = True) -> int:
    """Tell what went wrong (and, with ``notes``, what else is to be said), one line each; return the exit code."""
    for verdict in verdicts:
        if verdict.message and (verdict.code or notes):
            complain(f"{verdict.name}: {verdict.message}", "red" if verdict.code else "yellow")
    return max((verdict.code for verdict in verdicts), default=OK)


# -- in this process


def _one_pass(
    wired: Wiring, folder: Path, names: frozenset[str], told: Stages, wait: float = 0.0
) -> tuple[Verdict, ...]:
    from containarium.cli.interrupt import Interrupt
    from containarium.cli.outcome import Outcome
    from containarium.host import approvals
    from containarium.host.lock import only_controller
    from containarium.reconcile.cycle import Settings, converge

    with only_controller(wired.settings.runtime, wait):
        load, interrupt = read(folder), Interrupt()
        approved = approvals.read(wired.settings.runtime, wired.clock())
        with interrupt.heeded():
            host = interrupt.guard(wired.host(wired.settings))
            result = converge(load, host, wired.clock, Settings(approved=frozenset(approved), only=names), told)
    outcome = Outcome.of(result, names)
    for failure in outcome.failures:
        if isinstance(bug := failure.error.__cause__, Exception) and failure.error.reason == "InternalError":
            complain(f"{failure.environment}: details of the internal error: {keep(bug, wired.settings.state)}")
    return tuple(_of_outcome(outcome, name) for name in sorted(names))


def _of_outcome(outcome: Outcome, name: str) -> Verdict:
    for failure in outcome.failures:
        if failure.environment == name:
            return Verdict(name, FAILED, f"{failure.action} failed: {failure.error}")
    for problem in outcome.problems:
        if problem.environment == name:
            return Verdict(name, FAILED, f"refused: {problem}")
    for interlock in outcome.interlocks:
        if name in interlock.environments:
            return Verdict(name, UNSAFE if interlock.digest else FAILED, f"held back: {interlock}")
    for plan in outcome.stuck:
        if plan.name == name:
            fields = ", ".join(sorted({change.field for change in plan.changes or plan.notices}))
            return Verdict(name, FAILED, f"still different after it was applied: {fields}; see containarium plan")
    for names, why in (
        (outcome.last.suspended, f"is suspended, so nothing was done yet; containarium resume {name}"),
        (outcome.last.elsewhere, "is placed on another host, which looks after it"),
        (outcome.last.expired, "has expired (spec.expires)"),
    ):
        if name in names:
            return Verdict(name, OK, why)
    return Verdict(name)


# -- by the running controller


class _Watch:
    """Watches the controller's status while it works. It goes on working whatever happens here."""

    def __init__(self, wired: Wiring, names: frozenset[str], told: Stages, judge: Judge, since: datetime) -> None:
        self._wired = wired
        self._open = set(names)
        self._found: dict[str, Verdict] = {}
        self._told = told
        self._judge = judge
        self._since = since
        self._refusal: HostError | None = None
        self._answered = threading.Event()

    def until(self, wait: float) -> tuple[Verdict, ...] | None:
        """Wait at most so many seconds. None where nobody answers: then another command has the lock."""
        threading.Thread(target=self._ask, args=(wait,), name="ask", daemon=True).start()
        deadline = time.monotonic() + wait
        while self._open and time.monotonic() < deadline:
            if self._refusal is not None and self._refusal.reason == "NoController":
                return None
            if self._refusal is not None and self._refusal.reason != "ControllerSilent":
                raise self._refusal
            self._look()
            if self._open:
                self._wired.sleep(LOOK)
        for name in self._open:
            self._found[name] = Verdict(name, FAILED, f"not there yet after {wait:.0f} s ({self._why(name)}); {_ON}")
        return tuple(self._found[name] for name in sorted(self._found))

    def _ask(self, wait: float) -> None:
        from containarium.host.control import ask

        try:
            ask(self._wired.settings.control, {"do": "reconcile", "settle": wait}, timeout=wait + 30.0)
        except HostError as error:
            self._refusal = error
        finally:
            self._answered.set()

    def _look(self) -> None:
        status = self._fresh()
        if status is None:
            return
        for name in sorted(self._open):
            environment = status.environment(name)
            verdict = self._verdict(status, environment, name)
            if environment is not None and verdict is None:
                self._told.seen(environment)
            if verdict is not None:
                self._open.discard(name)
                self._found[name] = verdict

    def _fresh(self) -> Status | None:
        """What a pass found that began after the edit."""
        found = known(self._wired)
        if found is None or not found.alive or found.status.last_pass.error:
            return None
        return found.status if found.status.last_pass.started >= self._since else None

    def _verdict(self, status: Status, environment: EnvironmentStatus | None, name: str) -> Verdict | None:
        for interlock in status.interlocks:
            if name in interlock.environments and interlock.reason != _PASSING:
                code = UNSAFE if interlock.digest else FAILED
                return Verdict(name, code, f"held back: {interlock.message}; {interlock.remedy}")
        if self._judge(environment):
            return Verdict(name, OK, _note(environment))
        if environment is None or environment.work is not None:
            return None
        trouble = environment.trouble
        if trouble is not None and not trouble.waiting and (trouble.stalled or trouble.attempts >= TRIES):
            return Verdict(name, FAILED, f"{trouble.action} failed: {trouble.message}")
        if trouble is None and environment.has("Stalled"):
            return Verdict(name, FAILED, f"refused: {environment.ready.message or environment.ready.reason}")
        return None

    def _why(self, name: str) -> str:
        """What it still waits for."""
        found = known(self._wired)
        if found is None or not found.alive:
            return "the controller wrote no status"
        if self._fresh() is None:
            return f"the controller has made no pass since: {found.status.last_pass.error or 'it is busy'}"
        environment = found.status.environment(name)
        if environment is None:
            return "the controller does not know it"
        if environment.work is not None:
            return f"{environment.work.action} {environment.work.step}".rstrip()
        ready = environment.ready
        return f"{ready.reason}: {ready.message}" if ready.message else ready.reason


_ON = "the controller goes on: containarium status"


def _note(environment: EnvironmentStatus | None) -> str:
    """Why an environment is well though nobody gets in."""
    if environment is None or environment.has("Retired"):
        return ""
    if environment.expected and environment.ready.reason != UNREACHABLE:
        return ""
    return f"{environment.ready.reason}: {environment.ready.message}".rstrip(": ")


def say_only_written(wired: Wiring, folder: Path, *, live: bool) -> None:
    """Say how it goes on where nobody waits."""
    if not live:
        say(f"Written in {folder}, which this host does not follow: commit it, or containarium apply {folder}")
    elif wired.settings.control.exists():
        say("Written. The running controller carries it out: containarium status")
    else:
        say("Written. No controller runs here: containarium apply carries it out.")
