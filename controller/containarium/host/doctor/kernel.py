"""Checks of the kernel's limits and of what guests see of the machine."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from containarium.host.doctor.finding import PREPARE, Finding, Patient, fail, ok, warn
from containarium.host.instances import runs
from containarium.host.passwd import read_subordinate_ids
from containarium.host.prepare.daemons import lxcfs_is_mounted
from containarium.host.prepare.kernel import SYSCTLS, read_sysctl

_PER_GUEST = 10
"""inotify instances of a Debian guest: 5 to 9 were counted."""
_IDS_PER_GUEST = 65536


def sysctls(_patient: Patient) -> Iterator[Finding]:
    """The kernel has room for the guests that there are."""
    low = {name: read_sysctl(name) for name in SYSCTLS}
    low = {name: value for name, value in low.items() if value is not None and value < SYSCTLS[name]}
    if low:
        text = ", ".join(f"{name} is {value} instead of {SYSCTLS[name]}" for name, value in low.items())
        yield warn("sysctls", text, PREPARE)
    else:
        yield ok("sysctls", ", ".join(SYSCTLS))


def inotify(patient: Patient) -> Iterator[Finding]:
    """Further guests would start and stop again, silently."""
    limit = read_sysctl("fs.inotify.max_user_instances") or 0
    running = sum(1 for item in patient.incus.get("instances", recursion="1") or [] if runs(item))
    if (running + 5) * _PER_GUEST > limit:
        yield fail(
            "inotify",
            f"{running} guests run and {limit} inotify instances are allowed: further guests will stop silently",
            "sysctl -w fs.inotify.max_user_instances=1048576",
        )
    else:
        yield ok("inotify", f"room for about {limit // _PER_GUEST} guests, {running} run")


def guests_view(patient: Patient) -> Iterator[Finding]:
    """lxcfs shows guests their own limits."""
    if lxcfs_is_mounted():
        yield ok("lxcfs", "guests see their own memory and processors")
    else:
        remedy = "systemctl enable --now lxcfs, then restart the guests" if patient.systemd else PREPARE
        yield warn("lxcfs", "guests see the whole machine's memory and processors", remedy)


def subordinate_ids(patient: Patient) -> Iterator[Finding]:
    """Root has ids for the users of its guests, each guest getting 65536 of its own."""
    for name in ("subuid", "subgid"):
        ranges = read_subordinate_ids(patient.settings.etc / name)
        count = sum(r.count for r in ranges if r.owner in ("root", "0"))
        if count < _IDS_PER_GUEST:
            yield fail(name, f"root has {count} subordinate ids: no guest can be isolated", PREPARE)
        elif count < 100 * _IDS_PER_GUEST:
            yield warn(
                name, f"root's ids suffice for {count // _IDS_PER_GUEST} guests", f"enlarge root's range in {name}"
            )
        else:
            yield ok(name, f"root's ids suffice for {count // _IDS_PER_GUEST} guests")


def kernel(_patient: Patient) -> Iterator[Finding]:
    """What runs here, for whoever reads a report."""
    release = os.uname().release
    unified = Path("/sys/fs/cgroup/cgroup.controllers").exists()
    armour = "on" if Path("/sys/kernel/security/apparmor").exists() else "off (guests are less confined)"
    yield ok("kernel", f"{release}, cgroup {'v2' if unified else 'v1'}, AppArmor {armour}")


CHECKS = (kernel, sysctls, inotify, guests_view, subordinate_ids)
