"""From a manifest to a login that works, and the same container made with ``incus launch`` alone."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from statistics import median
from typing import Any

from tests.bench.ansible import Ansible
from tests.bench.figures import Section, against, moments, over
from tests.bench.place import LabPlace, Place, lab_place
from tests.bench.site import load
from tests.bench.stages import extra, longest, medians, stages

RUNS = 12
ANSIBLE_RUNS = 3
AIM = 1.3
AIM_SECONDS = 5.0
_BOX = "bench-raw-000"


def measure() -> Section:
    """On a disposable host."""
    with lab_place("bench-create", "--debug") as place:
        return section(place, RUNS, Ansible.ensure(), ANSIBLE_RUNS)


def section(place: Place, runs: int, ansible: Ansible | None = None, ansible_runs: int = 0) -> Section:
    """Both in turn, so many times each; Ansible afterwards. Takes everything away again, but not the baked image."""
    # The first one bakes, if need be, and is not counted.
    place.do("ours", "bench-warm", place.image)
    template = place.do("template", "bench-warm")
    place.do("purge")
    before = load()
    ours: list[dict[str, Any]] = []
    raw: list[float] = []

    def declared() -> None:
        ours.append(place.do("ours", f"bench-{len(ours):03}", place.image))

    def launched() -> None:
        raw.append(place.do("by-hand", _BOX, json.dumps(template), place.do("address"))["greets"])

    for turn in range(runs):
        works: tuple[Callable[[], None], ...] = (declared, launched)
        for work in works if turn % 2 == 0 else works[::-1]:
            work()
            place.do("purge")
    others = [_with_ansible(place, ansible, template) for _ in range(ansible_runs)] if ansible else []
    return _section(place, ours, raw, others, ansible, before)


def _with_ansible(place: Place, ansible: Ansible, template: dict[str, Any]) -> float:
    """Seconds until a container greets that Ansible made."""
    address = place.do("address")
    body = place.do("placed", json.dumps(template), address)
    with ThreadPoolExecutor(1) as pool:
        greeting = pool.submit(place.do, "greets", address, 120)
        start = time.time()
        ansible.create(place.socket, _BOX, template["fingerprint"], body)
        greets: float = greeting.result()
    place.do("purge")
    return greets - start


def _section(
    place: Place,
    ours: list[dict[str, Any]],
    raw: list[float],
    others: list[float],
    ansible: Ansible | None,
    before: float,
) -> Section:
    logins = [found["login"] for found in ours]
    ratio = over(logins, raw)
    taken = medians([stage for found in ours if (stage := stages(found))])
    rows = [
        ("by hand: `incus launch` until port 22 greets", f"{len(raw)}", moments(raw), "1.00"),
        ("manifest written until a login works", f"{len(ours)}", moments(logins), f"{ratio:.2f}"),
        *(
            (f"... {words}", f"{len(ours)}", moments(samples), f"{over(samples, raw):.2f}")
            for words, samples in (
                ("until the account has its keys", [found["door"] for found in ours]),
                ("until port 22 of the container greets", [found["greets"] for found in ours]),
                ("of it the login itself: ssh through the jump account, and back", [_login(found) for found in ours]),
            )
        ),
    ]
    if others and ansible:
        name = f"{ansible.name}, until port 22 greets"
        rows.append((name, f"{len(others)}", moments(others), f"{median(others) / median(raw):.2f}"))
    rows += [(f"stage: {name}", f"{len(ours)}", f"{seconds:.2f}", "") for name, seconds in taken.items()]
    where = "a disposable host" if isinstance(place, LabPlace) else "this host"
    return Section(
        "From a manifest to a login",
        f"One environment on {where} on which the controller runs, its recipe baked: from the rename of the manifest "
        "into the folder until `ssh` with the person's key has run a command in the container, through the jump "
        f"account on the host's sshd. Aims: at most {AIM} x `incus launch` of the same baked image with the same "
        f"limits and devices until its port 22 greets, and at most {AIM_SECONDS:.0f} s.",
        ("what", "N", "s: median (min to max)", "x by hand"),
        tuple(rows),
        (
            against("Against incus launch", ratio, AIM),
            against("For the median", median(logins), AIM_SECONDS, " s"),
            *_needed(ratio, logins, raw, taken),
            f"In turn, the first of each pair changing; ratios are medians of pairs. Load when it began: {before:.1f}.",
            (
                "A login is tried as soon as one can work, when the account has its keys and the port greets, and "
                f"again until it does: {max(found['tries'] for found in ours)} at most were needed."
            ),
        ),
    )


def _needed(ratio: float, logins: list[float], raw: list[float], taken: dict[str, float]) -> list[str]:
    """Where the time goes, and what would have to go for the aim to be met."""
    if not taken:
        return ["The stages are not told: the controller's log is not at level debug (CONTAINARIUM_OPTIONS=--debug)."]
    own = extra(taken)
    told = [
        f"The longest stages: {longest(taken)}. Not in `incus launch` are {sum(own.values()):.2f} s: {longest(own)}."
    ]
    if ratio > AIM:
        allowed = AIM * median(raw)
        told.append(
            f"For the aim {median(logins) - allowed:.2f} s of {median(logins):.2f} s would have to go. "
            f"Without any of the steps that `incus launch` does not have it would be "
            f"{(median(logins) - sum(own.values())) / median(raw):.2f} x."
        )
    return told


def _login(found: dict[str, Any]) -> float:
    seconds: float = found["login"] - found["begins"]
    return seconds
