"""What is on a disk, before anybody writes to it: nothing at all, something of ours, or something that stays."""

from __future__ import annotations

import json
import os
import stat
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from containarium.host.command import Run
from containarium.model.host import TerminalError

LABEL = "containarium"
"""Name of our file systems, and of our ZFS pool."""
_TIMEOUT = 30.0
_ENDS = 1 << 20
"""Bytes at each end of a blank disk that are zero: where whatever has no signature that is known would begin."""
_POLL = 0.5
_NOTHING_FOUND = 2
_SYSFS = Path("/sys/dev/block")


@dataclass(frozen=True, slots=True)
class Contents:
    """What a disk holds. ``kind`` as blkid calls it (btrfs, ext4, zfs_member), empty where it is blank.

    ``partitions`` are its devices; of a whole disk that ZFS has, the first one carries the pool. ``device`` is where
    the signature was found.
    """

    device: str
    kind: str = ""
    label: str = ""
    uuid: str = ""
    partitions: tuple[str, ...] = ()

    @property
    def words(self) -> str:
        """For a message."""
        what = f"{self.kind} with the label {self.label!r}" if self.label else self.kind
        return f"{what} ({len(self.partitions)} partitions)" if self.partitions else what


def find(disk: str, wait: float, sleep: Callable[[float], None] = time.sleep) -> str:
    """The device that a disk's name leads to, once it is there: clouds attach disks while a machine boots.

    Raises TerminalError (DiskMissing, DiskOdd).
    """
    deadline = time.monotonic() + wait
    path = Path(disk)
    while not path.exists():
        if time.monotonic() >= deadline:
            raise TerminalError(
                f"the data disk {disk} is not there",
                remedy="attach it, or name the right one in spec.storage.disk (ls -l /dev/disk/by-id)",
                reason="DiskMissing",
            )
        sleep(_POLL)
    device = path.resolve()
    if not device.is_relative_to("/dev") or not stat.S_ISBLK(device.stat().st_mode):
        raise TerminalError(f"{disk} is no disk", remedy="name its device in spec.storage.disk", reason="DiskOdd")
    return str(device)


def contents(run: Run, device: str, sysfs: Path = _SYSFS) -> Contents:
    """Look at a disk and change nothing.

    Raises TerminalError: DiskOdd for a part of a disk, DiskForeign where it cannot be told what is on it.
    """
    number = os.stat(device).st_rdev  # noqa: PTH116 - a device's number
    node = sysfs / f"{os.major(number)}:{os.minor(number)}"
    if (node / "partition").exists():
        raise TerminalError(f"{device} is a partition", remedy="name the whole disk", reason="DiskOdd")
    partitions = tuple(f"/dev/{path.parent.name}" for path in sorted(node.glob("*/partition")))
    found = _signature(run, device)
    if found.get("TYPE") and not partitions:
        return Contents(device, found["TYPE"], found.get("LABEL", ""), found.get("UUID", ""))
    if found.get("PTTYPE") or partitions:
        inside = _signature(run, partitions[0]) if partitions and Path(partitions[0]).exists() else {}
        kind = inside.get("TYPE") or f"a partition table ({found.get('PTTYPE', 'unknown')})"
        where = partitions[0] if inside else device
        return Contents(where, kind, inside.get("LABEL", ""), inside.get("UUID", ""), partitions)
    left = _left(run, device)
    return Contents(device, left)


def require_unused(device: str, sysfs: Path = _SYSFS) -> None:
    """Raise TerminalError (DiskInUse) while the kernel uses a disk."""
    users = users_of(device, sysfs)
    if users:
        raise TerminalError(
            f"the disk {device} is in use ({', '.join(users)})",
            remedy="look who has it: lsblk, findmnt, swapon; only a disk that nobody uses is made ours",
            reason="DiskInUse",
        )


def users_of(device: str, sysfs: Path = _SYSFS) -> list[str]:
    """What keeps a disk or one of its partitions: mounted, swap, RAID, LVM, encryption, a guest's. Empty for nobody."""
    number = os.stat(device).st_rdev  # noqa: PTH116
    holders = sysfs / f"{os.major(number)}:{os.minor(number)}" / "holders"
    names = sorted(path.name for path in holders.iterdir()) if holders.is_dir() else []
    try:
        os.close(os.open(device, os.O_RDONLY | os.O_EXCL | os.O_CLOEXEC))
    except OSError as error:
        names = names or [error.strerror or "busy"]
    return names


def foreign(named: str, found: Contents, users: list[str]) -> TerminalError:
    """The refusal of a disk with something on it. How to empty it is not said of one that is in use."""
    remedy = "name a blank disk"
    if users:
        remedy += f"; this one is in use ({', '.join(users)}): lsblk, findmnt and swapon show by whom"
    else:
        remedy += "; if nothing on it is needed, empty it by hand: wipefs -a, then zero both ends"
    message = f"there is something on {named} that is not ours: {found.words}; it is left as it is"
    return TerminalError(message, remedy=remedy, reason="DiskForeign")


def _signature(run: Run, device: str) -> dict[str, str]:
    done = run(["blkid", "-p", "-o", "export", "--", device], timeout=_TIMEOUT, check=False)
    if done.code == _NOTHING_FOUND:
        return {}
    if done.code != 0:  # 8: several signatures that contradict one another
        raise TerminalError(
            f"it cannot be told what is on {device}: {done.tail or f'blkid says {done.code}'}",
            remedy=f"look at it (wipefs {device}); it is left as it is",
            reason="DiskForeign",
        )
    pairs = (line.partition("=") for line in done.out.splitlines())
    return {key: value.replace("\\", "") for key, _, value in pairs}


def _left(run: Run, device: str) -> str:
    """What blkid has not seen: signatures that it does not weigh, or bytes. Empty for a blank disk."""
    done = run(["wipefs", "--no-act", "--json", "--", device], timeout=_TIMEOUT)
    signatures = json.loads(done.out or "{}").get("signatures") or []
    if signatures:
        return ", ".join(sorted({str(item.get("type") or "something") for item in signatures}))
    handle = os.open(device, os.O_RDONLY | os.O_CLOEXEC)
    try:
        size = os.lseek(handle, 0, os.SEEK_END)
        ends = os.pread(handle, _ENDS, 0) + os.pread(handle, _ENDS, max(0, size - _ENDS))
    finally:
        os.close(handle)
    return "data without a signature" if any(ends) else ""
