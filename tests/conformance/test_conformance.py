"""Each case is played on every stage, and all of them must have seen and refused the same."""

from __future__ import annotations

from itertools import zip_longest

import pytest

from tests.conformance.cases import CASES
from tests.conformance.stage import Stage


def _play(number: int, stages: tuple[Stage, ...]) -> None:
    """Play a case on every stage, also where it fails on an earlier one: so they stay in step."""
    stage, *others = stages
    stage.begin(number)
    try:
        CASES[number](stage)
    finally:
        stage.clear()
        if others:
            _play(number, tuple(others))


@pytest.mark.parametrize("number", range(len(CASES)), ids=[case.__name__ for case in CASES])
def test_conformance(number: int, stages: tuple[Stage, ...]) -> None:
    _play(number, stages)
    for others in stages[1:]:
        for expected, seen in zip_longest(stages[0].diary, others.diary):
            assert seen == expected
