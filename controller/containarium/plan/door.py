"""The door: the jump account, its keys, and how keys are told to a reader."""

from __future__ import annotations

from collections.abc import Iterator

from containarium.model import marks
from containarium.model.action import Action, Change, EnsureAccount, WriteAccountKeys
from containarium.model.manifest import Manifest
from containarium.model.observed import Account, Password
from containarium.model.sshkey import SSHKey
from containarium.plan.desired import DesiredEnvironment, is_probe_line

_LISTED_KEYS = 5


def fingerprints(manifest: Manifest) -> str:
    """The manifest's keys as a person compares them."""
    return " ".join(key.fingerprint for key in manifest.keys)


def told(lines: tuple[str, ...] | None) -> str | None:
    """The keys that are there, as a person compares them. Anybody may have written these lines."""
    if lines is None:
        return None
    lines = tuple(line for line in lines if not is_probe_line(line))
    if not 0 < len(lines) <= _LISTED_KEYS:
        return f"{len(lines)} keys"
    words = []
    for line in lines:
        try:
            words.append(SSHKey.parse(line.partition('" ')[2] or line).fingerprint)
        except ValueError:
            words.append("an unreadable line")
    return " ".join(words)


def is_open(account: Account | None) -> bool:
    return account is not None and account.keys is not None and not account.expired


def mend_account(
    desired: DesiredEnvironment, account: Account | None, *, drift: bool, finished: bool
) -> Iterator[Action]:
    lines, address = desired.account_keys, desired.address
    yield from mend_door(desired.manifest, lines, address, account, drift=drift, finished=finished)


def mend_door(
    manifest: Manifest, lines: tuple[str, ...], address: str, account: Account | None, *, drift: bool, finished: bool
) -> Iterator[Action]:
    """The jump account with these lines, which lead to ``address``: here, or on another host."""
    name = manifest.name
    changes = tuple(_account_changes(account, drift=drift, finished=finished))
    if changes:
        yield EnsureAccount(environment=name, account=name, changes=changes)
    keys = account.keys if account is not None else None
    if keys != lines:
        change = Change("account.keys", told(keys), f"{fingerprints(manifest)} to {address}:22", drift=drift)
        yield WriteAccountKeys(environment=name, account=name, lines=lines, changes=(change,))


def _account_changes(account: Account | None, *, drift: bool, finished: bool) -> Iterator[Change]:
    """Once it was ``finished``, what no manifest speaks of is drift, whatever else is new."""
    if account is None:
        yield Change("account", None, "a jump account", drift=finished)
        return
    if account.group != marks.JUMP_GROUP:
        yield Change("account.group", account.group, marks.JUMP_GROUP, drift=drift)
    if account.shell != marks.JUMP_SHELL:
        yield Change("account.shell", account.shell, marks.JUMP_SHELL, drift=finished)
    if account.password is not Password.NONE:
        yield Change("account.password", account.password.value, Password.NONE.value, drift=finished)
    if account.expired:
        yield Change("account.expiry", "expired", None, drift=drift)
    for group in sorted(account.groups):
        yield Change("account.groups", group, None, drift=finished)
    if account.subordinate_ids:
        yield Change("account.subordinate_ids", "some", None, drift=finished)
