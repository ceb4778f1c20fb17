"""What the loop knows after a pass, in one frozen value: everything that is reported is made of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING

from containarium.model.status import IMAGE_BUILDING, Condition

if TYPE_CHECKING:  # whoever only reads the status file does without the models, which take longer to load than it does
    from containarium.model.manifest import Load
    from containarium.model.observed import Observed
    from containarium.plan.decision import Plan


@dataclass(frozen=True, slots=True)
class Trouble:
    """An environment whose last attempt failed.

    ``reason`` is a constant in CamelCase. ``stalled`` says that only a person (or a changed manifest) helps; it is
    tried again all the same, seldom.
    """

    action: str
    reason: str
    message: str
    attempts: int
    since: datetime
    retry_at: datetime | None = None
    stalled: bool = False

    @property
    def waiting(self) -> bool:
        """Whether nothing has failed: what it needs is being made for somebody else."""
        return self.reason == IMAGE_BUILDING


@dataclass(frozen=True, slots=True)
class Work:
    """An environment that is being worked on. ``step`` is the last line that its action told."""

    verb: str
    action: str
    since: datetime
    step: str = ""


@dataclass(frozen=True, slots=True)
class Done:
    """An environment whose work ended well. ``fields`` are those that were changed."""

    verb: str
    fields: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Probe:
    """How the last SSH probe of an environment ended. ``error`` is empty where it reached the guest's host key."""

    at: datetime
    seconds: float
    error: str = ""


@dataclass(frozen=True, slots=True)
class Revision:
    """Which commit of the manifests is applied, and which one was tried last; empty where there is no git.

    ``error`` says why the tried one is not the applied one.
    """

    applied: str = ""
    tried: str = ""
    error: str = ""
    at: str = ""
    """When it was tried, RFC 3339 in UTC."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One pass.

    ``plan``, ``observed`` and ``load`` are those of the last pass that could look at the host, None before the first.
    ``error`` is why this one could not. ``triggers`` are constants ("manifests", "incus", "resync", "retry",
    "finished", "request", "boot", "start", "accounts", "probe", "notice").
    """

    id: str
    triggers: tuple[str, ...]
    started: datetime
    seconds: float
    load: Load | None = None
    observed: Observed | None = None
    plan: Plan | None = None
    error: str = ""
    last_success: datetime | None = None
    """When a pass last read and saw everything."""
    working: Mapping[str, Work] = field(default_factory=dict)
    troubles: Mapping[str, Trouble] = field(default_factory=dict)
    done: Mapping[str, Done] = field(default_factory=dict)
    """What ended well since the pass before; only the closing sentence tells of it."""
    probes: Mapping[str, Probe] = field(default_factory=dict)
    revision: Revision = Revision()
    conditions: tuple[Condition, ...] = ()
    """How each step of the host's last preparation ended; empty where none has run since the boot."""
    preempted: str = ""
    """The spot notice that the host was given, in words; empty in ordinary times."""
    recovered: float | None = None
    """Seconds from the boot until everybody could log in again; None while that is under way or was long ago."""
