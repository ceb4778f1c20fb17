"""Passes to report: made from a simulated host, as the loop would make them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from containarium.plan.planner import make_plan
from containarium.report.process import Daemon
from containarium.report.snapshot import Snapshot
from containarium.report.status import build
from containarium.report.statusfile import Status
from tests.builders import Site

DAEMON = Daemon(4711, datetime(2026, 11, 22, 11, 0, tzinfo=UTC), "12345")


def snapshot(site: Site, **known: Any) -> Snapshot:
    """One pass over a site that could see everything, at the site's time; ``known`` is what the loop knows besides."""
    observed = site.host.observe()
    fields = {
        "id": "000007",
        "triggers": ("resync",),
        "started": site.now,
        "seconds": 0.061,
        "load": site.load,
        "observed": observed,
        "plan": make_plan(site.load, observed, site.now),
        "last_success": site.now,
        **known,
    }
    return Snapshot(**fields)


def unseen(site: Site, error: str = "Incus does not answer", **known: Any) -> Snapshot:
    """One pass that could not look, before any that could."""
    return Snapshot(id="000001", triggers=("boot",), started=site.now, seconds=0.5, error=error, **known)


def status(site: Site, previous: Status | None = None, **known: Any) -> Status:
    """The status after one pass over a site."""
    return build(snapshot(site, **known), previous, DAEMON)
