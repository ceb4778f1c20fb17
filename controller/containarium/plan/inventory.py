"""What is on a host already, as far as a manifest could say it; and whose the keys are that were found there. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from containarium.model import marks
from containarium.model.base import InvalidValueError
from containarium.model.observed import Account
from containarium.model.sshkey import SSHKey

SUFFIX: Final = "-container"
MOST_KEYS: Final = 50


@dataclass(frozen=True, slots=True)
class Seen:
    """One instance as it is: ``config`` and ``devices`` with what profiles bring, ``own_devices`` without.

    ``address`` is the IPv4 address that it has, empty where nobody knows; ``account`` the host's account of that name;
    the keys are lines of authorized_keys files, inside of it and of that account. Usages are in bytes.
    """

    instance: str
    kind: str
    running: bool
    config: Mapping[str, str]
    own_config: Mapping[str, str]
    devices: Mapping[str, Mapping[str, str]]
    own_devices: Mapping[str, Mapping[str, str]]
    address: str = ""
    guest_keys: tuple[str, ...] = ()
    account: Account | None = None
    account_keys: tuple[str, ...] = ()
    disk_used: int = 0
    memory_used: int = 0

    @property
    def name(self) -> str:
        """The environment that it would be."""
        return self.instance.removesuffix(SUFFIX)

    @property
    def ours(self) -> bool:
        """Whether it carries our mark already."""
        return marks.ENVIRONMENT in self.own_config


@dataclass(slots=True)
class Keys:
    """Lines for a manifest, each with a note or none, and what was left out."""

    lines: list[tuple[str, str]] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)


def assigned(seen: Sequence[Seen], declared: Mapping[str, str]) -> dict[str, Keys]:
    """Which keys go into whose manifest, by instance. What the host says of its account counts more than what a guest
    says. ``declared`` maps the keys of present manifests to the environment that has them.
    """
    of_host = {one.instance: _parsed(one.account_keys) for one in seen}
    of_guest = {one.instance: _parsed(one.guest_keys) for one in seen}
    owners = Counter(identity for keys, _ in of_host.values() for identity in keys)
    holders = Counter(identity for keys, _ in of_guest.values() for identity in keys)
    found = {}
    for one in seen:
        keys = Keys()
        host, odd_host = of_host[one.instance]
        guest, odd_guest = of_guest[one.instance]
        if odd := odd_host + odd_guest:
            keys.remarks.append(f"{odd} line(s) of its authorized_keys are no plain keys, and were left out")
        for identity, key in {**guest, **host}.items():
            whose = declared.get(identity)
            shared = owners[identity] > 1 or (owners[identity] == 0 and holders[identity] > 1)
            elsewhere = identity not in host and owners[identity] > 0
            if whose is not None and whose != one.name:
                keys.remarks.append(f"left out: {key.fingerprint}, which is a key of {whose}")
            elif shared or elsewhere:
                keys.remarks.append(f"left out: {key.fingerprint} ({key.comment or 'no comment'}), others have it, too")
            else:
                note = "" if identity in host else "found inside the container only: see that it is the person's"
                keys.lines.append((key.line, note))
        found[one.instance] = keys
    return found


def _parsed(lines: Iterable[str]) -> tuple[dict[str, SSHKey], int]:
    """The keys of an authorized_keys file by what they are, and how many lines are none."""
    found: dict[str, SSHKey] = {}
    odd = 0
    for line in lines:
        text = line.strip()
        if not text or text.startswith("#"):
            continue
        try:
            key = SSHKey.parse(text)
        except InvalidValueError:
            odd += 1
            continue
        if len(found) < MOST_KEYS:
            found.setdefault(key.identity, key)
    return found, odd
