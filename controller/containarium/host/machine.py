"""The real host: looks at it, and carries out actions on it. What the rest of the program knows is model.host.Host."""

from __future__ import annotations

import socket
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from containarium.host import command
from containarium.host.backups import Backups
from containarium.host.baking import Baker
from containarium.host.cancel import Cancellation
from containarium.host.enforce import Enforcer
from containarium.host.enforcement import EnforcementLook
from containarium.host.flights import Flights
from containarium.host.guest import GuestHands
from containarium.host.headroom import Headroom
from containarium.host.hostname import own_name
from containarium.host.images import Images
from containarium.host.incus import Incus
from containarium.host.instances import Instances
from containarium.host.look import GuestLook
from containarium.host.nicfilters import NicFilters
from containarium.host.observe import Accounts, observe
from containarium.host.peering.answers import Answers
from containarium.host.peering.channel import Channel
from containarium.host.peering.elsewhere import Elsewhere
from containarium.host.peering.fetch import Fetcher
from containarium.host.peering.neighbours import Neighbours, Watched
from containarium.host.power import Power
from containarium.host.quotas import Quotas
from containarium.host.recipes import Recipes
from containarium.host.settings import HostSettings
from containarium.model import action as act
from containarium.model.fleet import Peer
from containarium.model.host import HostError, Inside, Progress, TerminalError, everybody, silent
from containarium.model.observed import Look, Observed

if TYPE_CHECKING:
    from containarium.model.manifest import DeclaredHost, Load


class Machine:
    """This machine. Safe to share between threads; nothing is kept between two looks but unchanged guests' packages."""

    def __init__(
        self,
        settings: HostSettings,
        accounts: Accounts,
        *,
        name: str = "",
        run: command.Run | None = None,
        cancellation: Cancellation | None = None,
        built: Callable[[float, bool], None] = lambda _seconds, _well: None,
        neighbours: Neighbours | None = None,
        watched: Watched | None = None,
    ) -> None:
        """Connects to Incus at the first use. ``name`` is the host's, its own host name by default.

        ``cancellation`` is what ``cancel`` says it with: accounts that are to heed it are made with it. ``built`` is
        told of every image that was baked here, or was not. ``neighbours`` are the other hosts of the fleet, asked
        whenever somebody wants to know, unless they are ``watched``, which answers at once.
        """
        self._settings = settings
        self._name = name or socket.gethostname()
        self._accounts = accounts
        self._cancellation = cancellation or Cancellation()
        acting = run or partial(command.run, cancellation=self._cancellation)
        self._incus = Incus(settings, cancellation=self._cancellation)
        self._instances = Instances(self._incus, NicFilters(self._incus, acting), settings)
        self._headroom = Headroom(settings, Quotas(run or command.run))
        self._power = Power.on_this_host(self._incus, self._instances, settings, run or command.run)
        self._backups = Backups(self._incus, self._instances, settings, acting)
        self._last_power = Power(Incus(settings), self._instances)
        flights = Flights(settings.state / "locks")
        self._images = Images(self._incus, settings, acting, flights)
        baker = Baker(self._incus, settings, self._instances.idmaps)
        self.recipes = Recipes(self._incus, self._images, baker, flights, built)
        self._look = GuestLook(self._incus, settings)
        self._guests = GuestHands(self._incus, self._instances, self._look)
        self._enforced = EnforcementLook(self._incus, settings, run or command.run)  # looking is never cancelled
        self._enforcer = Enforcer(self._incus, self._instances, self._enforced, self._cancellation)
        neighbours = neighbours or Neighbours(own_name(), Channel(settings, cancellation=self._cancellation))
        self._neighbours = neighbours
        self._peers = watched.peers if watched else neighbours.peers
        refresh = watched.refresh if watched else lambda _host: None
        self._passing = watched.awaken if watched else lambda _host: None
        self._elsewhere = Elsewhere(neighbours, refresh)
        self._fetcher = Fetcher(self._incus, self._instances, settings, neighbours, acting, refresh)

    def observe(self, look: Look = Look.DEEP, inside: Inside = everybody) -> Observed:
        """Look at everything and change nothing. Two requests, however many instances there are."""
        return observe(
            self._settings,
            self._name,
            self._incus,
            self._instances,
            self._accounts,
            self._look.inside,
            self._enforced.running,
            look,
            inside,
        )

    def doubts(self) -> tuple[str, ...]:
        """Why nothing may be retired or deleted at present; one request to Incus."""
        pool = self._incus.get("storage-pools", self._settings.pool)
        if pool.get("status") != "Created":
            return (f"the storage pool {self._settings.pool} is {str(pool.get('status')).lower()}",)
        return ()

    def peers(self, hosts: Sequence[DeclaredHost]) -> Mapping[str, Peer]:
        """What the other declared hosts told."""
        return self._peers(hosts)

    def answers(self, load: Callable[[], Load | None], busy: Callable[[], Collection[str]]) -> Answers:
        """What this host answers to the others. ``load`` is what its manifests said last, ``busy`` who is worked on."""
        look = partial(self.observe, Look.SHALLOW)
        name, incus, hands, power = own_name(), self._incus, self._instances, self._power
        ask, passing = self._neighbours.peers, self._passing
        return Answers(self._settings, name, look, incus, hands, power, load, busy, ask, passing)

    def cancel(self) -> None:
        """End every running action early, within about a second: waits, guest commands, commands of this machine.

        A request to Incus that is not answered is given up only when its own time is over.
        """
        self._cancellation.cancel()

    def resume(self) -> None:
        """Take a ``cancel`` back."""
        self._cancellation.resume()

    def execute(self, action: act.Action, progress: Progress = silent) -> None:
        """Carry out one action, checking ownership first. Raises HostError."""
        if isinstance(action, act.StopInstance):
            # one that is asked for after a cancel is part of the end, and heeds it no more
            power = self._last_power if self._cancellation.cancelled else self._power
            power.stop(action.instance, action.environment, progress, action.patience)
            return
        self._cancellation.check()
        match action:
            case act.AccountAction():
                self._on_account(action, progress)
            case act.InstanceAction():
                self._on_instance(action, progress)
            case _:
                raise _unknown(action)

    def _on_instance(self, action: act.InstanceAction, progress: Progress) -> None:
        match action:
            case act.CreateInstance():
                source = self._source(action, progress)  # takes minutes where an image is missing
                self._elsewhere.check_creation(action.environment)
                self._instances.create(action, source, progress)
            case act.FetchInstance():
                self._fetcher.fetch(action, progress)
            case act.DeleteInstance():
                self._instances.delete(action, progress)
            case act.UpdateInstance():
                self._update(action)
            case act.AdoptInstance():
                self._instances.adopt(action)
            case act.BackupInstance():
                self._backups.save(action, progress)
            case act.StartInstance():
                self._power.start(action.instance, action.environment, progress)
            case act.EnforceLimits():
                self._enforcer.enforce(action, progress)
            case act.RestartInstance():
                self._power.restart(action.instance, action.environment, progress)
            case _:
                self._guests.execute(action, progress)

    def _update(self, action: act.UpdateInstance) -> None:
        self._elsewhere.check_update(action)
        try:
            self._instances.update(action)
        except HostError as error:
            if error.reason != "QuotaExceeded" or not self._headroom.grow(action.instance, action.devices):
                raise
            self._instances.update(action)

    def _source(self, action: act.CreateInstance, progress: Progress) -> Mapping[str, Any]:
        if action.recipe is not None:
            return self.recipes.source(action.recipe, progress)
        return {"type": "image", "fingerprint": self._images.ensure(action.image, progress)}

    def _on_account(self, action: act.AccountAction, progress: Progress) -> None:
        match action:
            case act.EnsureAccount():
                self._accounts.ensure(action.account, progress)
            case act.WriteAccountKeys():
                self._accounts.write_keys(action.account, action.lines)
            case act.LockAccount():
                self._accounts.lock(action.account)
            case act.DeleteAccount():
                self._accounts.delete(action.account)
            case _:
                raise _unknown(action)


def _unknown(action: act.Action) -> TerminalError:
    return TerminalError(
        f"this host cannot carry out {type(action).__name__}", remedy="update containarium", reason="UnknownAction"
    )
