"""The metrics that are states: told from the last pass whenever somebody asks. No series outlives its environment."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from containarium.model.status import Condition, ConditionStatus
from containarium.plan.conditions import (
    DRIFTED,
    READY,
    RECONCILING,
    RECREATION_REQUIRED,
    RESTART_REQUIRED,
    RETIRED,
    STALLED,
    SUSPENDED,
)
from containarium.plan.decision import Suspicion
from containarium.plan.resolve import owned_account
from containarium.report.environments import ABSENT
from containarium.report.snapshot import Revision, Snapshot
from containarium.report.statusfile import EnvironmentStatus, Status

PREFIX = "containarium_"
MOST_ENVIRONMENTS = 1000
"""Environments with series of their own; how many more there are is a metric as well."""

_CONDITIONS = (DRIFTED, RECONCILING, RECREATION_REQUIRED, RESTART_REQUIRED, RETIRED, STALLED, SUSPENDED)

_OF_ONE = ("environment",)
_NO_LOGINS = (0, 0)


@dataclass(frozen=True, slots=True)
class _State:
    """What is shown, and nothing else: a whole look at the host need not be kept for it."""

    numbers: dict[str, float] = field(default_factory=dict)
    conditions: dict[tuple[str, str], int] = field(default_factory=dict)
    blocked: dict[str, int] = field(default_factory=dict)
    revision: Revision = field(default_factory=Revision)
    expected: tuple[EnvironmentStatus, ...] = ()
    names: tuple[str, ...] = ()
    host: tuple[Condition, ...] = ()


class Gauges(Collector):
    """Safe to ask from any thread: a pass puts a whole new state in place."""

    def __init__(self) -> None:
        """Nothing is known yet: counts are 0, and what has no sensible 0 is absent."""
        self._state = _State()
        self._logins: Mapping[str, tuple[int, int]] = {}

    def logged_in(self, counts: Mapping[str, tuple[int, int]]) -> None:
        """How often each name was let in and refused since the last call. Only environments of this host count, the
        suspended as well: their people get in as before.
        """
        known = self._logins
        self._logins = {
            name: _sum(known.get(name, _NO_LOGINS), counts.get(name, _NO_LOGINS)) for name in self._state.names
        }

    def show(self, snapshot: Snapshot, status: Status) -> None:
        """Take over what a pass found."""
        expected = tuple(environment for environment in status.environments if environment.expected)
        conditions: Counter[tuple[str, str]] = Counter()
        for environment in status.environments:
            for condition in environment.conditions:
                conditions[condition.type, condition.status.value] += 1
        blocked: Counter[str] = Counter()
        for interlock in status.interlocks:
            blocked[interlock.reason] += len(interlock.environments)
        numbers = _numbers(snapshot, status, expected)
        names = tuple(e.name for e in status.environments if e.expected or (e.has(SUSPENDED) and not e.has(RETIRED)))
        self._state = _State(numbers, conditions, blocked, status.revision, expected, names, status.conditions)

    def collect(self) -> Iterator[Metric]:
        """The families, all of them, whether or not they have samples at present."""
        state = self._state
        for name, text in _NUMBERS.items():
            family = GaugeMetricFamily(PREFIX + name, text)
            if name in state.numbers or name not in _ABSENT:
                family.add_metric((), state.numbers.get(name, 0.0))
            yield family
        yield _by_condition(state)
        yield _of_host(state.host)
        blocked = GaugeMetricFamily(
            PREFIX + "prune_blocked", "Environments that would go away and are kept, by why.", labels=("reason",)
        )
        for reason in Suspicion:
            blocked.add_metric((reason.value,), state.blocked.get(reason.value, 0))
        yield blocked
        yield _revision(state.revision)
        yield from _per_environment(state.expected)
        yield _logins(state.names, self._logins)


def _numbers(snapshot: Snapshot, status: Status, expected: tuple[EnvironmentStatus, ...]) -> dict[str, float]:
    ended = snapshot.started.timestamp() + snapshot.seconds
    numbers = {
        "last_pass_timestamp_seconds": ended,
        "controller_start_timestamp_seconds": status.daemon.started.timestamp(),
        "active_workers": len(snapshot.working),
        "preempted": 1.0 if snapshot.preempted else 0.0,
        "manifest_sync_failing": 1.0 if status.revision.error else 0.0,
        "environments_beyond_series": max(0, len(expected) - MOST_ENVIRONMENTS),
        "environments_retired": sum(e.has(RETIRED) for e in status.environments),
        "environments_observed": sum(e.status not in ("", ABSENT) for e in status.environments),
        "ssh_unreachable": sum(e.probe is not None and bool(e.probe.error) for e in expected),
    }
    if snapshot.last_success is not None:
        numbers["last_successful_pass_timestamp_seconds"] = snapshot.last_success.timestamp()
    if snapshot.recovered is not None:
        numbers["recovery_time_seconds"] = snapshot.recovered
    if tried := _moment(status.revision.at):
        numbers["manifest_sync_timestamp_seconds"] = tried.timestamp()
    if snapshot.load is not None:
        numbers["manifest_errors"] = len(snapshot.load.problems)
        numbers["manifests_complete"] = 1.0 if snapshot.load.complete else 0.0
        elsewhere = len(snapshot.plan.elsewhere) if snapshot.plan is not None else 0
        numbers["environments_desired"] = max(0, len(snapshot.load.manifests) - elsewhere)
    if snapshot.plan is not None:
        numbers["workqueue_depth"] = sum(
            environment.due and environment.name not in snapshot.working for environment in snapshot.plan.environments
        )
    if snapshot.observed is not None:
        accounts = snapshot.observed.accounts
        numbers["jump_accounts_missing"] = sum(
            environment.status != ABSENT
            and ((account := accounts.get(environment.name)) is None or not owned_account(account))
            for environment in expected
        )
    return numbers


_NUMBERS = {
    "active_workers": "Environments that are being worked on.",
    "controller_start_timestamp_seconds": "When the controller was started.",
    "environments_beyond_series": f"Environments beyond the {MOST_ENVIRONMENTS} that have series of their own.",
    "environments_desired": "Environments that manifests declare for this host.",
    "environments_observed": "Environments that have a container here, retired ones included.",
    "environments_retired": "Environments without access whose data is still kept.",
    "jump_accounts_missing": "Environments with a container that ought to be ready, without a jump account.",
    "last_pass_timestamp_seconds": "When the last pass ended, however it ended.",
    "last_successful_pass_timestamp_seconds": "When a pass last read all manifests and saw the whole host.",
    "manifest_errors": "Mistakes in manifests: while there are any, nothing goes away.",
    "manifest_sync_failing": "1 while the commit that was tried last is not the one that is applied.",
    "manifest_sync_timestamp_seconds": "When a commit of the manifests was last tried.",
    "manifests_complete": "1 when the folder of manifests was read whole.",
    "preempted": "1 once this host was given notice that it will be taken away.",
    "recovery_time_seconds": "Seconds from the last boot until everybody could log in again.",
    "ssh_unreachable": "Environments whose last SSH probe failed.",
    "workqueue_depth": "Environments that are not as declared and not being worked on.",
}
_ABSENT = frozenset(
    {
        "controller_start_timestamp_seconds",
        "last_pass_timestamp_seconds",
        "last_successful_pass_timestamp_seconds",
        "manifest_sync_timestamp_seconds",
        "manifests_complete",
        "recovery_time_seconds",
    }
)
"""What is not there while it is not known: 0 would be a lie."""


def _by_condition(state: _State) -> GaugeMetricFamily:
    family = GaugeMetricFamily(
        PREFIX + "environments", "Environments by condition and its status.", labels=("condition", "status")
    )
    known = [(READY, status.value) for status in ConditionStatus]
    known += [(condition, ConditionStatus.TRUE.value) for condition in _CONDITIONS]
    for key in known:
        family.add_metric(key, state.conditions.get(key, 0))
    return family


def _of_host(conditions: tuple[Condition, ...]) -> GaugeMetricFamily:
    family = GaugeMetricFamily(
        PREFIX + "host_condition",
        "1 for the status that each step of the host's preparation has: True, False or Unknown.",
        labels=("type", "status"),
    )
    for condition in conditions:
        for status in ConditionStatus:
            family.add_metric((condition.type, status.value), 1 if condition.status is status else 0)
    return family


def _revision(revision: Revision) -> GaugeMetricFamily:
    family = GaugeMetricFamily(
        PREFIX + "manifest_revision_info",
        "Commit of the manifests: the one that is applied, and the one that was tried last.",
        labels=("state", "revision"),
    )
    for state, commit in (("applied", revision.applied), ("tried", revision.tried)):
        if commit:
            family.add_metric((state, commit), 1)
    return family


def _per_environment(expected: tuple[EnvironmentStatus, ...]) -> Iterator[Metric]:
    labels = _OF_ONE
    ready = GaugeMetricFamily(
        PREFIX + "environment_ready", "1 when an environment is as declared and works.", labels=labels
    )
    success = GaugeMetricFamily(
        PREFIX + "environment_ssh_probe_success", "1 when the last SSH probe got through.", labels=labels
    )
    when = GaugeMetricFamily(
        PREFIX + "environment_ssh_probe_timestamp_seconds", "When the last SSH probe was made.", labels=labels
    )
    for environment in expected[:MOST_ENVIRONMENTS]:
        name = (environment.name,)
        ready.add_metric(name, 1 if environment.ready.status is ConditionStatus.TRUE else 0)
        if environment.probe is not None:
            success.add_metric(name, 0 if environment.probe.error else 1)
            when.add_metric(name, environment.probe.at.timestamp())
    yield from (ready, success, when)


def _logins(names: tuple[str, ...], counted: Mapping[str, tuple[int, int]]) -> CounterMetricFamily:
    """Absent until somebody counts: 0 would be a lie where there is no log to read."""
    family = CounterMetricFamily(
        PREFIX + "logins", "Logins by SSH at this host, by environment and how they ended.", labels=(*_OF_ONE, "result")
    )
    for name in names[:MOST_ENVIRONMENTS]:
        if name in counted:
            for result, number in zip(("accepted", "refused"), counted[name], strict=True):
                family.add_metric((name, result), number)
    return family


def _sum(one: tuple[int, int], other: tuple[int, int]) -> tuple[int, int]:
    return one[0] + other[0], one[1] + other[1]


def _moment(text: str) -> datetime | None:
    """A time with its zone; None for anything else."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return moment if moment.tzinfo is not None else None
