"""What the page says of samples: verdicts where an aim is met and where it is missed, and what would have to go."""

from __future__ import annotations

from typing import Any

import pytest

from tests.bench import create, disk, fleet, passes, simulated
from tests.bench.onhost.passes import GET, PASS, TOLD
from tests.lab.command import LabError

LOG = [
    {"event": "action", "action": "CreateInstance", "at": 0.5},
    {"event": "action", "action": "StartInstance", "at": 1.0},
    {"event": "action", "action": "SetUpUser", "at": 2.0},
    {"event": "done", "action": "", "at": 2.5},
]


class Said:
    """A place that answers what it is told to, and notes what it was asked."""

    image = "guest"
    socket = "/nowhere"

    def __init__(self, **answers: Any) -> None:
        self._answers = answers
        self.asked: list[str] = []

    def do(self, what: str, *args: object, timeout: float = 0) -> Any:
        self.asked.append(what)
        return self._answers.get(what.replace("-", "_"))


def created(login: float, raw: float, log: list[dict[str, Any]]) -> Said:
    ours = {"door": 2.0, "greets": 2.2, "begins": 2.3, "login": login, "tries": 1, "address": "10.0.3.2", "log": log}
    return Said(ours=ours, by_hand={"greets": raw}, template={"fingerprint": "f"}, address="10.0.3.254")


def test_a_creation_that_meets_its_aims() -> None:
    place = created(2.6, 2.5, LOG)
    notes = create.section(place, 3).notes
    assert "Against incus launch, the aim of at most 1.3 x is met: 1.04 x" in notes[0]
    assert "For the median, the aim of at most 5 s is met: 2.60 s" in notes[1]
    assert not any("would have to go" in note for note in notes)


def test_a_creation_that_misses_its_aim_says_what_would_have_to_go() -> None:
    section = create.section(created(4.0, 2.0, LOG), 2)
    assert "missed by 54 %" in section.notes[0]
    assert any("1.40 s of 4.00 s would have to go" in note for note in section.notes)
    # Noticing takes 0.5 s, and so does SetUpUser; by hand there is neither.
    assert any("it would be 1.50 x" in note for note in section.notes)
    assert ("stage: SetUpUser", "2", "0.50", "") in section.rows


def test_without_a_debug_log_the_stages_are_not_made_up() -> None:
    section = create.section(created(2.6, 2.5, []), 2)
    assert not any(row[0].startswith("stage") for row in section.rows)
    assert any("--debug" in note for note in section.notes)


def test_ours_and_by_hand_take_turns_and_so_does_who_begins() -> None:
    place = created(2.6, 2.5, LOG)
    create.section(place, 2)
    turns = [what for what in place.asked if what in ("ours", "by-hand")]
    assert turns == ["ours", "ours", "by-hand", "by-hand", "ours"]  # the first bakes and does not count
    assert place.asked.count("purge") == 5
    assert place.asked[-1] == "purge"


@pytest.mark.parametrize(("whole", "words"), [(11.0, "is met: 1.10 x"), (20.0, "missed by 60 %: 2.00 x")])
def test_a_fleet_is_judged_by_its_last(whole: float, words: str) -> None:
    ours = [{"able": [1.0, 3.0, whole], "logins": 5, "logs": [LOG]}] * 3
    section = fleet._section(ours, [[1.0, 2.0, 10.0]] * 3, {2: [5.0, 6.0], 4: [4.0, 7.0]}, 4, 0.1)
    assert words in section.notes[0]
    assert any("15 logins" in note for note in section.notes)
    assert any("would have to go" in note for note in section.notes) is (whole > 12.5)
    assert section.charts[0].lines[0].points[-1] == (whole, 3.0)


@pytest.mark.parametrize(("own", "words"), [(15_000_000, "is met"), (40_000_000, "is missed")])
def test_disk_is_judged_against_the_recipe_and_an_amount_each(own: int, words: str) -> None:
    place = Said(metadata=9, disk={"image": 200_000_000, "own": [own] * 50, "grown": [["/var/log/x", 8_000_000]]})
    section = disk.section(place, 50, rest=0)
    assert words in section.notes[0]
    assert "/var/log/x 8.0 MB" in section.notes[1]
    assert section.rows[-1][-1] == "1260.0"


def passed(size: int, whole: float) -> dict[str, Any]:
    parts = {
        "part: the request alone, not decoded": 0.030, "part: the whole look": 0.035, "part: deciding": 0.004,
        "part: manifests, read and remembered": 0.002,
    }  # fmt: skip
    samples = {GET: 0.033, PASS: whole, TOLD: whole + 0.005, **parts}
    return {"samples": {name: [time] * 3 for name, time in samples.items()}, "instances": size, "bytes": 1000}


def test_passes_are_judged_by_the_largest_size_and_against_ansible() -> None:
    peer = {"few": {1: 9.0, 4: 5.0}, "best": 4, "all": 60.0, "name": "Ansible"}
    section = passes.section({25: passed(25, 0.010), 200: passed(200, 0.040)}, 0.1, peer)
    assert "is met: 1.21 x" in section.notes[0]
    assert any("1,500 x faster" in note and "is met" in note for note in section.notes)
    assert len(section.charts) == 1
    slow = passes.section({200: passed(200, 0.080)}, 0.1, peer)
    assert "missed" in slow.notes[0]
    assert any("37.1 ms would have to go" in note for note in slow.notes)
    assert any("missed by 25 %" in note for note in slow.notes)
    assert not slow.charts


def test_a_pass_with_something_to_do_is_no_sample() -> None:
    with pytest.raises(LabError, match="alice"):
        passes._refuse_work({"pending": ["alice"]})


def test_simulated_passes_are_judged_by_time_and_memory() -> None:
    memory = {"modules": 35.0, "the passes, at most": 5.0}
    found = {
        1_000: {"samples": [0.05] * 3, "peak": 50.0, "memory": memory},
        10_000: {"samples": [0.5] * 3, "peak": 165.0, "memory": memory},
    }
    section = simulated.section(found, 190.0)
    assert "For the time, the aim of at most 1 s is met: 0.50 s" in section.notes[1]
    assert "For the memory, the aim of at most 150 MB is missed by 10 %: 165.00 MB" in section.notes[2]
    assert section.notes[-1].startswith("Per environment, 10,000 cost 1.00 x")
