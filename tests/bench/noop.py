"""The no-op plan of 200 environments on real Incus, against one bare GET of the same 200."""

from __future__ import annotations

import json
from pathlib import Path
from statistics import median

from tests.bench.figures import Section, spread

ENVIRONMENTS = 200
RUNNING = 4
RUNS = 25
AIM = 1.5
PLAN = "plan, in a warm process"
SCRIPT = Path(__file__).with_name("inside_host.py")


def measure() -> Section:
    """Make the environments on a disposable host, then let ``inside_host.py`` measure there."""
    from tests.lab import images, recipes
    from tests.lab.host import LabHost
    from tests.lab.outer import Outer

    outer = Outer()
    outer.up()
    images.ImageStore(outer).ensure_all([recipes.host(), recipes.GUEST])
    host = LabHost(outer, "bench")
    host.create()
    try:
        host.install_project()
        host.run(["containarium", "host", "prepare"], timeout=300)
        host.import_guest_image("guest")
        host.push("/root/inside_host.py", SCRIPT.read_text())
        python = ["/opt/containarium/venv/bin/python", "/root/inside_host.py"]
        host.run([*python, "declare", str(ENVIRONMENTS), str(RUNNING)], timeout=60)
        host.run(["containarium", "apply"], timeout=1800)
        found = json.loads(host.run([*python, "measure", str(RUNS)], timeout=600).stdout)
    finally:
        host.delete()
    return _section(found)


def _section(found: dict[str, list[float]]) -> Section:
    get = found["bare GET recursion=1"]
    plan = median(one / other for one, other in zip(found[PLAN], get, strict=True))
    verdict = f"met: {plan:.2f} x" if plan <= AIM else f"missed by {100 * (plan / AIM - 1):.0f} %: {plan:.2f} x"
    rows = []
    for name, samples in found.items():
        if name.startswith("requests"):
            continue
        paired = [one / other for one, other in zip(samples, get, strict=True)] if len(samples) == len(get) else []
        rows.append((name, spread(samples), f"{median(paired):.2f}" if paired else "apart"))
    return Section(
        f"A no-op plan of {ENVIRONMENTS} environments on real Incus",
        f"{ENVIRONMENTS} environments on a disposable host, {RUNNING} of them running. A plan reads all manifests, "
        f"looks at the host and decides. Aim: at most {AIM} x the bare GET, interpreter start-up shown apart.",
        ("what", "ms: median (min to max)", "x bare GET"),
        tuple(rows),
        (
            f"N = {RUNS}, taken in turn.",
            f"Requests to Incus in one plan: {found['requests'][0]:.0f}, whatever the number of instances.",
            (
                f"The aim is {verdict}. Manifests are read while Incus makes its answer, which takes as long; what "
                "comes on top is decoding that answer, the accounts, and deciding, all in one interpreter. Remembering "
                "parsed manifests from pass to pass, which a daemon can, takes the reading away."
            ),
            "The bare GET is one `GET /1.0/instances?recursion=1` over the unix socket, its JSON decoded.",
        ),
    )
