"""ZFS on a data disk of its own: a pool that is ours by name and by disk, never one that another machine uses.

A new boot disk has another host id than the machine that had the pool last, and after a preemption nobody has exported
it: ``zpool import`` then wants ``-f``. That is safe here, and only here: the pool carries our name and lies on the very
disk that the manifest names, which a cloud gives to one machine at a time; and the pool has ``multihost=on``, for
which ZFS watches the disk before it imports, forced or not, and refuses while anybody alive writes to it.
"""

from __future__ import annotations

import secrets
import shutil
from pathlib import Path

from containarium.host.command import Completed, Run
from containarium.host.files import read_small
from containarium.host.prepare.blockdevice import LABEL, Contents
from containarium.host.prepare.steps import Context
from containarium.model.host import TerminalError

POOL = LABEL
DATASET = f"{POOL}/incus"
"""Mounted where Incus has its folder."""
SOURCE = f"{POOL}/pool"
"""What Incus' storage pool is made in."""
POOL_PROPERTIES = {"ashift": "12", "multihost": "on"}
PROPERTIES = {"compression": "lz4", "atime": "off", "xattr": "sa", "dnodesize": "auto"}
_MODULE = Path("/sys/module/zfs")
_PATH = "/usr/local/sbin:/usr/sbin:/sbin"
_MODPROBE = "modprobe.d/containarium-zfs.conf"
_NEVER_SUSPEND = ("zfs_multihost_fail_intervals", "0")
"""A cloud's disk that does not answer for ten seconds is no reason to stop the pool until the next boot; the watch
before an import works all the same."""
_QUICK, _LONG = 60.0, 300.0
_FOREIGN_LAST = ("previously in use from another system", "last accessed by", "was not exported", "use '-f'", "-f flag")
_ALIVE = ("currently imported", "is imported on", "in active use")


def ready(context: Context, module: Path = _MODULE) -> None:
    """See to it that ZFS works on this machine. Raises TerminalError (ZfsMissing)."""
    if not module.is_dir():
        context.run(["modprobe", "zfs"], timeout=_QUICK, check=False)
    if not shutil.which("zpool", path=_PATH):
        raise TerminalError(
            "ZFS' tools are not installed", remedy="containarium host prepare --install", reason="ZfsMissing"
        )
    if not module.is_dir():
        raise TerminalError(
            "this kernel has no ZFS",
            remedy="Debian: zfs-dkms and the kernel's headers from contrib; Ubuntu: its own kernel; or driver: btrfs",
            reason="ZfsMissing",
        )
    name, value = _NEVER_SUSPEND
    context.write(context.settings.etc / _MODPROBE, f"# Written by containarium.\noptions zfs {name}={value}\n")
    parameter = module / "parameters" / name
    if (read_small(parameter) or value).strip() != value:
        parameter.write_text(value)
    hostid = context.settings.etc / "hostid"
    if not hostid.exists():  # multihost needs one; a name-derived one would be the same on a copy of this machine
        context.run(["zgenhostid", f"{secrets.randbelow(0xFFFFFFFE) + 1:08x}"], timeout=_QUICK)


def imported(context: Context) -> bool:
    """Whether a pool of our name is imported."""
    return context.run(["zpool", "list", "-H", "-o", "name", POOL], timeout=_QUICK, check=False).code == 0


def devices(context: Context) -> tuple[str, ...]:
    """The disks that the imported pool is on, links followed."""
    shown = context.run(["zpool", "list", "-v", "-H", "-L", "-P", POOL], timeout=_QUICK).out
    words = (line.split() for line in shown.splitlines())
    return tuple(word[0] for word in words if word and word[0].startswith("/"))


def guid(context: Context) -> str:
    """The imported pool's own number."""
    return context.run(["zpool", "get", "-H", "-o", "value", "guid", POOL], timeout=_QUICK).out.strip()


def make(context: Context, disk: str) -> None:
    """Make the pool on a blank disk. Never with -f: zpool itself refuses a disk with anything on it."""
    options = [part for key, value in POOL_PROPERTIES.items() for part in ("-o", f"{key}={value}")]
    options += [part for key, value in PROPERTIES.items() for part in ("-O", f"{key}={value}")]
    context.run(
        ["zpool", "create", *options, "-o", "cachefile=none", "-O", "canmount=off", "-m", "none", POOL, disk],
        timeout=_LONG,
    )


def take(context: Context, found: Contents) -> None:
    """Import the pool from this very disk, whoever had it last. Raises TerminalError (PoolInUse, PoolNotImported)."""
    done = _import(context, found)
    if done.code != 0 and _says(done, _FOREIGN_LAST) and not _says(done, _ALIVE):
        context.progress(f"importing the pool {POOL}, which another boot disk had last")
        done = _import(context, found, "-f")
    if done.code == 0:
        return
    if _says(done, _ALIVE):
        raise TerminalError(
            f"the pool on {found.device} is in use by another machine: {done.tail}",
            remedy="detach the disk there first; it is not taken by force",
            reason="PoolInUse",
        )
    raise TerminalError(
        f"the pool on {found.device} cannot be imported: {done.tail}",
        remedy=f"look at it: zpool import -d {found.device}",
        reason="PoolNotImported",
    )


def settle(context: Context) -> bool:
    """Give pool and dataset the properties that they should have. Returns whether anything was changed."""
    changed = False
    if not _exists(context, DATASET):
        folder = context.settings.incus_dir
        context.run(["zfs", "create", "-o", f"mountpoint={folder}", "-o", "canmount=noauto", DATASET], timeout=_QUICK)
        changed = True
    for name, wanted in wrong_properties(context.run).items():
        tool, target = ("zpool", POOL) if name in POOL_PROPERTIES else ("zfs", POOL)
        changed |= context.run([tool, "set", f"{name}={wanted}", target], timeout=_QUICK, check=False).code == 0
    return changed


def wrong_properties(run: Run) -> dict[str, str]:
    """Properties that the pool does not have, with what they should be. ashift is for ever, and not among them."""
    of_pool = _values(run, "zpool", [name for name in POOL_PROPERTIES if name != "ashift"])
    of_data = _values(run, "zfs", list(PROPERTIES))
    wanted = {**POOL_PROPERTIES, **PROPERTIES}
    return {name: wanted[name] for name, value in {**of_pool, **of_data}.items() if value != wanted[name]}


def mount(context: Context) -> None:
    """Mount the dataset where Incus has its folder. Raises TerminalError."""
    folder = str(context.settings.incus_dir)
    shown = context.run(["zfs", "get", "-H", "-o", "value", "mountpoint", DATASET], timeout=_QUICK).out.strip()
    if shown != folder:
        context.run(["zfs", "set", f"mountpoint={folder}", DATASET], timeout=_QUICK)
    context.run(["zfs", "mount", DATASET], timeout=_QUICK)


def give_back(context: Context) -> None:
    """Unmount and export the pool, data and all."""
    context.run(["zpool", "export", POOL], timeout=_LONG)


def _import(context: Context, found: Contents, *force: str) -> Completed:
    places = [part for device in (found.partitions or (found.device,)) for part in ("-d", device)]
    # The watch over a disk that another machine had last takes half a minute.
    return context.run(
        ["zpool", "import", *force, "-N", "-o", "cachefile=none", *places, POOL], timeout=_LONG, check=False
    )


def _exists(context: Context, dataset: str) -> bool:
    return context.run(["zfs", "list", "-H", "-o", "name", dataset], timeout=_QUICK, check=False).code == 0


def _values(run: Run, tool: str, names: list[str]) -> dict[str, str]:
    shown = run([tool, "get", "-H", "-p", "-o", "property,value", ",".join(names), POOL], timeout=_QUICK).out
    return {words[0]: words[1] for line in shown.splitlines() if len(words := line.split("\t")) == 2}


def _says(done: Completed, words: tuple[str, ...]) -> bool:
    text = f"{done.out}\n{done.err}".lower()
    return any(word in text for word in words)
