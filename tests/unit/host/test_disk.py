"""The data disk: what is known of it, what is mounted, and what is refused before anything is written."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import pytest

from containarium.host.doctor import declared as doctor
from containarium.host.doctor.finding import Patient
from containarium.host.incus import Incus
from containarium.host.prepare import disk, diskunits
from containarium.host.prepare.receipt import Receipt
from containarium.host.prepare.service import DISK_SERVICE, Installation
from containarium.host.prepare.steps import Context
from containarium.model.host import TerminalError, silent
from containarium.model.manifest import Declaration
from tests.unit.host.etcfiles import FakeRun, settings
from tests.unit.host.hosts import declare
from tests.unit.host.test_service import FakeSystemd

DISK = "/dev/disk/by-id/data"
REPOSITORY = Path(__file__).parents[3]
INSTALLATION = Installation(Path("/opt/c/bin/containarium"), (Path("/opt/c/bin/containarium"),), REPOSITORY / "systemd")


def _context(root: Path, declaration: Declaration | None, run: FakeRun | None = None) -> Context:
    host = settings(root)
    receipt = Receipt(root / "state" / "prepared.json")
    return Context(host, run or FakeRun(), Incus(host), receipt, silent, True, declaration or Declaration())


def _known(context: Context, driver: str = "btrfs") -> None:
    context.settings.data_disk.parent.mkdir(exist_ok=True)
    context.settings.data_disk.write_text(json.dumps({"version": 1, "driver": driver, "disk": DISK, "uuid": "u"}))


def test_without_one_incus_stays_on_the_boot_disk(tmp_path: Path) -> None:
    for declaration in (None, declare(tmp_path)):
        context = _context(tmp_path, declaration)
        assert not disk.disk(context).changed
        assert not diskunits.install(context, INSTALLATION).changed
    assert not settings(tmp_path).etc.exists()


@pytest.mark.parametrize(
    ("storage", "reason"),
    [({"driver": "zfs", "disk": DISK}, "DriverDiffers"), ({}, "DiskDiffers"), ({"driver": "btrfs"}, "DiskDiffers")],
)
def test_a_living_host_keeps_its_disk(tmp_path: Path, storage: dict[str, str], reason: str) -> None:
    run = FakeRun()
    context = _context(tmp_path, declare(tmp_path, storage=storage), run)
    _known(context)
    with pytest.raises(TerminalError) as refused:
        disk.disk(context, 0.0)
    assert refused.value.reason == reason
    assert run.commands == []


def test_a_disk_that_is_not_there_is_told_and_nothing_is_run(tmp_path: Path) -> None:
    run = FakeRun()
    context = _context(tmp_path, declare(tmp_path, storage={"disk": DISK}), run)
    with pytest.raises(TerminalError, match="attach it"):
        disk.disk(context, 0.0)
    assert run.commands == []
    assert disk.read(context.settings) is None


def test_what_is_mounted_last_counts(tmp_path: Path) -> None:
    mounts = tmp_path / "mountinfo"
    mounts.write_text(
        "22 1 8:1 / / rw shared:1 - ext4 /dev/sda1 rw\n"
        "30 22 0:40 / /var/lib/incus rw,noatime shared:5 - btrfs /dev/sdb rw,space_cache\n"
        "31 30 0:41 / /var/lib/incus rw shared:6 - zfs containarium/incus rw\n"
        "32 31 0:42 / /var/lib/incus/devices rw - tmpfs tmpfs rw\n"
    )
    assert disk.mounted_at(Path("/var/lib/incus"), mounts) == disk.Mount("zfs", "containarium/incus")
    assert disk.mounted_at(Path("/var/lib"), mounts) is None


def test_sockets_are_no_data_and_a_database_is(tmp_path: Path) -> None:
    context = _context(tmp_path, None)
    folder = context.settings.incus_dir
    (folder / "guestapi").mkdir(parents=True)
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(folder / "unix.socket"))
        disk.clear_folder(context)
    assert list(folder.iterdir()) == []
    (folder / "database").mkdir()
    (folder / "database" / "local.db").write_text("everybody's")
    with pytest.raises(TerminalError, match=r"database/local\.db") as refused:
        disk.clear_folder(context)
    assert refused.value.reason == "DataOnBootDisk"
    assert (folder / "database" / "local.db").read_text() == "everybody's"


def test_incus_is_kept_from_starting_elsewhere_before_the_disk_is_mounted(tmp_path: Path) -> None:
    systemd = FakeSystemd()
    context = _context(tmp_path, declare(tmp_path, storage={"disk": DISK}), systemd)
    assert diskunits.install(context, INSTALLATION).changed
    assert diskunits.guarded(context.settings)
    assert systemd.enabled == {DISK_SERVICE}
    units = context.settings.etc / "systemd" / "system"
    for unit in ("incus.socket", "incus.service"):
        text = (units / f"{unit}.d" / "containarium-disk.conf").read_text()
        assert f"AssertPathIsMountPoint={context.settings.incus_dir}\n" in text
    assert not diskunits.install(context, INSTALLATION).changed
    (units / "incus.service.d" / "containarium-disk.conf").unlink()
    assert not diskunits.guarded(context.settings)


def _data(context: Context) -> None:
    (context.settings.incus_dir / "database").mkdir(parents=True)
    (context.settings.incus_dir / "database" / "local.db").write_text("everybody's")


def test_a_disk_that_is_not_had_takes_incus_from_nobody_with_data_on_the_boot_disk(tmp_path: Path) -> None:
    systemd = FakeSystemd()
    context = _context(tmp_path, declare(tmp_path, storage={"disk": DISK}), systemd)
    _data(context)
    assert not diskunits.install(context, INSTALLATION).changed
    assert not diskunits.guards_left(context.settings)
    _known(context)
    assert diskunits.install(context, INSTALLATION).changed, "what is known counts, whatever lies below the mount"
    assert diskunits.guarded(context.settings)


@pytest.mark.parametrize("holds_data", [False, True])
def test_guards_go_when_there_is_no_disk_to_wait_for(tmp_path: Path, holds_data: bool) -> None:
    systemd = FakeSystemd()
    context = _context(tmp_path, declare(tmp_path, storage={"disk": DISK}), systemd)
    diskunits.install(context, INSTALLATION)
    units = context.settings.etc / "systemd" / "system"
    (units / "incus.socket.d" / "own.conf").write_text("[Unit]\n")
    if holds_data:
        _data(context)
    else:
        context = _context(tmp_path, Declaration(), systemd)
    systemd.commands.clear()
    assert diskunits.install(context, INSTALLATION).changed
    assert not diskunits.guards_left(context.settings)
    assert ["systemctl", "daemon-reload"] in systemd.commands
    assert [path.name for path in units.glob("incus*.d")] == ["incus.socket.d"], "what is an admin's stays"
    assert not any(made.name.endswith("containarium-disk.conf") for made in context.receipt)
    assert not diskunits.install(context, INSTALLATION).changed


def test_doctor_tells_of_guards_without_a_disk(tmp_path: Path) -> None:
    context = _context(tmp_path, declare(tmp_path, storage={"disk": DISK}), FakeSystemd())
    diskunits.install(context, INSTALLATION)
    patient = Patient(context.settings, FakeRun(), context.incus, True, True, Declaration())
    (finding,) = doctor.data_disk(patient)
    assert (finding.level.value, finding.check) == ("fail", "disk guard")
    diskunits.install(_context(tmp_path, Declaration()), INSTALLATION)
    assert list(doctor.data_disk(patient)) == []
