"""The controller at work on real Incus with 200 environments: how quickly it heeds an edit and repairs drift."""

from __future__ import annotations

from contextlib import contextmanager

from tests.bench import idle
from tests.bench.figures import Section, percentile, quantiles
from tests.bench.site import BenchSite, calm, lab_host

ENVIRONMENTS = 200
RUNNING = 4
EDITS = 100
DRIFTS = 60
AIMS = {"edit: first action begun": 0.5, "drift of a limit: repaired": 1.0, "drift of an account: repaired": 1.0}
NAMES = ("user000", "user100", "user001", "user150", "user002", "user199", "user003", "user050")
"""Who is edited and meddled with in turn: half of them run."""


def measure() -> tuple[Section, Section]:
    """Reactions, then rest, on one host."""
    with contextmanager(lab_host)("bench-living") as host:
        site = BenchSite(host)
        site.declare(ENVIRONMENTS, RUNNING)
        site.serve("--debug")
        site.wait_settled(ENVIRONMENTS)
        # As after a boot, not as after 200 creations.
        site.serve("--debug")
        site.wait_settled(ENVIRONMENTS)
        before = calm()
        found: dict[str, list[float]] = site.inside("inside_living", "edits", str(EDITS), *NAMES, timeout=1800)
        found |= site.inside("inside_living", "drift", str(DRIFTS), *NAMES, timeout=1800)
        site.wait_settled(ENVIRONMENTS)
        changed = idle.rest(site)
        resting = idle.section(site, ENVIRONMENTS, RUNNING, changed)
    return _section(found, before), resting


def _section(found: dict[str, list[float]], load: float) -> Section:
    rows = []
    for name, samples in found.items():
        aim = AIMS.get(name)
        p99 = percentile(samples, 99)
        verdict = "" if aim is None else "met" if p99 <= aim else f"missed by {100 * (p99 / aim - 1):.0f} %"
        rows.append((name, f"{len(samples)}", *quantiles(samples), f"{1000 * aim:.0f}" if aim else "none", verdict))
    return Section(
        f"Edits and drift with {ENVIRONMENTS} environments on real Incus",
        f"{ENVIRONMENTS} environments on a disposable host, {RUNNING} of them running; half of the samples are theirs. "
        "From the rename of a manifest into its place until the controller's log has the first action, and until Incus "
        "has the new limit; from the moment that a change by hand is there until it is undone.",
        ("what", "N", "ms: median", "p99", "most", "aim for p99, ms", ""),
        tuple(rows),
        (
            f"Load of the machine before: {load:.1f} on as many cores as the first line says.",
            "All times are of the host's one clock; what Incus holds is asked every 20 ms, passwd every 2 ms.",
        ),
    )
