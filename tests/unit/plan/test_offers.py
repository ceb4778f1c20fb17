"""Who is given an environment by the host that has it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from containarium.model import marks
from containarium.model.fleet import Box, Peer, Presence
from containarium.plan.offers import why_not
from tests.builders import manifest
from tests.fleet import Fleet

BOX = "alice-container"


@pytest.fixture
def fleet() -> Fleet:
    """Three hosts, and alice on the first."""
    made = Fleet("jump-1", "jump-2", "jump-3")
    made.declare(manifest("alice", placement={"host": "jump-1"}))
    made.settle()
    return made


def asked(fleet: Fleet, caller: str, peers: dict[str, Box] | None = None, **spec: Any) -> str:
    """What jump-1 answers when its own manifest says this, and the others that."""
    told = {host: Peer(host, {"alice": box}) for host, box in (peers or {}).items()}
    observed = replace(fleet.world("jump-1").snapshot(), peers=told)
    return why_not(fleet.manifests(manifest("alice", **spec)), observed, "alice", caller)


@pytest.mark.parametrize("mark", ["", marks.LEAVING, marks.MOVED])
def test_only_who_is_named_is_given_anything(fleet: Fleet, mark: str) -> None:
    if mark:
        fleet.world("jump-1").change_config(BOX, {mark: "jump-2"})
    assert asked(fleet, "jump-3") == "alice is not placed on jump-3"
    assert asked(fleet, "jump-3", placement={"host": "jump-2"}) == "alice is not placed on jump-3"
    assert asked(fleet, "jump-3", placement={"host": "jump-3"}) == ""


@pytest.mark.parametrize(
    ("box", "why"),
    [
        (Box("alice", Presence.ARRIVING, other="jump-1"), "jump-2 still has a part of alice, which it was fetching"),
        (Box("alice", Presence.HERE), "jump-2 has alice"),
        (Box("alice", Presence.RETIRED), "jump-2 has alice"),
        (Box("alice", Presence.MOVED, other="jump-1"), ""),
    ],
)
def test_a_third_host_waits_until_the_second_has_nothing(fleet: Fleet, box: Box, why: str) -> None:
    fleet.world("jump-1").change_config(BOX, {marks.LEAVING: "jump-2"})
    assert asked(fleet, "jump-3", {"jump-2": box}, placement={"host": "jump-3"}) == why
    assert asked(fleet, "jump-2", {"jump-2": box}, placement={"host": "jump-2"}) == "", "its own part is no reason"
