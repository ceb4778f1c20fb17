"""Edits of a manifest reach the running guest: live where Incus can, never by a restart that nobody asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.e2e.site import instance_of
from tests.lab.command import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.e2e.site import Site

NAME = "erin"
MIB = 1024**2


@pytest.fixture(scope="module")
def erin(site: Site) -> Iterator[Site]:
    """Give the site with erin on it, small."""
    site.purge(site.declared())
    site.declare(NAME)
    site.apply()
    yield site
    site.purge([NAME])


def edit(site: Site, **spec: Any) -> tuple[dict[str, Any], str]:
    """Declare erin anew and apply; return what apply said, and her boot id from before."""
    boot = site.boot_id(NAME)
    site.declare(NAME, **spec)
    return site.apply(), boot


def test_applying_twice_changes_nothing(erin: Site) -> None:
    before = erin.snapshot()
    boot = erin.boot_id(NAME)
    erin.apply()
    assert erin.plan("--detailed-exitcode", code=0)["environments"] == []
    assert erin.snapshot() == before
    assert erin.boot_id(NAME) == boot


def test_cpu_and_memory_are_live(erin: Site) -> None:
    _, boot = edit(erin, resources={"cpu": "0-1", "memory": "700MiB", "processes": 600})
    # Incus hands processors out a moment after it has answered.
    wait_until("both processors", lambda: erin.inside(NAME, "nproc").stdout.strip() == "2", timeout=15)
    limit = erin.host.run(
        ["sh", "-c", f"cat /sys/fs/cgroup/memory/lxc.payload.{instance_of(NAME)}/memory.limit_in_bytes"]
    )
    assert int(limit.stdout) == 700 * MIB
    assert erin.boot_id(NAME) == boot


def test_a_disk_grows_live_and_its_new_room_is_real(erin: Site) -> None:
    _, boot = edit(erin, resources={"disk": "2560MiB"})
    filled = erin.inside(NAME, "dd", "if=/dev/urandom", "of=/root/big", "bs=1M", "count=2200", check=False, timeout=120)
    assert filled.returncode == 0, filled.stderr
    more = ["dd", "if=/dev/urandom", "of=/root/more", "bs=1M", "count=600"]
    over = erin.host.outer.refused_write(lambda: erin.inside(NAME, *more, check=False, timeout=120))
    erin.inside(NAME, "rm", "-f", "/root/big", "/root/more")
    assert over.returncode != 0
    assert "quota" in over.stderr.lower() or "space" in over.stderr.lower()
    assert erin.boot_id(NAME) == boot


def test_a_shrinking_disk_is_refused_and_nothing_of_the_edit_is_applied(erin: Site) -> None:
    erin.declare(NAME, resources={"disk": "3GiB"})
    erin.apply()
    before = erin.snapshot()
    erin.declare(NAME, resources={"disk": "1GiB", "cpu": 1}, packages=["tmux"])
    said = erin.containarium("apply", check=False, timeout=120)
    assert said.returncode == 1
    line = next(line for line in said.stderr.splitlines() + said.stdout.splitlines() if "erin.yaml:" in line)
    assert "spec.resources.disk" in line
    assert "cannot shrink" in line
    assert "3GiB" in line
    assert "Traceback" not in said.stderr
    assert erin.snapshot() == before
    listed = erin.containarium("list", check=False).stdout
    assert "DiskShrinkRefused" in next(line for line in listed.splitlines() if line.startswith(NAME))
    erin.declare(NAME, resources={"disk": "3GiB"})
    erin.apply()


def test_packages_are_added_live(erin: Site) -> None:
    _, boot = edit(erin, resources={"disk": "3GiB"}, packages=["tree"])
    assert erin.inside(NAME, "tree", "--version").returncode == 0
    assert erin.boot_id(NAME) == boot


def test_an_unknown_package_is_named_and_holds_up_nobody_else(erin: Site) -> None:
    erin.declare("grace")
    erin.declare(NAME, resources={"disk": "3GiB"}, packages=["no-such-package-anywhere"])
    said = erin.containarium("apply", check=False, timeout=420)
    assert said.returncode == 1
    assert "no-such-package-anywhere" in said.stdout + said.stderr
    assert "Traceback" not in said.stdout + said.stderr
    assert erin.environment("grace").status == "Running"
    erin.declare(NAME, resources={"disk": "3GiB"})
    erin.apply()
    erin.purge(["grace"])


def test_docker_arrives_without_a_restart_and_its_need_for_one_is_said(erin: Site) -> None:
    said, boot = edit(erin, docker=True, resources={"disk": "3GiB", "memory": "1GiB", "processes": 1024})
    assert erin.boot_id(NAME) == boot
    assert erin.inside(NAME, "systemctl", "is-enabled", "docker").stdout.strip() == "enabled"
    assert "docker" in erin.inside(NAME, "id", "-nG", NAME).stdout.split()
    assert erin.environment(NAME).config["security.nesting"] == "true"
    assert said is not None
    notices = [n for e in erin.plan()["environments"] for n in e["notices"]]
    assert {notice["impact"] for notice in notices} == {"restart"}
    erin.apply("--restart")
    assert erin.boot_id(NAME) != boot
    assert erin.plan()["environments"] == []
    done = erin.inside(NAME, "docker", "info", "--format", "{{.Driver}}", timeout=90)
    assert done.stdout.strip()


def test_keys_rotate_at_both_doors(erin: Site) -> None:
    person = erin.person(NAME)
    old, new = person.key(), person.key(label="new")
    erin.declare(NAME, sshKeys=[person.public()], resources={"disk": "3GiB"})
    erin.apply()
    config = erin.export(NAME, key=old)
    erin.wait_login(NAME, config)

    edit(erin, sshKeys=[person.public(label="new")], resources={"disk": "3GiB"})

    assert person.ssh(erin.export(NAME, key=new), NAME, "id", "-un").stdout.strip() == NAME
    refused = person.ssh(config, NAME, "true", check=False)
    assert refused.returncode == 255
    assert f"{NAME}@{erin.host.address}: Permission denied (publickey)" in refused.stderr
    # Through the door with the new key, and then the old one at the guest itself.
    facts = erin.environment(NAME)
    proxy = f"ssh -F {erin.export(NAME, key=new)} -W %h:%p {NAME}-jump"
    inner = person.ssh(
        config, "-o", f"ProxyCommand={proxy}", "-o", "StrictHostKeyChecking=no", "-o", f"IdentityFile={old}",
        f"{NAME}@{facts.address}", "true", check=False,
    )  # fmt: skip
    assert inner.returncode == 255
    assert f"{NAME}@{facts.address}: Permission denied" in inner.stderr


def test_stopping_and_starting_is_declared_too(erin: Site) -> None:
    person = erin.person(NAME)
    keys = [person.public()]
    erin.declare(NAME, sshKeys=keys, running=False, resources={"disk": "3GiB"})
    erin.apply()
    assert erin.environment(NAME).status == "Stopped"
    erin.declare(NAME, sshKeys=keys, resources={"disk": "3GiB"})
    erin.apply()
    erin.wait_login(NAME, erin.export(NAME, key=person.key()))


def test_retired_and_brought_back_with_all_data(erin: Site) -> None:
    erin.inside(NAME, "sh", "-c", "echo precious > /root/data; sync")
    made = erin.environment(NAME).instance["created_at"]
    config = erin.export(NAME)
    erin.withdraw(NAME)
    erin.declare("heidi", running=False)  # an empty folder would be unknown, not empty
    erin.apply()
    facts = erin.environment(NAME)
    assert facts.status == "Stopped"
    assert facts.keys is None
    assert erin.person(NAME).ssh(config, NAME, "true", check=False).returncode == 255
    erin.declare(NAME, resources={"disk": "3GiB"})
    erin.apply()
    assert erin.environment(NAME).instance["created_at"] == made
    assert erin.inside(NAME, "cat", "/root/data").stdout == "precious\n"
    erin.wait_login(NAME, config)
    erin.purge(["heidi"])
