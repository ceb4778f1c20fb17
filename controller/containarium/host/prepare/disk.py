"""The data disk: mounted where Incus has its folder, before Incus starts, or Incus does not start at all.

Everything that outlives a machine is on it: Incus' database, the containers, and the vault with the host's SSH keys. It
is imported or mounted when it is ours, made when it is blank, and left as it is in every other case.
"""

from __future__ import annotations

import json
import os
import stat
from dataclasses import asdict, dataclass
from pathlib import Path

from containarium.host.files import make_folder, read_small, write_atomically
from containarium.host.prepare import blockdevice, zfs
from containarium.host.prepare.blockdevice import LABEL, Contents
from containarium.host.prepare.service import DISK_SERVICE, SERVICE
from containarium.host.prepare.steps import Context, Step
from containarium.host.settings import HostSettings
from containarium.model.host import TerminalError
from containarium.model.hostmanifest import Storage, StorageDriver

NAME = "data disk"
WAIT = 60.0
"""Seconds in which a disk may still appear."""
_MAKE = {
    StorageDriver.BTRFS: ("mkfs.btrfs", "-q", "-L", LABEL),
    StorageDriver.DIR: ("mkfs.ext4", "-q", "-L", LABEL),
}
_KIND = {StorageDriver.ZFS: "zfs_member", StorageDriver.BTRFS: "btrfs", StorageDriver.DIR: "ext4"}
_QUICK, _LONG = 60.0, 600.0


@dataclass(frozen=True, slots=True)
class Known:
    """What this boot disk knows of its data disk. ``uuid`` is the file system's, or the pool's number."""

    driver: str
    disk: str
    uuid: str


@dataclass(frozen=True, slots=True)
class Mount:
    """What is mounted at a folder."""

    kind: str
    source: str


def disk(context: Context, wait: float | None = None) -> Step:
    """Have the data disk where the manifest wants it. Raises TerminalError, and then nothing was written to any disk.

    DiskForeign, DiskInUse, DiskMissing, DiskReplaced: see the messages. DriverDiffers, DiskDiffers, DataOnBootDisk:
    what cannot change on a living host.
    """
    wait = (0.0 if _given_up(context) else WAIT) if wait is None else wait
    known = read(context.settings)
    storage = context.spec.storage if context.spec is not None else None
    if storage is None or storage.disk is None:
        return _without(context, known, declared=storage is not None, wait=wait)
    if known is not None and known.driver != storage.driver.value:
        raise TerminalError(
            f"the data disk is {known.driver}, and {context.origin} says {storage.driver.value}",
            remedy=f"write driver: {known.driver}; another one needs another host, to which environments move",
            reason="DriverDiffers",
        )
    made, mounted = _have(context, storage, known, wait)
    now = Known(storage.driver.value, storage.disk, _identity(context, storage.disk, storage.driver))
    if now != known:
        _write(context, now)
    changed = made or mounted or now != known
    if mounted and context.systemd:  # its sandbox was made without the folders on the disk
        context.run(["systemctl", "try-restart", "--no-block", SERVICE], timeout=_QUICK, check=False)
    what = "made" if made else "mounted" if mounted else "there"
    return Step(NAME, changed, f"{storage.driver.value} on {storage.disk}: {what}")


def remount(settings: HostSettings, context: Context, wait: float = WAIT) -> bool:
    """At boot: mount the disk that this boot disk knows, and make nothing. Returns whether there was one to mount."""
    known = read(settings)
    if known is None:
        return False
    _have(context, Storage(driver=StorageDriver(known.driver), disk=known.disk), known, wait)
    return True


def read(settings: HostSettings) -> Known | None:
    """What is known of the data disk; None where Incus' folder is on the boot disk."""
    try:
        content = json.loads(read_small(settings.data_disk) or "")
        return Known(str(content["driver"]), str(content["disk"]), str(content["uuid"]))
    except (ValueError, KeyError, TypeError):
        return None


def mounted_at(folder: Path, mounts: Path = Path("/proc/self/mountinfo")) -> Mount | None:
    """What is mounted exactly there; the last one counts, as it does for whoever looks."""
    found = None
    for line in mounts.read_text(errors="replace").splitlines():
        left, _, right = line.partition(" - ")
        words, more = left.split(), right.split()
        if len(words) > 4 and len(more) > 1 and words[4] == str(folder):
            found = Mount(more[0], more[1])
    return found


def is_on(mount: Mount, disk: str) -> bool:
    """Whether what is mounted is on this disk. For ZFS the caller has to ask the pool."""
    try:
        return Path(mount.source).stat().st_rdev == Path(disk).stat().st_rdev != 0
    except OSError:
        return False


def give_back(context: Context) -> str:
    """Let go of the data disk, and nothing on it. Returns why that cannot be, empty when it is done."""
    known, folder = read(context.settings), context.settings.incus_dir
    if known is not None and mounted_at(folder) is not None:
        done = context.run(["umount", "--", str(folder)], timeout=_QUICK, check=False)
        if done.code != 0:
            return f"{folder} is still in use: {done.tail}"
    if known is not None and known.driver == StorageDriver.ZFS and zfs.imported(context):
        zfs.give_back(context)
    context.settings.data_disk.unlink(missing_ok=True)
    return ""


def _given_up(context: Context) -> bool:
    """Whether this boot has waited for the disk already."""
    failed = ["systemctl", "is-failed", "--quiet", DISK_SERVICE]
    return context.systemd and context.run(failed, timeout=_QUICK, check=False).code == 0


def _without(context: Context, known: Known | None, *, declared: bool, wait: float) -> Step:
    if known is None:
        return Step(NAME, False, "none is named: Incus' folder is on the boot disk")
    if declared:
        raise TerminalError(
            f"Incus' data is on {known.disk}, and {context.origin} names no disk",
            remedy=f"write spec.storage: {{driver: {known.driver}, disk: {known.disk}}}",
            reason="DiskDiffers",
        )
    remount(context.settings, context, wait)
    return Step(NAME, False, f"{known.driver} on {known.disk}")


def _have(context: Context, storage: Storage, known: Known | None, wait: float) -> tuple[bool, bool]:
    """Whether the disk was made, and whether it was mounted."""
    named = storage.disk or ""
    if storage.driver is StorageDriver.ZFS:
        zfs.ready(context)
    mount = mounted_at(context.settings.incus_dir)
    if mount is not None:
        _require_same(context, storage, mount, named)
        settled = storage.driver is StorageDriver.ZFS and zfs.settle(context)
        return False, settled
    device = blockdevice.find(named, wait)
    if storage.driver is StorageDriver.ZFS and zfs.imported(context):
        mount_imported(context, device)
        return False, True
    found = blockdevice.contents(context.run, device)
    blank = _judge(context, storage.driver, found, named, known)
    clear_folder(context)  # all that can be refused is refused before anything is written to a disk
    if blank:
        _make(context, storage.driver, device, named)
    elif storage.driver is StorageDriver.ZFS:
        zfs.take(context, found)
        zfs.settle(context)
    _mount(context, storage.driver, device)
    return blank, True


def mount_imported(context: Context, device: str) -> None:
    """Mount what is on the pool that is imported. A cut after it was made has left it without the dataset."""
    _require_pool_on(context, device)
    clear_folder(context)
    zfs.settle(context)
    _mount(context, StorageDriver.ZFS, device)


def _judge(context: Context, driver: StorageDriver, found: Contents, named: str, known: Known | None) -> bool:
    """Whether the disk is blank, and nobody uses it; else it has to be ours. Raises TerminalError."""
    if not found.kind and known is None:
        blockdevice.require_unused(found.device)
        return True
    if not found.kind:
        raise _replaced(context, f"{named} is blank", known)
    ours = {kind: each for each, kind in _KIND.items()}.get(found.kind)
    if found.label != LABEL or ours is None:
        raise blockdevice.foreign(named, found, blockdevice.users_of(str(Path(named).resolve())))
    if ours is not driver:
        raise TerminalError(
            f"{named} holds our data as {ours.value}, and {context.origin} says {driver.value}",
            remedy=f"write driver: {ours.value}",
            reason="DriverDiffers",
        )
    if known is not None and known.uuid and found.uuid and found.uuid != known.uuid:
        raise _replaced(context, f"{named} is another host's data disk, with the id {found.uuid}", known)
    return False


def _replaced(context: Context, what: str, known: Known | None) -> TerminalError:
    return TerminalError(
        f"{what}, and this host's data was on a disk with the id {known.uuid if known is not None else ''}",
        remedy=f"attach that disk; only if it is lost for good: rm {context.settings.data_disk}",
        reason="DiskReplaced",
    )


def _make(context: Context, driver: StorageDriver, device: str, named: str) -> None:
    context.progress(f"making {driver.value} on the blank disk {named}")
    if driver is StorageDriver.ZFS:
        zfs.make(context, named)
        zfs.settle(context)
    else:
        context.run([*_MAKE[driver], "--", device], timeout=_LONG)


def _mount(context: Context, driver: StorageDriver, device: str) -> None:
    folder = context.settings.incus_dir
    context.progress(f"mounting the data disk at {folder}")
    if driver is StorageDriver.ZFS:
        zfs.mount(context)
    else:
        context.run(["mount", "-t", _KIND[driver], "-o", "noatime", "--", device, str(folder)], timeout=_LONG)
    folder.chmod(0o711)  # as Incus' own package makes it: guests' users reach their files through it


def _require_same(context: Context, storage: Storage, mount: Mount, named: str) -> None:
    """What is mounted there has to be what is declared."""
    if storage.driver is StorageDriver.ZFS:
        if mount.source == zfs.DATASET:
            _require_pool_on(context, blockdevice.find(named, 0))
            return
    elif mount.kind == _KIND[storage.driver] and is_on(mount, named):
        return
    raise TerminalError(
        f"{context.settings.incus_dir} is on {mount.source} ({mount.kind}), and {context.origin} names {named}",
        remedy="name the disk that it is on; another one needs another host, to which environments move",
        reason="DiskDiffers",
    )


def _require_pool_on(context: Context, device: str) -> None:
    number = os.stat(device).st_rdev  # noqa: PTH116
    parts = {number, *(os.stat(part).st_rdev for part in _parts(device) if Path(part).exists())}  # noqa: PTH116
    on = zfs.devices(context)
    if not on or any(not Path(path).exists() or Path(path).stat().st_rdev not in parts for path in on):
        raise TerminalError(
            f"a pool {zfs.POOL} is imported, and it is on {', '.join(on) or 'another disk'} instead of {device}",
            remedy="export it (zpool export), or name its disk in spec.storage.disk",
            reason="DiskDiffers",
        )


def _parts(device: str) -> list[str]:
    number = os.stat(device).st_rdev  # noqa: PTH116
    node = Path(f"/sys/dev/block/{os.major(number)}:{os.minor(number)}")
    return [f"/dev/{path.parent.name}" for path in node.glob("*/partition")]


def _identity(context: Context, named: str, driver: StorageDriver) -> str:
    if driver is StorageDriver.ZFS:
        return zfs.guid(context)
    return blockdevice.contents(context.run, str(Path(named).resolve())).uuid


def clear_folder(context: Context) -> None:
    """Nothing may vanish under a mount. What a socket unit of Incus left there is nothing.

    Raises TerminalError (DataOnBootDisk).
    """
    folder = context.settings.incus_dir
    make_folder(folder, 0o711)
    if context.systemd and any(folder.iterdir()):
        units = ("incus-user.socket", "incus.socket", "incus-startup.service", "incus-user.service", "incus.service")
        for unit in units:
            if context.run(["systemctl", "is-active", "--quiet", unit], timeout=_QUICK, check=False).code == 0:
                _require_empty(folder)
                context.run(["systemctl", "stop", unit], timeout=_LONG, check=False)
    for path in _require_empty(folder):
        path.rmdir() if path.is_dir() else path.unlink()


def holds_data(folder: Path) -> bool:
    """Whether there is more in it than sockets and empty folders."""
    found = (Path(top, name) for top, folders, files in os.walk(folder) for name in (*folders, *files))
    return any(map(_is_data, found))


def _is_data(path: Path) -> bool:
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return False
    return not (stat.S_ISSOCK(mode) or stat.S_ISDIR(mode))


def _require_empty(folder: Path) -> list[Path]:
    """Everything in it, inner ones first, when all of that is sockets and empty folders."""
    found = [Path(top, name) for top, folders, files in os.walk(folder, topdown=False) for name in (*folders, *files)]
    data = [path for path in found if _is_data(path)]
    if data:
        raise TerminalError(
            f"{folder} holds data on the boot disk ({data[0].relative_to(folder)}), which a mount would hide",
            remedy=f"systemctl stop incus.socket incus.service; mv {folder} {folder}.old; then run this again, and "
            "import from there what is still needed",
            reason="DataOnBootDisk",
        )
    return found


def _write(context: Context, known: Known) -> None:
    text = json.dumps({"version": 1, **asdict(known)}, indent=1) + "\n"
    context.receipt.add(NAME, known.disk)
    write_atomically(context.settings.data_disk, text, 0o600)
