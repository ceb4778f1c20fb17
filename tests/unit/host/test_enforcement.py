"""Reading what the kernel holds a guest to, from made-up control groups, quotas and firewalls."""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import pytest

from containarium.host.cgroups import Limits, Payloads, cpu_list
from containarium.host.command import Completed, run
from containarium.host.enforcement import EnforcementLook, Rules
from containarium.host.incus import Incus
from containarium.host.netfilter import BridgeRules
from containarium.host.quotas import Quotas, Subvolume, subvolume
from containarium.host.settings import HostSettings
from containarium.model import marks
from containarium.model.host import RetryableError, TerminalError
from containarium.model.observed import Enforcement, Instance, InstanceStatus
from tests.unit.host.etcfiles import FakeRun

BOX = "alice-container"
GROUP = f"lxc.payload.{BOX}"
MAC = "02:63:0a:00:03:02"
FIRST = {"memory.limit_in_bytes": "536870912", "pids.max": "512", "cpuset.cpus": "0-1,3"}
SECOND = {"memory.max": "536870912", "pids.max": "512", "cpuset.cpus": "", "cpuset.cpus.effective": "0-1,3"}
HELD = Limits(536870912, 512, frozenset({0, 1, 3}))


def controller(file: str) -> str:
    return file.partition(".")[0]


def first_generation(root: Path, files: Mapping[str, str], group: str = GROUP) -> None:
    """A mount for each controller."""
    for file, text in files.items():
        write(root / controller(file) / group / file, text)


def second_generation(root: Path, files: Mapping[str, str], group: str = GROUP) -> None:
    """One mount for all."""
    write(root / "cgroup.controllers", "cpuset memory pids")
    for file, text in files.items():
        write(root / group / file, text)


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{text}\n")


def limits(root: Path) -> Limits:
    return Payloads(root / "cgroup", root / "proc").limits(BOX, root / "rootfs")


class TestControlGroups:
    def test_of_the_first_generation(self, tmp_path: Path) -> None:
        first_generation(tmp_path / "cgroup", FIRST)
        assert limits(tmp_path) == HELD

    def test_of_the_second_generation(self, tmp_path: Path) -> None:
        second_generation(tmp_path / "cgroup", SECOND)
        assert limits(tmp_path) == HELD

    def test_of_both(self, tmp_path: Path) -> None:
        first_generation(tmp_path / "cgroup", {"memory.limit_in_bytes": "536870912", "cpuset.cpus": "0-1,3"})
        second_generation(tmp_path / "cgroup" / "unified", {"pids.max": "512"})
        assert limits(tmp_path) == HELD

    @pytest.mark.parametrize(
        "files", [{"memory.limit_in_bytes": "9223372036854771712", "pids.max": "max"}, {"pids.max": "max"}]
    )
    def test_no_limit_is_none(self, tmp_path: Path, files: dict[str, str]) -> None:
        first_generation(tmp_path / "cgroup", files)
        assert limits(tmp_path) == Limits(0 if len(files) == 2 else None, 0, None)

    def test_what_cannot_be_read_is_unknown(self, tmp_path: Path) -> None:
        (tmp_path / "cgroup").mkdir()
        assert limits(tmp_path) == Limits()
        second_generation(tmp_path / "cgroup", SECOND, "lxc.payload.alice-container2")
        assert limits(tmp_path) == Limits()
        second_generation(tmp_path / "cgroup", {"memory.max": "much", "pids.max": "-1", "cpuset.cpus": "a-b"})
        assert limits(tmp_path) == Limits()

    def test_of_several_the_one_with_its_processes_counts(self, tmp_path: Path) -> None:
        """A left-over of that name, its successor, and another instance that is called like a successor."""
        rootfs, foreign = tmp_path / "rootfs", tmp_path / "foreign"
        rootfs.mkdir()
        foreign.mkdir()
        for pid, root in (("11", foreign), ("12", rootfs)):
            (tmp_path / "proc" / pid).mkdir(parents=True)
            (tmp_path / "proc" / pid / "root").symlink_to(root)
        for number, group in enumerate((GROUP, f"{GROUP}-1", f"{GROUP}-2")):
            first_generation(tmp_path / "cgroup", {**FIRST, "pids.max": f"{number}"}, group)
        assert limits(tmp_path) == Limits(), "nobody lives in any of them"
        write(tmp_path / "cgroup" / "memory" / f"{GROUP}-1" / "cgroup.procs", "11")
        write(tmp_path / "cgroup" / "memory" / f"{GROUP}-2" / "init.scope" / "cgroup.procs", "99\n12")
        assert limits(tmp_path).processes == 2

    @pytest.mark.parametrize(
        ("text", "ids"), [("0-2,5", {0, 1, 2, 5}), ("7", {7}), ("", None), (None, None), ("all", None), ("1-", {1})]
    )
    def test_lists_of_processors(self, text: str | None, ids: set[int] | None) -> None:
        assert cpu_list(text) == (None if ids is None else frozenset(ids))


class Zfs:
    """A ``zfs`` that knows two datasets, and fails because of a third."""

    def __init__(self) -> None:
        self.asked: list[Sequence[str]] = []

    def __call__(
        self,
        args: Sequence[str],
        *,
        timeout: float,
        stdin: str = "",
        check: bool = True,
        env: Mapping[str, str] | None = None,
    ) -> Completed:
        self.asked.append(args)
        if check:
            raise TerminalError("dataset does not exist")
        lines = ("tank/c/a\tquota\t2147483648", "tank/c/a\trefquota\t0", "tank/c/b\tquota\t0", "tank/c/b\trefquota\t7")
        return Completed(1, "\n".join(lines), "cannot open 'tank/c/gone': dataset does not exist")


class TestQuotas:
    def test_zfs_is_asked_once_for_all(self, tmp_path: Path) -> None:
        zfs, mounts = Zfs(), tmp_path / "mounts"
        names = ("a", "b", "gone")
        lines = [f"tank/c/{name} /pool/{name} zfs rw 0 0" for name in names] + ["/dev/sda1 /pool/d ext4 rw 0 0"]
        mounts.write_text("\n".join(lines))
        folders = {name: Path("/pool") / name for name in (*names, "d")}
        found = Quotas(zfs, mounts=mounts).limits(folders)
        assert found == {"a": 2147483648, "b": 7, "gone": None, "d": None}
        assert len(zfs.asked) == 1

    def test_a_plain_folder_has_none_and_takes_no_process(self, tmp_path: Path) -> None:
        zfs = Zfs()
        assert Quotas(zfs).limits({"a": tmp_path}) == {"a": None}
        assert subvolume(tmp_path) is None
        assert not Quotas(zfs).set_btrfs(tmp_path, tmp_path, 5)
        assert zfs.asked == []


class TestRecount:
    """What happens when btrfs has lost count."""

    POOL = Path("/pool")

    def quotas(self, folder: Path, state: str, error: str = "") -> tuple[Quotas, FakeRun]:
        groups = folder / "f1" / "qgroups"
        groups.mkdir(parents=True)
        if state:
            (groups / "inconsistent").write_text(f"{state}\n")
        run = FakeRun(lambda _args: Completed(int(bool(error)), "", error))
        return Quotas(run, btrfs=folder, volume=lambda _folder: Subvolume("f1", 5)), run

    def test_it_counts_anew(self, tmp_path: Path) -> None:
        quotas, run = self.quotas(tmp_path, "1")
        assert quotas.recount(self.POOL)
        assert run.commands == [["btrfs", "quota", "rescan", "/pool"]]

    @pytest.mark.parametrize("state", ["0", ""], ids=["it counts right", "the kernel does not say"])
    def test_nothing_is_run_for_nothing(self, tmp_path: Path, state: str) -> None:
        quotas, run = self.quotas(tmp_path, state)
        assert not quotas.recount(self.POOL)
        assert run.commands == []

    def test_it_is_not_told_again_while_it_counts(self, tmp_path: Path) -> None:
        busy = "ERROR: quota rescan failed: Operation now in progress"
        assert not self.quotas(tmp_path, "1", busy)[0].recount(self.POOL)

    def test_a_failure_says_what_to_do(self, tmp_path: Path) -> None:
        quotas, _ = self.quotas(tmp_path, "1", "ERROR: quota rescan failed: Read-only file system")
        with pytest.raises(RetryableError, match=r"Read-only file system; btrfs quota rescan -w /pool"):
            quotas.recount(self.POOL)


def attribute(kind: int, data: bytes) -> bytes:
    return struct.pack("=HH", 4 + len(data), kind) + data + bytes(-len(data) % 4)


def message(kind: int, payload: bytes, flags: int = 0, sequence: int = 1) -> bytes:
    return struct.pack("=IHHII", 16 + len(payload), kind, flags, sequence, 0) + payload + bytes(-len(payload) % 4)


RULE, ERROR, DONE = 0x0A06, 2, 3


class TestNetlink:
    @pytest.fixture
    def ends(self) -> Iterator[tuple[socket.socket, socket.socket]]:
        ours, kernel = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        yield ours, kernel
        kernel.close()

    def test_rules_come_in_several_packets(self, ends: tuple[socket.socket, socket.socket]) -> None:
        ours, kernel = ends
        kernel.send(message(RULE, b"abcd", 2) + message(RULE, b"ef", 2))
        kernel.send(message(RULE, b"gh", 2))
        kernel.send(message(DONE, bytes(4)))
        with BridgeRules("incus", ours) as rules:
            assert rules.of("in.a.eth0") == b"abcdefgh"
        asked = kernel.recv(1024)
        assert attribute(1, b"incus\0") + attribute(2, b"in.a.eth0\0") in asked

    def test_a_reading_that_was_disturbed_is_done_again(self, ends: tuple[socket.socket, socket.socket]) -> None:
        ours, kernel = ends
        kernel.send(message(RULE, b"half", 0x12) + message(DONE, bytes(4), 0x10))
        kernel.send(message(RULE, b"late", 2) + message(RULE, b"whole", 2, 2) + message(DONE, bytes(4), sequence=2))
        with BridgeRules("incus", ours) as rules:
            assert rules.of("in.a.eth0") == b"whole"

    def test_no_table_is_no_rule_and_a_refusal_an_error(self, ends: tuple[socket.socket, socket.socket]) -> None:
        ours, kernel = ends
        kernel.send(message(ERROR, struct.pack("=i", -errno.ENOENT)))
        kernel.send(message(ERROR, struct.pack("=i", -errno.EPERM), sequence=2))
        with BridgeRules("incus", ours) as rules:
            assert rules.of("in.a.eth0") == b""
            with pytest.raises(PermissionError):
                rules.of("in.a.eth0")


class Asked(Incus):
    """An Incus that says which firewall it uses, and nothing else."""

    def __init__(self, firewall: str) -> None:
        super().__init__(HostSettings())
        self._firewall = firewall

    def server(self) -> Mapping[str, Any]:
        return {"environment": {"firewall": self._firewall}}


class Chains(dict[str, bytes]):
    """The rules of a table, by chain."""

    def of(self, chain: str) -> bytes:
        return self.get(chain, b"")


def instance(
    environment: str = "alice", status: InstanceStatus = InstanceStatus.RUNNING, filtered: str = "true"
) -> Instance:
    filters = {"type": "nic", "hwaddr": MAC, "security.mac_filtering": filtered}
    return Instance(BOX, status, {marks.ENVIRONMENT: environment} if environment else {}, {"eth0": filters})


def look(root: Path, chains: Rules, firewall: str = "nftables") -> EnforcementLook:
    def opened() -> AbstractContextManager[Rules]:
        return nullcontext(chains)

    settings = HostSettings(incus_dir=root)
    return EnforcementLook(Asked(firewall), settings, run, cgroups=root / "cgroup", rules=opened)


OWN = bytes.fromhex(MAC.replace(":", ""))
BOTH = Chains({f"in.{BOX}.eth0": b"x" + OWN, f"fwd.{BOX}.eth0": OWN})


class TestLook:
    def test_a_whole_look(self, tmp_path: Path) -> None:
        second_generation(tmp_path / "cgroup", SECOND)
        found = look(tmp_path, BOTH).running({BOX: instance()})
        assert found == {BOX: Enforcement(HELD.memory, HELD.processes, HELD.cpus, None, True)}

    @pytest.mark.parametrize(
        "other", [instance(""), instance(status=InstanceStatus.FROZEN), instance("../x"), instance("bob")]
    )
    def test_only_what_runs_and_is_ours_and_asked_for(self, tmp_path: Path, other: Instance) -> None:
        assert look(tmp_path, BOTH).running({BOX: other}, frozenset({"alice"})) == {}

    @pytest.mark.parametrize(
        "chains",
        [
            Chains(),
            Chains({f"in.{BOX}.eth0": OWN}),
            Chains({f"in.{BOX}.eth0": OWN, f"fwd.{BOX}.eth0": b""}),
            Chains({f"in.{BOX}.eth0": OWN, f"fwd.{BOX}.eth0": b"another's"}),
        ],
        ids=["gone", "one gone", "flushed", "another's"],
    )
    def test_filters_that_are_lost(self, tmp_path: Path, chains: Chains) -> None:
        assert look(tmp_path, chains).running({BOX: instance()})[BOX].filters is False

    def test_filters_that_are_not_asked_for_or_cannot_be_seen(self, tmp_path: Path) -> None:
        unfiltered = instance(filtered="false")
        assert look(tmp_path, Chains()).running({BOX: unfiltered})[BOX].filters is None
        assert look(tmp_path, Chains(), "xtables").running({BOX: instance()})[BOX].filters is None

    def test_without_the_right_to_ask_nothing_is_claimed(self, tmp_path: Path) -> None:
        def refused() -> AbstractContextManager[Rules]:
            raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

        eyes = EnforcementLook(Asked("nftables"), HostSettings(incus_dir=tmp_path), run, rules=refused)
        assert eyes.running({BOX: instance()})[BOX].filters is None
