"""What the bench does on a host: what it takes for its own, and what it makes of a container to make another."""

from __future__ import annotations

from typing import Any

import pytest

from containarium.model import marks
from tests.bench.onhost import clearing, create, fleet, people


def instance(environment: str = "", **config: str) -> dict[str, Any]:
    return {"config": config | ({clearing.ENVIRONMENT: environment} if environment else {})}


@pytest.mark.parametrize(
    ("name", "there", "own"),
    [
        ("bench-001-container", instance("bench-001"), True),
        ("bench-raw-000", instance(**{clearing.MARK: "true"}), True),
        ("alice-container", instance("alice"), False),
        ("bench-002-container", instance("bench-002"), False),  # somebody else's manifest
        ("bench-001-container", instance(), False),
        ("bench-raw-000", instance(), False),  # somebody's own, who likes the name
        ("bench-raw-000", instance("alice", **{clearing.MARK: "true"}), False),
        ("web", instance(**{clearing.MARK: "true"}), False),
        ("alice-container", instance("bench-001"), False),
    ],
)
def test_no_container_but_what_the_bench_made_is_taken_away(name: str, there: dict[str, Any], *, own: bool) -> None:
    assert clearing.own_boxes({name: there}, ["bench-001"]) == ([name] if own else [])


def test_no_account_but_those_of_its_own_environments_is_taken_away() -> None:
    passwd = (
        "root:x:0:0:root:/root:/bin/bash\n"
        f"bench-001:x:1001:999:{marks.account_comment('bench-001')}:/nonexistent:/usr/sbin/nologin\n"
        f"bench-002:x:1002:999:{marks.account_comment('bench-002')}:/nonexistent:/usr/sbin/nologin\n"
        "bench-003:x:1003:1003:A person:/home/bench-003:/bin/bash\n"
    )
    assert clearing.own_accounts(passwd, ["bench-001", "bench-003"]) == ["bench-001"]


def test_a_container_by_hand_has_the_same_devices_at_another_address() -> None:
    template: dict[str, Any] = {
        "fingerprint": "f",
        "config": {"limits.cpu": "1"},
        "devices": {"root": {"size": "2GiB"}, "eth0": {"network": "incusbr0", "ipv4.address": "10.0.3.2"}},
    }
    placed = create.placed(template, "10.0.3.254")
    assert placed["config"] == {"limits.cpu": "1", clearing.MARK: "true"}
    assert placed["devices"]["root"] == {"size": "2GiB"}
    assert placed["devices"]["eth0"] == {
        "network": "incusbr0", "ipv4.address": "10.0.3.254", "hwaddr": "00:16:3e:00:03:fe",
    }  # fmt: skip
    assert template["devices"]["eth0"]["ipv4.address"] == "10.0.3.2"


def test_names_are_those_of_the_bench_and_none_is_a_container_by_hand() -> None:
    names = people.names(50)
    assert len(set(names)) == 50
    assert all(name.startswith(people.PREFIX) and not name.startswith(people.RAW) for name in names)


def test_metadata_in_use_is_told_from_what_btrfs_says() -> None:
    said = (
        "Data, single: total=5000, used=4000\nSystem, DUP: total=10, used=1\n"
        "Metadata, DUP: total=700, used=600\nGlobalReserve, single: total=9, used=0\n"
    )
    assert fleet.metadata_used(said) == 600
