"""A lost boot disk on a kept data disk: a cloud's startup script is enough, and people notice no more than a pause.

Accounts, host keys and everything in /etc are gone; Incus' database and the guests are there.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from tests.e2e.site import IMAGE, MANIFESTS, Site

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.lab.host import LabHost
    from tests.lab.laptop import Laptop
    from tests.lab.outer import Outer

# What a person sees of it is in test_startup_script.
pytestmark = pytest.mark.soak
PEOPLE = ("alice", "bob")
_HOST_KEYS = "cat /etc/ssh/ssh_host_*_key.pub | cut -d' ' -f1,2 | sort"
_MODES = "stat -c '%a %U' /etc/ssh/ssh_host_*_key /etc/ssh/ssh_host_*_key.pub | sort -u"


@dataclass
class Before:
    """What there was on the boot disk that was lost, and what people have of it."""

    site: Site
    configs: dict[str, Path]
    """ssh configuration with known_hosts, exported before; nobody exports anew."""
    addresses: dict[str, str]
    manifests: dict[str, str]
    host_keys: str


def _host_keys(host: LabHost) -> str:
    return host.run(["sh", "-c", _HOST_KEYS]).stdout


def _startup_script(before: Before) -> str:
    """The program is there, the manifests come, the host is prepared. Returns what that said."""
    site = before.site
    for file, text in before.manifests.items():
        site.write(file, text)
    said = site.containarium("host", "prepare", "--service", timeout=300).stdout
    site.spare_from_bans(site.laptop.address)
    return said


@pytest.fixture(scope="module")
def before(outer: Outer, laptop: Laptop) -> Iterator[Before]:
    """Give a host of this module's own with two people who have logged in and left something there."""
    from tests.lab.host import LabHost

    host = LabHost(outer, "bootdisk")
    host.create()
    host.install_project()
    site = Site(host, laptop)
    site.containarium("host", "prepare", timeout=300)
    host.import_guest_image(IMAGE)
    for name in PEOPLE:
        site.declare(name)
    site.apply()
    site.containarium("host", "prepare", "--service", timeout=300)
    site.spare_from_bans(laptop.address)
    configs = {name: site.export(name) for name in PEOPLE}
    for name, config in configs.items():
        site.wait_login(name, config)
        site.person(name).ssh(config, name, f"echo of {name} > ~/letter")
    yield Before(
        site=site,
        configs=configs,
        addresses={name: site.environment(name).address for name in PEOPLE},
        manifests={f"{name}.yaml": host.pull(f"{MANIFESTS}/{name}.yaml") for name in PEOPLE},
        host_keys=_host_keys(host),
    )
    host.delete()


@pytest.fixture(scope="module")
def after(before: Before) -> Before:
    """Give the same host with a new boot disk, after its startup script."""
    host = before.site.host
    host.new_boot_disk()
    assert _host_keys(host) not in ("", before.host_keys), "a new boot disk makes host keys of its own"
    assert host.run(["getent", "passwd", *PEOPLE], check=False).stdout == ""
    assert "a new one: restored the host keys of sshd" in _startup_script(before)
    return before


def test_the_host_keys_are_the_same_and_root_alone_reads_them(after: Before) -> None:
    assert _host_keys(after.site.host) == after.host_keys
    assert after.site.host.run(["sh", "-c", _MODES]).stdout.split("\n") == ["600 root", "644 root", ""]


@pytest.mark.parametrize("name", PEOPLE)
def test_people_get_in_with_the_configuration_that_they_have(after: Before, name: str) -> None:
    """Host key checking is strict, of jump host and guest, and nothing is learned from the network."""
    after.site.wait_login(name, after.configs[name], timeout=120)
    done = after.site.person(name).ssh(after.configs[name], name, "cat ~/letter; hostname")
    assert done.stdout.split("\n") == [f"of {name}", f"{name}-container", ""]
    assert "REMOTE HOST IDENTIFICATION" not in done.stderr


def test_the_addresses_are_the_same(after: Before) -> None:
    assert {name: after.site.environment(name).address for name in PEOPLE} == after.addresses


def test_nobody_else_gets_in(after: Before) -> None:
    site = after.site
    for name in PEOPLE:
        site.wait_login(name, after.configs[name], timeout=120)
    for person, name in (("bob", "alice"), ("carol", "alice"), ("carol", "bob")):
        config = site.export(name, person=site.person(person))
        refused = site.person(person).ssh(config, name, "true", check=False)
        assert (refused.returncode, "Permission denied" in refused.stderr) == (255, True), refused.stderr
    group = site.host.run(["getent", "group", "containarium-jump"]).stdout.split(":")[2]
    accounts = site.host.run(["awk", "-F:", f"$4 == {group} {{print $1}}", "/etc/passwd"]).stdout.split()
    assert sorted(accounts) == sorted(PEOPLE)


def test_a_second_preparation_changes_nothing(after: Before) -> None:
    said = after.site.containarium("host", "prepare", "--service", timeout=300).stdout
    assert "nothing had to be changed" in said


def test_guests_of_the_data_disk_have_the_ids_that_they_had(after: Before) -> None:
    """Files of a person are still theirs, seen from inside."""
    for name in PEOPLE:
        owner = after.site.inside(name, "stat", "-c", "%U", f"/home/{name}/letter").stdout
        assert owner == f"{name}\n"


def test_replaced_host_keys_stay_replaced_over_the_next_new_boot_disk(after: Before) -> None:
    """An admin replaces them on the living host; neither a preparation nor a new boot disk brings the old ones back."""
    host = after.site.host
    rotate = "rm /etc/ssh/ssh_host_*_key*; ssh-keygen -q -A; systemctl reload ssh"
    host.run(["sh", "-euc", rotate])
    rotated = _host_keys(host)
    after.site.containarium("host", "prepare", timeout=300)
    assert _host_keys(host) == rotated != after.host_keys
    host.new_boot_disk()
    _startup_script(after)
    assert _host_keys(host) == rotated
    config = after.site.export("alice")
    after.site.wait_login("alice", config, timeout=120)
