"""Looking into guests through the host's file system, made up in a temporary folder."""

from __future__ import annotations

import os
import socket
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from containarium.host.guestfiles import BEGIN, END
from containarium.host.incus import Incus
from containarium.host.look import GuestLook, sudoers_path, sudoers_rule
from containarium.host.settings import HostSettings
from containarium.model import marks
from containarium.model.observed import Guest, Instance, InstanceStatus, Password

NAME = "alice-container"
STATUS = b"Package: git\nStatus: install ok installed\n\nPackage: sudo\nStatus: install ok installed\n\n"


@pytest.fixture
def settings(tmp_path: Path) -> HostSettings:
    """Nobody listens on the socket: whatever the host's file system does not show stays unseen."""
    return HostSettings(incus_dir=tmp_path, incus_socket=tmp_path / "no.socket")


@pytest.fixture
def rootfs(settings: HostSettings) -> Path:
    root = settings.incus_dir / "storage-pools/fast/containers" / NAME / "rootfs"
    files = {
        "etc/passwd": b"root:x:0:0::/root:/bin/sh\nalice:x:1000:1000::/home/alice:/bin/bash\n",
        "etc/shadow": b"root:!:1::::::\nalice:*:1::::::\n",
        "etc/group": b"sudo:x:27:alice\nalice:x:1000:\n",
        "var/lib/dpkg/status": STATUS,
        "home/alice/.ssh/authorized_keys": BEGIN + b"\nk1\n" + END + b"\n",
        "lib/systemd/system/ssh.service": b"[Unit]\n",
        sudoers_path("alice")[1:]: sudoers_rule("alice"),
    }
    for path, data in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True, mode=0o755)
        (root / path).write_bytes(data)
        (root / path).chmod(0o600)
    wants = root / "etc/systemd/system/multi-user.target.wants"
    wants.mkdir(parents=True)
    (wants / "ssh.service").symlink_to("/lib/systemd/system/ssh.service")
    return root


@pytest.fixture
def look(settings: HostSettings) -> GuestLook:
    return GuestLook(Incus(settings), settings)


def instance(environment: str = "alice", status: InstanceStatus = InstanceStatus.RUNNING) -> Instance:
    devices = {"root": {"type": "disk", "path": "/", "pool": "fast"}}
    config = {marks.ENVIRONMENT: environment} if environment else {}
    return Instance(name=NAME, status=status, config=config, devices=devices)


def seen(look: GuestLook) -> Guest:
    return look.inside({NAME: instance()})[NAME]


def age(root: Path) -> None:
    """Nothing is remembered of a file that changed just now."""
    time.sleep(0.15)
    assert root.exists()


def test_a_whole_guest(look: GuestLook, rootfs: Path) -> None:
    assert seen(look) == Guest(  # noqa: S604 - a field, no call of a shell
        user=True,
        shell="/bin/bash",
        groups=frozenset({"sudo", "alice"}),
        password=Password.NONE,
        root_password=Password.LOCKED,
        sudo=True,
        keys=("k1",),
        packages=frozenset({"git", "sudo"}),
        docker=False,
        ssh=True,
    )


@pytest.mark.parametrize(
    "other",
    [instance(""), instance(status=InstanceStatus.STOPPED), instance("../../etc"), instance("Alice"), instance("a b")],
)
def test_only_running_instances_of_ours_are_looked_into(look: GuestLook, rootfs: Path, other: Instance) -> None:
    assert look.inside({NAME: other}) == {}


def test_a_guest_that_nobody_can_see_is_left_out(look: GuestLook) -> None:
    assert look.inside({NAME: instance()}) == {}


def test_an_empty_guest_has_nothing(look: GuestLook, rootfs: Path) -> None:
    for path in rootfs.iterdir():
        path.rename(rootfs.parent / path.name)
    assert seen(look) == Guest(root_password=Password.MISSING)


def test_changes_are_seen_and_the_rest_is_remembered(look: GuestLook, rootfs: Path) -> None:
    age(rootfs)
    first = seen(look)
    assert seen(look).packages is first.packages
    keys = rootfs / "home/alice/.ssh/authorized_keys"
    before = keys.stat()
    keys.write_bytes(BEGIN + b"\nk2\n" + END + b"\n")
    os.utime(keys, ns=(before.st_atime_ns, before.st_mtime_ns))  # the same size and time: only ctime tells
    assert seen(look).keys == ("k2",)
    (rootfs / "etc/shadow").unlink()
    assert seen(look).password is Password.MISSING
    assert seen(look).packages is first.packages


def test_guests_of_one_image_share_their_packages(look: GuestLook, rootfs: Path, settings: HostSettings) -> None:
    twin = settings.incus_dir / "storage-pools/fast/containers/bob-container/rootfs/var/lib/dpkg/status"
    twin.parent.mkdir(parents=True)
    twin.write_bytes(STATUS)
    devices = instance().devices
    bob = Instance("bob-container", InstanceStatus.RUNNING, {marks.ENVIRONMENT: "bob"}, devices)
    guests = look.inside({NAME: instance(), "bob-container": bob})
    assert guests[NAME].packages is guests["bob-container"].packages


def test_a_masked_service_is_not_enabled(look: GuestLook, rootfs: Path) -> None:
    (rootfs / "etc/systemd/system/ssh.service").symlink_to("/dev/null")
    assert not seen(look).ssh


def test_a_wanted_service_without_a_unit_is_not_enabled(look: GuestLook, rootfs: Path) -> None:
    (rootfs / "lib/systemd/system/ssh.service").unlink()
    assert not seen(look).ssh


def test_a_sudo_rule_that_others_can_write_does_not_count(look: GuestLook, rootfs: Path) -> None:
    (rootfs / sudoers_path("alice")[1:]).chmod(0o660)
    assert not seen(look).sudo


def test_guests_that_hang_over_the_api_do_not_hold_up_the_look(settings: HostSettings, tmp_path: Path) -> None:
    ended = threading.Event()
    path = tmp_path / "silent.socket"
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(path))
        silent.listen(50)
        incus = Incus(replace(settings, incus_socket=path), timeout=20.0)
        look = GuestLook(incus, settings, deadline=0.2)
        many = {f"g{n}": replace(instance(), name=f"g{n}") for n in range(30)}

        def run() -> None:
            assert look.inside(many) == {}
            ended.set()

        threading.Thread(target=run, daemon=True).start()
        assert ended.wait(10), "it waits for every one of them"
