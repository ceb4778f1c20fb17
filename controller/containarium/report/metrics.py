"""Metrics for Prometheus, in a registry of their own; all but the process' begin with ``containarium_``.

What is counted is counted here; what is a state is told from the last pass at the moment of the scrape (``gauges``).
"""

from __future__ import annotations

import platform
from collections.abc import Iterable, Mapping, Sequence

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Info,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)

from containarium import __version__
from containarium.model.action import ACTION_KINDS
from containarium.plan.compare import CONFIG_FIELDS, DEVICE_FIELDS
from containarium.report.gauges import PREFIX, Gauges
from containarium.report.snapshot import Probe, Snapshot
from containarium.report.statusfile import Status

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

TRIGGERS = (
    "accounts", "boot", "finished", "incus", "manifests", "notice", "probe", "request", "resync", "retry", "start",
)  # fmt: skip
"""Why a pass is made, as reconcile/ names it."""
OTHER = "other"
"""Label of whatever is in no table: a label must not grow with what people write."""

FIELDS = frozenset(
    {
        *(field.name for field in CONFIG_FIELDS.values()),
        *(field.name for device in DEVICE_FIELDS.values() for field in device.values()),
        *("account", "account.expiry", "account.group", "account.groups", "account.keys", "account.password"),
        *("account.shell", "account.subordinate_ids"),
        *("guest", "guest.docker", "guest.groups", "guest.keys", "guest.password", "guest.root.password"),
        *("guest.ssh", "guest.sudo", "guest.user"),
        *("instance", "isolation.filters", "restart", "spec.packages", "spec.running", "spec.sshKeys"),
        OTHER,
    }
)
"""Every field that may drift, as plan/ names them."""

_PASS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_ACTION = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800)
_CONVERGE = (0.25, 0.5, 1, 2, 3, 5, 10, 20, 30, 60, 120, 300, 600, 1800)
_PROBE = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)


class Metrics:
    """The controller's metrics. Every method may be called from any thread."""

    def __init__(self) -> None:
        """Makes the registry; every label whose values are known starts at 0."""
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = CollectorRegistry(auto_describe=False)
        self._gauges = Gauges()
        self._counted = ""
        self._attempts: dict[str, int] = {}
        self._probes: dict[str, Probe] = {}
        self._passes()
        self._work()
        self._drift()
        self._probing()
        self._baking()
        build = Info(PREFIX + "build", "The program that runs.", registry=self.registry)
        build.info({"version": __version__, "python": platform.python_version()})
        self.registry.register(self._gauges)
        ProcessCollector(registry=self.registry)

    def _passes(self) -> None:
        self._reconciles = self._counter("reconcile_total", "Passes over the whole host, by how they ended.", "result")
        self._start(self._reconciles, ("success", "error"))
        self._errors = self._counter(
            "reconcile_errors_total",
            "Passes that could not look at the host, and attempts at environments that failed.",
        )
        self._internal = self._counter("internal_errors_total", "Errors of the loop itself that nobody thought of.")
        self._reconcile_time = self._histogram("reconcile_time_seconds", "Seconds that a pass took.", _PASS)
        self._wakeups = self._counter("wakeups_total", "Reasons for which a pass was made.", "trigger")
        self._start(self._wakeups, (*TRIGGERS, OTHER))

    def _work(self) -> None:
        self._retries = self._counter("workqueue_retries_total", "Attempts at environments that failed and came again.")
        self._actions = self._counter(
            "actions_total", "Actions carried out, by kind and how they ended.", "kind", "result"
        )
        for kind in ACTION_KINDS:
            for result in ("success", "error"):
                self._actions.labels(kind.kind, result)
        self._action_time = self._histogram("action_time_seconds", "Seconds that an action took.", _ACTION)
        self._convergence = self._histogram(
            "convergence_time_seconds", "Seconds from reading an edited manifest until it was reached.", _CONVERGE
        )

    def _drift(self) -> None:
        self._found = self._counter("drift_found_total", "Fields that somebody changed behind our back.", "field")
        self._repaired = self._counter("drift_repaired_total", "Fields that were put right again.", "field")
        for counter in (self._found, self._repaired):
            self._start(counter, sorted(FIELDS))

    def _probing(self) -> None:
        self._probed = self._counter("ssh_probes_total", "SSH probes, by how they ended.", "result")
        self._start(self._probed, ("success", "failure"))
        self._probe_time = self._histogram("ssh_probe_time_seconds", "Seconds that an SSH probe took.", _PROBE)

    def _baking(self) -> None:
        self._recipes = Gauge(
            PREFIX + "recipes", "Baked images, by whether their base is the newest.", ("state",), registry=self.registry
        )
        self._builds = self._counter("recipe_builds_total", "Images that were baked, by how that ended.", "result")
        self._start(self._builds, ("success", "error"))
        self._last_build = Gauge(
            PREFIX + "recipe_last_build_seconds",
            "Seconds that the last baking of an image took, by how it ended.",
            ("result",),
            registry=self.registry,
        )

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(PREFIX + name, text, labels, registry=self.registry)

    def _histogram(self, name: str, text: str, buckets: Sequence[float]) -> Histogram:
        return Histogram(PREFIX + name, text, registry=self.registry, buckets=buckets)

    @staticmethod
    def _start(counter: Counter, values: Iterable[str]) -> None:
        for value in values:
            counter.labels(value)

    # What the loop tells

    def observe(self, snapshot: Snapshot, status: Status) -> None:
        """A pass has ended; ``status`` is what was built of it. Only the loop's thread calls this.

        A pass that is told again, because something else has become known, is shown and not counted.
        """
        self._gauges.show(snapshot, status)
        if snapshot.id == self._counted:
            return
        self._counted = snapshot.id
        self._reconciles.labels("error" if snapshot.error else "success").inc()
        if snapshot.error:
            self._errors.inc()
        self._reconcile_time.observe(snapshot.seconds)
        for trigger in snapshot.triggers:
            self._wakeups.labels(trigger if trigger in TRIGGERS else OTHER).inc()
        self._count_attempts({name: trouble.attempts for name, trouble in snapshot.troubles.items()})
        self._count_probes(snapshot.probes)

    def _count_attempts(self, attempts: dict[str, int]) -> None:
        for name, number in attempts.items():
            before = self._attempts.get(name, 0)
            # Fewer than before: another manifest, so it is counted from the start again.
            known = before if number >= before else 0
            self._errors.inc(number - known)
            self._retries.inc(max(0, number - max(known, 1)))
        self._attempts = attempts

    def _count_probes(self, probes: Mapping[str, Probe]) -> None:
        for name, probe in probes.items():
            before = self._probes.get(name)
            if before is None or before.at != probe.at:
                self._probed.labels("failure" if probe.error else "success").inc()
                self._probe_time.observe(probe.seconds)
        self._probes = dict(probes)

    def surprised(self) -> None:
        """The loop met an error that nobody thought of."""
        self._internal.inc()

    def action(self, kind: str, seconds: float, *, ok: bool) -> None:
        """An action has ended."""
        if any(known.kind == kind for known in ACTION_KINDS):
            self._actions.labels(kind, "success" if ok else "error").inc()
            self._action_time.observe(seconds)

    def edited(self, seconds: float) -> None:
        """An edit of a manifest was reached, so long after it was read."""
        self._convergence.observe(seconds)

    def drift(self, found: Iterable[str] = (), repaired: Iterable[str] = ()) -> None:
        """Fields that were found different from what had been reached, and fields that were put right."""
        for counter, fields in ((self._found, found), (self._repaired, repaired)):
            for field in fields:
                counter.labels(field if field in FIELDS else OTHER).inc()

    def logged_in(self, counts: Mapping[str, tuple[int, int]]) -> None:
        """How often each name was let in and refused since the last call; names of nobody's environment are dropped."""
        self._gauges.logged_in(counts)

    def recipes(self, current: int, outdated: int) -> None:
        """How many baked images there are, and of how many others the base was updated since."""
        for state, number in (("current", current), ("outdated", outdated)):
            self._recipes.labels(state).set(number)

    def baked(self, seconds: float, ok: bool) -> None:
        """The baking of an image has ended."""
        result = "success" if ok else "error"
        self._builds.labels(result).inc()
        self._last_build.labels(result).set(seconds)

    def render(self) -> bytes:
        """Everything in Prometheus' text format, see CONTENT_TYPE."""
        return generate_latest(self.registry)
