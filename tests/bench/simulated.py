"""Passes over many simulated environments in which nothing changes: how long they take, and in how much memory."""

from __future__ import annotations

import gc
import json
import resource
import subprocess
import sys
from pathlib import Path
from statistics import median
from typing import Any

from tests.bench.chart import Chart, Line
from tests.bench.figures import Section, against, spread

SIZES = (1_250, 2_500, 5_000, 10_000)
RUNS = 7
AIM_SECONDS = 1.0
AIM_MEMORY = 150.0
"""MB."""
STEP = 500
"""Environments that are made at the same time, before the passes that count."""
MB = 1e6
_INSIDE = "--one"


def measure() -> Section:
    """Each size in a process of its own, so that memory is that size's own."""
    found = {size: _process(size, STEP) for size in SIZES}
    return section(found, _process(SIZES[-1], SIZES[-1])["peak"])


def _process(size: int, step: int) -> dict[str, Any]:
    command = [sys.executable, "-m", "tests.bench.simulated", _INSIDE, str(size), str(step)]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=600)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def section(found: dict[int, dict[str, Any]], at_once: float) -> Section:
    """What the page says; ``found`` by size, ``at_once`` the peak, in MB, where all are made by a single plan."""
    few, most = min(found), max(found)
    whole = found[most]
    each = {size: median(there["samples"]) / size for size, there in found.items()}
    parts = ", ".join(f"{name} {memory:.0f} MB" for name, memory in whole["memory"].items())
    return Section(
        "A no-op pass over simulated environments",
        f"One look, one plan, nothing to do. Aims: at most {AIM_SECONDS:g} s and {AIM_MEMORY:g} MB at {most:,}, growth "
        "linear.",
        ("environments", "pass, ms: median (min to max)", "ms per 1,000", "peak memory, MB"),
        tuple(
            (f"{size:,}", spread(there["samples"]), f"{1e6 * each[size]:.1f}", f"{there['peak']:.0f}")
            for size, there in found.items()
        ),
        (
            f"N = {RUNS} passes each, after one that is not counted.",
            against("For the time", median(whole["samples"]), AIM_SECONDS, " s"),
            against("For the memory", whole["peak"], AIM_MEMORY, " MB"),
            (
                f"Of the memory with {most:,}: {parts}. It is the whole process', the simulated host included, which "
                f"is made {STEP} environments at a time."
            ),
            f"Where a single plan makes all {most:,} at once, every action of it is in memory: {at_once:.0f} MB.",
            f"Per environment, {most:,} cost {each[most] / each[few]:.2f} x what {few:,} do (1.0 is linear).",
        ),
        (
            Chart(
                "simulated",
                "A no-op pass over simulated environments",
                "environments",
                "ms, median",
                (Line("pass", tuple((float(n), 1000 * median(there["samples"])) for n, there in found.items())),),
            ),
        ),
    )


def one(size: int, step: int) -> None:
    """Print samples in seconds, the peak memory and what it is made of in MB."""
    from containarium.plan.planner import make_plan
    from containarium.simulate.host import SimulatedHost
    from containarium.simulate.world import World
    from tests.bench.figures import seconds
    from tests.builders import Site, load, manifest

    held = {"the interpreter and its modules": _resident()}
    manifests = [manifest(f"user{number}") for number in range(size)]
    held["the manifests"] = _resident()
    site = Site()
    site.world = World(subnet="10.0.0.1/16")
    site.host = SimulatedHost(site.world)
    for end in range(step, size + step, step):
        site.load = load(*manifests[:end])
        if not site.run().converged:
            raise SystemExit("the simulated site did not converge")
    gc.collect()
    held["the host"] = _resident()

    def look_and_plan() -> None:
        if make_plan(site.load, site.host.observe(), site.now).pending:
            raise SystemExit("there was something to do")

    look_and_plan()
    samples = [seconds(look_and_plan) for _ in range(RUNS)]
    held["the passes, at most"] = peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / MB
    steps = {name: now - before for before, (name, now) in zip([0.0, *held.values()], held.items(), strict=False)}
    print(json.dumps({"samples": samples, "peak": peak, "memory": steps}))


def _resident() -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmRSS:")).split()[1]) * 1024 / MB


if __name__ == "__main__" and sys.argv[1:2] == [_INSIDE]:
    one(int(sys.argv[2]), int(sys.argv[3]))
