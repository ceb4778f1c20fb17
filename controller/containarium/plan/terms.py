"""Under which terms a plan is made: what an admin allows, and what is known apart from manifests and host."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from containarium.plan.decision import Suspicion

EVERYBODY = frozenset({"*"})
"""In place of names: every environment."""


@dataclass(frozen=True, slots=True)
class Approval:
    """An admin's word that this verb is meant for exactly these environments. What is left of them stays approved."""

    verb: str
    environments: frozenset[str]


@dataclass(frozen=True, slots=True)
class Doubt:
    """A reason from outside the plan why nothing may go away now."""

    message: str
    remedy: str = "nothing to do: it is looked at again"
    reason: Suspicion = Suspicion.HOST_UNSURE


@dataclass(frozen=True, slots=True)
class Terms:
    """Under which terms a plan is made: what an admin allows, and what is known apart from manifests and host.

    ``approved`` holds digests and approvals of sets that may go away, ``restart`` the names of environments that may
    be restarted (``EVERYBODY`` for all). ``claims`` are the addresses that work under way was promised, by
    environment. ``doubts`` keep everything that would go away.
    """

    approved: frozenset[str | Approval] = frozenset()
    restart: frozenset[str] = frozenset()
    claims: Mapping[str, str] = field(default_factory=dict)
    doubts: tuple[Doubt, ...] = ()

    def may_restart(self, name: str) -> bool:
        """Whether an admin allows a restart of this environment."""
        return name in self.restart or self.restart >= EVERYBODY
