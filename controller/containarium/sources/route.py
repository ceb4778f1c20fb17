"""What has to be watched so that no change of a path goes unnoticed: its links, its place, and the folders below.

A path may lead through links that are swapped, and end in a folder, in a file, or nowhere yet.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final

MAX_FOLDERS: Final = 4096
"""Folders that are watched below one path."""
MAX_DEPTH: Final = 24
_MAX_LINKS: Final = 40
_UNWATCHED: Final = (".git", ".hg", ".svn")
"""Their bookkeeping changes without any manifest changing."""
_REMOTE: Final = ("nfs", "cifs", "smb", "9p", "ceph", "afs", "fuse", "gluster", "lustre", "virtiofs", "vboxsf")
"""File systems that others change without this kernel noticing."""

Stamp = tuple[int, ...]
"""Kind, identity and times of a file, as far as a change shows in them."""


@dataclass(frozen=True, slots=True)
class Route:
    """Where paths lead at one moment. Two equal routes need the same watches."""

    places: frozenset[tuple[str, str]] = frozenset()
    """Folder and name of what decides where the path leads: links on the way, its end, or the first thing missing."""
    folders: frozenset[str] = frozenset()
    """The folder that it leads to and all below it, by their real paths."""
    identities: frozenset[tuple[str, int, int]] = frozenset()
    """Path, device and inode of every folder to watch: one that was replaced has to be watched anew."""
    cut: bool = field(default=False, compare=False)
    """There were more than MAX_FOLDERS folders."""

    @property
    def watched(self) -> frozenset[str]:
        """Every folder that has to be watched, not what is below it."""
        return frozenset(path for path, _, _ in self.identities)

    def concerns(self, changed: str) -> bool:
        """Whether a changed path is part of it."""
        folder, _, name = changed.rpartition("/")
        folder = folder or "/"
        return (folder, name) in self.places or folder in self.folders or changed in self.folders


def trace(path: str) -> Route:
    """Follow an absolute path as the kernel would. Never raises: what cannot be seen is missing."""
    places: set[tuple[str, str]] = set()
    here, rest, links = "/", _parts(path), 0
    last = None
    while rest:
        name = rest.pop()
        if name == "..":
            here = os.path.dirname(here)  # noqa: PTH120 (text: no link is left in it)
            continue
        last = (here, name)
        target = f"{here.rstrip('/')}/{name}"
        found = _stamp(target)
        if found is None or links > _MAX_LINKS:
            places.add(last)
            return Route(frozenset(places), identities=_identities(folder for folder, _ in places))
        if stat.S_ISLNK(found[0]):
            places.add(last)
            links += 1
            to = _link(target)
            here = "/" if to.startswith("/") else here
            rest += _parts(to)
        else:
            here = target
    if last is not None:
        places.add(last)
    folders, cut = _below(here)
    watch = {folder for folder, _ in places} | folders
    return Route(frozenset(places), frozenset(folders), _identities(watch), cut)


def silent_folders(route: Route) -> frozenset[str]:
    """Folders that have to be looked at: they may not be listened to, or, as on a network, not every change is told."""
    devices = _remote_devices()
    return frozenset(
        path
        for path, device, _ in route.identities
        if device in devices or not _is_text(path) or not os.access(path, os.R_OK)
    )


def snapshot(route: Route) -> frozenset[tuple[str, Stamp]]:
    """The stamps of all that the route concerns: equal ones mean that most likely nothing changed."""
    names = [f"{folder.rstrip('/')}/{name}" for folder, name in route.places]
    for folder in route.folders:
        try:
            names.extend(f"{folder}/{name}" for name in os.listdir(folder))  # noqa: PTH208 (many, and only names)
        except OSError:
            continue
    return frozenset((name, found) for name in names if (found := _stamp(name)) is not None)


def _parts(path: str) -> list[str]:
    """Components, the first one last."""
    return [part for part in reversed(path.split("/")) if part not in ("", ".")]


def _stamp(path: str) -> Stamp | None:
    try:
        found = os.lstat(path)
    except (OSError, ValueError):
        return None
    return (found.st_mode, found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)


def _is_text(path: str) -> bool:
    return path.isascii() or path.encode(errors="replace").decode() == path


def _link(path: str) -> str:
    try:
        return os.readlink(path)  # noqa: PTH115 (text)
    except OSError:
        return ""


def _identities(folders: Iterable[str]) -> frozenset[tuple[str, int, int]]:
    seen = ((folder, _stamp(folder)) for folder in folders)
    return frozenset((folder, found[1], found[2]) for folder, found in seen if found is not None)


def _below(root: str) -> tuple[set[str], bool]:
    """The folder and all below, without following links; whether there were too many."""
    found: set[str] = set()
    for folder in _walk(root, 0):
        if len(found) >= MAX_FOLDERS:
            return found, True
        found.add(folder)
    return found, False


def _walk(folder: str, depth: int) -> Iterator[str]:
    try:
        with os.scandir(folder) as scan:
            below = [
                entry.path for entry in scan if entry.name not in _UNWATCHED and entry.is_dir(follow_symlinks=False)
            ]
    except OSError:
        return  # a file, or it may not be read
    yield folder
    if depth < MAX_DEPTH:
        for path in below:
            yield from _walk(path, depth + 1)


def _remote_devices() -> frozenset[int]:
    """Numbers of the devices that are mounted from elsewhere."""
    devices = set()
    try:
        with open("/proc/self/mountinfo", encoding="utf-8", errors="replace") as file:  # noqa: PTH123
            for line in file:
                mount, _, rest = line.partition(" - ")
                if rest.startswith(_REMOTE):
                    major, _, minor = mount.split()[2].partition(":")
                    devices.add(os.makedev(int(major), int(minor)))
    except (OSError, ValueError, IndexError):
        pass
    return frozenset(devices)
