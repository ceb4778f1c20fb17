"""Several simulated hosts that know one another, each with a world and manifests of its own, on one clock."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from containarium.model.fleet import Box, Peer, Presence
from containarium.model.host import RetryableError
from containarium.model.manifest import DeclaredHost, Load
from containarium.model.observed import Look
from containarium.plan.offers import why_not
from containarium.plan.presence import boxes
from containarium.simulate.clock import SimClock
from containarium.simulate.faults import Faults, no_faults
from containarium.simulate.host import SimulatedHost
from containarium.simulate.world import World

FIRST_SUBNET = 3


@dataclass
class Member:
    """One host. ``load`` are the manifests that it has at present; ``up`` says whether it can be reached at all."""

    world: World
    load: Load = field(default_factory=Load)
    up: bool = True


class SimulatedFleet:
    """The hosts, and who reaches whom. A ``Neighbours`` for each of their ``SimulatedHost``."""

    def __init__(self, *names: str) -> None:
        self.clock = SimClock()
        self.members: dict[str, Member] = {}
        for name in names:
            self.add(name)
        self.cut: set[frozenset[str]] = set()
        """Pairs of hosts whose connection is broken."""
        self.stale: set[tuple[str, str]] = set()
        """(Who asks, who is asked): the next answer is that of before, for it has not been asked again yet."""
        self._told: dict[tuple[str, str], Mapping[str, Box]] = {}
        self._content = 0

    def add(self, name: str) -> Member:
        """A new host with a subnet of its own."""
        number = FIRST_SUBNET + len(self.members)
        world = World(name=name, subnet=f"10.0.{number}.1/24", clock=self.clock)
        self.members[name] = Member(world)
        return self.members[name]

    def host(self, name: str, faults: Faults = no_faults) -> SimulatedHost:
        """A host as its controller has it."""
        return SimulatedHost(self.members[name].world, faults, neighbours=self)

    def forget(self, name: str) -> None:
        """The controller of a host starts anew: it remembers no answers."""
        self._told = {pair: told for pair, told in self._told.items() if pair[0] != name}

    def work(self) -> None:
        """The people work: in each guest that runs, something new is made."""
        for member in self.members.values():
            for name, instance in member.world.instances.items():
                if instance.status == "Running" and member.world.inside(name) is not None:
                    self._content += 1
                    member.world.change_inside(name, content=self._content)

    # Neighbours

    def peers(self, own: str, hosts: Sequence[DeclaredHost]) -> Mapping[str, Peer]:
        """What the others tell ``own``, each at its last answer."""
        return {host.name: self._peer(own, host.name) for host in hosts if host.name != own}

    def reach(self, own: str, host: str) -> World:
        """The world of a host that answers ``own``."""
        if error := self._unreachable(own, host):
            raise RetryableError(f"{host}: {error}", remedy="see that it runs", reason="PeerSilent")
        return self.members[host].world

    def check_offer(self, own: str, host: str, environment: str) -> None:
        """Ask a host whether its manifests let ``own`` have the environment."""
        observed = self.reach(own, host).snapshot(Look.SHALLOW)
        observed = replace(observed, peers=self._now(host))
        if why := why_not(self.members[host].load, observed, environment, own):
            raise RetryableError(f"{host} does not offer it: {why}", remedy="wait", reason="NotOffered")

    def holders(self, own: str, environment: str, *presences: Presence) -> tuple[str, ...]:
        """Who of the other declared hosts that answer ``own`` has it so at this very moment, sorted."""
        told = {name: (peer.boxes or {}).get(environment) for name, peer in self._now(own).items()}
        return tuple(sorted(name for name, box in told.items() if box is not None and box.presence in presences))

    def _now(self, own: str) -> Mapping[str, Peer]:
        """What the other declared hosts that answer a host tell it when it asks at this very moment."""
        listed = [host.name for host in self.members[own].load.hosts if host.name != own]
        there = {name: self.members[name].world for name in listed if not self._unreachable(own, name)}
        return {name: Peer(name, boxes(world.snapshot(Look.SHALLOW))) for name, world in there.items()}

    def _peer(self, own: str, host: str) -> Peer:
        pair = (own, host)
        if error := self._unreachable(own, host):
            return Peer(host, self._told.get(pair), error)
        if pair not in self.stale or pair not in self._told:
            self._told[pair] = boxes(self.members[host].world.snapshot(Look.SHALLOW))
        self.stale.discard(pair)
        return Peer(host, self._told[pair])

    def _unreachable(self, own: str, host: str) -> str:
        member = self.members.get(host)
        if member is None or not member.up or frozenset((own, host)) in self.cut:
            return "no answer"
        return "" if member.load.host(own) is not None else "it does not know this host"
