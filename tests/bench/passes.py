"""No-op passes of the daemon's own controller over real environments, against one bare request, and against Ansible."""

from __future__ import annotations

from statistics import median
from typing import Any

from tests.bench.ansible import Ansible
from tests.bench.chart import Chart, Line
from tests.bench.figures import Section, against, over, spread
from tests.bench.onhost.passes import GET, PASS, TOLD
from tests.bench.place import Place, lab_place
from tests.bench.site import load
from tests.lab.command import LabError

SIZES = (25, 50, 100, 200)
RUNNING = 4
RUNS = 40
AIM = 1.3
AIM_ANSIBLE = 1000.0
FEW = 20
"""Containers over which the quickest way of running Ansible is found."""
FORKS = (1, 2, 4, 8)


def measure() -> Section:
    """On a disposable host. No service runs meanwhile: the controller is in the process that measures."""
    with lab_place("bench-passes", served=False) as place:
        found: dict[int, dict[str, Any]] = {}
        before = load()
        for size in SIZES:
            place.do("declare", size, RUNNING, place.image)
            place.site.host.run(["containarium", "apply"], timeout=1800)
            found[size] = place.do("passes", RUNS)
            _refuse_work(found[size])
        peer = _peer(place, Ansible.ensure())
    return section(found, before, peer)


def here(place: Place, count: int, runs: int = RUNS) -> Section:
    """Beside what is on this host already: so many more, which do not run."""
    before = load()
    place.do("declare", count, 0, place.image)
    place.do("settled", count, timeout=1800)
    found = place.do("passes", runs)
    return section({found["instances"]: found}, before, None)


def _refuse_work(found: dict[str, Any]) -> None:
    if found["pending"]:
        raise LabError(f"there was something to do for {', '.join(found['pending'])}: that is no no-op")


def _peer(place: Place, ansible: Ansible) -> dict[str, Any]:
    """Ansible over few in several ways, and over all in the best of them; seconds."""
    boxes = place.do("boxes")
    few = {forks: ansible.noop(place.socket, boxes[:FEW], forks) for forks in FORKS}
    best = min(few, key=lambda forks: few[forks])
    return {"few": few, "best": best, "all": ansible.noop(place.socket, boxes, best), "name": ansible.name}


def section(found: dict[int, dict[str, Any]], before: float, peer: dict[str, Any] | None) -> Section:
    """What the page says of it; ``found`` by size."""
    size = max(found)
    samples: dict[str, list[float]] = found[size]["samples"]
    get = samples[GET]
    ratio = over(samples[PASS], get)
    rows: list[tuple[str, ...]] = [
        (name, f"{len(times)}", spread(times), f"{over(times, get):.2f}") for name, times in samples.items()
    ]
    rows += [
        (f"pass over {few}", f"{len(there['samples'][PASS])}", spread(there["samples"][PASS]),
         f"{over(there['samples'][PASS], there['samples'][GET]):.2f} (of {few})")
        for few, there in found.items() if few != size
    ]  # fmt: skip
    notes = [
        against("Against one bare GET", ratio, AIM),
        *_where(samples, ratio),
        f"In turn, the first turn not counted; ratios are medians of pairs. Load when it began: {before:.1f}.",
        f"Incus' answer about {size} has {found[size]['bytes']:,} bytes.",
    ]
    if peer:
        rows += _ansible_rows(peer, size, get)
        times = peer["all"] / median(samples[PASS])
        word = "met" if times >= AIM_ANSIBLE else f"missed by {100 * (1 - times / AIM_ANSIBLE):.0f} %"
        notes.append(
            f"Against Ansible over the same {size}: {times:,.0f} x faster; the aim of {AIM_ANSIBLE:,.0f} x is {word}. "
            f"Its way of running, {peer['best']} at a time, is the quickest of {', '.join(map(str, peer['few']))}, "
            f"found over {FEW}; per container it takes {peer['all'] / size:.2f} s."
        )
    return Section(
        f"A no-op pass over {size} environments in a warm daemon",
        "The controller as the service puts it together, in one process that has made passes before: manifests read, "
        "host looked at, decided, nothing found to do. A bare GET is one `GET /1.0/instances?recursion=1` on a new "
        f"connection, its JSON decoded. Aims: at most {AIM} x that, and {AIM_ANSIBLE:,.0f} x faster than Ansible.",
        ("what", "N", "ms: median (min to max)", "x bare GET"),
        tuple(rows),
        tuple(notes),
        _charts(found) if len(found) > 1 else (),
    )


def _where(samples: dict[str, list[float]], ratio: float) -> list[str]:
    """Where a pass spends its time, and what would have to go."""
    parts = {name.removeprefix("part: "): median(times) for name, times in samples.items() if name.startswith("part: ")}
    whole, get = median(samples[PASS]), median(samples[GET])
    look = parts.pop("the whole look")
    own = {name: parts[name] for name in ("manifests, read and remembered", "deciding")}
    rest = whole - look - sum(own.values())
    told = [
        f"Of {1000 * whole:.1f} ms the look takes {_share(look, whole)}, "
        + ", ".join(f"{name} {_share(seconds, whole)}" for name, seconds in own.items())
        + f", the rest {_share(max(0.0, rest), whole)}. Incus itself takes "
        f"{_share(parts['the request alone, not decoded'], whole)}: that is the physical limit."
    ]
    if ratio > AIM:
        beyond = {"the look": look - get, **own, "the rest": max(0.0, rest)}
        shown = ", ".join(f"{name} {1000 * seconds:.1f} ms" for name, seconds in beyond.items())
        told.append(
            f"For the aim {1000 * (whole - AIM * get):.1f} ms would have to go. Beyond the bare GET are "
            f"{1000 * (whole - get):.1f} ms: {shown}."
        )
    return told


def _share(seconds: float, whole: float) -> str:
    return f"{1000 * seconds:.1f} ms ({100 * seconds / whole:.0f} %)"


def _ansible_rows(peer: dict[str, Any], size: int, get: list[float]) -> list[tuple[str, ...]]:
    few = [(f"{peer['name']}, {FEW} of them, {forks} at a time", peer["few"][forks]) for forks in peer["few"]]
    whole = (f"{peer['name']}, all {size}, {peer['best']} at a time", peer["all"])
    return [(name, "1", f"{1000 * seconds:,.0f}", f"{seconds / median(get):,.0f}") for name, seconds in (*few, whole)]


def _charts(found: dict[int, dict[str, Any]]) -> tuple[Chart, ...]:
    lines = tuple(
        Line(name, tuple((float(size), 1000 * median(there["samples"][what])) for size, there in found.items()))
        for name, what in (("pass", PASS), ("pass, and told", TOLD), ("bare GET", GET))
    )
    return (Chart("passes", "A no-op pass on real Incus", "environments", "ms, median", lines),)
