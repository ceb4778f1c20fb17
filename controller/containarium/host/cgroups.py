"""The limits that the kernel holds a container's processes to, read from its control groups, of either generation.

liblxc names a container's group ``lxc.payload.NAME``, and where a left-over of that name stands in the way it
appends -1, -2 and so on. Of several the one counts in which something of the container runs.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")
_PAYLOAD = "lxc.payload."
_SUFFIX = re.compile(r"(-[0-9]{1,4})?")
_NO_LIMIT = 1 << 62
"""The first generation shows a very large number where there is no limit."""
_MOST_FOLDERS = 500
_READ = 4096
_MEMORY, _PIDS, _CPUSET = "memory", "pids", "cpuset"
_FILES = {
    _MEMORY: ("memory.max", "memory.limit_in_bytes"),
    _PIDS: ("pids.max",),
    _CPUSET: ("cpuset.cpus", "cpuset.cpus.effective", "cpuset.effective_cpus"),
}


@dataclass(frozen=True, slots=True)
class Limits:
    """``memory`` in bytes and ``processes`` as a count (0: no limit), ``cpus`` as ids; None where it is unknown."""

    memory: int | None = None
    processes: int | None = None
    cpus: frozenset[int] | None = None


class Payloads:
    """The control groups of all containers, listed once: for one look, and not to be kept."""

    def __init__(self, cgroups: Path = CGROUPS, proc: Path = Path("/proc")) -> None:
        self._proc = proc
        roots = {controller: _hierarchy(cgroups, controller) for controller in _FILES}
        self._roots = {controller: root for controller, root in roots.items() if root}
        listed = {root: _by_stem(root) for root in set(self._roots.values())}
        self._groups = {controller: listed[root] for controller, root in self._roots.items()}

    def limits(self, instance: str, rootfs: Path) -> Limits:
        """What holds for an instance; ``rootfs`` tells its processes from those of others of a similar name."""
        found = {controller: self._candidates(controller, instance) for controller in self._roots}
        names = {name for candidates in found.values() for name in candidates}
        name = names.pop() if len(names) == 1 else self._inhabited(found, rootfs)
        if name is None:
            return Limits()
        return Limits(
            memory=_number(self._first(_MEMORY, name)),
            processes=_number(self._first(_PIDS, name)),
            cpus=cpu_list(self._first(_CPUSET, name)),
        )

    def _candidates(self, controller: str, instance: str) -> list[str]:
        wanted = _PAYLOAD + instance
        near = self._groups[controller].get(_stem(wanted), ())
        return [name for name in near if name.startswith(wanted) and _SUFFIX.fullmatch(name, len(wanted))]

    def _inhabited(self, found: Mapping[str, list[str]], rootfs: Path) -> str | None:
        """That of several groups in which a process has the container's root for its own."""
        try:
            root = rootfs.stat()
        except OSError:
            return None
        for controller, names in found.items():
            for name in names:
                for pid in _processes(f"{self._roots[controller]}/{name}"):
                    try:
                        its = os.stat(self._proc / pid / "root/")  # noqa: PTH116 - the slash follows the link
                    except OSError:
                        continue
                    if (its.st_dev, its.st_ino) == (root.st_dev, root.st_ino):
                        return name
        return None

    def _first(self, controller: str, group: str) -> str | None:
        root = self._roots.get(controller)
        for file in _FILES[controller] if root else ():
            if text := _read(f"{root}/{group}/{file}"):
                return text
        return None


def cpu_list(text: str | None) -> frozenset[int] | None:
    """The kernel's list format: ``0-1,3``. None where there is nothing to read."""
    if not text:
        return None
    found: set[int] = set()
    for part in text.split(","):
        first, _, last = part.partition("-")
        if not first.isdecimal() or not (last or first).isdecimal():
            return None
        found.update(range(int(first), int(last or first) + 1))
    return frozenset(found)


def _hierarchy(cgroups: Path, controller: str) -> str | None:
    """Where a controller's groups are: a mount of its own (first generation), or the one for all (second)."""
    if (cgroups / controller).is_dir():
        return str(cgroups / controller)
    unified = (root for root in (cgroups, cgroups / "unified") if (root / "cgroup.controllers").exists())
    return next(map(str, unified), None)


def _stem(name: str) -> str:
    """The name without what liblxc may have appended."""
    stem, dash, number = name.rpartition("-")
    return stem if dash and number.isdecimal() else name


def _by_stem(root: str) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    with os.scandir(root) as entries:
        for name in sorted(entry.name for entry in entries):
            if name.startswith(_PAYLOAD):
                found.setdefault(_stem(name), []).append(name)
    return found


def _processes(group: str) -> Iterator[str]:
    """Ids of the processes in a group and those below it; a guest may have made many of those."""
    for seen, (folder, _folders, _files) in enumerate(os.walk(group)):
        if seen >= _MOST_FOLDERS:
            return
        yield from (_read(f"{folder}/cgroup.procs") or "").split()


def _read(path: str) -> str | None:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        return os.read(descriptor, _READ).decode("ascii", "replace").strip()
    except OSError:
        return None
    finally:
        os.close(descriptor)


def _number(text: str | None) -> int | None:
    if text == "max":
        return 0
    if not text or not text.isdecimal():
        return None
    number = int(text)
    return 0 if number >= _NO_LIMIT else number
