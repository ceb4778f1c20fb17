"""A pass over many simulated environments in which nothing changes."""

from __future__ import annotations

import subprocess
import sys
from statistics import median

from tests.bench.figures import Section, spread

SIZES = (1_250, 2_500, 5_000, 10_000)
RUNS = 7
_INSIDE = "--one"


def measure() -> Section:
    """Each size in a process of its own, so that memory is that size's own."""
    rows = []
    per_thousand = []
    for size in SIZES:
        done = subprocess.run(
            [sys.executable, "-m", "tests.bench.simulated", _INSIDE, str(size)],
            check=True,
            capture_output=True,
            text=True,
            timeout=600,
        )
        *samples, memory = (float(word) for word in done.stdout.split())
        per_thousand.append(1000 * median(samples) / (size / 1000))
        rows.append((f"{size:,}", spread(samples), f"{per_thousand[-1]:.1f}", f"{memory:.0f}"))
    growth = per_thousand[-1] / per_thousand[0]
    return Section(
        "A no-op pass over simulated environments",
        "One look, one plan, nothing to do. Aim: at most 1 s at 10,000, growth linear.",
        ("environments", "pass, ms: median (min to max)", "ms per 1,000", "peak memory, MiB"),
        tuple(rows),
        (
            f"N = {RUNS} passes each, after one that is not counted.",
            f"Per environment, 10,000 cost {growth:.2f} x what 1,250 do (1.0 is linear).",
        ),
    )


def one(size: int) -> None:
    """Print the samples in seconds, then the peak memory in MiB."""
    import resource

    from containarium.plan.planner import make_plan
    from containarium.simulate.host import SimulatedHost
    from containarium.simulate.world import World
    from tests.bench.figures import seconds
    from tests.builders import Site, manifest

    site = Site(*(manifest(f"user{number}") for number in range(size)))
    site.world = World(subnet="10.0.0.1/16")
    site.host = SimulatedHost(site.world)
    if not site.run().converged:
        raise SystemExit("the simulated site did not converge")

    def look_and_plan() -> None:
        if make_plan(site.load, site.host.observe(), site.now).pending:
            raise SystemExit("there was something to do")

    look_and_plan()
    samples = [seconds(look_and_plan) for _ in range(RUNS)]
    print(*samples, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


if __name__ == "__main__" and sys.argv[1:2] == [_INSIDE]:
    one(int(sys.argv[2]))
