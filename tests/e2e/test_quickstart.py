"""The quickstart on a bare machine: it works, done again it changes nothing, and it can be undone without a trace."""

from __future__ import annotations

import json
import os
import time
from typing import TYPE_CHECKING, Any

import pytest

from tests.lab import recipes
from tests.lab.host import LabHost
from tests.lab.images import CA_BUNDLE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.lab.command import Completed
    from tests.lab.outer import Outer

REPOSITORY = "/root/containarium"
MANIFESTS = "/etc/containarium/environments"
STATE = "/var/lib/containarium/quickstart"
PEOPLE = ("alice", "bob", "carol")
AGAIN = 30.0
"""Seconds that a second run may take, three logins and Python's own start included."""

INVENTORY = """
dpkg --get-selections | sed 's/^/package /'
getent passwd | cut -d: -f1 | sed 's/^/account /'
getent group | cut -d: -f1,4 | sed 's/^/group /'
find /etc /usr/local -xdev | sed 's/^/file /'
ls -1 /var/lib /var/log /run /srv /opt /root/containarium | sed 's/^/folder /'
ip -brief link | sed 's/[ @].*//; s/^/link /'
ps -eo comm= | grep -E '^(incusd|sshd|dnsmasq|lxcfs)' | sort -u | sed 's/^/process /'
"""
"""All that an admin would call a trace, one line each."""
LEFT_BY_DEBIAN = {
    *("account dnsmasq", "group _ssh:", "group incus:", "group incus-admin:", "file /etc/dnsmasq.d"),
    *("file /etc/subuid-", "file /etc/subgid-"),
    *(f"folder {name}" for name in ("adduser", "alternatives.log", "lxc", "lxcfs", "motd.dynamic", "runit", "incus")),
}
"""What purged packages of Debian leave: system accounts, logs, empty folders, passwd's own backups."""
IDENTITIES = r"""
for name in alice bob carol; do
    incus query /1.0/instances/$name-container | grep -E '"(created_at|last_used_at)"'
    incus exec $name-container -- cat /proc/sys/kernel/random/boot_id /etc/machine-id
done
find /etc -xdev -type f -exec stat -c '%n %Y %i' {} + | sort
find /var/lib/containarium/quickstart -type f -exec sha256sum {} + | sort
getent passwd
"""
"""What would differ if anything had been made again."""


@pytest.fixture(scope="module")
def machine(outer: Outer) -> Iterator[LabHost]:
    """Give a machine with nothing but Debian and make on it, and the working tree in /root/containarium."""
    host = LabHost(outer, "quickstart", recipe=recipes.BARE)
    host.create()
    host.run(["apt-get", "--quiet", "update"], timeout=120)
    host.run(["apt-get", "--quiet", "install", "--yes", "--no-install-recommends", "make"], timeout=120)
    host.copy_repository(REPOSITORY)
    yield host
    host.delete()


def make(machine: LabHost, target: str, *, check: bool = True, timeout: float = 900) -> Completed:
    """Run make with the pip settings of the machine that runs the tests."""
    environment = {key: value for key, value in os.environ.items() if key.startswith("PIP_") and "LINKS" not in key}
    if CA_BUNDLE.exists():
        environment["PIP_CERT"] = str(CA_BUNDLE)
    command = ["make", "--directory", REPOSITORY, target]
    return machine.run(command, env=environment, check=check, timeout=timeout)


def inventory(machine: LabHost) -> set[str]:
    return set(machine.run(["sh", "-c", INVENTORY]).stdout.splitlines())


def environments(machine: LabHost) -> dict[str, dict[str, Any]]:
    listing = machine.run(["containarium", "list", "-o", "json"]).stdout
    return {row["name"]: row for row in json.loads(listing)}


@pytest.mark.soak
def test_it_stops_before_it_touches_what_is_somebody_elses(machine: LabHost) -> None:
    before = inventory(machine)
    machine.push(f"{MANIFESTS}/dave.yaml", "kind: Environment\n")
    refused = make(machine, "quickstart", check=False)
    assert refused.returncode != 0
    assert "dave.yaml" in refused.stderr
    assert machine.pull(f"{MANIFESTS}/dave.yaml") == "kind: Environment\n"
    machine.run(["rm", "-r", "/etc/containarium"])

    machine.run(["useradd", "bob"])
    refused = make(machine, "quickstart", check=False)
    assert refused.returncode != 0
    assert "an account bob" in refused.stderr
    machine.run(["userdel", "bob"])

    make(machine, "quickstart-clean")
    assert inventory(machine) - LEFT_BY_DEBIAN == before - LEFT_BY_DEBIAN


def test_from_nothing_to_logins_and_back(machine: LabHost) -> None:
    before = inventory(machine)

    said = make(machine, "quickstart").stdout
    assert "FAIL" not in said
    found = environments(machine)
    assert set(found) == set(PEOPLE)
    assert all(row["ready"]["status"] == "True" for row in found.values())
    for name in PEOPLE:
        login = ["ssh", "-F", f"{STATE}/ssh/{name}", "-o", "BatchMode=yes", name, "hostname; id -un"]
        assert machine.run(login).stdout.split() == [f"{name}-container", name]
    assert machine.run(["stat", "-c", "%a", f"{STATE}/keys/alice"]).stdout.strip() == "600"

    identities = machine.run(["sh", "-c", IDENTITIES]).stdout
    started = time.monotonic()
    make(machine, "quickstart")
    took = time.monotonic() - started
    assert machine.run(["sh", "-c", IDENTITIES]).stdout == identities, "the second run changed something"
    assert took < AGAIN

    make(machine, "quickstart-clean")
    after = inventory(machine)
    assert sorted(after - before - LEFT_BY_DEBIAN) == [], "left behind"
    assert sorted(before - after) == [], "taken away"
