"""What an environment uses now, as Incus tells it."""

from __future__ import annotations

from typing import Any

import pytest

from containarium.host.figures import TIMEOUT, Figures, figures
from containarium.host.settings import HostSettings


class Answers:
    """An Incus that knows one state."""

    def __init__(self, state: Any) -> None:
        self.state = state
        self.asked: list[tuple[tuple[str, ...], float]] = []

    def get(self, *path: str, timeout: float) -> Any:
        """The state, whatever is asked for."""
        self.asked.append((path, timeout))
        return self.state


RUNNING = {
    "status": "Running",
    "cpu": {"usage": 90_500_000_000},
    "memory": {"usage": 300 << 20, "total": 512 << 20},
    "disk": {"root": {"usage": 3 << 30, "total": 0}},
    "processes": 17,
}


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        (RUNNING, Figures(memory=300 << 20, disk=3 << 30, cpu=90.5, processes=17)),
        (RUNNING | {"disk": {}}, Figures(memory=300 << 20, cpu=90.5, processes=17)),
        ({"cpu": {"usage": -1}, "memory": {"usage": 0}, "disk": None, "processes": -1}, Figures()),
        ({"cpu": "much", "memory": {"usage": True}, "disk": {"root": []}}, Figures()),
        (None, Figures()),
    ],
)
def test_what_is_known_is_told(state: Any, expected: Figures) -> None:
    incus = Answers(state)
    assert figures(HostSettings(), "alice-container", incus) == expected  # type: ignore[arg-type]
    assert incus.asked == [(("instances", "alice-container", "state"), TIMEOUT)]
