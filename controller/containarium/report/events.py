"""What happened, an event each, written on change only.

``changes`` tells what two statuses differ in; the loop says what it finished itself. ``journal`` keeps them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from types import MappingProxyType
from typing import Any

from containarium.model.status import Condition, ConditionStatus
from containarium.report.environments import ABSENT
from containarium.report.statusfile import EnvironmentStatus, Status

LONGEST = 1000
"""Characters of a message that are kept."""
_NAMES = 20
_NOBODY: Mapping[str, str] = MappingProxyType({})


class Reason(StrEnum):
    """Why there is an event. Constants: people search and alert by them."""

    CREATED = "Created"
    UPDATED = "Updated"
    ADOPTED = "Adopted"
    DRIFT_FOUND = "DriftFound"
    DRIFT_REPAIRED = "DriftRepaired"
    RETIRED = "Retired"
    RESTORED = "Restored"
    """It was retired, and is wanted again."""
    BACKED_UP = "BackedUp"
    PRUNED = "Pruned"
    PRUNE_BLOCKED = "PruneBlocked"
    PRUNE_UNBLOCKED = "PruneUnblocked"
    APPROVAL_USED = "ApprovalUsed"
    HOST_REPAIRED = "HostRepaired"
    """Something of the host's own, whoever's environment it is: the firewall."""
    BASE_UPDATED = "BaseImageUpdated"
    """Of a baked image: the next environment gets a new one, and nobody is made anew."""
    IMAGE_REMOVED = "ImageRemoved"
    """A baked image that nobody had used for long."""
    SUSPENDED = "Suspended"
    RESUMED = "Resumed"
    FAILED = "Failed"
    RECOVERED = "Recovered"
    UNREACHABLE = "SSHUnreachable"
    REACHABLE = "SSHReachable"
    REFUSED = "ManifestRefused"
    ACCEPTED = "ManifestAccepted"
    REVISION_APPLIED = "RevisionApplied"
    REVISION_REFUSED = "RevisionRefused"
    HOST_UNSEEN = "HostUnseen"
    HOST_SEEN = "HostSeen"
    STARTED = "ControllerStarted"
    STOPPED = "ControllerStopped"
    PREEMPTED = "Preempted"
    PREEMPTION_OVER = "PreemptionOver"
    BOOT_RECOVERED = "BootRecovered"


@dataclass(frozen=True, slots=True)
class Event:
    """``environment`` is empty for the host's own. ``by`` is who did it, in Incus' words or ours, where that is known.

    ``fields`` are names of fields and never their values, which may be secrets.
    """

    reason: Reason
    environment: str = ""
    message: str = ""
    fields: tuple[str, ...] = ()
    by: str = ""

    def to_json(self, at: datetime, pass_id: str) -> dict[str, Any]:
        """A flat dictionary without what is empty, its texts bounded and on one line."""
        found: dict[str, Any] = {
            "time": at.isoformat(timespec="milliseconds"),
            "reason": self.reason.value,
            "environment": one_line(self.environment, 64),
            "message": one_line(self.message),
            "fields": [one_line(field, 64) for field in self.fields[:_NAMES]],
            "by": one_line(self.by, 200),
            "pass": one_line(pass_id, 64),
        }
        return {key: value for key, value in found.items() if value}


def one_line(text: str, longest: int = LONGEST) -> str:
    """The text without line ends and whatever else a terminal or a reader of lines obeys, and not too long."""
    text = text if len(text) <= longest else text[: longest - 1] + "…"
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else " " if char in "\n\r\t" else "�" for char in text)


def changes(previous: Status | None, current: Status, blame: Mapping[str, str] = _NOBODY) -> Iterator[Event]:
    """What is different from the status before. Nothing where there was none, or nothing has been seen yet.

    ``blame`` says who changed an environment behind our back, where that is known.
    """
    if previous is None:
        return
    yield from _host(previous, current)
    if not current.seen:
        return
    yield from _problems(previous, current)
    yield from _interlocks(previous, current)
    before = {environment.name: environment for environment in previous.environments}
    for environment in current.environments:
        if environment.name in before:
            yield from _environment(before[environment.name], environment, blame)
        else:
            yield from _environment(EnvironmentStatus(environment.name, ""), environment, blame)


def _host(previous: Status, current: Status) -> Iterator[Event]:
    error = current.last_pass.error
    if error and not previous.last_pass.error:
        yield Event(Reason.HOST_UNSEEN, message=error)
    elif previous.last_pass.error and not error and current.seen:
        yield Event(Reason.HOST_SEEN)
    if current.preempted and not previous.preempted:
        yield Event(Reason.PREEMPTED, message=current.preempted)
    elif previous.preempted and not current.preempted:
        yield Event(Reason.PREEMPTION_OVER)
    if current.recovered is not None and previous.recovered is None:
        yield Event(Reason.BOOT_RECOVERED, message=f"everybody can log in {current.recovered:.1f} s after the boot")
    old, new = previous.revision, current.revision
    if new.applied and new.applied != old.applied:
        yield Event(Reason.REVISION_APPLIED, message=new.applied)
    if new.error and (new.tried, new.error) != (old.tried, old.error):
        yield Event(Reason.REVISION_REFUSED, message=f"{new.tried}: {new.error}")


def _problems(previous: Status, current: Status) -> Iterator[Event]:
    before, now = set(previous.problems), set(current.problems)
    for problem in sorted(now - before, key=lambda problem: (problem.environment, problem.message)):
        yield Event(Reason.REFUSED, problem.environment, problem.message)
    # A refusal that only reads differently is no acceptance: the line may have moved.
    bad = {problem.environment for problem in now}
    for name in sorted({problem.environment for problem in before} - bad):
        yield Event(Reason.ACCEPTED, name)


def _interlocks(previous: Status, current: Status) -> Iterator[Event]:
    before = {(interlock.reason, interlock.environments) for interlock in previous.interlocks}
    for interlock in current.interlocks:
        if (interlock.reason, interlock.environments) not in before:
            remedy = f"; {interlock.remedy}" if interlock.remedy else ""
            yield Event(Reason.PRUNE_BLOCKED, message=f"{interlock.reason}: {interlock.message}{remedy}")
    if previous.interlocks and not current.interlocks:
        yield Event(Reason.PRUNE_UNBLOCKED)


def _environment(before: EnvironmentStatus, now: EnvironmentStatus, blame: Mapping[str, str]) -> Iterator[Event]:
    name, old, new = now.name, _true(before), _true(now)
    for kind, begun, over in (
        ("Suspended", Reason.SUSPENDED, Reason.RESUMED),
        ("Retired", Reason.RETIRED, Reason.RESTORED),
    ):
        if kind in new and kind not in old:
            yield Event(begun, name, new[kind].message)
        elif kind in old and kind not in new and _is_back(now):
            yield Event(over, name)
    found = tuple(field for field in now.drift if field not in before.drift)
    if found:
        yield Event(Reason.DRIFT_FOUND, name, fields=found, by=blame.get(name, ""))
    yield from _trouble(before, now)
    failing = now.probe.error if now.probe is not None else ""
    failed = before.probe.error if before.probe is not None else ""
    if failing and not failed:
        yield Event(Reason.UNREACHABLE, name, failing)
    elif failed and not failing and now.probe is not None:
        yield Event(Reason.REACHABLE, name)


def _is_back(environment: EnvironmentStatus) -> bool:
    """Whether it is here again for good. Of one that was pruned a manifest may be left, with a date in the past."""
    known = environment.ready.status is not ConditionStatus.UNKNOWN
    return known and not environment.over and environment.status != ABSENT


def _trouble(before: EnvironmentStatus, now: EnvironmentStatus) -> Iterator[Event]:
    old, new = before.trouble, now.trouble
    if new is not None and new.waiting:
        return
    if old is not None and old.waiting:
        old = None
    if new is not None and (old is None or (old.action, old.reason) != (new.action, new.reason)):
        yield Event(Reason.FAILED, now.name, f"{new.action}: {new.reason}: {new.message}")
    elif old is not None and new is None and now.ready.status is ConditionStatus.TRUE:
        yield Event(Reason.RECOVERED, now.name, f"{old.action} after {_attempts(old.attempts)}")


def _attempts(number: int) -> str:
    return f"{number} failed attempt" if number == 1 else f"{number} failed attempts"


def _true(environment: EnvironmentStatus) -> Mapping[str, Condition]:
    return {c.type: c for c in environment.conditions if c.status is ConditionStatus.TRUE}


_FINISHED = {
    "create": Reason.CREATED,
    "adopt": Reason.ADOPTED,
    "update": Reason.UPDATED,
    "repair": Reason.DRIFT_REPAIRED,
    "prune": Reason.PRUNED,
}
"""Retirement is told by ``changes``, when the next look has found it."""


def finished(
    environment: str, verb: str, *, actions: Sequence[str] = (), fields: tuple[str, ...] = (), by: str = ""
) -> Iterator[Event]:
    """Events of work that ended well: ``verb`` of its plan, kinds of its actions, fields changed, who caused it."""
    if "BackupInstance" in actions:
        yield Event(Reason.BACKED_UP, environment)
    if verb in _FINISHED:
        yield Event(_FINISHED[verb], environment, fields=fields, by=by)
