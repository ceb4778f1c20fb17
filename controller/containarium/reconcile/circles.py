"""Tells progress from going round in circles: work that ended well, and left something to do all the same."""

from __future__ import annotations

from dataclasses import dataclass

from containarium.model.action import Action
from containarium.model.host import RetryableError
from containarium.plan.decision import EnvironmentPlan
from containarium.reconcile.execute import Failure

ROUNDS = 5
"""Works in a row, one right after the other, that count as progress while each finds something else to do."""


@dataclass(slots=True)
class _Round:
    actions: tuple[Action, ...]
    revision: str
    number: int
    judged: bool = False


class Circles:
    """What was done for environments that are not as declared yet. Only the loop asks."""

    def __init__(self) -> None:
        self._rounds: dict[str, _Round] = {}

    def ended(self, plan: EnvironmentPlan, revision: str) -> None:
        """Work has ended well; whether it helped is what the next look says."""
        known = self._rounds.get(plan.name)
        number = known.number + 1 if known is not None and known.revision == revision else 1
        self._rounds[plan.name] = _Round(plan.actions, revision, number)

    def judge(self, plan: EnvironmentPlan, revision: str) -> Failure | bool:
        """What to make of a plan that is due: a failure where all was done and it is still, or again, different.

        True where the work before it got somewhere; False where no work has ended since the last time.
        """
        known = self._rounds.get(plan.name)
        if known is None or known.judged:
            return False
        known.judged = True
        if known.actions == plan.actions or (known.number >= ROUNDS and known.revision == revision):
            return _still_different(plan)
        return True

    def forget(self, name: str) -> None:
        """It is as declared, or its work has failed."""
        self._rounds.pop(name, None)

    def forget_all_but(self, names: frozenset[str]) -> None:
        """Drop those that are gone."""
        for name in self._rounds.keys() - names:
            del self._rounds[name]


def _still_different(environment: EnvironmentPlan) -> Failure:
    fields = ", ".join(sorted({change.field for change in environment.changes})) or environment.actions[0].kind
    error = RetryableError(
        f"still different after it was done: {fields}",
        remedy="somebody else may change it all the time; see containarium plan and events",
        reason="StillDifferent",
    )
    return Failure(environment.name, environment.actions[0].kind, error)
