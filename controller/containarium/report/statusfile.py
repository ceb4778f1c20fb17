"""The status file: what the controller found in its last pass, for everybody on this host to read.

It is written whole after every pass, even when nothing has changed: its age tells that the controller lives, and it
costs a few milliseconds with 200 environments. Reading it needs none of the models.
"""

from __future__ import annotations

import contextlib
import json
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from containarium.model.status import Condition, ConditionStatus
from containarium.report.process import Daemon
from containarium.report.snapshot import Probe, Revision, Trouble, Work

VERSION = 1
READY = "Ready"
_LARGEST = 16 << 20
_NO_REVISION = Revision()
_RESTING = frozenset({"Suspended", "Retired"})
"""Conditions in which nobody expects an environment to be ready."""
_NOT_HERE = frozenset({"Elsewhere", "Leaving", "Expired"})
"""Reasons for which an environment is not to be here, though a manifest names it."""
_PASSING = frozenset({"Settling"})
"""Interlocks that end by themselves."""


@dataclass(frozen=True, slots=True)
class EnvironmentStatus:
    """One environment: what ``list`` shows of it, its conditions, and what is under way.

    ``status`` is Incus' word for the container, Absent where there is none. ``drift`` holds names of fields.
    """

    name: str
    status: str
    ip: str = ""
    quota: str = ""
    autostart: bool = False
    drift: tuple[str, ...] = ()
    conditions: tuple[Condition, ...] = ()
    probe: Probe | None = None
    trouble: Trouble | None = None
    work: Work | None = None
    host: str = ""
    """The host of the fleet that it lives on; empty where that is unknown, or where there is no fleet."""

    @property
    def ready(self) -> Condition:
        """The Ready condition."""
        for condition in self.conditions:
            if condition.type == READY:
                return condition
        return Condition(READY, ConditionStatus.UNKNOWN, "NotSeen")

    @property
    def over(self) -> bool:
        """Whether it is not to be here, though a manifest names it: expired, or placed elsewhere."""
        return self.ready.reason in _NOT_HERE

    @property
    def expected(self) -> bool:
        """Whether it ought to be ready here: not suspended, not retired, not expired, not placed elsewhere."""
        return not self.over and not any(self.has(kind) for kind in _RESTING)

    def has(self, kind: str) -> bool:
        """Whether a condition of this type is true."""
        return any(c.type == kind and c.status is ConditionStatus.TRUE for c in self.conditions)

    @property
    def wanting(self) -> bool:
        """Whether it ought to be ready and is not, or nobody knows."""
        return self.expected and self.ready.status is not ConditionStatus.TRUE


@dataclass(frozen=True, slots=True)
class ProblemStatus:
    """A refused manifest, as one line with its remedy. ``environment`` is empty while the name is unknown."""

    environment: str
    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class InterlockStatus:
    """A reason not to act now. ``digest`` is what an admin approves, empty where approval is not the way out."""

    reason: str
    message: str
    remedy: str
    environments: tuple[str, ...] = ()
    digest: str = ""


@dataclass(frozen=True, slots=True)
class PassStatus:
    """The last pass: how long it took, how it ended in one sentence, and why it could not look, if so."""

    id: str
    triggers: tuple[str, ...]
    started: datetime
    seconds: float
    sentence: str = ""
    error: str = ""


@dataclass(frozen=True, slots=True)
class Status:
    """Everything that the controller tells of this host. ``counts`` is keyed by condition: ``Ready=True``, ``Drifted``.

    ``seen`` is false while no pass could look at the host since the controller started: the environments are then
    those that an earlier controller knew, Ready Unknown.
    """

    host: str
    daemon: Daemon
    last_pass: PassStatus
    seen: bool = True
    last_success: datetime | None = None
    counts: Mapping[str, int] = field(default_factory=dict)
    revision: Revision = _NO_REVISION
    conditions: tuple[Condition, ...] = ()
    """Of the host itself: how each step of its last preparation ended."""
    preempted: str = ""
    recovered: float | None = None
    problems: tuple[ProblemStatus, ...] = ()
    interlocks: tuple[InterlockStatus, ...] = ()
    environments: tuple[EnvironmentStatus, ...] = ()

    def environment(self, name: str) -> EnvironmentStatus | None:
        """The environment of this name, if it is known."""
        return next((environment for environment in self.environments if environment.name == name), None)

    @property
    def well(self) -> bool:
        """Whether everything that ought to be ready is, and nothing waits for a person."""
        return (
            self.seen
            and not (self.last_pass.error or self.problems or self.revision.error)
            and all(interlock.reason in _PASSING for interlock in self.interlocks)
            and all(condition.status is ConditionStatus.TRUE for condition in self.conditions)
            and not any(environment.wanting for environment in self.environments)
        )

    def to_json(self) -> dict[str, Any]:
        """A plain dictionary in a stable order; times are RFC 3339 in UTC."""
        return {"version": VERSION, **_plain(self)}


def _plain(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        return {f.name: _plain(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, Mapping):
        return {key: _plain(value[key]) for key in sorted(value)}
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    if isinstance(value, datetime):
        return value.isoformat(timespec="milliseconds")
    return value


def write(status: Status, path: Path) -> None:
    """Replace the file (mode 0644); readers see the old one or the new one, whole. Its folder has to be there.

    Not synced: the folder is in memory, and what a dead machine found is of no use to the next. Raises OSError.
    """
    text = json.dumps(status.to_json(), separators=(",", ":"))
    new = path.with_name(f".{path.name}.new")  # one fixed name: what a kill leaves behind does not pile up
    new.unlink(missing_ok=True)
    try:
        handle = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        with os.fdopen(handle, "w", encoding="ascii") as file:
            file.write(text + "\n")
            os.fchmod(file.fileno(), 0o644)
        new.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            new.unlink()
        raise


def read(path: Path) -> Status | None:
    """The status that a file holds; None where there is none, or where it is not one of ours, whole.

    Fields that are not known are passed over, so that an older command understands a newer controller.
    """
    try:
        return _status(json.loads(_bytes(path)))
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError, OverflowError):
        return None


def _bytes(path: Path) -> bytes:
    """The bytes of a plain file, bounded; neither a link is followed nor a pipe waited for."""
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise ValueError(f"{path} is no file")
    with os.fdopen(handle, "rb") as file:
        return file.read(_LARGEST)


def _status(data: dict[str, Any]) -> Status:
    daemon, last, revision = data["daemon"], data["last_pass"], data.get("revision") or {}
    return Status(
        host=str(data["host"]),
        daemon=Daemon(int(daemon["pid"]), _moment(daemon["started"]), str(daemon.get("birth", ""))),
        last_pass=PassStatus(
            id=str(last["id"]),
            triggers=_texts(last, "triggers"),
            started=_moment(last["started"]),
            seconds=float(last["seconds"]),
            sentence=str(last.get("sentence", "")),
            error=str(last.get("error", "")),
        ),
        seen=data.get("seen") is True,
        last_success=_maybe(data, "last_success"),
        counts={str(key): int(number) for key, number in (data.get("counts") or {}).items()},
        revision=Revision(**{key: str(revision.get(key, "")) for key in ("applied", "tried", "error", "at")}),
        conditions=tuple(_condition(condition) for condition in data.get("conditions", ())),
        preempted=str(data.get("preempted", "")),
        recovered=float(data["recovered"]) if data.get("recovered") is not None else None,
        problems=tuple(
            ProblemStatus(str(p["environment"]), str(p["reason"]), str(p["message"])) for p in data.get("problems", ())
        ),
        interlocks=tuple(_interlock(interlock) for interlock in data.get("interlocks", ())),
        environments=tuple(_environment(environment) for environment in data["environments"]),
    )


def _environment(data: dict[str, Any]) -> EnvironmentStatus:
    probe, trouble, work = data.get("probe"), data.get("trouble"), data.get("work")
    return EnvironmentStatus(
        name=str(data["name"]),
        status=str(data["status"]),
        ip=str(data.get("ip", "")),
        quota=str(data.get("quota", "")),
        autostart=data.get("autostart") is True,
        drift=_texts(data, "drift"),
        conditions=tuple(_condition(condition) for condition in data.get("conditions", ())),
        probe=Probe(_moment(probe["at"]), float(probe["seconds"]), str(probe.get("error", ""))) if probe else None,
        trouble=_trouble(trouble) if trouble else None,
        work=Work(str(work["verb"]), str(work["action"]), _moment(work["since"]), str(work["step"])) if work else None,
        host=str(data.get("host", "")),
    )


def _condition(data: dict[str, Any]) -> Condition:
    return Condition(
        type=str(data["type"]),
        status=ConditionStatus(data["status"]),
        reason=str(data["reason"]),
        message=str(data.get("message", "")),
        last_transition=str(data.get("last_transition", "")),
    )


def _trouble(data: dict[str, Any]) -> Trouble:
    return Trouble(
        action=str(data["action"]),
        reason=str(data["reason"]),
        message=str(data["message"]),
        attempts=int(data["attempts"]),
        since=_moment(data["since"]),
        retry_at=_maybe(data, "retry_at"),
        stalled=data.get("stalled") is True,
    )


def _interlock(data: dict[str, Any]) -> InterlockStatus:
    return InterlockStatus(
        reason=str(data["reason"]),
        message=str(data["message"]),
        remedy=str(data["remedy"]),
        environments=_texts(data, "environments"),
        digest=str(data.get("digest", "")),
    )


def _texts(data: dict[str, Any], key: str) -> tuple[str, ...]:
    return tuple(str(item) for item in data.get(key) or ())


def _maybe(data: dict[str, Any], key: str) -> datetime | None:
    return _moment(data[key]) if data.get(key) is not None else None


def _moment(text: str) -> datetime:
    """A time with its zone; one without is none of ours."""
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError(f"{text} has no zone")
    return moment
