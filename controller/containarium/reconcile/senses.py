"""What a controller asks of others, and whom it tells."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from containarium.model.manifest import Load
from containarium.plan.decision import EnvironmentPlan
from containarium.plan.terms import Approval
from containarium.reconcile.workers import Ended
from containarium.report.snapshot import Trouble


class Source(Protocol):
    """Where the manifests come from."""

    def load(self) -> Load:
        """Everything that is declared now. Never raises."""
        ...

    @property
    def generation(self) -> int:
        """Goes up whenever a load differs from the one before."""
        ...

    def revision(self, name: str) -> str:
        """A digest of one manifest; empty where there is none."""
        ...


class Audience(Protocol):
    """Is told by the loop what it noticed and what came of it."""

    def drifted(self, plan: EnvironmentPlan, by: str) -> None:
        """Somebody changed an environment behind our back; ``by`` is who, empty where nobody knows."""
        ...

    def ended(self, ended: Ended, trouble: Trouble | None) -> None:
        """Work on an environment is over."""
        ...

    def edited(self, name: str, seconds: float) -> None:
        """An environment is as its new manifest says, so long after that was read."""
        ...

    def surprised(self, error: Exception) -> None:
        """A pass ended in an error that nobody thought of. It is tried again, as after a look that failed."""
        ...


@dataclass(frozen=True, slots=True)
class Senses:
    """What the controller asks others for. ``ticks`` counts seconds and never jumps; ``chance`` is from 0 to 1."""

    clock: Callable[[], datetime]
    ticks: Callable[[], float]
    chance: Callable[[], float]
    approvals: Callable[[datetime], frozenset[Approval]]
    blame: Callable[[str, datetime], str]
    """Who changed an instance since a moment, in words."""
