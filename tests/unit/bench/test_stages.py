"""Stages of a creation, told from the controller's log."""

from __future__ import annotations

import pytest

from tests.bench.stages import NOTICED, extra, longest, medians, stages


def line(event: str, at: float, action: str = "") -> dict[str, object]:
    return {"event": event, "action": action, "at": at}


LOG = [
    line("action", 0.5, "CreateInstance"),
    line("action", 1.0, "StartInstance"),
    line("action", 3.0, "SetUpUser"),
    line("action", 3.5, "UpdateInstance"),
    line("action", 3.75, "UpdateInstance"),
    line("done", 4.0),
]


def test_an_action_lasts_until_the_next_begins() -> None:
    taken = stages({"log": LOG})
    assert list(taken) == [
        NOTICED, "CreateInstance", "StartInstance", "SetUpUser", "UpdateInstance", "UpdateInstance (2)",
    ]  # fmt: skip
    assert taken == {
        NOTICED: 0.5, "CreateInstance": 0.5, "StartInstance": 2.0, "SetUpUser": 0.5, "UpdateInstance": 0.25,
        "UpdateInstance (2)": 0.25,
    }  # fmt: skip
    assert sum(taken.values()) == 4.0


@pytest.mark.parametrize("log", [[], LOG[:-1], [line("done", 4.0)]], ids=["nothing", "not done", "no actions"])
def test_half_a_log_tells_nothing(log: list[dict[str, object]]) -> None:
    assert stages({"log": log}) == {}


def test_medians_are_of_stages_that_all_have() -> None:
    assert medians([{"a": 1.0, "b": 9.0}, {"a": 3.0}, {"a": 2.0, "b": 1.0}]) == {"a": 2.0}
    assert medians([]) == {}


def test_what_a_container_by_hand_needs_too_is_nothing_extra() -> None:
    assert extra(stages({"log": LOG})) == {
        NOTICED: 0.5, "SetUpUser": 0.5, "UpdateInstance": 0.25, "UpdateInstance (2)": 0.25,
    }  # fmt: skip


def test_the_longest_come_first() -> None:
    assert longest({"a": 1.0, "b": 3.0, "c": 2.0}, 2) == "b 3.00 s, c 2.00 s"
