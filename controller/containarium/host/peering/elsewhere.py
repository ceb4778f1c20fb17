"""The last look at the others before an environment is made here, its arrival ends, or its departure is taken back.

A plan is made of what they told up to half a minute ago; an environment must not come to run on two hosts by that.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Protocol

from containarium.host.peering.neighbours import HAVING
from containarium.model.action import UpdateInstance
from containarium.model.fleet import Presence
from containarium.model.host import RetryableError
from containarium.plan.presence import PASSING_MARKS


class Others(Protocol):
    """The other hosts, as ``containarium.host.peering.neighbours`` has them."""

    def holders(self, environment: str, having: Collection[Presence] = HAVING) -> tuple[str, ...]: ...


class Elsewhere:
    """Asks the other declared hosts at this moment, which takes a few seconds at most; nobody where this one is alone.

    Whoever does not answer hinders nothing: what that means was decided, or approved, before.
    """

    def __init__(self, others: Others, refresh: Callable[[str], None]) -> None:
        """``refresh`` has a host asked anew whose answers of before are out of date."""
        self._others = others
        self._refresh = refresh

    def check_creation(self, environment: str) -> None:
        """Raise RetryableError (LivesElsewhere) where another host has it."""
        self._refuse(environment, self._others.holders(environment), "it is not made anew")

    def check_update(self, action: UpdateInstance) -> None:
        """Raise RetryableError (LivesElsewhere) where one that is on its way is to be here for good, and lives on
        another host.
        """
        passing = [action.config[mark] for mark in PASSING_MARKS if mark in action.config]
        if passing and not any(passing):
            holders = self._others.holders(action.environment, (Presence.HERE,))
            self._refuse(action.environment, holders, "what is here of it stays as it is")

    def _refuse(self, environment: str, holders: tuple[str, ...], so: str) -> None:
        if not holders:
            return
        for host in holders:
            self._refresh(host)
        who = f"{' and '.join(holders)} {'has' if len(holders) == 1 else 'have'}"
        raise RetryableError(f"{who} {environment}: {so}", remedy="it is looked at again", reason="LivesElsewhere")
