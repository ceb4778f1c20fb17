"""A limit on processors that Incus has written down and not handed out."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from containarium.host.incus import Incus
from containarium.host.processors import Processors
from containarium.host.settings import HostSettings
from containarium.model.host import RetryableError

FIRST = min(os.sched_getaffinity(0))


class Forgetful(Incus):
    """An Incus that hands processors out only at the n-th change."""

    def __init__(self, cgroups: Path, heeds: int) -> None:
        super().__init__(HostSettings())
        self.file = cgroups / "cpuset" / "lxc.payload.a" / "cpuset.cpus"
        self.file.parent.mkdir(parents=True)
        self.file.write_text("4090-4095\n")
        self.heeds = heeds
        self.asked: list[str] = []

    def patch(self, *path: str, body: Any, etag: str = "", timeout: float | None = None) -> None:
        self.asked.append(body["config"]["limits.cpu"])
        if len(self.asked) >= self.heeds:
            self.file.write_text(f"{FIRST}\n")


def test_a_limit_that_is_in_force_is_left_alone(tmp_path: Path) -> None:
    incus = Forgetful(tmp_path, 0)
    incus.file.write_text(f"{FIRST}\n")
    Processors(incus, tmp_path).settle("a", "1")
    Processors(incus, tmp_path).settle("a", f"{FIRST}-{FIRST}")
    assert incus.asked == []


def test_a_limit_that_got_lost_is_set_anew(tmp_path: Path) -> None:
    incus = Forgetful(tmp_path, 2)
    Processors(incus, tmp_path, sleep=lambda _seconds: None).settle("a", "1")
    assert incus.asked == ["", "1"]


def test_one_that_never_comes_is_an_error(tmp_path: Path) -> None:
    incus = Forgetful(tmp_path, 99)
    with pytest.raises(RetryableError) as caught:
        Processors(incus, tmp_path, sleep=lambda _seconds: None).settle("a", "1")
    assert caught.value.reason == "LimitNotInForce"


@pytest.mark.parametrize("limit", ["", "4000-4001"])
def test_where_nothing_can_be_told_nothing_is_claimed(tmp_path: Path, limit: str) -> None:
    incus = Forgetful(tmp_path, 99)
    Processors(incus, tmp_path).settle("a", limit)
    Processors(incus, tmp_path / "elsewhere").settle("a", "1")
    assert incus.asked == []
