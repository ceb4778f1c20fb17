"""Instances as Incus lists them."""

from __future__ import annotations

from ipaddress import IPv4Interface
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest

from containarium.host.incus import Incus, Versioned
from containarium.host.instances import Instances, half_born, parse, runs
from containarium.host.leases import parse_leases, parse_reservation
from containarium.host.leases import read as read_leases
from containarium.host.power import has_address
from containarium.host.settings import HostSettings
from containarium.model import marks
from containarium.model.action import CreateInstance, DeleteInstance, UpdateInstance
from containarium.model.host import RetryableError
from containarium.model.observed import Instance, InstanceStatus


def test_parse() -> None:
    raw = {
        "name": "alice-container",
        "status": "Running",
        "config": {marks.ENVIRONMENT: "alice"},
        "devices": {"root": {"type": "disk"}},
        "expanded_devices": {
            "root": {"type": "disk", "ipv4.address": "192.0.2.9"},
            "eth0": {"type": "nic", "ipv4.address": "192.0.2.7"},
            "eth1": {"type": "nic", "ipv4.address": "none"},
            "eth2": {"type": "nic"},
        },
        "created_at": "2026-01-01T00:00:00Z",
        "last_used_at": "1970-01-01T00:00:00Z",
    }
    found = parse(raw)
    assert found.status is InstanceStatus.RUNNING
    assert found.addresses == ("192.0.2.7",)
    assert found.devices == {"root": {"type": "disk"}}
    assert parse({"name": "x", "status": "Moving", "config": None}).status is InstanceStatus.OTHER


def test_one_that_a_list_has_without_its_marks_is_looked_at_by_itself() -> None:
    """Incus lists what it cannot show at this moment with its name and nothing else: no stranger, and not nobody."""
    bob = {"name": "bob-container", "status": "Running", "config": {marks.ENVIRONMENT: "bob"}}
    alice = {"name": "alice-container", "status": "Running", "config": {marks.ENVIRONMENT: "alice"}}
    bare = [{"name": name, "status": "Error", "config": None} for name in ("alice-container", "gone-container")]
    incus = Mock(spec=Incus)
    incus.get.return_value = [bob, *bare]
    incus.find.side_effect = lambda _, name: {"alice-container": alice}.get(name)
    found = Instances(incus, Mock(), HostSettings(incus_dir=Path("/nonexistent"))).all()
    assert {name: instance.config[marks.ENVIRONMENT] for name, instance in found.items()} == {
        "alice-container": "alice",
        "bob-container": "bob",
    }
    assert found["alice-container"].status is InstanceStatus.RUNNING


def test_a_guest_that_calls_itself_ready_runs_like_any_other() -> None:
    """Its root may say so, over the guest's own interface to Incus."""
    assert parse({"name": "x", "status": "Ready"}).status is InstanceStatus.RUNNING
    assert runs({"status": "Ready"})
    assert runs({"status": "Running"})
    assert not runs({"status": "Frozen"})


def test_the_filters_of_a_guest_that_calls_itself_ready_are_checked() -> None:
    there = {"name": "alice-container", "status": "Ready", "config": {marks.ENVIRONMENT: "alice"}, "devices": {}}
    incus, filters = Mock(spec=Incus), Mock()
    incus.get_versioned.return_value = Versioned(there, "etag")
    nic = {"type": "nic", "security.mac_filtering": "true"}
    update = UpdateInstance(environment="alice", instance="alice-container", devices={"eth0": nic})
    Instances(incus, filters, HostSettings(incus_dir=Path("/nonexistent"))).update(update)
    filters.check.assert_called_once_with("alice-container", {"eth0": nic})


@pytest.mark.parametrize(
    ("status", "config", "expected"),
    [
        ("Stopped", {"volatile.uuid": "x"}, True),
        ("Stopped", {"volatile.apply_template": "create"}, False),
        ("Stopped", {"volatile.last_state.power": "STOPPED"}, False),
        ("Stopped", {marks.APPLIED: "0123"}, False),
        ("Running", {}, False),
    ],
)
def test_half_born(status: str, config: dict[str, str], expected: bool) -> None:
    assert half_born({"status": status, "config": config}) is expected


def delete(reason: str, config: dict[str, str]) -> Mock:
    """Carry out a deletion that was planned for another state of the instance."""
    there: dict[str, Any] = {"name": "alice-container", "status": "Stopped", "config": config}
    incus = Mock(spec=Incus)
    incus.get_versioned.return_value = Versioned(there | {"config": {marks.ENVIRONMENT: "alice", **config}}, "etag")
    incus.get.return_value = {}
    action = DeleteInstance(environment="alice", instance="alice-container", reason=reason)
    Instances(incus, Mock(), HostSettings(incus_dir=Path("/nonexistent"))).delete(action)
    return incus


def test_a_creation_that_came_to_its_end_meanwhile_is_not_deleted() -> None:
    assert not delete("half-born", {"volatile.apply_template": "create"}).delete.called
    assert not delete("half-born", {"volatile.last_state.power": "STOPPED"}).delete.called
    assert delete("half-born", {}).delete.called


def test_what_came_back_meanwhile_is_not_pruned() -> None:
    with pytest.raises(RetryableError, match="not retired any more"):
        delete("grace period over", {marks.APPLIED: "0123"})
    assert delete("grace period over", {marks.APPLIED: "retired", marks.RETIRED: "2026-01-01"}).delete.called


def test_addresses_that_others_can_reach() -> None:
    def state(name: str, family: str, scope: str) -> dict[str, object]:
        return {"network": {name: {"addresses": [{"family": family, "scope": scope}]}}}

    assert has_address(state("eth0", "inet", "global"))
    assert not has_address(state("eth0", "inet6", "link"))
    assert not has_address(state("lo", "inet", "global"))
    assert not has_address({"network": None})


def test_leases() -> None:
    text = (
        "1795316582 10:66:6a:20:00:f5 192.0.2.100 alice-container ff:6a\n"
        "1795316582 10:66:6a:20:00:f6 192.0.2.101 * 01:10\n"
        "1795316582 2 fd42::1 alice-container 00:01\n"
        "duid 00:01:00\nnonsense\n"
    )
    assert dict(parse_leases(text)) == {"192.0.2.100": "alice-container", "192.0.2.101": ""}
    known = {"10:66:6a:20:00:f5": "mallory-container", "10:66:6a:20:00:f6": "bob-container"}
    assert dict(parse_leases(text, known)) == {"192.0.2.100": "mallory-container", "192.0.2.101": "bob-container"}


def test_a_lease_is_its_whose_hardware_address_has_it(tmp_path: Path) -> None:
    settings = HostSettings(incus_dir=tmp_path)
    folder = tmp_path / "networks" / settings.bridge
    folder.mkdir(parents=True)
    (folder / "dnsmasq.leases").write_text(
        "1795316582 10:66:6a:20:00:f5 192.0.2.100 * ff:6a\n1795316582 10:66:6A:20:00:F6 192.0.2.101 eve-container ff\n"
    )
    instances = {
        name: Instance(name, InstanceStatus.RUNNING, config, devices)
        for name, config, devices in (
            ("olga-container", {"volatile.eth0.hwaddr": "10:66:6a:20:00:f5"}, {}),
            ("pete-container", {}, {"nic": {"type": "nic", "hwaddr": "10:66:6a:20:00:f6"}}),
        )
    }
    found = read_leases(Incus(settings), settings, IPv4Interface("192.0.2.1/24"), instances)
    assert found == {
        "192.0.2.1": f"{settings.bridge}.gw",
        "192.0.2.100": "olga-container",
        "192.0.2.101": "pete-container",
    }


def test_reservations() -> None:
    assert dict(parse_reservation("10:66:6a:20:00:f5,192.0.2.100,alice-container\n")) == {
        "192.0.2.100": "alice-container"
    }
    assert dict(parse_reservation("10:66:6a:93:47:15,b0-container\n")) == {}
    assert dict(parse_reservation("10:66:6a:93:47:15,192.0.2.3,[fd42::1],c\n")) == {"192.0.2.3": "c"}


def test_a_volume_that_a_killed_incus_never_unpacked_is_forgotten() -> None:
    """It says that the image's volume is there, and cannot make it for that reason."""
    fingerprint = "10b4" * 16
    error = RetryableError(
        f'Failed creating instance from image: Error inserting volume "{fingerprint}" for project "default" in pool '
        '"default" of type "images" into database "UNIQUE constraint failed: index \'storage_volumes_unique\'"',
        remedy="look again",
        reason="Conflict",
    )
    incus = Mock(spec=Incus)
    incus.exists.return_value = False
    instances = Instances(incus, Mock(), HostSettings(incus_dir=Path("/nonexistent")))
    instances.idmaps = Mock()
    instances.idmaps.begin.side_effect = [error, {"id": "1"}]
    instances.idmaps.shared_with.return_value = ""
    root = {"type": "disk", "path": "/", "pool": "fast"}
    create = CreateInstance(
        environment="alice", instance="alice-container", image="x", config={}, devices={"root": root}
    )
    instances.create(create, {"type": "image", "fingerprint": fingerprint})
    incus.delete.assert_called_once_with("storage-pools", "fast", "volumes", "image", fingerprint)
    assert instances.idmaps.begin.call_count == 2
