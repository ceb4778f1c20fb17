"""The controller under systemd: drift of every kind, edits, and mistakes are dealt with, and nobody is asked."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from tests.e2e.site import JUMP_KEYS, MANIFESTS, instance_of

if TYPE_CHECKING:
    from tests.e2e.living import LivingSite
    from tests.e2e.site import Facts

NAMES = ("alice", "bob", "carol")
BOX = instance_of("alice")


@pytest.fixture(scope="module")
def living(living_site: LivingSite) -> Iterator[LivingSite]:
    """Give the host with three people on it, all as declared. Nobody ever runs apply."""
    site = living_site
    for name in NAMES:
        site.declare(name)
    site.wait_ready(*NAMES)
    yield site
    site.purge(NAMES)


@dataclass(frozen=True)
class Drift:
    """Something done behind the controller's back, and how one sees that it was put right."""

    what: str
    command: tuple[str, ...]
    mended: Callable[[Facts], bool]
    field: str


DRIFT = (
    Drift(
        "memory", ("incus", "config", "set", BOX, "limits.memory=300MiB"),
        lambda facts: facts.config["limits.memory"] == "512MiB", "spec.resources.memory",
    ),
    Drift(
        "processors", ("incus", "config", "unset", BOX, "limits.cpu"),
        lambda facts: facts.config.get("limits.cpu") == "1", "spec.resources.cpu",
    ),
    Drift(
        "processes", ("incus", "config", "set", BOX, "limits.processes=9999"),
        lambda facts: facts.config["limits.processes"] == "512", "spec.resources.processes",
    ),
    Drift(
        "autostart", ("incus", "config", "set", BOX, "boot.autostart=false"),
        lambda facts: facts.config["boot.autostart"] == "true", "spec.autostart",
    ),
    Drift(
        "a stop", ("incus", "stop", "--force", BOX),
        lambda facts: facts.status == "Running", "spec.running",
    ),
    Drift(
        "a freeze", ("incus", "pause", BOX),
        lambda facts: facts.status == "Running", "spec.running",
    ),
    Drift(
        "filters", ("incus", "config", "device", "set", BOX, "eth0", "security.mac_filtering=false"),
        lambda facts: facts.devices["eth0"]["security.mac_filtering"] == "true", "isolation.mac_filtering",
    ),
    Drift(
        "the account's shell", ("usermod", "--shell", "/bin/bash", "alice"),
        lambda facts: facts.shell == "/usr/sbin/nologin", "account.shell",
    ),
    Drift(
        "the account's password", ("usermod", "--password", "$y$j9T$abc$def", "alice"),
        lambda facts: facts.password == "*", "account.password",
    ),
    Drift(
        "a group more", ("usermod", "--append", "--groups", "sudo", "alice"),
        lambda facts: facts.groups == ("containarium-jump",), "account.groups",
    ),
    Drift(
        "the account", ("userdel", "alice"),
        lambda facts: facts.shell == "/usr/sbin/nologin", "account",
    ),
    Drift(
        "the keys", ("rm", f"{JUMP_KEYS}/alice"),
        lambda facts: bool(facts.keys), "account.keys",
    ),
    Drift(
        "a stranger's key", ("sh", "-c", f"echo 'ssh-ed25519 AAAA mallory' >> {JUMP_KEYS}/alice"),
        lambda facts: not any("mallory" in key for key in facts.keys or ("mallory",)), "account.keys",
    ),
)  # fmt: skip


@pytest.mark.parametrize("drift", DRIFT, ids=lambda drift: drift.what)
def test_drift_is_repaired_with_nobody_stepping_in(living: LivingSite, drift: Drift) -> None:
    known = len(_drift_of(living, "alice", drift.field))
    living.host.run(list(drift.command))
    living.until(
        f"{drift.what} to be found and repaired", lambda: len(_drift_of(living, "alice", drift.field)) >= known + 2
    )
    living.until_facts("alice", f"{drift.what} to be right", drift.mended)
    living.wait_ready("alice")


def _drift_of(living: LivingSite, name: str, field: str) -> list[dict[str, Any]]:
    return [e for e in living.events(name) if e["reason"].startswith("Drift") and field in e.get("fields", [])]


def test_events_name_who_did_it(living: LivingSite) -> None:
    found = [
        e for e in living.events("alice") if e["reason"] == "DriftFound" and "spec.resources.memory" in e["fields"]
    ]
    assert found
    assert "root" in found[0]["by"]
    assert "unix" in found[0]["by"]


def test_what_is_inside_is_looked_at_after_a_start(living: LivingSite) -> None:
    living.inside("bob", "sh", "-c", "echo root:secret | chpasswd")
    living.host.incus("restart", "--force", instance_of("bob"))
    living.until(
        "root's password to be taken away",
        lambda: living.inside("bob", "getent", "shadow", "root", check=False).stdout.startswith("root:*:"),
    )
    living.wait_ready("bob")


def test_an_edit_is_carried_out(living: LivingSite) -> None:
    living.declare("bob", resources={"memory": "600MiB"})
    living.until_facts("bob", "600 MiB", lambda facts: facts.config["limits.memory"] == "600MiB")
    living.declare("bob")
    living.until_facts("bob", "512 MiB", lambda facts: facts.config["limits.memory"] == "512MiB")
    living.wait_ready("bob")


def test_a_broken_edit_changes_nothing_and_the_line_is_named(living: LivingSite) -> None:
    living.write(
        "bob.yaml", "apiVersion: containarium.dev/v1\nkind: Environment\nmetadata: {name: bob}\nspec: {imagee: x}\n"
    )
    living.until("the refusal", lambda: "imagee" in living.containarium("status", check=False).stdout)
    assert living.environment("bob").status == "Running"
    assert "bob.yaml:4" in living.containarium("status", check=False).stdout
    living.declare("bob")
    living.wait_ready("bob")


@pytest.mark.parametrize("how", ["emptied", "unreadable", "gone", "200 broken files"])
def test_a_folder_that_says_nothing_is_no_order_to_retire_everybody(living: LivingSite, how: str) -> None:
    before = {name: living.environment(name).pid for name in NAMES}
    commands = {
        "emptied": f"mkdir /root/kept && mv {MANIFESTS}/*.yaml /root/kept/",
        "unreadable": f"mv {MANIFESTS} /root/kept && echo nothing > {MANIFESTS}",
        "gone": f"mv {MANIFESTS} /root/kept",
        "200 broken files": f"mkdir /root/kept && mv {MANIFESTS}/*.yaml /root/kept/ && "
        f"for i in $(seq 200); do echo ': [' > {MANIFESTS}/broken$i.yaml; done",
    }
    living.host.run(["sh", "-euc", commands[how]])
    try:
        living.until("the controller to have noticed", lambda: living.status().get("problems"))
        living.host.run(["sleep", "6"])
        assert {name: living.environment(name).pid for name in NAMES} == before
        assert all(living.environment(name).keys for name in NAMES)
    finally:
        living.host.run(["sh", "-euc", f"rm -rf {MANIFESTS} && mv /root/kept {MANIFESTS}"])
    living.wait_ready(*NAMES)


def test_too_many_at_once_are_held_back_until_exactly_they_are_approved(living: LivingSite) -> None:
    living.withdraw("bob", "carol")
    living.until("the interlock", lambda: any(i.get("digest") for i in living.status().get("interlocks", [])))
    (interlock,) = [i for i in living.status()["interlocks"] if i["digest"]]
    assert set(interlock["environments"]) == {"bob", "carol"}
    shown = living.containarium("status", check=False).stdout
    assert interlock["digest"] in shown
    assert living.environment("bob").status == "Running"
    wrong = living.containarium("approve", "0123456789ab", check=False)
    assert wrong.returncode == 1
    assert interlock["digest"] in wrong.stderr
    living.containarium("approve", interlock["digest"])
    for name in ("bob", "carol"):
        living.until_facts(name, "to be retired", lambda facts: facts.status == "Stopped" and not facts.keys)
    for name in ("bob", "carol"):
        living.declare(name)
    living.wait_ready("bob", "carol")


def test_who_is_undeleted_is_back(living: LivingSite) -> None:
    living.inside("carol", "touch", "/root/mine")
    living.withdraw("carol")
    living.until_facts("carol", "to be retired", lambda facts: facts.status == "Stopped" and not facts.keys)
    living.containarium("undelete", "carol")
    living.wait_ready("carol")
    assert living.inside("carol", "ls", "/root/mine").returncode == 0


def test_a_suspended_environment_is_left_alone(living: LivingSite) -> None:
    living.containarium("suspend", "carol")
    living.host.run(["usermod", "--shell", "/bin/bash", "carol"])
    living.withdraw("carol")
    living.host.run(["sleep", "5"])
    facts = living.environment("carol")
    assert (facts.status, facts.shell) == ("Running", "/bin/bash")
    living.declare("carol")
    living.containarium("resume", "carol")
    living.until_facts("carol", "to be mended", lambda facts: facts.shell == "/usr/sbin/nologin")
    living.wait_ready("carol")


def test_apply_lets_the_controller_do_it(living: LivingSite) -> None:
    living.declare("bob", docker=True, resources={"memory": "1GiB", "disk": "4GiB", "processes": 1024})
    living.wait_ready("bob")
    since = living.boot_id("bob")
    said = living.containarium("apply", "--restart", "--only", "bob", timeout=120)
    assert "The controller of this host does it" in said.stdout
    assert living.boot_id("bob") != since
    assert living.environment("alice").status == "Running"


def test_the_journal_has_one_sentence_a_pass_and_a_pass_id_on_every_line_of_work(living: LivingSite) -> None:
    lines = living.log()
    passes = [line for line in lines if line["event"] == "pass"]
    assert passes
    assert all(line["sentence"] and line["pass_id"] for line in passes)
    assert len({line["pass_id"] for line in passes}) == len(passes)
    done = [line for line in lines if line["event"] == "done"]
    assert done
    assert all(line["pass_id"] for line in done)


def test_a_second_controller_is_told_of_the_first(living: LivingSite) -> None:
    second = living.containarium("daemon", "--metrics", "", check=False, timeout=30)
    assert second.returncode == 1
    assert f"pid {living.pid()}" in second.stderr


def test_it_tells_systemd_how_it_is_and_reloads(living: LivingSite) -> None:
    shown = living.host.run(["systemctl", "show", "--property=StatusText", "--value", "containarium"]).stdout
    assert "as declared" in shown
    before = living.pid()
    living.host.run(["systemctl", "reload", "containarium"])
    assert living.host.run(["systemctl", "is-active", "containarium"]).stdout.strip() == "active"
    assert living.pid() == before


def test_the_firewall_is_put_back_when_somebody_flushes_it(living: LivingSite) -> None:
    living.host.run(["nft", "delete", "table", "inet", "containarium"])
    living.until(
        "the table to be back",
        lambda: living.host.run(["nft", "list", "table", "inet", "containarium"], check=False).returncode == 0,
        timeout=150,
    )
    assert any(event["reason"] == "HostRepaired" for event in living.events())
