"""A host on ZFS from its first minute: prepared, killed, and with its boot disk lost.

The tests are one story and run in this order; each fixture takes it one step further.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from tests.e2e.site import IMAGE, MANIFESTS, instance_of
from tests.vm.machine import VirtualHost
from tests.vm.site import DISK, GATEWAY, PATIENCE, Desk, VirtualSite

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NAME = "alice"
MIB = 1024**2
MEMORY, SIZE = 256 * MIB, 256 * MIB
RESOURCES = {"cpu": 1, "memory": "256MiB", "disk": "256MiB", "processes": 256}
POOL = "containarium"
PROPERTIES = {"compression": "lz4", "atime": "off", "xattr": "sa", "dnodesize": "auto"}
_HOST_KEYS = "cat /etc/ssh/ssh_host_*_key.pub | cut -d' ' -f1,2 | sort"


@dataclass
class Story:
    """The machine, what alice was given once, and what must be the same ever after."""

    site: VirtualSite
    config: Path
    address: str
    host_keys: str

    def ssh(self, command: str) -> str:
        """What a command says that alice runs in her environment, with the configuration that she was given."""
        return self.site.person(NAME).ssh(self.config, NAME, command).stdout


def _host_keys(site: VirtualSite) -> str:
    return site.host.run(["sh", "-c", _HOST_KEYS]).stdout


@pytest.fixture(scope="module")
def machine() -> Iterator[VirtualHost]:
    """Give a machine with an empty data disk and the working tree on it; nothing is set up."""
    host = VirtualHost("zfs")
    try:
        host.create()
        host.install_project()
        yield host
    finally:
        host.delete()


@pytest.fixture(scope="module")
def prepared(machine: VirtualHost) -> VirtualSite:
    """Give it prepared as its manifest says, with the controller as a service."""
    desk = Desk(machine)
    desk.create()
    site = VirtualSite(machine, desk)
    site.declare_host()
    print(site.prepare().stdout)
    machine.import_guest_image(IMAGE)
    site.spare_from_bans(GATEWAY)
    return site


@pytest.fixture(scope="module")
def story(prepared: VirtualSite) -> Story:
    """Give it with one environment, into which its person has logged in."""
    prepared.declare(NAME, resources=RESOURCES)
    prepared.wait_ready(NAME, timeout=PATIENCE)
    config = prepared.export(NAME)
    prepared.wait_login(NAME, config)
    return Story(prepared, config, prepared.environment(NAME).address, _host_keys(prepared))


@pytest.fixture(scope="module")
def preempted(story: Story) -> Story:
    """Give it after the whole machine was killed at once, and has started again."""
    story.ssh("echo safe > letter && sync")
    story.ssh("echo lost > draft")
    story.site.host.preempt()
    return story


@pytest.fixture(scope="module")
def renewed(preempted: Story) -> Story:
    """Give it with a new boot disk, after the start-up script on that; the old one never let go of the pool."""
    site = preempted.site
    manifest = site.host.pull(f"{MANIFESTS}/{NAME}.yaml")
    identity = site.host.run(["hostid"]).stdout
    site.host.new_boot_disk()
    assert _host_keys(site) != preempted.host_keys
    site.declare_host()
    site.write(f"{NAME}.yaml", manifest)
    print(site.prepare().stdout)
    assert site.host.run(["hostid"]).stdout != identity, "to ZFS it is another system"
    site.spare_from_bans(GATEWAY)
    return preempted


# -- prepared


def test_the_pool_is_made_on_the_named_disk_with_the_properties_that_guests_like(prepared: VirtualSite) -> None:
    host = prepared.host
    assert host.run(["zpool", "get", "-Hp", "-o", "value", "health,ashift", POOL]).stdout.split() == ["ONLINE", "12"]
    assert DISK in host.run(["zpool", "status", "-P", POOL]).stdout
    assert prepared.zfs(*PROPERTIES, of=POOL) == PROPERTIES
    for dataset in ("incus", "pool"):
        assert prepared.zfs(*PROPERTIES, of=f"{POOL}/{dataset}") == PROPERTIES


def test_incus_lives_on_it_database_included(prepared: VirtualSite) -> None:
    host = prepared.host
    found = host.run(["findmnt", "-n", "-o", "SOURCE,FSTYPE", "/var/lib/incus"]).stdout.split()
    assert found == [f"{POOL}/incus", "zfs"]
    pool = json.loads(host.incus("query", "/1.0/storage-pools/default").stdout)
    assert (pool["driver"], pool["config"]["source"]) == ("zfs", f"{POOL}/pool")
    assert host.incus("image", "list", "--format=csv", "--columns=l").stdout == f"{IMAGE}\n"


def test_a_second_preparation_changes_nothing(prepared: VirtualSite) -> None:
    assert "nothing had to be changed" in prepared.prepare().stdout


# -- an environment


def test_the_disk_limit_is_a_quota_of_zfs_and_holds(story: Story) -> None:
    """Of what no compression makes smaller: zeros would take no space at all."""
    dataset = f"{POOL}/pool/containers/{instance_of(NAME)}"
    assert str(SIZE) in story.site.zfs("quota", "refquota", of=dataset).values()
    write = ["dd", "if=/dev/urandom", "of=/root/big", "bs=1M", "count=400", "conv=fsync"]
    refused = story.site.inside(NAME, *write, check=False, timeout=PATIENCE)
    size = int(story.site.inside(NAME, "stat", "-c", "%s", "/root/big").stdout)
    story.site.inside(NAME, "rm", "/root/big")
    assert refused.returncode != 0
    assert "quota exceeded" in refused.stderr
    assert 50 * MIB < size < SIZE


def test_limits_are_those_of_cgroup_v2(story: Story) -> None:
    group = f"/sys/fs/cgroup/lxc.payload.{instance_of(NAME)}"
    seen = story.site.host.run(["sh", "-c", f"cd {group} && cat memory.max pids.max cpuset.cpus"]).stdout.split()
    assert seen[:2] == [str(MEMORY), "256"]
    assert seen[2].isdecimal(), "one processor"
    eaten = story.site.inside(NAME, "sh", "-c", "head -c 900M /dev/zero | tail -c 800M > /dev/null", check=False,
                              timeout=PATIENCE)  # fmt: skip
    assert eaten.returncode == 137, "killed for it"


def test_guests_are_confined_by_apparmor(story: Story) -> None:
    pid = story.site.environment(NAME).pid
    profile = story.site.host.run(["cat", f"/proc/{pid}/attr/current"]).stdout
    assert profile.startswith(f"incus-{instance_of(NAME)}")
    assert "(enforce)" in profile or "unconfined" in profile.partition("//&")[2]


def test_the_doctor_sees_what_is_there_and_finds_no_fault(story: Story) -> None:
    done = story.site.containarium("doctor", "--output=json", check=False)
    findings = {finding["check"]: finding for finding in json.loads(done.stdout)}
    assert "cgroup v2, AppArmor on" in findings["kernel"]["message"]
    assert "(zfs)" in findings["pool"]["message"]
    assert [f for f in findings.values() if f["level"] != "ok"] == []
    assert done.returncode == 0


def test_nothing_is_left_to_do(story: Story) -> None:
    """What the controller reads of the kernel's limits is what it asked for."""
    assert story.site.plan("--detailed-exitcode", code=0)["environments"] == []


# -- killed


def test_everything_is_back_after_the_machine_was_killed(preempted: Story) -> None:
    site = preempted.site
    site.wait_login(NAME, preempted.config)
    assert preempted.ssh("cat letter") == "safe\n"
    assert site.host.run(["zpool", "list", "-H", "-o", "health", POOL]).stdout == "ONLINE\n"
    assert site.environment(NAME).address == preempted.address
    assert _host_keys(site) == preempted.host_keys
    site.wait_ready(NAME, timeout=PATIENCE)


def test_units_start_in_an_order_that_there_is(preempted: Story) -> None:
    """Disk, sockets, ZFS' own units: where they wait for one another, systemd leaves one out."""
    journal = preempted.site.host.run(["journalctl", "--boot", "--no-pager", "_PID=1"]).stdout
    assert "Startup finished" in journal
    assert "ordering cycle" not in journal


# -- a new boot disk


def test_the_pool_of_another_system_is_taken_over_with_all_that_is_in_it(renewed: Story) -> None:
    site = renewed.site
    assert _host_keys(site) == renewed.host_keys
    site.wait_login(NAME, renewed.config)
    assert renewed.ssh("cat letter; hostname") == f"safe\n{instance_of(NAME)}\n"
    assert site.environment(NAME).address == renewed.address
    site.wait_ready(NAME, timeout=PATIENCE)
    assert "nothing had to be changed" in site.prepare().stdout


def test_the_new_boot_disk_comes_back_by_itself_too(renewed: Story) -> None:
    renewed.site.host.preempt()
    renewed.site.wait_login(NAME, renewed.config)
    assert renewed.ssh("cat letter") == "safe\n"
