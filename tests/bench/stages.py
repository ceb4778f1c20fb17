"""What of a creation took how long, told from the controller's log."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

NOTICED = "until the first action: noticed, read, looked, decided"
HOST = ("CreateInstance", "StartInstance", "AwaitLogin")
"""Actions that whoever makes a container by hand goes through as well."""


def stages(found: Mapping[str, Any]) -> dict[str, float]:
    """Seconds of each stage of one creation, in order: of the log's lines, and of the login that followed.

    An action lasts until the next begins. Empty where the log has no actions (it is not at level debug).
    """
    lines = [line for line in found["log"] if line["event"] == "action"]
    ends = [line["at"] for line in found["log"] if line["event"] == "done"]
    if not lines or not ends:
        return {}
    taken: dict[str, float] = {NOTICED: lines[0]["at"]}
    for line, end in zip(lines, [*(line["at"] for line in lines[1:]), ends[0]], strict=True):
        name, number = line["action"], 2
        while name in taken:
            name, number = f"{line['action']} ({number})", number + 1
        taken[name] = end - line["at"]
    return taken


def medians(all_stages: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The median of each stage that all have, in the order of the first."""
    if not all_stages:
        return {}
    return {
        name: median(stage[name] for stage in all_stages)
        for name in all_stages[0]
        if all(name in stage for stage in all_stages)
    }


def extra(taken: Mapping[str, float]) -> dict[str, float]:
    """The stages that making a container by hand does not have."""
    return {name: seconds for name, seconds in taken.items() if not name.startswith(HOST)}


def longest(taken: Mapping[str, float], count: int = 3) -> str:
    """The longest stages in words."""
    ordered = sorted(taken.items(), key=lambda pair: -pair[1])[:count]
    return ", ".join(f"{name} {seconds:.2f} s" for name, seconds in ordered)
