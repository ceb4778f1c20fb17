"""ZFS by its own words: what is asked of it, and when a pool is taken by force. It runs for real in make test-vm."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from containarium.host.command import Completed
from containarium.host.incus import Incus
from containarium.host.prepare import disk, zfs
from containarium.host.prepare.blockdevice import Contents
from containarium.host.prepare.receipt import Receipt
from containarium.host.prepare.steps import Context
from containarium.model.host import TerminalError, silent
from tests.unit.host.etcfiles import FakeRun, settings

FOUND = Contents("/dev/sdb1", "zfs_member", "containarium", "1", ("/dev/sdb1", "/dev/sdb9"))
ELSEWHERE = (
    "cannot import 'containarium': pool was previously in use from another system.\n"
    "Last accessed by jump-1 (hostid=7f0101) at Sun Nov 22 14:00:00 2026\n"
    "The pool can be imported, use 'zpool import -f' to import the pool.\n"
)
ALIVE = (
    "cannot import 'containarium': pool is imported on jump-1 (hostid: 0x7f0101)\n"
    "Export the pool on the other system, then run 'zpool import'.\n"
)
OK = Completed(0, "", "")


def _context(root: Path, answer: Callable[[list[str]], Completed]) -> tuple[Context, FakeRun]:
    host, run = settings(root), FakeRun(answer)
    return Context(host, run, Incus(host), Receipt(root / "state" / "prepared.json"), silent, True), run


def _imports(run: FakeRun) -> list[bool]:
    """Whether each import was forced."""
    return ["-f" in command for command in run.commands if command[:2] == ["zpool", "import"]]


def test_a_pool_of_this_machine_is_imported_without_force(tmp_path: Path) -> None:
    context, run = _context(tmp_path, lambda _args: OK)
    zfs.take(context, FOUND)
    assert _imports(run) == [False]
    (args,) = run.commands
    assert args[-5:] == ["-d", "/dev/sdb1", "-d", "/dev/sdb9", "containarium"], "from this very disk alone"


def test_one_that_a_lost_boot_disk_had_is_taken(tmp_path: Path) -> None:
    context, run = _context(tmp_path, lambda args: OK if "-f" in args else Completed(1, "", ELSEWHERE))
    zfs.take(context, FOUND)
    assert _imports(run) == [False, True]


@pytest.mark.parametrize("first", [ALIVE, ELSEWHERE])
def test_one_that_somebody_alive_uses_is_never_taken(tmp_path: Path, first: str) -> None:
    context, run = _context(tmp_path, lambda args: Completed(1, "", ALIVE if "-f" in args else first))
    with pytest.raises(TerminalError, match="detach the disk there first") as refused:
        zfs.take(context, FOUND)
    assert refused.value.reason == "PoolInUse"
    assert _imports(run) == ([False] if first == ALIVE else [False, True])


def test_a_damaged_one_is_told(tmp_path: Path) -> None:
    context, run = _context(tmp_path, lambda _args: Completed(1, "", "cannot import: I/O error"))
    with pytest.raises(TerminalError, match="I/O error") as refused:
        zfs.take(context, FOUND)
    assert (refused.value.reason, _imports(run)) == ("PoolNotImported", [False])


def test_a_new_pool_has_the_properties_and_no_force(tmp_path: Path) -> None:
    context, run = _context(tmp_path, lambda _args: OK)
    zfs.make(context, "/dev/disk/by-id/data")
    (args,) = run.commands
    assert "-f" not in args
    assert args[-2:] == ["containarium", "/dev/disk/by-id/data"]
    for wanted in ("ashift=12", "multihost=on", "compression=lz4", "atime=off", "xattr=sa", "dnodesize=auto"):
        assert wanted in args


def test_only_what_differs_is_set(tmp_path: Path) -> None:
    values = {"compression": "off", "atime": "off", "xattr": "sa", "dnodesize": "legacy", "multihost": "on"}

    def answer(args: list[str]) -> Completed:
        if args[1] == "get":
            return Completed(0, "".join(f"{name}\t{values[name]}\n" for name in args[-2].split(",")), "")
        return OK

    context, run = _context(tmp_path, answer)
    assert zfs.settle(context)
    assert [command[2] for command in run.commands if command[1] == "set"] == ["compression=lz4", "dnodesize=auto"]


def test_without_zfs_in_the_kernel_it_says_what_helps(tmp_path: Path) -> None:
    context, run = _context(tmp_path, lambda _args: OK)
    with pytest.raises(TerminalError) as refused:
        zfs.ready(context, tmp_path / "module")
    assert refused.value.reason == "ZfsMissing"
    assert run.commands[0] == ["modprobe", "zfs"]


def test_a_pool_that_a_cut_left_without_its_dataset_gets_it_before_it_is_mounted(tmp_path: Path) -> None:
    device = tmp_path / "device"
    device.touch()

    def answer(args: list[str]) -> Completed:
        if args[:3] == ["zpool", "list", "-v"]:
            return Completed(0, f"containarium\t1G\n\t{device}\t1G\n", "")
        return Completed(int(args[:2] == ["zfs", "list"]), "", "")

    context, run = _context(tmp_path, answer)
    disk.mount_imported(context, str(device))
    verbs = [command[1] for command in run.commands if command[0] == "zfs" and command[1] in ("create", "mount")]
    assert verbs == ["create", "mount"]
