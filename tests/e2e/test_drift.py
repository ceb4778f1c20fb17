"""Whatever somebody alters behind its back, the next run puts right, exactly that, and calls it drift."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from tests.e2e.site import JUMP_KEYS, instance_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.e2e.site import Site

NAME = "ivan"
BOX = instance_of(NAME)


@pytest.fixture(scope="module")
def ivan(site: Site) -> Iterator[Site]:
    """Give the site with ivan on it, as declared."""
    site.purge(site.declared())
    site.declare(NAME)
    site.apply()
    yield site
    site.purge([NAME])


@dataclass(frozen=True)
class Drift:
    """Something done by hand as root, and the field that the next run names and mends."""

    name: str
    act: Callable[[Site], object]
    field: str


def incus(*args: str) -> Callable[[Site], object]:
    return lambda site: site.host.incus(*args)


def host(*args: str) -> Callable[[Site], object]:
    return lambda site: site.host.run(list(args))


def guest(*args: str) -> Callable[[Site], object]:
    return lambda site: site.inside(NAME, *args)


def append_key(site: Site) -> None:
    stranger = site.person("mallory").public()
    line = f'restrict,port-forwarding,permitopen="*:*" {stranger}'
    site.host.run(["sh", "-c", 'echo "$1" >> "$2"', "append", line, f"{JUMP_KEYS}/{NAME}"])


SETTINGS = (
    Drift("cpu limit", incus("config", "set", BOX, "limits.cpu=2"), "spec.resources.cpu"),
    Drift("memory limit", incus("config", "unset", BOX, "limits.memory"), "spec.resources.memory"),
    Drift("nesting", incus("config", "set", BOX, "security.nesting=true"), "spec.docker.nesting"),
    Drift("autostart", incus("config", "set", BOX, "boot.autostart=false"), "spec.autostart"),
    Drift(
        "spoof filter",
        incus("config", "device", "set", BOX, "eth0", "security.mac_filtering=false"),
        "isolation.mac_filtering",
    ),
)
ACCOUNT = (
    Drift("account given a shell", host("usermod", "-s", "/bin/bash", NAME), "account.shell"),
    Drift("account given a password", host("usermod", "-p", "$6$x$y", NAME), "account.password"),
    Drift("account's own group", host("usermod", "-g", "nogroup", NAME), "account.group"),
    Drift("account in another group", host("usermod", "-aG", "adm", NAME), "account.groups"),
    Drift("account expired", host("usermod", "-e", "1", NAME), "account.expiry"),
    Drift("key appended on the host", append_key, "account.keys"),
)
GUEST = (
    Drift("key removed in the guest", guest("rm", f"/home/{NAME}/.ssh/authorized_keys"), "guest.keys"),
    Drift("root's password in the guest", guest("usermod", "-p", "$6$x$y", "root"), "guest.root.password"),
    Drift("sudo taken away in the guest", guest("rm", f"/etc/sudoers.d/90-containarium-{NAME}"), "guest.sudo"),
    Drift("ssh disabled in the guest", guest("systemctl", "disable", "--now", "ssh"), "guest.ssh"),
)
CASES = {
    "settings": SETTINGS,
    "container-stopped": (Drift("container stopped", incus("stop", "--force", BOX), "spec.running"),),
    "container-paused": (Drift("container paused", incus("pause", BOX), "spec.running"),),
    "account": ACCOUNT,
    "account-deleted": (Drift("account deleted", host("userdel", NAME), "account"),),
    "account-locked-and-keys-removed": (
        Drift("account locked", host("usermod", "-L", NAME), "account.password"),
        Drift("keys removed on the host", host("rm", f"{JUMP_KEYS}/{NAME}"), "account.keys"),
    ),
    "guest": GUEST,
}
"""What is altered at once. Each by itself is a case of the planner's unit tests and of the conformance suite."""


def lasting(config: dict[str, str]) -> dict[str, str]:
    """Config without what every start and every change leaves behind."""
    passing = ("volatile.", "user.containarium.restart-since")
    return {key: value for key, value in config.items() if not key.startswith(passing)}


@pytest.mark.parametrize("drifts", CASES.values(), ids=CASES.keys())
def test_the_next_run_repairs_exactly_that(ivan: Site, drifts: tuple[Drift, ...]) -> None:
    before = ivan.environment(NAME)
    made, address = before.instance["created_at"], before.address
    for drift in drifts:
        drift.act(ivan)

    said = ivan.plan()
    (planned,) = said["environments"]
    changes = [change for action in planned["actions"] for change in action["changes"]]
    named = {change["field"] for change in changes}
    assert named == {drift.field for drift in drifts} | ({"account.keys"} & named)
    assert all(change["drift"] for change in changes)
    assert planned["verb"] == "repair"
    ivan.apply()

    after = ivan.environment(NAME)
    assert after.instance["created_at"] == made
    assert after.address == address
    assert after.status == "Running"
    assert after.shell == "/usr/sbin/nologin"
    assert after.password == "*"
    assert after.groups == ("containarium-jump",)
    assert after.keys == before.keys
    assert lasting(after.config) == lasting(before.config)
    assert not any(e["actions"] for e in ivan.plan()["environments"])
    ivan.wait_login(NAME, ivan.export(NAME))


def test_a_container_deleted_by_hand_comes_back_at_its_address(ivan: Site) -> None:
    address = ivan.environment(NAME).address
    ivan.host.incus("delete", "--force", BOX)
    (planned,) = ivan.plan()["environments"]
    assert planned["verb"] == "create"
    assert all(change["drift"] for change in planned["actions"][0]["changes"])
    ivan.apply()
    assert ivan.environment(NAME).address == address
    ivan.wait_login(NAME, ivan.export(NAME))


def test_what_is_not_ours_is_neither_touched_nor_mentioned(ivan: Site) -> None:
    site = ivan
    site.host.incus("profile", "create", "theirs", check=False)
    site.host.incus("profile", "set", "theirs", "user.note=keep")
    site.host.incus("profile", "add", BOX, "theirs")
    site.host.incus("config", "set", BOX, "user.backup=weekly")
    site.host.incus("config", "device", "add", BOX, "scratch", "disk", "source=/srv", "path=/mnt/scratch")
    site.host.incus("init", "guest", "gitlab", "--storage=default", check=False)
    site.host.run(["useradd", "-m", "operator2"], check=False)
    before = site.snapshot()
    assert site.plan()["environments"] == []
    site.host.incus("config", "set", BOX, "limits.cpu=2")
    said = site.containarium("apply", timeout=120)
    spoken = said.stdout + said.stderr
    assert not any(word in spoken for word in ("gitlab", "operator2", "user.backup", "scratch", "theirs"))
    assert site.snapshot() == before
    site.host.incus("config", "device", "remove", BOX, "scratch")
    site.host.incus("profile", "remove", BOX, "theirs")
    site.host.incus("delete", "--force", "gitlab")
    site.host.run(["userdel", "-r", "operator2"], check=False)
