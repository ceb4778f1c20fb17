"""A simulated fleet whose hosts make passes when a test says so, each on the manifests that it has."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any

from containarium.model import marks
from containarium.model.fleet import Peer
from containarium.model.hostmanifest import HostManifest
from containarium.model.manifest import DeclaredHost, Load, Manifest
from containarium.model.observed import Instance, InstanceStatus
from containarium.model.problem import Origin
from containarium.plan.decision import Plan
from containarium.plan.terms import Approval, Terms
from containarium.reconcile.cycle import Silent
from containarium.reconcile.decide import decide
from containarium.reconcile.execute import Failure, carry_out
from containarium.simulate.faults import Faults, no_faults
from containarium.simulate.fleet import SimulatedFleet
from containarium.simulate.host import SimulatedHost
from containarium.simulate.somebody import Somebody
from tests.builders import NOW, load, public_key


def declared(name: str, subnet: str, *, part: bool = True) -> DeclaredHost:
    """A Host manifest as ``sources`` would have read it; without ``part`` nobody knows its keys yet."""
    number = subnet.split(".")[2]
    spec: dict[str, Any] = {"network": {"subnet": subnet, "address": f"10.128.0.{number}"}}
    if part:
        spec["identity"] = {"hostKeys": [public_key(f"{name}-host")], "peerKey": public_key(f"{name}-peer")}
    document = {"apiVersion": "containarium.dev/v1", "kind": "Host", "metadata": {"name": name}, "spec": spec}
    return DeclaredHost(HostManifest.model_validate(document), {}, Origin(f"{name}.yaml", {"": (1, 1)}))


class Fleet:
    """Simulated hosts and their manifests. ``approvals`` are in force on all of them."""

    def __init__(self, *names: str) -> None:
        self.sim = SimulatedFleet(*names)
        self.now = NOW
        self.approvals: frozenset[Approval] = frozenset()

    def world(self, host: str) -> Any:
        return self.sim.members[host].world

    def somebody(self, host: str) -> Somebody:
        return Somebody(self.world(host))

    def manifests(self, *manifests: Manifest, hosts: Iterable[str] | None = None, apart: Collection[str] = ()) -> Load:
        """What a folder with these manifests, and those of these hosts (all, by default), loads as. The keys of those
        that are ``apart`` nobody knows yet.
        """
        names = self.sim.members.keys() if hosts is None else hosts
        subnets = {name: str(self.world(name).facts.subnet) for name in sorted(names)}
        found = tuple(declared(name, subnet, part=name not in apart) for name, subnet in subnets.items())
        return replace(load(*manifests), hosts=found)

    def deliver(self, content: Load, *hosts: str) -> None:
        """The manifests arrive on these hosts; on all, by default."""
        for host in hosts or self.sim.members:
            self.sim.members[host].load = content

    def declare(self, *manifests: Manifest, hosts: Iterable[str] | None = None) -> None:
        """The same manifests on every host."""
        self.deliver(self.manifests(*manifests, hosts=hosts))

    def plan(self, name: str, host: SimulatedHost | None = None) -> Plan:
        """What a host would do now."""
        host = host or self.sim.host(name)
        terms = Terms(approved=frozenset(self.approvals))
        return decide(self.sim.members[name].load, host.observe(), host, self.now, terms)

    def peers(self, name: str) -> Mapping[str, Peer]:
        """What the others tell a host."""
        return self.sim.peers(name, self.sim.members[name].load.hosts)

    def pass_of(self, name: str, faults: Faults = no_faults) -> list[Failure]:
        """One pass of a host, to its end. Returns what failed."""
        host = self.sim.host(name, faults)
        plans = self.plan(name, host).environments
        return [failure for plan in plans if (failure := carry_out(plan, host, Silent())) is not None]

    def round(self) -> bool:
        """A pass of every host that runs. Returns whether any had something to do."""
        busy = False
        for name, member in self.sim.members.items():
            if member.up:
                busy |= self.plan(name).pending
                self.pass_of(name)
        return busy

    def settle(self, rounds: int = 12) -> None:
        """Rounds until nobody has anything to do any more, which has to be soon."""
        for _ in range(rounds):
            if not self.round():
                return
        left = {name: [e for e in self.plan(name).environments if e.due] for name in self.sim.members}
        raise AssertionError(f"it goes on and on: {left}")

    def wait(self, **duration: float) -> None:
        """Let time go by."""
        self.now += timedelta(**duration)

    def instance(self, host: str, name: str) -> Instance | None:
        """The instance of an environment on a host."""
        found: Instance | None = self.world(host).instance(marks.instance_name(name))
        return found

    def content(self, host: str, name: str) -> int:
        """What its copy on this host holds."""
        inside = self.world(host).inside(marks.instance_name(name))
        return int(inside.content) if inside is not None else 0

    def running(self, name: str) -> list[str]:
        """The hosts on which it runs."""
        return [
            host
            for host in self.sim.members
            if (found := self.instance(host, name)) is not None and found.status is InstanceStatus.RUNNING
        ]

    def door(self, host: str, name: str) -> str:
        """The address that its jump account leads to on a host; empty while it leads nowhere."""
        account = self.world(host).account(name)
        if account is None or account.expired or not account.keys:
            return ""
        (address,) = {line.split('permitopen="')[1].split(":22")[0] for line in account.keys}
        return str(address)
