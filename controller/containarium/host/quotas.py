"""How much disk the kernel lets a container have, and setting that anew.

btrfs shows it in sysfs, by filesystem and subvolume, so that reading it takes no process; ZFS needs one for all.
"""

from __future__ import annotations

import fcntl
import os
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from containarium.host.command import Run
from containarium.host.faults import clean
from containarium.model.host import RetryableError

_SUBVOLUME_OF = 0xD0009412
"""BTRFS_IOC_INO_LOOKUP: which subvolume an open folder belongs to."""
_FILESYSTEM_INFO = 0x8400941F
"""BTRFS_IOC_FS_INFO."""
_TOP = 256
"""The inode number of the top folder of every subvolume."""
_DASHES = ((0, 8), (8, 12), (12, 16), (16, 20), (20, 32))
_REFERENCED = 0x1
"""In a group's flags: the limit on what it refers to holds."""
_TIMEOUT = 30.0


@dataclass(frozen=True, slots=True)
class Subvolume:
    """A btrfs subvolume: the id of its filesystem, as sysfs writes it, and its own."""

    filesystem: str
    number: int


class Quotas:
    """Reads and sets the disk limits of containers. ``folder`` is a container's own, which holds its rootfs."""

    def __init__(
        self,
        run: Run,
        btrfs: Path = Path("/sys/fs/btrfs"),
        mounts: Path = Path("/proc/self/mounts"),
        volume: Callable[[Path], Subvolume | None] | None = None,
    ) -> None:
        """``volume`` says which subvolume a folder is the top of."""
        self._run = run
        self._volume = volume or subvolume
        self._btrfs = btrfs
        self._mounts = mounts

    def limits(self, folders: Mapping[str, Path]) -> dict[str, int | None]:
        """Bytes by instance (0: no limit), None where it is unknown."""
        volumes = {name: self._volume(folder) for name, folder in folders.items()}
        found = {name: self._limit(volume) for name, volume in volumes.items() if volume}
        others = {name: folder for name, folder in folders.items() if volumes[name] is None}
        return found | (self._zfs(others) if others else {})

    def set_btrfs(self, folder: Path, pool: Path, size: int) -> bool:
        """Set a subvolume's limit in bytes; False where it is none of btrfs. Raises HostError.

        Not by way of the folder itself, as Incus does: the kernel refuses that for one that is over its limit.
        """
        found = self._volume(folder)
        if found is None:
            return False
        self._run(["btrfs", "qgroup", "limit", str(size), f"0/{found.number}", str(pool)], timeout=_TIMEOUT)
        return True

    def used(self, folder: Path) -> int | None:
        """Bytes that a subvolume of btrfs refers to, as its limit counts them; None where that is unknown."""
        found = self._volume(folder)
        if found is None:
            return None
        group = self._btrfs / found.filesystem / "qgroups" / f"0_{found.number}"
        try:
            return int((group / "referenced").read_text(encoding="ascii"))
        except (OSError, ValueError):
            return None

    def recount(self, pool: Path) -> bool:
        """Let btrfs count anew how much each subvolume uses where it has lost count: until then no limit holds.

        Returns whether that was so; the counting goes on by itself. Raises HostError.
        """
        found = self._volume(pool)
        if found is None or not self._inconsistent(found.filesystem):
            return False
        begun = self._run(["btrfs", "quota", "rescan", str(pool)], timeout=_TIMEOUT, check=False)
        if begun.code != 0 and "in progress" not in begun.err:
            raise RetryableError(
                f"btrfs does not count anew what uses the disk: {clean(begun.tail)}",
                remedy=f"btrfs quota rescan -w {pool}",
                reason="QuotasInconsistent",
            )
        return begun.code == 0

    def _inconsistent(self, filesystem: str) -> bool:
        try:
            text = (self._btrfs / filesystem / "qgroups" / "inconsistent").read_text(encoding="ascii")
        except (OSError, ValueError):  # quotas are off, or the kernel does not show them
            return False
        return text.strip() == "1"

    def _limit(self, volume: Subvolume) -> int | None:
        groups = self._btrfs / volume.filesystem / "qgroups"
        group = groups / f"0_{volume.number}"
        try:
            flags = int((group / "limit_flags").read_text(encoding="ascii"), 0)
            return int((group / "max_referenced").read_text(encoding="ascii")) if flags & _REFERENCED else 0
        except FileNotFoundError:  # its group was destroyed; or quotas are off, or the kernel does not show them
            return 0 if groups.is_dir() and not group.is_dir() else None
        except (OSError, ValueError):
            return None

    def _zfs(self, folders: Mapping[str, Path]) -> dict[str, int | None]:
        datasets = self._datasets(folders)
        if not datasets:
            return dict.fromkeys(folders)
        asked = ["zfs", "get", "-Hp", "-o", "name,property,value", "quota,refquota", *sorted(datasets.values())]
        # one that is gone meanwhile makes it fail, after it has told of the others
        listed = self._run(asked, timeout=_TIMEOUT, check=False).out
        known: dict[str, dict[str, int]] = {}
        for line in listed.splitlines():
            name, _, rest = line.partition("\t")
            key, _, value = rest.partition("\t")
            if value.isdecimal():
                known.setdefault(name, {})[key] = int(value)
        return {name: _smallest(known.get(datasets.get(name, ""), {})) for name in folders}

    def _datasets(self, folders: Mapping[str, Path]) -> dict[str, str]:
        try:
            lines = self._mounts.read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError:
            return {}
        mounted = {words[1]: words[0] for line in lines if (words := line.split())[2:3] == ["zfs"]}
        return {name: mounted[str(folder)] for name, folder in folders.items() if str(folder) in mounted}


def subvolume(folder: Path) -> Subvolume | None:
    """The btrfs subvolume whose top a folder is, None where it is none."""
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        if os.fstat(descriptor).st_ino != _TOP:
            return None
        asked = bytearray(struct.pack("=QQ", 0, _TOP).ljust(4096, b"\0"))
        fcntl.ioctl(descriptor, _SUBVOLUME_OF, asked)
        info = bytearray(1024)
        fcntl.ioctl(descriptor, _FILESYSTEM_INFO, info)
    except OSError:  # another filesystem
        return None
    finally:
        os.close(descriptor)
    identity = info[16:32].hex()
    filesystem = "-".join(identity[start:end] for start, end in _DASHES)
    return Subvolume(filesystem, struct.unpack_from("=Q", asked)[0])


def _smallest(limits: Mapping[str, int]) -> int | None:
    """Either of the two properties may hold the limit; 0 is none."""
    return min((limit for limit in limits.values() if limit), default=0) if limits else None
