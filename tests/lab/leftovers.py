"""What an earlier daemon left behind: its processes, mounts, loop devices, bridge and cgroups."""

from __future__ import annotations

import os
import shutil
import signal
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from tests.lab.command import LabError, run

if TYPE_CHECKING:
    from tests.lab.settings import Settings


def start_time(pid: int) -> int | None:
    """Clock ticks after boot at which `pid` started; with it a process is named without doubt. None: it is gone."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    state, *fields = stat.rpartition(")")[2].split()
    return None if state == "Z" else int(fields[18])


def owner_mark() -> str:
    """Name this process beyond doubt, so that a later run can tell that it is gone."""
    return f"{os.getpid()}:{start_time(os.getpid())}"


def lives(owner: str) -> bool:
    """Tell whether the process that wrote this mark still runs."""
    pid, _, start = owner.partition(":")
    return pid.isdigit() and str(start_time(int(pid))) == start


def processes_of(incus_dir: Path) -> list[int]:
    """Pids of a daemon with this INCUS_DIR, of what it started (dnsmasq, lxc monitors), and of their children."""
    mark = f"INCUS_DIR={incus_dir}".encode()
    parents: dict[int, int] = {}
    ours: set[int] = set()
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        with suppress(OSError):
            stat = (entry / "stat").read_text().rpartition(")")[2].split()
            parents[int(entry.name)] = int(stat[1])
            program = (entry / "cmdline").read_bytes().split(b"\0")[0]
            if _of_incus(program) and mark in (entry / "environ").read_bytes().split(b"\0"):
                ours.add(int(entry.name))
    children = ours
    while children:
        children = {pid for pid, parent in parents.items() if parent in children} - ours
        ours |= children
    return sorted(ours)


def _of_incus(program: bytes) -> bool:
    return program.startswith(b"[lxc monitor]") or program.rpartition(b"/")[2] in {b"incusd", b"dnsmasq"}


def kill_all(pids: list[int]) -> None:
    """SIGKILL each of `pids` and wait until they are gone."""
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    end = time.monotonic() + 20
    while any(start_time(pid) is not None for pid in pids):
        if time.monotonic() > end:
            raise LabError(f"processes do not end: {[p for p in pids if start_time(p) is not None]}")
        time.sleep(0.05)


def unmount_under(folder: Path) -> None:
    """Unmount everything below `folder`, deepest first, and let go of loop devices whose file is in it."""
    for options in ([], [], ["--lazy"]):
        points = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]
        inside = [p for p in points if p == str(folder) or p.startswith(f"{folder}/")]
        for point in reversed(inside):
            run(["umount", *options, point], timeout=30, check=False)
    listing = run(["losetup", "--list", "--noheadings", "--raw", "--output", "NAME,BACK-FILE"], timeout=30)
    for line in listing.stdout.splitlines():
        device, _, file = line.partition(" ")
        if file.startswith(f"{folder}/"):
            run(["losetup", "--detach", device], timeout=30, check=False)


def remove_link(name: str) -> None:
    """Delete a network interface, if there is one of that name."""
    if Path(f"/sys/class/net/{name}").exists():
        run(["ip", "link", "delete", name], timeout=30)


def remove_namespaces(prefix: str) -> None:
    """Remove the network namespaces (laptops) called `prefix`*."""
    for line in run(["ip", "netns", "list"], timeout=30).stdout.splitlines():
        if line.startswith(prefix):
            run(["ip", "netns", "delete", line.split()[0]], timeout=30)


def remove_cgroups(prefix: str) -> None:
    """Remove the empty cgroups of instances called `prefix`*, else liblxc goes on with NAME-1, NAME-2 and so on."""
    for top in Path("/sys/fs/cgroup").glob(f"**/lxc.*.{prefix}*"):
        for folder, _, _ in os.walk(top, topdown=False):
            with suppress(OSError):
                Path(folder).rmdir()


def wipe(settings: Settings) -> None:
    """End everything that belongs to this lab's daemon and delete its folder. The image cache stays."""
    kill_all(processes_of(settings.incus_dir))
    unmount_under(settings.incus_dir)
    remove_namespaces(settings.prefix)
    remove_link(settings.bridge)
    remove_cgroups(settings.prefix)
    mounts = Path("/proc/mounts").read_text()
    if f" {settings.incus_dir}/" in mounts:
        raise LabError(f"still mounted below {settings.incus_dir}: not deleting it")
    shutil.rmtree(settings.incus_dir, ignore_errors=True)
    if settings.incus_dir.exists():
        raise LabError(f"cannot delete {settings.incus_dir}")
