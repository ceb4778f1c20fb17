"""What only shows when all manifests are seen together: a name, a key or an address that several of them claim."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final

from containarium.model.manifest import Manifest
from containarium.model.problem import Problem
from containarium.sources.documents import Candidate

_LISTED: Final = 3


class _Rule(Enum):
    """What only one environment can have: how to say so, what to do about it, and the problem's reason."""

    NAME = ("the name {} is taken", "keep one of them, or rename one", "DuplicateName")
    KEY = ("the key {} is another person's", "give every person a key of their own", "SharedKey")
    ADDRESS = (
        "the address {} is taken",
        "write another one, or leave the field out to have one chosen",
        "DuplicateAddress",
    )


@dataclass(frozen=True, slots=True)
class _Claim:
    """``owner`` is the index of the candidate; ``key`` that of the key among its manifest's keys."""

    owner: int
    field: str
    key: int = 0


def check_together(candidates: Sequence[Candidate]) -> tuple[list[Manifest], list[Problem]]:
    """The manifests that nothing speaks against, and every problem. All who claim the same thing are refused."""
    problems = [problem for candidate in candidates for problem in candidate.problems]
    claims: dict[tuple[_Rule, str], list[_Claim]] = {}
    for owner, candidate in enumerate(candidates):
        for rule, value, claim in _claims(owner, candidate):
            claims.setdefault((rule, value), []).append(claim)
    refused: set[int] = set()
    for (rule, value), claimants in claims.items():
        if len(claimants) == 1 or (rule is not _Rule.NAME and len({candidates[c.owner].name for c in claimants}) == 1):
            continue  # one name twice is told once, not again for its key and its address
        refused.update(claim.owner for claim in claimants)
        problems.extend(_problems(rule, value, claimants, candidates))
    manifests = [c.manifest for i, c in enumerate(candidates) if c.manifest is not None and i not in refused]
    return manifests, problems


def _claims(owner: int, candidate: Candidate) -> Iterator[tuple[_Rule, str, _Claim]]:
    if candidate.name:
        yield _Rule.NAME, candidate.name, _Claim(owner, "metadata.name")
    manifest = candidate.manifest
    if manifest is None:
        return
    for index, (key, path) in enumerate(zip(manifest.keys, candidate.key_fields, strict=True)):
        yield _Rule.KEY, key.identity, _Claim(owner, path, index)
    address = manifest.environment.spec.network.ipv4
    if address is not None:
        yield _Rule.ADDRESS, str(address), _Claim(owner, "spec.network.ipv4")


def _problems(
    rule: _Rule, value: str, claimants: Sequence[_Claim], candidates: Sequence[Candidate]
) -> Iterator[Problem]:
    message, remedy, reason = rule.value
    if rule is _Rule.KEY:
        first = candidates[claimants[0].owner].manifest
        value = first.keys[claimants[0].key].fingerprint if first is not None else value
    places = [
        f"{candidates[c.owner].name} at {candidates[c.owner].origin.locate(c.field)}" for c in claimants[: _LISTED + 1]
    ]
    for index, claim in enumerate(claimants):
        others = [place for i, place in enumerate(places) if i != index][:_LISTED]
        more = len(claimants) - 1 - len(others)
        told = ", ".join(others) + (f" and {more} more" if more else "")
        owner = candidates[claim.owner]
        location = owner.origin.locate(claim.field)
        yield Problem(location, claim.field, f"{message.format(value)}: {told}", remedy, reason, owner.name)
