"""The controller of this machine, put together as the service is, in this process: its passes while nothing changes.

It is halted: whatever it finds, it begins nothing.
"""

from __future__ import annotations

import gc
import io
import json
import random
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import incus

if TYPE_CHECKING:
    from containarium.reconcile.controller import Controller
    from containarium.report.reporter import Reporter

GET = "bare GET recursion=1"
PASS = "pass"
TOLD = "pass, told: status file, metrics, log"
_GARBAGE = 50_000


def measure(runs: int, folder: Path) -> dict[str, Any]:
    """Samples in seconds, taken in turn, of whole passes and of their parts; and what the passes saw."""
    from containarium.host.accounts import Accounts
    from containarium.host.incus import Incus
    from containarium.host.instances import parse
    from containarium.host.machine import Machine
    from containarium.host.settings import HostSettings
    from containarium.model.observed import Look
    from containarium.plan.planner import make_plan
    from containarium.sources.cached import CachedSource

    settings = HostSettings()
    accounts = Accounts(settings)
    host = Machine(settings, accounts)
    source = CachedSource(folder)
    with tempfile.TemporaryDirectory() as scratch:
        controller, reporter = _controller(host, source, Path(scratch))
        gc.set_threshold(_GARBAGE)
        for _ in range(3):
            reporter.passed(controller.make_pass(frozenset({"resync"}), "warm"))
        gc.collect()
        gc.freeze()
        load, seen, answer = source.load(), host.observe(Look.SHALLOW), incus.raw_get()
        listing = json.loads(answer)["metadata"]
        own = Incus(settings)
        works: dict[str, Callable[[], object]] = {
            GET: incus.get,
            PASS: lambda: controller.make_pass(frozenset({"resync"}), "bench"),
            TOLD: lambda: reporter.passed(controller.make_pass(frozenset({"resync"}), "bench")),
            "part: the request alone, not decoded": incus.raw_get,
            "part: decoding the answer": lambda: json.loads(answer),
            "part: instances of it": lambda: [parse(raw) for raw in listing],
            "part: the bridge's state": lambda: own.get("networks", settings.bridge, "state"),
            "part: accounts": accounts.observe,
            "part: the whole look": lambda: host.observe(Look.SHALLOW),
            "part: manifests, read and remembered": source.load,
            "part: deciding": lambda: make_plan(load, seen, datetime.now(UTC)),
        }
        samples: dict[str, list[float]] = {name: [] for name in works}
        for turn in range(runs + 1):
            for name, work in works.items():
                start = time.perf_counter()
                work()
                if turn:
                    samples[name].append(time.perf_counter() - start)
        plan = controller.last.plan
        assert plan is not None
        return {
            "samples": samples, "instances": len(seen.instances), "manifests": len(load.manifests),
            "bytes": len(answer), "pending": [e.name for e in plan.environments if e.due],
        }  # fmt: skip


def _controller(host: Any, source: Any, scratch: Path) -> tuple[Controller, Reporter]:
    """As ``reconcile/assembly.py`` does it, but for threads of its own, and for where it writes."""
    from containarium.reconcile.controller import Controller
    from containarium.reconcile.rhythm import Rhythm
    from containarium.reconcile.senses import Senses
    from containarium.reconcile.workers import Workers
    from containarium.report import log
    from containarium.report.journal import Journal
    from containarium.report.metrics import Metrics
    from containarium.report.reporter import Reporter

    def now() -> datetime:
        return datetime.now(UTC)

    logger = log.configure(io.StringIO(), pretty=False)
    reporter = Reporter(scratch / "status.json", Journal(scratch / "events.jsonl"), Metrics(), logger)
    workers = Workers(host, reporter, lambda: None, clock=now, ticks=time.monotonic)
    senses = Senses(
        clock=now, ticks=time.monotonic, chance=random.random, approvals=lambda _now: frozenset(), blame=lambda *_: ""
    )
    controller = Controller(host, source, workers, senses, reporter, Rhythm())
    controller.halted = True
    return controller, reporter
