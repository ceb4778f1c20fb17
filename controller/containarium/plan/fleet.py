"""What one host knows of a fleet: the declared hosts, what they told, and what can be decided about an environment."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum, auto
from functools import cached_property

from containarium.model.fleet import Box, Peer, Presence
from containarium.model.manifest import DeclaredHost, Load
from containarium.model.observed import HostFacts, Observed
from containarium.plan import addresses
from containarium.plan.decision import Place, Suspicion, Verb

NAMES = "{names}"
"""Stands in the message of a Hold where the environments are named."""


class Step(Enum):
    """What is to be done on this host about the instance of an environment, past its jump account."""

    NOTHING = auto()
    SETTLE = auto()
    """As on a single host: made, or kept as declared. Marks of a move are taken off first."""
    FETCH = auto()
    """Fetched from ``source``; what is here of it is out of date, and goes once the source has offered it."""
    REMAKE = auto()
    """An admin has approved: the part that is here is deleted, and it is made anew."""
    DROP = auto()
    """What is here is a part of a copy that nobody needs: it is deleted."""
    ADOPT_COPY = auto()
    """What is here is the only whole copy that there is, though it is to run elsewhere: it becomes the environment."""
    LEAVE_BEHIND = auto()
    """It lives on another host by now: what is here is retired."""
    KEEP_DOWN = auto()
    """What is here must not run: it is out of date, or about to be fetched."""
    KEEP = auto()
    """What is here stays exactly as it is."""


@dataclass(frozen=True, slots=True)
class Hold:
    """Why nothing is done before an admin says so. ``verb`` is what an approval lets happen, None where none does.

    ``message`` has NAMES where the environments are named: those that wait for the same are told together.
    """

    reason: Suspicion
    message: str
    remedy: str
    verb: Verb | None = None


@dataclass(frozen=True, slots=True)
class Trouble:
    """Why the manifest is refused."""

    message: str
    remedy: str
    reason: str


@dataclass(frozen=True, slots=True)
class Decision:
    """What is to be done about one environment on this host. ``then`` is what an approval makes of a held one."""

    place: Place
    step: Step = Step.NOTHING
    source: str = ""
    hold: Hold | None = None
    then: Step = Step.NOTHING
    refused: Trouble | None = None


def short_name(host: HostFacts) -> str:
    """The name under which this machine is declared: its host name up to the first dot, in small letters."""
    return host.name.partition(".")[0].lower()


def rendezvous(name: str, hosts: Iterable[str]) -> str:
    """The host that an environment goes to which nobody placed: the same wherever it is worked out.

    A host more or fewer changes it only for those that go there or were there. Empty without hosts.
    """
    return max(hosts, key=lambda host: hashlib.sha256(f"{host}\0{name}".encode()).digest(), default="")


def takes_part(host: DeclaredHost) -> bool:
    """Whether the others can reach a host, and know it."""
    return host.manifest.spec.identity is not None and host.manifest.spec.network.address is not None


@dataclass(frozen=True)
class Fleet:
    """The declared hosts, and what they told, as this host sees them. ``own`` is its name."""

    own: str
    hosts: Mapping[str, DeclaredHost]
    peers: Mapping[str, Peer]
    sure: bool
    """Whether all Host manifests were read: with one missing, nothing is made that its host may have. Where only this
    host is declared, it makes what there is as one without a fleet does.
    """
    observed: Observed = field(repr=False)

    @classmethod
    def of(cls, load: Load, observed: Observed) -> Fleet | None:
        """The fleet that the manifests declare; None where they declare no host."""
        if not load.hosts:
            return None
        own = short_name(observed.host)
        hosts = {host.name: host for host in load.hosts}
        peers = {name: observed.peers.get(name, Peer(name)) for name in hosts if name != own}
        sure = hosts.keys() == {own} or (load.complete and not load.hosts_unsure)
        return cls(own, hosts, peers, sure, observed)

    @property
    def member(self) -> bool:
        """Whether this host is declared."""
        return self.own in self.hosts

    @cached_property
    def silent(self) -> tuple[str, ...]:
        """Who does not answer at present, sorted."""
        return tuple(sorted(name for name, peer in self.peers.items() if not peer.answers))

    def unasked(self, hosts: Iterable[str]) -> bool:
        """Whether any of them is silent only because nobody has had the time to ask yet."""
        return any(self.peers[host].boxes is None and not self.peers[host].error for host in hosts)

    def answers(self, host: str) -> bool:
        """Whether what a host tells is of now."""
        return host == self.own or ((peer := self.peers.get(host)) is not None and peer.answers)

    def box(self, host: str, name: str) -> Box | None:
        """What a host told last of an environment."""
        peer = self.peers.get(host)
        return peer.boxes.get(name) if peer is not None and peer.boxes is not None else None

    def address(self, host: str, name: str) -> str:
        """Where an environment is reached on another host, empty where that is unknown.

        Only an address that a guest there can have is believed: nobody can point a jump account at anything else.
        """
        box = self.box(host, name)
        declared = self.hosts.get(host)
        if box is None or declared is None or box.presence is not Presence.HERE:
            return ""
        return box.address if addresses.usable(declared.manifest.spec.network.subnet, box.address) else ""

    def why_silent(self, names: Iterable[str]) -> str:
        """In words who does not answer, and why."""
        told = (f"{name} ({error})" if (error := self.peers[name].error) else name for name in names)
        return ", ".join(told)
