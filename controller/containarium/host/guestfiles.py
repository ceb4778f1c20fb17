"""What the files of a guest say. Pure, and tolerant of anything: a guest writes what it likes into its own files."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from containarium.host.passwd import classify_password
from containarium.model.host import TerminalError
from containarium.model.observed import Password

BEGIN = b"# BEGIN containarium: managed, edit the manifest instead"
END = b"# END containarium"
_MOST_STANZAS = 20_000
_MOST_NAMES = 100_000
_LONGEST_HOME = 256
_HOME = re.compile(r"(/[A-Za-z0-9._@+-]+)+")
_LARGEST_ID = 2**32 - 2


@dataclass(frozen=True, slots=True)
class GuestUser:
    """One account of a guest. ``home`` is an absolute path without ``.`` and ``..``, empty when it says otherwise.

    ``own`` is what passwd's own password field allows, None where it points to shadow, as it should.
    """

    uid: int
    gid: int
    home: str
    shell: str
    own: Password | None = None


def find_user(passwd: bytes, name: str) -> GuestUser | None:
    """The account's entry in a passwd file, None when there is none or it makes no sense."""
    for fields in _entries(passwd, name, 7):
        try:
            uid, gid = int(fields[2]), int(fields[3])
        except ValueError:
            return None
        if not (0 <= uid <= _LARGEST_ID and 0 <= gid <= _LARGEST_ID):
            return None
        own = None if fields[1] == b"x" else classify_password(_text(fields[1]))
        return GuestUser(uid, gid, _home(_text(fields[5])), _text(fields[6]), own)
    return None


def find_password(shadow: bytes, name: str) -> Password:
    """What the account's shadow entry allows."""
    for fields in _entries(shadow, name, 2):
        return classify_password(_text(fields[1]))
    return Password.MISSING


def effective_password(user: GuestUser | None, shadow: Password) -> Password:
    """What an account's two password fields allow together: shadow's counts only where passwd points to it."""
    return shadow if user is None or user.own is None else user.own


def find_groups(group: bytes, name: str, gid: int | None) -> frozenset[str]:
    """The groups that the account is in, its primary one included."""
    wanted = name.encode()
    found = set()
    for line in group.splitlines():
        fields = line.split(b":")
        if len(fields) == 4 and (wanted in fields[3].split(b",") or fields[2] == str(gid).encode()):
            found.add(_text(fields[0]))
    return frozenset(found)


def installed_packages(status: bytes) -> frozenset[str]:
    """Every package that dpkg's status file calls installed, and the names that those provide."""
    names: set[bytes] = set()
    start, size = 0, len(status)
    for _ in range(_MOST_STANZAS):
        if start >= size or len(names) > _MOST_NAMES:
            break
        end = status.find(b"\n\n", start)
        end = size if end < 0 else end
        if status.startswith(b"Package: ", start) and _field(status, b"Status: ", start, end).endswith(
            b" ok installed"
        ):
            names.add(_field(status, b"Package: ", start, end))
            provides = _field(status, b"Provides: ", start, end)
            if provides:
                names.update(one.split(b"(", 1)[0].strip() for one in provides[:65536].split(b","))
        start = end + 2
    return frozenset(_text(name) for name in names)


def read_block(authorized_keys: bytes) -> tuple[str, ...] | None:
    """The keys inside our block, None where there is not exactly one whole block."""
    lines = authorized_keys.splitlines()
    blocks = list(_blocks(lines))
    if len(blocks) != 1:
        return None
    first, last = blocks[0]
    return tuple(_text(line) for line in lines[first + 1 : last] if line.strip())


def write_block(authorized_keys: bytes, keys: tuple[str, ...]) -> bytes:
    """The file with exactly one block, holding these keys; every line outside stays as it is.

    The block keeps its place. A beginning without an end is dropped alone: what follows may be the person's own.
    """
    if any("\n" in key or "\r" in key for key in keys):
        raise TerminalError("a key holds a line break", remedy="write one key per line", reason="BadKey")
    lines = authorized_keys.splitlines(keepends=True)
    ours: set[int] = set()
    blocks = list(_blocks(lines))
    for first, last in blocks:
        ours.update(range(first, last + 1))
    place = blocks[0][0] if blocks else len(lines)
    block = b"".join(line + b"\n" for line in (BEGIN, *(key.encode() for key in keys), END))

    def kept(numbers: range) -> bytes:
        return b"".join(lines[n] for n in numbers if n not in ours and lines[n].strip() not in (BEGIN, END))

    before = kept(range(place))
    if before and not before.endswith((b"\n", b"\r")):
        before += b"\n"
    return before + block + kept(range(place, len(lines)))


def _blocks(lines: list[bytes]) -> Iterator[tuple[int, int]]:
    """First and last line number of every whole block."""
    first: int | None = None
    for number, line in enumerate(lines):
        word = line.strip()
        if word == BEGIN:
            first = number
        elif word == END and first is not None:
            yield first, number
            first = None


def _entries(data: bytes, name: str, fields: int) -> Iterator[list[bytes]]:
    prefix = name.encode() + b":"
    start = 0 if data.startswith(prefix) else data.find(b"\n" + prefix) + 1
    if start == 0 and not data.startswith(prefix):
        return
    end = data.find(b"\n", start)
    entry = data[start : len(data) if end < 0 else end].split(b":")
    if len(entry) >= fields:
        yield entry


def _field(data: bytes, field: bytes, start: int, end: int) -> bytes:
    """A field's value between two offsets; the field stands at the start of a line."""
    at = start if data.startswith(field, start) else data.find(b"\n" + field, start, end) + 1
    if at == 0 and not data.startswith(field, start):
        return b""
    stop = data.find(b"\n", at, end)
    return data[at + len(field) : end if stop < 0 else stop]


def _home(path: str) -> str:
    sane = len(path) <= _LONGEST_HOME and _HOME.fullmatch(path) and not {".", ".."} & set(path.split("/"))
    return path if sane else ""


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", errors="replace")
