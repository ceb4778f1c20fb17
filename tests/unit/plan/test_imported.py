"""Manifests of what is there: what is taken over, what is guessed, what cannot be said, and whose keys they are."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from containarium.model import marks
from containarium.model.environment import Environment
from containarium.model.packing import pack
from containarium.plan.imported import Draft, drafts
from containarium.plan.inventory import Seen
from tests.builders import manifest, public_key

NIC = {"type": "nic", "name": "eth0", "network": "incusbr0"}
ROOT = {"type": "disk", "path": "/", "pool": "default", "size": "50GB"}
ORIGINAL = {
    "limits.cpu": "4",
    "limits.memory": "4GB",
    "boot.autostart": "true",
    "security.nesting": "true",
    "security.syscalls.intercept.mknod": "true",
    "user.containarium.label.team": "ml",
    "image.os": "ubuntu",
    "image.release": "noble",
    "volatile.base_image": "ab" * 32,
}


def seen(name: str = "alice", **known: Any) -> Seen:
    """A container as the original made it."""
    config = known.pop("config", ORIGINAL)
    devices = known.pop("devices", {"root": ROOT, "eth0": NIC})
    keys = known.pop("guest_keys", (public_key(name),))
    found = Seen(f"{name}-container", "container", True, config, config, devices, {"root": ROOT}, guest_keys=keys)
    return replace(found, **known)


def draft(one: Seen) -> Draft:
    (found,) = drafts([one], {}, "default", "incusbr0")
    return found


def test_a_container_of_the_original() -> None:
    found = draft(seen(address="10.0.3.57"))
    environment = Environment.model_validate(found.data)
    spec = environment.spec
    assert environment.metadata.adopts
    assert environment.metadata.labels == {"team": "ml"}
    assert (spec.image, spec.docker, spec.autostart, spec.running) == ("images:ubuntu/24.04", True, True, True)
    assert (str(spec.resources.cpu), str(spec.resources.memory), str(spec.resources.disk)) == ("4", "4GB", "50GB")
    assert str(spec.network.ipv4) == "10.0.3.57"
    assert spec.packages == ()
    assert "guessed" in found.notes["spec.resources.processes"]
    assert "DHCP" in found.notes["spec.network.ipv4"]
    assert found.remarks == ()


def test_what_has_no_limit_gets_one_that_hurts_nobody() -> None:
    big = seen(config={}, devices={"root": {}, "eth0": NIC}, disk_used=60 << 30, memory_used=3 << 30, running=False)
    resources = draft(big).data["spec"]["resources"]
    assert (resources["memory"], resources["disk"]) == ("6GiB", "120GiB")
    spec = Environment.model_validate(draft(big).data).spec
    assert (spec.running, spec.autostart, spec.docker) == (False, False, False)


@pytest.mark.parametrize(
    ("key", "value", "field"),
    [
        ("limits.memory", "50%", "memory"),
        ("limits.memory", "1MiB", "memory"),
        ("limits.cpu", "nonsense", "cpu"),
        ("limits.processes", "5", "processes"),
    ],
)
def test_a_limit_that_no_manifest_can_say_is_guessed_and_said(key: str, value: str, field: str) -> None:
    found = draft(seen(config={**ORIGINAL, key: value}))
    assert value in found.notes[f"spec.resources.{field}"]
    Environment.model_validate(found.data)


@pytest.mark.parametrize(("cpu", "shown"), [("0-3", "0-3"), ("1,3", "1,3"), ("2", 2)])
def test_processors_are_taken_as_they_are(cpu: str, shown: Any) -> None:
    assert draft(seen(config={**ORIGINAL, "limits.cpu": cpu})).data["spec"]["resources"]["cpu"] == shown


@pytest.mark.parametrize(
    ("schedule", "expiry", "found"),
    [
        ("@daily", "30d", {"schedule": "@daily", "keep": "30d"}),
        ("0 3 * * *", "12H", {"schedule": "0 3 * * *", "keep": "12h"}),
        ("@daily", "", {"schedule": "@daily", "keep": "30d"}),
        ("@daily", "3m", {"schedule": "@daily", "keep": "30d"}),
        ("@daily, @hourly", "30d", None),
    ],
)
def test_schedules(schedule: str, expiry: str, found: dict[str, str] | None) -> None:
    made = draft(seen(config={**ORIGINAL, "snapshots.schedule": schedule, "snapshots.expiry": expiry}))
    assert made.data["spec"].get("snapshots") == found
    assert bool(made.remarks) == (found is None)
    assert ("spec.snapshots.keep" in made.notes) == (found is not None and expiry in ("", "3m"))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"kind": "virtual-machine"}, "virtual machine"),
        ({"instance": "web"}, "incus rename web web-container"),
        ({"instance": "root-container"}, "reserved"),
        ({"instance": "A_b-container"}, "cannot be a name"),
        ({"own_config": {marks.ENVIRONMENT: "bob"}}, "mark of bob"),
        ({"guest_keys": ()}, "no key"),
        ({"guest_keys": ("ssh-rsa AAAA", "from=x ssh-ed25519 AAAA", "BEGIN OPENSSH PRIVATE KEY")}, "3 line"),
    ],
)  # fmt: skip
def test_what_cannot_be_one_is_told_and_makes_no_manifest(change: dict[str, Any], said: str) -> None:
    found = draft(seen(**change))
    assert found.data == {}
    assert said in " ".join(found.remarks)


def test_one_of_ours_brings_its_own_manifest_back() -> None:
    written = manifest("alice", resources={"memory": "8GiB"}, packages=["git"], annotations={"note": "x"})
    config = {marks.ENVIRONMENT: "alice", marks.MANIFEST: pack(written)}
    found = draft(seen(config=config, guest_keys=()))
    assert Environment.model_validate(found.data) == written.environment
    assert draft(seen(config={**config, marks.MANIFEST: "damaged"})).data["metadata"] == {"name": "alice"}


@pytest.mark.parametrize(
    ("deletion", "left"), [({"grace": "1s"}, None), ({"grace": "1s", "backup": True}, {"backup": True})]
)
def test_what_a_deletion_by_force_wrote_does_not_come_back(deletion: dict[str, Any], left: object) -> None:
    config = {marks.ENVIRONMENT: "alice", marks.MANIFEST: pack(manifest("alice", deletion=deletion))}
    found = draft(seen(config=config, guest_keys=()))
    assert found.data["spec"].get("deletion") == left
    assert "grace period of a second" in " ".join(found.remarks)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"devices": {"root": {**ROOT, "pool": "other"}, "eth0": NIC}}, "pool other"),
        ({"devices": {"root": ROOT, "eth0": {**NIC, "network": "lan"}}}, "moved to incusbr0"),
        ({"own_devices": {"eth0": {"type": "nic", "nictype": "bridged", "parent": "br0"}}}, "nictype and parent"),
        ({"devices": {"root": ROOT, "eth0": NIC, "data": {"type": "disk"}}}, "stay as they are"),
        ({"config": {**ORIGINAL, "security.privileged": "true"}}, "privileged"),
        ({"config": {**ORIGINAL, "user.containarium.label.x": "a b"}}, "label"),
    ],
)
def test_what_a_manifest_cannot_say_is_told(change: dict[str, Any], said: str) -> None:
    found = draft(seen(**change))
    assert found.data
    assert said in " ".join(found.remarks)


# -- keys


def keys_of(found: Draft) -> list[str]:
    return [line.rpartition(" ")[2].partition("@")[0] for line in found.data.get("spec", {}).get("sshKeys", [])]


def test_a_key_that_was_planted_everywhere_is_nobodys() -> None:
    admin = public_key("admin")
    alice, bob = drafts(
        [
            seen("alice", guest_keys=(public_key("alice"), admin)),
            seen("bob", guest_keys=(public_key("bob"), admin)),
        ],
        {},
        "default",
        "incusbr0",
    )
    assert (keys_of(alice), keys_of(bob)) == (["alice"], ["bob"])
    assert "admin@laptop" in " ".join(alice.remarks)
    assert "found inside" in alice.notes["spec.sshKeys.0"]


def test_nobody_takes_anothers_key_away_by_writing_it_into_his_own_guest() -> None:
    alice, bob = drafts(
        [
            seen("alice", guest_keys=(public_key("alice"), public_key("bob"))),
            seen("bob", guest_keys=(public_key("bob"),), account_keys=(public_key("bob"),)),
        ],
        {},
        "default",
        "incusbr0",
    )
    assert (keys_of(alice), keys_of(bob)) == (["alice"], ["bob"])
    assert bob.notes.get("spec.sshKeys.0") is None


def test_a_declared_key_stays_whose_it_is() -> None:
    from containarium.model.sshkey import SSHKey

    declared = {SSHKey.parse(public_key("carol")).identity: "carol"}
    (alice,) = drafts(
        [seen("alice", guest_keys=(public_key("alice"), public_key("carol")))], declared, "default", "incusbr0"
    )
    assert keys_of(alice) == ["alice"]
    assert "a key of carol" in " ".join(alice.remarks)


def test_a_guest_that_writes_without_end_is_cut_short() -> None:
    many = tuple(public_key(f"key-{number}") for number in range(200))
    assert len(draft(seen(guest_keys=many)).data["spec"]["sshKeys"]) == 50
