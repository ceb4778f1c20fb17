"""The files of one folder of a commit, as git lists them: counted, measured and looked at before any is written."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from containarium.model.base import shown
from containarium.model.host import TerminalError

MAX_FILES: Final = 50_000
MAX_BYTES: Final = 64 << 20
MAX_DEPTH: Final = 20
"""What sources/folder.py reads at most: what is more would not be read anyway."""
_LONGEST_NAME = 255
_LONGEST_PATH = 1024
_LONGEST_LINK = 4095

LINK: Final = 0o120000
_FILE: Final = 0o100000
_SUBMODULE: Final = 0o160000
_KIND: Final = 0o170000


@dataclass(frozen=True, slots=True)
class Entry:
    """A file or link. ``path`` is relative to the folder and safe to be joined to another one.

    ``digest`` is git's name of its content, ``size`` in bytes.
    """

    path: str
    digest: str
    size: int
    link: bool


def read_listing(listing: bytes, folder: str) -> tuple[Entry, ...]:
    """What ``git ls-tree -r -z -l`` printed. Raises TerminalError for what must not or cannot be written to a disk."""
    entries: dict[str, Entry] = {}
    total = 0
    for record in listing.split(b"\0"):
        if not record:
            continue
        if len(entries) >= MAX_FILES:
            raise too_large(folder)
        entry = _entry(record)
        total += entry.size
        if total > MAX_BYTES:
            raise too_large(folder)
        if entry.path in entries:
            raise _refused(entry.path, "is there twice")
        entries[entry.path] = entry
    for path in entries:
        for parent in parents(path):
            if parent in entries:  # a link with something below it: written in this order it would lead out
                raise _refused(parent, "is a file and a folder at once")
    return tuple(entries.values())


def parents(path: str) -> Iterator[str]:
    """Every folder that a path goes through, the nearest last."""
    parts = path.split("/")[:-1]
    for end in range(1, len(parts) + 1):
        yield "/".join(parts[:end])


def content_digest(data: bytes) -> str:
    """Git's name of a file's content."""
    return hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()


def too_large(folder: str) -> TerminalError:
    """There is more in the folder than is taken."""
    return TerminalError(
        f"there are more than {MAX_FILES} files or {MAX_BYTES >> 20} MiB in {shown(folder)}",
        remedy="keep only manifests and keys there",
        reason="TooLarge",
    )


def _entry(record: bytes) -> Entry:
    head, tab, name = record.partition(b"\t")
    fields = head.split()
    path = os.fsdecode(name)
    if not tab or len(fields) != 4:
        raise _refused(path, "is listed in an unknown way")
    mode, digest, size = int(fields[0], 8), fields[2].decode("ascii", "replace"), fields[3]
    if mode & _KIND == _SUBMODULE:
        raise TerminalError(
            f"{shown(path)} is a submodule, which is not fetched",
            remedy="put the manifests themselves there",
            reason="Submodule",
        )
    if mode & _KIND not in (_FILE, LINK) or fields[1] != b"blob" or not size.isdigit():
        raise _refused(path, "is neither a file nor a link")
    parts = path.split("/")
    if len(parts) > MAX_DEPTH or len(name) > _LONGEST_PATH or any(_bad_name(part) for part in parts):
        raise _refused(path, "is no name for a file")
    link = mode & _KIND == LINK
    if link and not 0 < int(size) <= _LONGEST_LINK:
        raise _refused(path, "is no link that a disk could hold")
    return Entry(path, digest, int(size), link)


def _bad_name(name: str) -> bool:
    return name in ("", ".", "..") or name.lower() == ".git" or len(os.fsencode(name)) > _LONGEST_NAME


def _refused(path: str, what: str) -> TerminalError:
    return TerminalError(f"{shown(path)} {what}", remedy="take it out of the repository", reason="UnsafeTree")
