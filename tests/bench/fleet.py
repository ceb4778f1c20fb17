"""Fifty environments on an empty host until each of their people can log in, and the same fifty by raw Incus."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

from tests.bench.accounting import accounted, table
from tests.bench.chart import Chart, counted
from tests.bench.figures import Section, against, moments, over
from tests.bench.place import LabPlace, lab_place
from tests.bench.site import load
from tests.bench.stages import longest, medians, stages

COUNT = 50
ROUNDS = 2
AIM = 1.25
HANDS = (2, 3, 4, 6, 8, 12)
TRIED = 12
"""Containers with which the best parallelism is found."""
_TRIES = 2
PROGRAMS = 14
WHOLE, REST = "all", "the rest"


def measure() -> tuple[Section, ...]:
    """On a disposable host."""
    with lab_place("bench-fleet", "--debug") as place:
        place.do("ours", "bench-warm", place.image)
        template = json.dumps(place.do("template", "bench-warm"))
        place.do("purge")
        before = load()
        tried = _tries(place, template)
        best = min(tried, key=lambda hands: min(tried[hands]))
        ours: list[dict[str, Any]] = []
        raw: list[list[float]] = []
        for turn in range(ROUNDS):
            for declared in (False, True) if turn % 2 == 0 else (True, False):
                if declared:
                    ours.append(place.do("fleet", COUNT, place.image))
                    place.do("purge")
                else:
                    raw.append(_by_hand(place, COUNT, best, template))
        profile = _profile(place, template, best)
    return _section(ours, raw, tried, best, before), profile


def _profile(place: LabPlace, template: str, best: int) -> Section:
    """What the machine does for each of a few, by hand and declared: the processors are what there is too little of."""

    def spent(make: Callable[[], object]) -> dict[str, float]:
        began: dict[str, float] = place.do("servers")
        with TemporaryDirectory() as folder, accounted(Path(folder) / "acct") as found:
            make()
            ended: dict[str, float] = place.do("servers")
        place.do("purge")
        whole = {f"{name}, which goes on": ended[name] - began.get(name, 0.0) for name in ended}
        parts = whole | {name: found.ended[name] for name in found.ended}
        return parts | {WHOLE: found.whole, REST: found.whole - sum(parts.values())}

    by_hand = spent(lambda: place.do("fleet-by-hand", TRIED, best, template))
    declared = spent(lambda: place.do("fleet", TRIED, place.image, 0))
    return Section(
        "Where the processor time of a fleet goes",
        f"{TRIED} by hand, {best} at a time, and {TRIED} declared: processor seconds for each of them, by the kernel's "
        "accounting of processes that end (acct(2)) and by /proc for those that do not.",
        ("program", "by hand, s each", "declared, s each", "more"),
        tuple(table(by_hand, declared, TRIED, PROGRAMS)),
        (
            f"{REST}: what runs in the guests and does not end, and the kernel's own threads.",
            "ssh-keygen makes the guest's host keys at its first boot; how long a prime number takes to find is luck.",
        ),
    )


def _tries(place: LabPlace, template: str) -> dict[int, list[float]]:
    """Seconds until the last of a few greets, by how many are made at the same time."""
    tried: dict[int, list[float]] = {hands: [] for hands in HANDS}
    for _ in range(_TRIES):
        for hands, samples in tried.items():
            samples.append(max(_by_hand(place, TRIED, hands, template)))
    return tried


def _by_hand(place: LabPlace, count: int, hands: int, template: str) -> list[float]:
    found: list[float] = place.do("fleet-by-hand", count, hands, template)["able"]
    place.do("purge")
    return found


def _section(
    ours: list[dict[str, Any]], raw: list[list[float]], tried: dict[int, list[float]], best: int, before: float
) -> Section:
    whole, others = [max(found["able"]) for found in ours], [max(found) for found in raw]
    ratio = over(whole, others)
    pairs = sorted(range(len(ours)), key=lambda n: whole[n] / others[n])
    middle = pairs[len(pairs) // 2]
    rows = [
        (f"by hand, {best} at a time: all greet", f"{len(raw)}", moments(others), "1.00"),
        ("declared: all can log in", f"{len(ours)}", moments(whole), f"{ratio:.2f}"),
        *(
            (f"... {words}", f"{len(ours)}", moments([pick(f["able"]) for f in ours]),
             f"{over([pick(f['able']) for f in ours], [pick(found) for found in raw]):.2f}")
            for words, pick in (("the first", min), ("half of them", median))
        ),
        *(
            (f"by hand, {TRIED} of them, {hands} at a time", f"{len(samples)}", moments(samples), "")
            for hands, samples in tried.items()
        ),
    ]  # fmt: skip
    taken = medians([stage for found in ours for log in found["logs"] if (stage := stages({"log": log}))])
    notes = [
        against("Against raw Incus", ratio, AIM),
        f"Each has an account and a key of its own; {sum(f['logins'] for f in ours)} logins of a sample all worked.",
        f"Ratios are medians of pairs in turn, everything deleted between them. Load when it began: {before:.1f}.",
    ]
    if taken:
        notes.append(f"One among the {COUNT}, medians of {_sampled(ours)}: its longest stages are {longest(taken, 5)}.")
    if ratio > AIM:
        gone = median(whole) - AIM * median(others)
        notes.append(f"For the aim {gone:.1f} s of {median(whole):.1f} s would have to go.")
    chart = Chart(
        "fleet",
        f"How many of {COUNT} can be logged in to, over time",
        "seconds since the first manifest, or the first incus launch",
        "environments",
        (counted("Containarium", ours[middle]["able"]), counted("raw incus launch", raw[middle])),
    )
    return Section(
        f"{COUNT} environments from an empty host",
        f"{COUNT} manifests put into the folder of a running controller, their recipe baked, until every one has its "
        "account, its keys, and greets at port 22; and `incus launch` of as many from the same image with the same "
        f"limits and devices, as many at a time as was found best, until all greet. Aim: at most {AIM} x.",
        ("what", "N", "s: median (min to max)", "x by hand"),
        tuple(rows),
        tuple(notes),
        (chart,),
    )


def _sampled(ours: list[dict[str, Any]]) -> int:
    return sum(len(found["logs"]) for found in ours)
