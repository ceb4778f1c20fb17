"""The hosts that the manifests declare, seen together: what each must have for itself."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations
from typing import Final, NamedTuple

from containarium.model.manifest import DeclaredHost
from containarium.model.problem import Problem
from containarium.sources.documents import Candidate

_SUBNET: Final = "spec.network.subnet"


class _Own(NamedTuple):
    """Something that only one host can have."""

    field: str
    value: str
    message: str
    remedy: str
    reason: str


def check_hosts(candidates: Sequence[Candidate]) -> tuple[list[DeclaredHost], list[Problem]]:
    """The hosts that nothing speaks against, sorted by name, and what does. Both who claim the same are refused.

    What is wrong with one alone stands in its candidate already.
    """
    declared = [candidate.host for candidate in candidates if candidate.host is not None]
    problems: list[Problem] = []
    refused: set[int] = set()
    for (i, one), (j, other) in combinations(enumerate(declared), 2):
        for own in _clashes(one, other):
            refused |= {i, j}
            problems += [_problem(one, other, own), _problem(other, one, own)]
    hosts = [host for index, host in enumerate(declared) if index not in refused]
    return sorted(hosts, key=lambda host: host.name), problems


def _clashes(one: DeclaredHost, other: DeclaredHost) -> Iterator[_Own]:
    if one.name == other.name:
        yield _Own("metadata.name", one.name, "the host {} is declared twice", "keep one of them", "DuplicateName")
        return
    mine, theirs = one.manifest, other.manifest
    if mine.network.overlaps(theirs.network):
        remedy = "give each host a subnet of its own, such as 10.0.3.1/24 and 10.0.4.1/24"
        yield _Own(_SUBNET, str(mine.network), "the subnet {} overlaps another host's", remedy, "DuplicateSubnet")
    address = mine.spec.network.address
    if address is not None and address == theirs.spec.network.address:
        yield _Own(
            "spec.network.address",
            str(address),
            "the address {} is another host's",
            "write each host's own",
            "DuplicateAddress",
        )
    if mine.spec.identity and theirs.spec.identity:
        peer = mine.spec.identity.peer_key
        keys = {key.identity for key in mine.spec.identity.host_keys} | {peer.identity}
        if keys & {key.identity for key in (*theirs.spec.identity.host_keys, theirs.spec.identity.peer_key)}:
            remedy = "copy what containarium host manifest prints on each machine"
            yield _Own("spec.identity", peer.fingerprint, "another host has a key of this one", remedy, "SharedKey")


def _problem(owner: DeclaredHost, other: DeclaredHost, own: _Own) -> Problem:
    there = f"{other.name} at {other.origin.locate(own.field)}"
    message = f"{own.message.format(own.value)}: {there}"
    return Problem(owner.origin.locate(own.field), own.field, message, own.remedy, own.reason)
