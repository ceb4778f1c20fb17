"""Keeps this host in step with the list of the declared hosts, as the last pass read it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from containarium.model.manifest import DeclaredHost, Load

_EVERY = 12
"""Looks after which it is seen whether somebody changed what follows the list: about a minute."""


class Member(Protocol):
    """What follows the list, see ``containarium.host.peering.membership``."""

    def settle(self, hosts: Sequence[DeclaredHost]) -> tuple[str, ...]: ...


class Service(Protocol):
    """Answers the other hosts, see ``containarium.host.peering.service``."""

    def start(self) -> None: ...


class Following:
    """A chore: cheap while nothing changes."""

    def __init__(self, member: Member, service: Service, load: Callable[[], Load | None]) -> None:
        """``load`` is what the manifests said last."""
        self._member = member
        self._service = service
        self._load = load
        self._settled: tuple[DeclaredHost, ...] = ()
        self._left = 0

    def do(self) -> str:
        """Follow where the hosts changed. Returns what was changed, in words. Raises HostError.

        While a file cannot be read, who is missing may be in it: then nobody is shut out, and nobody let in.
        """
        self._service.start()
        load = self._load()
        if load is None or not load.complete or any(not problem.environment for problem in load.problems):
            return ""
        if load.hosts == self._settled and self._left > 0:
            self._left -= 1
            return ""
        changed = self._member.settle(load.hosts)
        self._settled, self._left = load.hosts, _EVERY
        return f"{', '.join(changed)} follow the declared hosts" if changed else ""
