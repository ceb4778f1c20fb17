"""What somebody loosens in the kernel itself, past Incus, is found, named and put in force again while people work."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from tests.e2e.site import instance_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.e2e.site import Site

NAME = "nina"
BOX = instance_of(NAME)
MIB = 2**20
MEMORY, DISK, PROCESSES = 256, 2048, 512
"""MiB, MiB, and a count."""
_GROUPS = "/sys/fs/cgroup"
_POOL = "/var/lib/incus/storage-pools/default"


@pytest.fixture(scope="module")
def nina(site: Site) -> Iterator[Site]:
    """Give the site with nina on it, as declared."""
    site.purge(site.declared())
    site.declare(NAME, resources={"memory": f"{MEMORY}MiB", "disk": f"{DISK}MiB", "processes": PROCESSES})
    site.apply()
    yield site
    site.purge([NAME])


# -- the kernel, as an admin sees it at a root shell


def sh(site: Site, script: str, *args: str) -> str:
    return site.host.run(["sh", "-euc", script, "sh", *args]).stdout.strip()


def limit(controller: str, *files: str) -> Callable[[Site], str]:
    """Read the first of these files that there is, whichever generation of control groups this is."""
    paths = [f"{root}/lxc.payload.{BOX}/{file}" for file in files for root in (f"{_GROUPS}/{controller}", _GROUPS)]
    return lambda site: sh(site, 'for f in "$@"; do if [ -e "$f" ]; then cat "$f"; exit; fi; done; exit 1', *paths)


def raise_limit(controller: str, value: str, *files: str) -> Callable[[Site], object]:
    """Write all of these files that there are."""
    paths = [f"{root}/lxc.payload.{BOX}/{file}" for file in files for root in (f"{_GROUPS}/{controller}", _GROUPS)]
    script = 'v="$1"; shift; for f in "$@"; do if [ -e "$f" ]; then echo "$v" > "$f"; fi; done'
    return lambda site: sh(site, script, value, *paths)


def quota(site: Site) -> str:
    listed = sh(site, 'btrfs qgroup show -re --raw "$1" | grep "/$2\\$"', _POOL, BOX)
    return listed.split()[3]


def set_quota(size: str) -> Callable[[Site], object]:
    return lambda site: sh(site, 'btrfs qgroup limit "$1" "$2"', size, f"{_POOL}/containers/{BOX}")


def filters(site: Site) -> str:
    """How many rules there are in each of its two chains."""
    counted = [sh(site, 'nft list chain bridge incus "$1" | grep -c drop || true', f"{d}.{BOX}.eth0") for d in _CHAINS]
    return " ".join(counted)


def nft(*words: str) -> Callable[[Site], object]:
    def act(site: Site) -> None:
        for direction in _CHAINS:
            for word in words:
                site.host.run(["nft", word, "chain", "bridge", "incus", f"{direction}.{BOX}.eth0"])

    return act


_CHAINS = ("in", "fwd")
_MEMORY_FILES = ("memory.memsw.limit_in_bytes", "memory.limit_in_bytes", "memory.max")
memory = limit("memory", "memory.limit_in_bytes", "memory.max")
processes = limit("pids", "pids.max")


def processors(site: Site) -> str:
    """How many; Incus chooses which."""
    return "1" if limit("cpuset", "cpuset.cpus")(site).isdecimal() else "more"


@dataclass(frozen=True)
class Loss:
    """Something done to the kernel by hand, the field that the next run names, and how the kernel tells of it."""

    name: str
    act: Callable[[Site], object]
    field: str
    kernel: Callable[[Site], str]


LOSSES = [
    Loss("memory", raise_limit("memory", f"{2048 * MIB}", *_MEMORY_FILES), "spec.resources.memory", memory),
    Loss("processes", raise_limit("pids", "max", "pids.max"), "spec.resources.processes", processes),
    Loss("processors", raise_limit("cpuset", "0-1", "cpuset.cpus"), "spec.resources.cpu", processors),
    Loss("quota raised", set_quota("20G"), "spec.resources.disk", quota),
    Loss("quota taken away", set_quota("none"), "spec.resources.disk", quota),
    Loss("quota below use", set_quota("50M"), "spec.resources.disk", quota),
    Loss("filters flushed", nft("flush"), "isolation.filters", filters),
    Loss("filters deleted", nft("flush", "delete"), "isolation.filters", lambda _site: ""),
]


@pytest.mark.parametrize("case", LOSSES, ids=lambda case: case.name.replace(" ", "-"))
def test_it_is_named_and_put_in_force_again(nina: Site, case: Loss) -> None:
    before, boot = nina.environment(NAME), nina.boot_id(NAME)
    right, rules = case.kernel(nina), filters(nina)
    case.act(nina)
    if case.kernel(nina):
        assert case.kernel(nina) != right, "the harm"

    (planned,) = nina.plan()["environments"]
    (change,) = [change for action in planned["actions"] for change in action["changes"]]
    assert (change["field"], change["drift"], planned["verb"]) == (case.field, True, "repair")
    nina.apply()

    assert case.kernel(nina) == right
    assert filters(nina) == rules
    after = nina.environment(NAME)
    assert after.devices == before.devices
    assert {k: v for k, v in after.config.items() if k.startswith("limits.")} == {
        k: v for k, v in before.config.items() if k.startswith("limits.")
    }
    assert nina.boot_id(NAME) == boot, "nobody was disturbed"
    assert after.address == before.address
    assert nina.plan(code=0)["environments"] == []


def test_all_at_once_for_a_guest_that_is_over_its_limit(nina: Site) -> None:
    right = [kernel(nina) for kernel in (memory, processes, processors, quota, filters)]
    for case in LOSSES[:3] + LOSSES[5:7]:
        case.act(nina)
    nina.apply()
    assert [kernel(nina) for kernel in (memory, processes, processors, quota, filters)] == right
    nina.inside(NAME, "sh", "-c", "echo works > /root/note && sync")


def test_the_group_that_liblxc_named_otherwise_is_found(nina: Site) -> None:
    """A left-over of the usual name, made as a killed host leaves it, is not taken for the living one."""
    folders = [f"{_GROUPS}/{controller}/lxc.payload.{BOX}" for controller in ("memory", "pids", "cpuset")]
    nina.host.incus("stop", "--force", BOX)
    nina.host.run(["mkdir", *folders])
    nina.apply()
    assert sh(nina, 'ls -d "$1"*', folders[0]).split() == [folders[0], f"{folders[0]}-1"]
    assert nina.plan(code=0)["environments"] == [], "the left-over has no limit, and nobody minds"
    sh(nina, 'echo 9999 > "$1"', f"{folders[1]}-1/pids.max")
    (planned,) = nina.plan()["environments"]
    assert [change["field"] for action in planned["actions"] for change in action["changes"]] == [
        "spec.resources.processes"
    ]
    nina.apply()
    assert sh(nina, 'cat "$1"', f"{folders[1]}-1/pids.max") == f"{PROCESSES}"
    nina.host.incus("stop", "--force", BOX)
    nina.host.run(["rmdir", *folders])
    nina.apply()


def test_what_only_a_restart_can_enforce_waits_for_one(nina: Site) -> None:
    """A guest that has more memory in use than it may have, in a form that the kernel cannot take back."""
    raise_limit("memory", f"{2048 * MIB}", *_MEMORY_FILES)(nina)
    nina.inside(NAME, "dd", "if=/dev/zero", "of=/dev/shm/held", "bs=1M", "count=600")
    boot = nina.boot_id(NAME)
    failed = nina.containarium("apply", check=False)
    assert failed.returncode == 1
    assert "the kernel does not hold nina-container to spec.resources.memory" in failed.stdout + failed.stderr
    assert "containarium apply --restart --only nina" in failed.stdout + failed.stderr
    assert nina.boot_id(NAME) == boot
    (planned,) = nina.plan()["environments"]
    assert [notice["field"] for notice in planned["notices"]] == ["restart"]
    nina.apply("--restart", "--only", NAME)
    assert nina.boot_id(NAME) != boot
    assert memory(nina) == f"{MEMORY * MIB}"
    assert nina.plan(code=0)["environments"] == []
