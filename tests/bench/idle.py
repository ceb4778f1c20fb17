"""What the controller costs while nothing happens."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from tests.bench.figures import Section
from tests.bench.site import calm

if TYPE_CHECKING:
    from tests.bench.site import BenchSite

REST = 240.0
"""Seconds of rest."""
AIM_CPU = 0.3
"""Percent of one core, children included."""
AIM_RSS = 64.0
"""MiB."""
_SETTLE = 30.0
"""Seconds after a start until the SSH probe has tried everybody it tries first."""
_RESYNCS = 120.0
_COLUMNS = (
    "at rest", "s", "passes", "CPU, % of a core: all", "itself", "its children", "RSS, MiB", "Pss", "anonymous", "load"
)  # fmt: skip
Rest = dict[str, float]


def rest(site: BenchSite, seconds: float = REST) -> Rest:
    """Leave it alone for so long, when the machine is calm."""
    calm()
    found: Rest = site.inside("inside_living", "rest", str(seconds), timeout=seconds + 60)
    return found


def crowded(site: BenchSite, count: int) -> Section:
    """The controller beside ``count`` guests that all run, right after it was started."""
    site.serve()
    site.wait_settled(count)
    time.sleep(_SETTLE)
    found = rest(site)
    return Section(
        f"The controller at rest beside {count} running guests",
        "As above, with everybody running: each is looked into every five minutes.",
        _COLUMNS,
        (row(f"{count} running", found),),
        (verdict(found),),
    )


def section(site: BenchSite, count: int, running: int, changed: Rest) -> Section:
    """The usual host at rest; ``changed`` was taken after it had changed things."""
    site.serve()
    site.wait_settled(count)
    time.sleep(_SETTLE)
    fresh = rest(site)
    site.serve("--no-probe --resync=5")
    site.wait_settled(count)
    often = rest(site, _RESYNCS)
    looks: dict[str, float] = site.inside("inside_living", "looks", timeout=120)
    watching: float = site.inside("inside_living", "watcher", timeout=120)
    base = (often["passes"] / often["seconds"], fresh["passes"] / fresh["seconds"])
    a_pass = (often["own"] / often["seconds"] - fresh["own"] / fresh["seconds"]) / (base[0] - base[1])
    deep = max(0.0, looks["deep"] - looks["shallow"]) / running
    return Section(
        f"The controller at rest with {count} environments",
        f"{count} environments, {running} of them running, as declared; the service as it is installed. CPU "
        "of its process and of children that have "
        f"ended, from /proc. Aims: at most {AIM_CPU} % of a core and {AIM_RSS:.0f} MiB.",
        _COLUMNS,
        (row("after a start that changed nothing", fresh), row("after changes", changed)),
        (
            verdict(fresh, changed),
            (
                f"A resync costs {1000 * a_pass:.0f} ms of CPU, {100 * a_pass / 60:.3f} % of a core at one a minute "
                f"(told from {often['passes']:.0f} passes in {often['seconds']:.0f} s without the probe)."
            ),
            f"A look into a running guest costs {1000 * deep:.1f} ms, {100 * deep / 300:.4f} % of a core each.",
            f"The SSH probe, one a minute, is what its children cost: {_percent(fresh, 'children'):.3f} %.",
            (
                f"What is left of its own is {max(0.0, _percent(fresh, 'own') - 100 * a_pass / 60):.3f} %. The watch "
                f"on the files, in a process of its own where nothing else happens, costs {100 * watching:.3f} %."
            ),
        ),
    )


def row(name: str, found: Rest) -> tuple[str, ...]:
    """One row of the table."""
    return (
        name, f"{found['seconds']:.0f}", f"{found['passes']:.0f}", f"{_all(found):.2f}",
        f"{_percent(found, 'own'):.2f}", f"{_percent(found, 'children'):.2f}", f"{found['rss']:.1f}",
        f"{found['pss']:.1f}", f"{found['anonymous']:.1f}", f"{found['load']:.1f}",
    )  # fmt: skip


def verdict(*rests: Rest) -> str:
    """Whether the aims are met in all of them."""
    cpu, rss = max(map(_all, rests)), max(found["rss"] for found in rests)
    told = [
        f"{what} is met ({value:.2f} {unit})"
        if value <= aim
        else f"{what} is missed ({value:.2f} {unit}, {aim} wanted)"
        for what, value, aim, unit in (("CPU", cpu, AIM_CPU, "%"), ("RSS", rss, AIM_RSS, "MiB"))
    ]
    return f"The aim for {', the one for '.join(told)}."


def _percent(found: Rest, what: str) -> float:
    return 100 * found[what] / found["seconds"]


def _all(found: Rest) -> float:
    return _percent(found, "own") + _percent(found, "children")
