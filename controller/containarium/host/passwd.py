"""The account files in /etc as they are: read whole, tolerant of odd lines, never written here.

Reading the files ourselves takes about a millisecond for hundreds of accounts; asking NSS for each would not.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from containarium.model.host import TerminalError
from containarium.model.observed import Password

_DAY = 86400
_Line = TypeVar("_Line", "PasswdLine", "ShadowLine")


@dataclass(frozen=True, slots=True)
class PasswdLine:
    """One line of passwd."""

    name: str
    password: str
    uid: int
    gid: int
    comment: str
    home: str
    shell: str


@dataclass(frozen=True, slots=True)
class ShadowLine:
    """One line of shadow, without the fields that nobody here needs. Dates are in days since 1970."""

    name: str
    password: str
    expires: int | None = None
    changed: int | None = None
    maximum: int | None = None


@dataclass(frozen=True, slots=True)
class IdRange:
    """One line of subuid or subgid."""

    owner: str
    first: int
    count: int

    def __str__(self) -> str:
        """As ``usermod --del-subuids`` wants it: FIRST-LAST."""
        return f"{self.first}-{self.first + self.count - 1}"


@dataclass(frozen=True, slots=True)
class AccountFiles:
    """What passwd, shadow, group, subuid and subgid said, in one look."""

    passwd: Mapping[str, PasswdLine]
    shadow: Mapping[str, ShadowLine]
    group_names: Mapping[int, str]
    group_ids: Mapping[str, int]
    member_of: Mapping[str, frozenset[str]] = field(default_factory=dict)
    subuid: tuple[IdRange, ...] = ()
    subgid: tuple[IdRange, ...] = ()
    id_owners: frozenset[str] = frozenset()
    """Every owner in subuid or subgid that has ids."""

    def password(self, line: PasswdLine) -> Password:
        """What the account's password field allows."""
        if line.password == "":
            return Password.EMPTY
        shadow = self.shadow.get(line.name)
        return classify_password(shadow.password) if shadow else Password.MISSING

    def expired(self, name: str) -> bool:
        """Whether the account's expiry date lies in the past, so that sshd and pam_unix refuse it."""
        shadow = self.shadow.get(name)
        return bool(shadow and shadow.expires is not None and 0 <= shadow.expires < today())

    def aged(self, name: str) -> bool:
        """Whether PAM wants a new password first. Without one to change, the account can do nothing: it is shut out."""
        shadow = self.shadow.get(name)
        if shadow is None or shadow.changed is None:
            return False
        limit = -1 if shadow.maximum is None else shadow.maximum
        return shadow.changed == 0 or (limit >= 0 and shadow.changed + limit < today())

    def subordinate(self, line: PasswdLine, ranges: tuple[IdRange, ...]) -> list[IdRange]:
        """The account's own subordinate ids among ``ranges``, written under its name or its number."""
        if not self.has_subordinate(line):
            return []
        return [r for r in ranges if r.owner in (line.name, str(line.uid)) and r.count > 0]

    def has_subordinate(self, line: PasswdLine) -> bool:
        """Whether subuid or subgid hands the account any ids."""
        return line.name in self.id_owners or str(line.uid) in self.id_owners


def read_account_files(etc: Path) -> AccountFiles:
    """Read everything once. A missing file is empty; one that may not be read raises TerminalError (NotRoot)."""
    groups = list(_group_lines(_text(etc / "group")))
    member_of: dict[str, set[str]] = {}
    for name, _, members in groups:
        for member in members:
            member_of.setdefault(member, set()).add(name)
    subuid, subgid = (tuple(read_subordinate_ids(etc / name)) for name in ("subuid", "subgid"))
    return AccountFiles(
        passwd=_first(_passwd_lines(_text(etc / "passwd"))),
        shadow=_first(_shadow_lines(_text(etc / "shadow"))),
        group_names={gid: name for name, gid, _ in reversed(groups)},
        group_ids={name: gid for name, gid, _ in reversed(groups)},
        member_of={name: frozenset(values) for name, values in member_of.items()},
        subuid=subuid,
        subgid=subgid,
        id_owners=frozenset(r.owner for r in (*subuid, *subgid) if r.count > 0),
    )


def today() -> int:
    """Days since 1970, as shadow counts."""
    return int(time.time() // _DAY)


def read_subordinate_ids(path: Path) -> list[IdRange]:
    """The lines of subuid or subgid, which everybody may read."""
    return list(_id_ranges(_text(path)))


def classify_password(text: str) -> Password:
    """What a shadow password field allows, without its secret."""
    if text == "":
        return Password.EMPTY
    if text.startswith("!"):
        return Password.LOCKED
    if text.startswith("*"):
        return Password.NONE
    return Password.USABLE


def parse_passwd(text: str) -> dict[str, PasswdLine]:
    """Parse passwd text (also ``getent passwd``'s). Odd lines are skipped; of two with one name the first counts."""
    return _first(_passwd_lines(text))


def _first(lines: Iterator[_Line]) -> dict[str, _Line]:
    found: dict[str, _Line] = {}
    for line in lines:
        found.setdefault(line.name, line)
    return found


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return ""
    except PermissionError as error:
        raise TerminalError(f"cannot read {path}", remedy="run it as root", reason="NotRoot") from error


def _fields(text: str, count: int) -> Iterator[list[str]]:
    for line in text.split("\n"):
        parts = line.split(":")
        if len(parts) == count and parts[0] and parts[0][0] not in "+-#":
            yield parts


def _passwd_lines(text: str) -> Iterator[PasswdLine]:
    for name, password, uid, gid, comment, home, shell in _fields(text, 7):
        if uid.isdecimal() and gid.isdecimal():
            yield PasswdLine(name, password, int(uid), int(gid), comment, home, shell)


def _shadow_lines(text: str) -> Iterator[ShadowLine]:
    for parts in _fields(text, 9):
        yield ShadowLine(parts[0], parts[1], _number(parts[7]), _number(parts[2]), _number(parts[4]))


def _group_lines(text: str) -> Iterator[tuple[str, int, list[str]]]:
    for name, _, gid, members in _fields(text, 4):
        if gid.isdecimal():
            yield name, int(gid), [member for member in members.split(",") if member]


def _id_ranges(text: str) -> Iterator[IdRange]:
    for owner, first, count in _fields(text, 3):
        if first.isdecimal() and count.isdecimal():
            yield IdRange(owner, int(first), int(count))


def _number(text: str) -> int | None:
    try:
        return int(text) if text else None
    except ValueError:
        return None
