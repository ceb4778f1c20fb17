"""What root inside a box can do to the host, and see of it: nothing. Both kinds of box, with Docker and without."""

from __future__ import annotations

import json
import re
import time
from functools import partial
from typing import TYPE_CHECKING

import pytest

from tests.e2e.site import instance_of
from tests.lab.command import wait_until

if TYPE_CHECKING:
    from tests.e2e.conftest import Pair

PEOPLE = ("alice", "bob")
FIRST_FREE_ID = 65536  # below are the host's own accounts
RANGE = 65536


def _maps(pair: Pair, name: str, kind: str) -> list[tuple[int, int, int]]:
    """Lines of /proc/PID/uid_map (or gid_map) of the box's init: inside, outside, length."""
    text = pair.site.host.run(["cat", f"/proc/{pair.facts(name).pid}/{kind}_map"]).stdout
    return [(int(a), int(b), int(c)) for a, b, c in (line.split() for line in text.splitlines())]


@pytest.mark.parametrize("kind", ["uid", "gid"])
def test_every_box_has_ids_of_its_own(pair: Pair, kind: str) -> None:
    owned = {}
    for name in PEOPLE:
        maps = _maps(pair, name, kind)
        assert sum(length for _, _, length in maps) == RANGE
        assert all(outside >= FIRST_FREE_ID for _, outside, _ in maps), "nobody on the host is root in a box"
        owned[name] = {i for _, outside, length in maps for i in range(outside, outside + length)}
    assert owned["alice"].isdisjoint(owned["bob"])


def test_the_kernel_agrees_who_runs_what(pair: Pair) -> None:
    """A process of the guest's root runs on the host with an id of that box alone."""
    for name in PEOPLE:
        init = pair.facts(name).pid
        owner = int(pair.site.host.run(["stat", "-c", "%u", f"/proc/{init}"]).stdout)
        assert owner == _maps(pair, name, "uid")[0][1]
    configs = [pair.facts(name).config for name in PEOPLE]
    assert [config.get("security.privileged", "false") for config in configs] == ["false", "false"]


@pytest.mark.parametrize("name", PEOPLE)
def test_a_box_shows_its_own_processes_alone(pair: Pair, name: str) -> None:
    site, peer = pair.site, next(other for other in PEOPLE if other != name)
    unit = f"seen-by-nobody-{name}"
    site.host.run(["systemd-run", "--quiet", "--collect", f"--unit={unit}", "sleep", "4243"])
    site.inside(peer, "systemd-run", "--quiet", "--collect", f"--unit={unit}", "sleep", "4244")
    site.inside(name, "systemd-run", "--quiet", "--collect", f"--unit={unit}", "sleep", "4245")
    try:
        seen = site.inside(name, "ps", "-ww", "-eo", "args").stdout
        assert "sleep 4245" in seen, "the control"
        assert not [word for word in ("sleep 4243", "sleep 4244", "incusd") if word in seen]
        of_host = site.host.run(["ps", "-ww", "-eo", "args"]).stdout
        assert all(word in of_host for word in ("sleep 4243", "sleep 4244", "sleep 4245")), "the control"
    finally:
        site.host.run(["systemctl", "stop", unit])
        for box in PEOPLE:
            site.inside(box, "systemctl", "stop", unit)


_FORBIDDEN = {
    "make a disk's device": "mknod /tmp/disk b 8 0",
    "make the kernel's memory": "mknod /tmp/mem c 1 1",
    "load a module": "/sbin/modprobe loop || exit 1; test -e /proc/modules",
    "set the clock": "date -s '2001-01-01 00:00:00'",
    "press SysRq": "echo h > /proc/sysrq-trigger",
    "change how the kernel panics": "echo 5 > /proc/sys/kernel/panic",
    "name a core dump handler": "echo '|/tmp/x' > /proc/sys/kernel/core_pattern",
    "name a hotplug handler": "echo /tmp/x > /sys/kernel/uevent_helper",
    "reach the kernel's memory": "head -c 1 /dev/mem || head -c 1 /proc/kcore",
    "mount a host's file system": "mount -t btrfs /dev/loop0 /mnt || mount -t ext4 /dev/sda1 /mnt",
    "leave by init's root": "ls /proc/1/root/var/lib/incus/database",
}


@pytest.mark.parametrize("what", _FORBIDDEN)
@pytest.mark.parametrize("name", PEOPLE)
def test_root_in_a_box_may_not(pair: Pair, name: str, what: str) -> None:
    before = time.time()
    done = pair.site.inside(name, "sh", "-c", _FORBIDDEN[what], check=False)
    assert done.returncode != 0, done.stdout
    refusal = r"not permitted|ermission denied|[Rr]ead-only|cannot|No such|nonexistent|not found|can't|does not exist"
    assert re.search(refusal, done.stderr), done.stderr
    clock = ["date", "+%s"]  # one exec in a thousand loses what it printed
    assert abs(float(pair.site.host.run(clock).stdout or pair.site.host.run(clock).stdout) - before) < 60


@pytest.mark.parametrize("name", PEOPLE)
def test_a_box_has_no_devices_and_no_folders_of_the_host(pair: Pair, name: str) -> None:
    blocks = pair.site.inside(name, "find", "/dev", "-type", "b", check=False)  # some folders are shut even to its root
    assert blocks.stdout == ""
    links = pair.site.inside(name, "ls", "/sys/class/net").stdout.split()
    assert {"lo", "eth0"} <= set(links)
    assert not [link for link in links if link.startswith(("veth", "incusbr")) and name == "bob"]
    devices = json.loads(pair.site.host.incus("query", f"/1.0/instances/{instance_of(name)}").stdout)[
        "expanded_devices"
    ]
    assert {key: device["type"] for key, device in devices.items()} == {"eth0": "nic", "root": "disk"}


@pytest.mark.parametrize("name", PEOPLE)
def test_the_other_persons_files_are_out_of_reach_even_for_that_box_on_the_host(pair: Pair, name: str) -> None:
    """With the box's own root id on the host, as after a break-out: the other's files stay shut."""
    host, peer = pair.site.host, next(other for other in PEOPLE if other != name)
    own = _maps(pair, name, "uid")[0][1]
    container = f"/var/lib/incus/storage-pools/default/containers/{instance_of(peer)}"
    assert host.run(["test", "-d", f"{container}/rootfs/home/{peer}"], check=False).returncode == 0, "the control"
    as_guest = ["setpriv", f"--reuid={own}", f"--regid={own}", "--clear-groups"]
    for path in (container, f"{container}/rootfs/home/{peer}", "/var/lib/incus/unix.socket", "/etc/shadow"):
        done = host.run([*as_guest, "ls", "-d", f"{path}/." if path.startswith(container) else path], check=False)
        readable = host.run([*as_guest, "test", "-r", path], check=False).returncode == 0
        assert not readable, (path, done.stdout)


def test_nothing_of_a_box_is_left_running_outside_of_its_limits(pair: Pair) -> None:
    """Every process of a box's ids on the host stands in that box's own cgroups.

    Incus' own helper for a guest's files goes some seconds after its last use.
    """

    def strays(name: str) -> list[str]:
        maps = _maps(pair, name, "uid")
        if not maps:
            return ["its init is not there at this moment"]
        first = maps[0][1]
        shown = pair.site.host.run(["ps", "-eo", "uid=,pid=,cgroup="]).stdout
        lines = [line.split(maxsplit=2) for line in shown.splitlines()]
        ours = [groups for uid, _, groups in lines if first <= int(uid) < first + RANGE]
        assert len(ours) > 5, "the control"
        return [groups for groups in ours if f"lxc.payload.{instance_of(name)}" not in groups]

    for name in PEOPLE:
        wait_until(f"{name}'s processes to be in their place", partial(lambda who: not strays(who), name), timeout=30)
