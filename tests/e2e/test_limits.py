"""Limits as the kernel enforces them, Docker inside a box, and what comes back by itself after a preemption."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.e2e.site import instance_of
from tests.lab.command import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.e2e.conftest import Pair

MIB = 1024**2
PROCESSES = 128
CAROL = {"cpu": 1, "memory": "256MiB", "disk": "1GiB", "processes": PROCESSES}


@pytest.fixture(scope="module")
def carol(pair: Pair) -> Iterator[str]:
    """A third, small environment that may be filled and exhausted."""
    pair.site.declare("carol", resources=CAROL)
    pair.site.apply()
    yield "carol"
    pair.site.purge(["carol"])


# -- memory, processors, processes, disk


def test_more_memory_than_declared_is_killed(pair: Pair, carol: str) -> None:
    site, boot = pair.site, pair.site.boot_id(carol)
    total = int(site.inside(carol, "awk", "/MemTotal/ {print $2}", "/proc/meminfo").stdout) * 1024
    assert total == 256 * MIB, "the guest is shown its own limit"
    fits = site.inside(carol, "sh", "-c", "head -c 100M /dev/zero | tail -c 80M | wc -c").stdout
    assert int(fits) == 80 * MIB, "the control"
    eaten = site.inside(carol, "sh", "-c", "head -c 900M /dev/zero | tail -c 800M > /dev/null", check=False)
    assert eaten.returncode == 137, "killed for it"
    assert site.boot_id(carol) == boot, "and the rest of the box lives on"


def test_as_many_processors_as_declared(pair: Pair, carol: str) -> None:
    assert pair.site.inside(carol, "nproc").stdout == "1\n"
    allowed = pair.site.inside(carol, "sh", "-c", "grep Cpus_allowed_list /proc/self/status").stdout.split()[1]
    assert allowed.isdecimal(), "the kernel gives it no other"


def test_a_fork_bomb_is_bounded_and_nobody_else_notices(pair: Pair, carol: str) -> None:
    site = pair.site
    bomb = "i=0; while [ $i -lt 400 ]; do sleep 30 & i=$((i+1)); done; echo started all"
    done = site.inside(carol, "sh", "-c", bomb, check=False)
    assert "started all" not in done.stdout
    assert "Cannot fork" in done.stderr or "Resource temporarily unavailable" in done.stderr
    assert PROCESSES - 10 <= site.instance(carol)["state"]["processes"] <= PROCESSES
    assert pair.bob.ssh(pair.bob_config, "bob", "true", timeout=10).returncode == 0, "the neighbour works on"
    site.host.incus("restart", "--force", instance_of(carol))


def test_more_disk_than_declared_is_refused(pair: Pair, carol: str) -> None:
    site = pair.site
    write = ["dd", "if=/dev/zero", "of=/root/big", "bs=1M", "count=1200", "conv=fsync"]
    done = site.host.outer.refused_write(lambda: site.inside(carol, *write, check=False))
    size = int(site.inside(carol, "stat", "-c", "%s", "/root/big").stdout)
    assert done.returncode != 0
    assert "quota exceeded" in done.stderr or "No space left" in done.stderr
    assert 100 * MIB < size < 1024 * MIB
    pair.bob.ssh(pair.bob_config, "bob", "dd if=/dev/zero of=x bs=1M count=50 conv=fsync && rm x")
    assert site.plan(code=0)["environments"] == [], "a full disk is its owner's matter"
    site.inside(carol, "rm", "/root/big")


# -- Docker

_BUILD = """mkdir -p box && cd box && cp "$(command -v busybox)" . &&
printf 'FROM scratch\\nCOPY busybox /busybox\\nENTRYPOINT ["/busybox"]\\n' > Dockerfile &&
docker build -q -t box . && docker run --rm --network none box echo hello from a container"""


def test_docker_builds_from_scratch_and_runs(pair: Pair) -> None:
    """As the person, over ssh, without sudo."""
    said = pair.alice.ssh(pair.alice_config, "alice", _BUILD, timeout=120).stdout.splitlines()
    assert said[0].startswith("sha256:")
    assert said[1:] == ["hello from a container"]


def test_docker_is_for_those_alone_who_declared_it(pair: Pair) -> None:
    assert pair.bob.ssh(pair.bob_config, "bob", "command -v docker", check=False).returncode != 0
    assert "docker" not in pair.bob.ssh(pair.bob_config, "bob", "id -Gn").stdout.split()
    alice, bob = (pair.facts(name).config for name in ("alice", "bob"))
    for key in ("security.nesting", "security.syscalls.intercept.mknod", "security.syscalls.intercept.setxattr"):
        assert (alice.get(key), bob.get(key, "false")) == ("true", "false"), key


# -- preemption


def test_after_a_preemption_people_are_back_with_nobodys_help(pair: Pair, carol: str) -> None:
    site = pair.site
    site.declare(carol, resources=CAROL, autostart=False)
    site.apply()
    assert site.environment(carol).status == "Running", "running: true"
    site.inside("bob", "sh", "-c", "echo mine > /home/bob/data; sync")
    before = {name: (site.environment(name).address, site.boot_id(name)) for name in ("alice", "bob", carol)}
    site.host.preempt()
    for name, config in (("alice", pair.alice_config), ("bob", pair.bob_config)):
        site.wait_login(name, config)
    assert pair.bob.ssh(pair.bob_config, "bob", "cat data").stdout == "mine\n"
    wait_until("Docker", lambda: pair.alice.ssh(pair.alice_config, "alice", "docker ps", check=False).returncode == 0,
               timeout=30)  # fmt: skip
    assert site.environment(carol).status == "Stopped", "autostart: false"
    gateway = site.bridge_address()
    shut = site.inside("bob", "timeout", "5", "bash", "-c", f"</dev/tcp/{gateway}/22", check=False)
    assert "Connection refused" in shut.stderr, "the host's services are shut to boxes as before"
    site.apply()
    assert site.environment(carol).status == "Running", "running: true"
    after = {name: (site.environment(name).address, site.boot_id(name)) for name in before}
    assert [a[0] for a in after.values()] == [b[0] for b in before.values()], "the same addresses"
    assert not {a[1] for a in after.values()} & {b[1] for b in before.values()}
    assert site.plan("--detailed-exitcode", code=0)["environments"] == []
