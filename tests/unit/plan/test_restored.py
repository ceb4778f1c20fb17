"""What an imported backup may bring along."""

from __future__ import annotations

from typing import Any

import pytest

from containarium.model import marks
from containarium.plan.desired import desire
from containarium.plan.restored import objections
from containarium.simulate.world import World
from tests.builders import manifest

IDMAP = "volatile.idmap.next"
NOT_OURS = '[{"Isuid":true,"Isgid":true,"Hostid":0,"Nsid":0,"Maprange":65536}]'
OURS = '[{"Isuid":true,"Isgid":true,"Hostid":1000000,"Nsid":0,"Maprange":65536}]'


def imported(**changes: Any) -> dict[str, Any]:
    """An instance as we make them, in Incus' own words."""
    desired = desire(manifest("alice", docker=True, snapshots={}), World().facts, "10.0.3.7")
    config = {key: value for key, value in desired.config.items() if value} | {IDMAP: OURS, "image.os": "Debian"}
    devices = {"root": dict(desired.root), "eth0": dict(desired.nic)}
    found = {"type": "container", "ephemeral": False, "config": config, "devices": devices} | changes
    return found | {"expanded_config": found["config"], "expanded_devices": found["devices"]}


def with_config(key: str, value: str) -> dict[str, Any]:
    return imported(config=imported()["config"] | {key: value})


def with_device(name: str, device: dict[str, str]) -> dict[str, Any]:
    return imported(devices=imported()["devices"] | {name: device})


def test_nothing_speaks_against_one_of_ours() -> None:
    assert objections("alice", imported()) == ()


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("user.somebody.note", "mine"),
        ("limits.memory.swap", "false"),
        ("boot.autostart.priority", "5"),
        ("security.protection.delete", "true"),
        ("security.privileged", "false"),
    ],
)
def test_what_an_admin_may_have_set_is_no_reason(key: str, value: str) -> None:
    assert objections("alice", with_config(key, value)) == ()


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("security.privileged", "true"),
        ("security.privileged", "YES"),
        ("raw.lxc", "lxc.hook.pre-start=/bin/true"),
        ("raw.idmap", "both 0 0"),
        ("raw.apparmor", "mount,"),
        ("linux.kernel_modules", "nbd"),
        ("security.syscalls.intercept.mount", "true"),
        ("security.guestapi.images", "true"),
        ("nvidia.runtime", "true"),
        (IDMAP, NOT_OURS),
        (IDMAP, "soon"),
        ("volatile.idmap.current", "[1]"),
    ],
)
def test_a_setting_that_opens_the_host_is_named(key: str, value: str) -> None:
    assert objections("alice", with_config(key, value)) == (key,)


@pytest.mark.parametrize(
    ("name", "device"),
    [
        ("root", {"type": "disk", "path": "/", "source": "/", "pool": "default"}),
        ("root", {"type": "disk", "path": "/", "pool": "default", "raw.mount.options": "dev"}),
        ("data", {"type": "disk", "path": "/mnt", "source": "/etc"}),
        ("eth0", {"type": "nic", "nictype": "physical", "parent": "eno1", "name": "eth0"}),
        ("eth1", {"type": "nic", "network": "incusbr0"}),
        ("sda", {"type": "unix-block", "source": "/dev/sda"}),
        ("door", {"type": "proxy", "listen": "tcp:0.0.0.0:22", "connect": "tcp:127.0.0.1:22"}),
        ("root", {"type": "none-such"}),
    ],
)
def test_a_device_that_is_not_as_we_make_them_is_named(name: str, device: dict[str, str]) -> None:
    assert objections("alice", with_device(name, device)) == (f"device {name}",)


def test_a_device_that_is_taken_away_is_no_reason() -> None:
    assert objections("alice", with_device("eth1", {"type": "none"})) == ()


def test_what_a_profile_brings_along_counts() -> None:
    found = imported() | {"expanded_config": {"raw.lxc": "x"}, "expanded_devices": {"gpu": {"type": "gpu"}}}
    assert objections("alice", found) == ("raw.lxc", "device gpu")


@pytest.mark.parametrize(
    ("found", "told"),
    [
        (with_config(marks.ENVIRONMENT, "bob"), "it is of the environment bob"),
        (imported(config={}), "it was not made by Containarium"),
        (imported(type="virtual-machine"), "it is no container"),
        (imported(ephemeral=True), "it is ephemeral"),
    ],
)
def test_what_is_not_of_this_environment_is_told(found: dict[str, Any], told: str) -> None:
    assert objections("alice", found) == (told,)


def test_nonsense_is_refused_and_crashes_nothing() -> None:
    assert objections("alice", {})
    assert "device root" in objections("alice", {"config": [], "devices": {"root": "disk"}, "expanded_config": "x"})
