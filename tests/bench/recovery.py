"""A host that was killed and started again: how long until everybody can log in, with the controller and without."""

from __future__ import annotations

import json
import time
from contextlib import contextmanager
from statistics import median

from tests.bench import idle
from tests.bench.figures import Section
from tests.bench.site import UNIT, BenchSite, calm, lab_host
from tests.lab.command import CommandError

SIZES = ((20, 3), (50, 2))
"""Environments, and how often each kind of recovery is taken."""
AIM = 1.1
PATIENCE = 300


def measure() -> tuple[Section, Section]:
    """The recoveries; and, with the last size, what the controller costs at rest beside so many running guests."""
    rows = []
    verdicts = []
    with contextmanager(lab_host)("bench-recovery") as host:
        site = BenchSite(host)
        site.serve()
        for count, runs in SIZES:
            site.declare(count, count)
            site.wait_settled(count)
            before = calm()
            alone, served = _take(site, count, runs)
            ratio = median(one / other for one, other in zip(served, alone, strict=True))
            rows.append((f"{count}", f"{runs}", _seconds(alone), _seconds(served), f"{ratio:.2f}", f"{before:.1f}"))
            met = "met" if ratio <= AIM else f"missed by {100 * (ratio / AIM - 1):.0f} %"
            verdicts.append(f"With {count} the aim is {met}: {ratio:.2f} x.")
        site.wait_settled(SIZES[-1][0])
        crowded = idle.crowded(site, SIZES[-1][0])
    section = Section(
        "Recovery after the host was killed",
        "A disposable host is killed at once and started again; seconds from the command that starts it until port 22 "
        "of every guest greets, told from inside the host. In turn with the controller's service enabled, and "
        f"disabled, which leaves Incus' autostart alone. Aim: at most {AIM} x.",
        ("environments", "N", "autostart alone, s: median (all)", "with the controller, s", "ratio", "load before"),
        tuple(rows),
        (*verdicts, "The ratio is the median of pairs taken one after the other."),
    )
    return section, crowded


def _take(site: BenchSite, count: int, runs: int) -> tuple[list[float], list[float]]:
    """Both kinds in turn. The service is enabled in the end."""
    alone: list[float] = []
    served: list[float] = []
    for _ in range(runs):
        for enabled, samples in ((False, alone), (True, served)):
            site.host.run(["systemctl", "enable" if enabled else "disable", UNIT])
            samples.append(_recover(site, count))
            if enabled:
                site.wait_settled(count)
    return alone, served


def _recover(site: BenchSite, count: int) -> float:
    """Seconds from the start of the machine until the last guest greets."""
    host = site.host
    addresses = _addresses(site)
    if len(addresses) != count:
        raise SystemExit(f"{len(addresses)} addresses, not {count}")
    host.run(["sync"])
    host.power_off()
    start = time.time()
    host.outer.incus("start", host.name, timeout=60)
    found = _greetings(site, addresses)
    if len(found) != count:
        raise SystemExit(f"only {len(found)} of {count} guests are back")
    host.wait_booted(timeout=PATIENCE)
    return max(found.values()) - start


def _greetings(site: BenchSite, addresses: list[str]) -> dict[str, float]:
    """Watch from inside as soon as anything can be run there."""
    end = time.monotonic() + 60
    while True:
        try:
            found: dict[str, float] = site.inside("inside_recovery", str(PATIENCE), *addresses, timeout=PATIENCE + 10)
        except (CommandError, json.JSONDecodeError, IndexError):
            if time.monotonic() > end:
                raise
            time.sleep(0.2)
        else:
            return found


def _addresses(site: BenchSite) -> list[str]:
    listing = json.loads(site.host.incus("query", "/1.0/instances?recursion=1").stdout)
    return sorted(i["devices"]["eth0"]["ipv4.address"] for i in listing if i["name"].endswith("-container"))


def _seconds(samples: list[float]) -> str:
    return f"{median(samples):.1f} ({', '.join(f'{sample:.1f}' for sample in samples)})"
