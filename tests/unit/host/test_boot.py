"""The machine's age."""

from __future__ import annotations

import time
from pathlib import Path

from containarium.host.boot import seconds_since_boot


def test_it_is_the_age_of_process_1() -> None:
    age = seconds_since_boot()
    assert 0.0 < age <= time.clock_gettime(time.CLOCK_BOOTTIME)


def test_a_name_with_parentheses_does_not_matter(tmp_path: Path) -> None:
    (tmp_path / "1").mkdir()
    (tmp_path / "1" / "stat").write_text("1 (a ) b) S " + " ".join(["0"] * 18) + " 100 0 0\n")
    assert seconds_since_boot(tmp_path) > 0.0


def test_without_proc_there_is_none(tmp_path: Path) -> None:
    assert seconds_since_boot(tmp_path) == 0.0
