"""From a pass to what is told of it: the status with its conditions, and the sentence that the pass ends with. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import datetime, timedelta

from containarium.model import marks
from containarium.model.observed import Observed
from containarium.model.status import Condition, ConditionStatus
from containarium.plan.conditions import READY, RECONCILING, RETIRED, STALLED, summarise
from containarium.plan.decision import Plan, Verb
from containarium.report import environments
from containarium.report.process import Daemon
from containarium.report.snapshot import Probe, Snapshot, Trouble, Work
from containarium.report.statusfile import (
    EnvironmentStatus,
    InterlockStatus,
    PassStatus,
    ProblemStatus,
    Status,
    read,
    write,
)

__all__ = ["UNREACHABLE", "Status", "build", "read", "sentence", "write"]

UNREACHABLE = "SSHUnreachable"
"""Reason of an environment that is as declared, and yet nobody gets in."""

_NAMED = 5
"""Names in one part of a sentence."""
_LEAVING = (Verb.PRUNE, Verb.REPAIR, Verb.NONE)
"""What a retired environment may need. Everything else brings it back."""
Conditions = tuple[Condition, ...]


def build(snapshot: Snapshot, previous: Status | None, daemon: Daemon) -> Status:
    """The status after a pass.

    ``previous`` is the one before, or what an earlier controller left in the file: a condition whose status is the
    same as there keeps its time. While no pass could look at the host, its environments are shown, Ready Unknown.
    """
    now = snapshot.started + timedelta(seconds=snapshot.seconds)
    known = {environment.name: environment for environment in previous.environments} if previous is not None else {}
    plan, observed = snapshot.plan, snapshot.observed
    if plan is None or observed is None:
        found = tuple(_unseen(environment, snapshot.error, now) for environment in known.values())
        host = previous.host if previous is not None else ""
    else:
        found = tuple(_environments(snapshot, known, now))
        host = observed.host.name
    return Status(
        host=host,
        daemon=daemon,
        last_pass=PassStatus(
            snapshot.id,
            snapshot.triggers,
            snapshot.started,
            round(snapshot.seconds, 3),
            sentence(snapshot),
            snapshot.error,
        ),
        seen=plan is not None,
        last_success=snapshot.last_success,
        counts=_counts(found),
        revision=snapshot.revision,
        conditions=snapshot.conditions,
        preempted=snapshot.preempted,
        recovered=snapshot.recovered,
        problems=_problems(plan) if plan is not None else (),
        interlocks=_interlocks(plan) if plan is not None else (),
        environments=found,
    )


def _environments(
    snapshot: Snapshot, known: Mapping[str, EnvironmentStatus], now: datetime
) -> Iterator[EnvironmentStatus]:
    plan, observed = snapshot.plan, snapshot.observed
    if plan is None or observed is None:
        return
    summary = summarise(plan, observed)
    verbs = {environment.name: environment.verb for environment in plan.environments}
    for name in environments.names(plan, observed):
        planned = environments.conditions(plan, name, summary)
        if verbs.get(name) in _LEAVING and not any(condition.type == RETIRED for condition in planned):
            planned += tuple(_still_retired(observed, name))
        trouble, work, probe = snapshot.troubles.get(name), snapshot.working.get(name), snapshot.probes.get(name)
        facts = environments.facts(observed, name)
        yield EnvironmentStatus(
            name=name,
            status=facts.status,
            ip=facts.ip,
            quota=facts.quota,
            autostart=facts.autostart,
            drift=environments.drift(planned),
            conditions=_dated(_with_work(planned, trouble, work, probe), known.get(name), now),
            probe=probe,
            trouble=trouble,
            work=work,
            host=plan.places[name].host if name in plan.places else "",
        )


def _still_retired(observed: Observed, name: str) -> Iterator[Condition]:
    """A retired environment stays one while it is pruned, or put right because somebody started it."""
    instance = environments.owned_instance(observed, name)
    if instance is not None and instance.config.get(marks.RETIRED):
        since = f"since {instance.config[marks.RETIRED]}"
        yield Condition(RETIRED, ConditionStatus.TRUE, "Retired", since)


def _with_work(planned: Conditions, trouble: Trouble | None, work: Work | None, probe: Probe | None) -> Conditions:
    """What the plan says, and what the loop knows beyond it: the last attempt, the work under way, the probe."""
    found = {condition.type: condition for condition in planned}
    if trouble is not None:
        told = f"{trouble.action}: {trouble.message}"
        found[READY] = Condition(READY, ConditionStatus.FALSE, trouble.reason, told)
        kind = STALLED if _waits_for_person(trouble) else RECONCILING
        found.pop(RECONCILING if kind is STALLED else STALLED, None)
        found[kind] = Condition(kind, ConditionStatus.TRUE, trouble.reason, told)
    if work is not None:
        step = f"{work.action}: {work.step}" if work.step else work.action
        found.pop(STALLED, None)
        found[RECONCILING] = Condition(RECONCILING, ConditionStatus.TRUE, "Working", step)
    if probe is not None and probe.error and found[READY].status is ConditionStatus.TRUE:
        found[READY] = Condition(READY, ConditionStatus.FALSE, UNREACHABLE, probe.error)
    # Ready first, then as they were found.
    return (found.pop(READY), *found.values())


def _waits_for_person(trouble: Trouble) -> bool:
    return trouble.stalled or trouble.retry_at is None


def _dated(conditions: Conditions, before: EnvironmentStatus | None, now: datetime) -> Conditions:
    """The conditions with the time at which each came to its present status."""
    earlier = {condition.type: condition for condition in before.conditions} if before is not None else {}
    stamp = now.isoformat(timespec="seconds")
    return tuple(
        replace(condition, last_transition=same.last_transition or stamp)
        if (same := earlier.get(condition.type)) is not None and same.status is condition.status
        else replace(condition, last_transition=stamp)
        for condition in conditions
    )


def _unseen(environment: EnvironmentStatus, error: str, now: datetime) -> EnvironmentStatus:
    unknown = Condition(READY, ConditionStatus.UNKNOWN, "HostNotSeen", error)
    return replace(
        environment, conditions=_dated((unknown,), environment, now), drift=(), probe=None, trouble=None, work=None
    )


def _counts(found: tuple[EnvironmentStatus, ...]) -> dict[str, int]:
    """How many environments there are of each condition: ``Ready=True``, ``Ready=False``, ``Drifted``."""
    counts = Counter(
        f"{condition.type}={condition.status.value}" if condition.type == READY else condition.type
        for environment in found
        for condition in environment.conditions
        if condition.type == READY or condition.status is ConditionStatus.TRUE
    )
    return dict(sorted(counts.items()))


def _problems(plan: Plan) -> tuple[ProblemStatus, ...]:
    return tuple(ProblemStatus(problem.environment, problem.reason, str(problem)) for problem in plan.problems)


def _interlocks(plan: Plan) -> tuple[InterlockStatus, ...]:
    return tuple(
        InterlockStatus(
            interlock.reason.value, interlock.message, interlock.remedy, interlock.environments, interlock.digest
        )
        for interlock in plan.interlocks
    )


def sentence(snapshot: Snapshot) -> str:
    """How a pass ended, in one line: ``42 as declared, 1 repaired (alice: spec.running), 2 working; 61 ms``."""
    took = f"; {_duration(snapshot.seconds)}"
    if snapshot.error:
        return f"the host could not be looked at: {snapshot.error}{took}"
    if snapshot.plan is None:
        return f"nothing seen yet{took}"
    return ", ".join(_parts(snapshot, snapshot.plan)) + took


def _parts(snapshot: Snapshot, plan: Plan) -> Iterator[str]:
    now = snapshot.started + timedelta(seconds=snapshot.seconds)
    troubles, working = snapshot.troubles, snapshot.working
    yield f"{len(set(plan.unchanged) - set(troubles))} as declared"
    for verb, word in _DONE.items():
        which = {name: done.fields for name, done in sorted(snapshot.done.items()) if done.verb == verb}
        if which:
            yield f"{len(which)} {word} ({_listed(which)})"
    if working:
        yield f"{len(working)} working"
    open_ = [e.name for e in plan.environments if e.actions and e.name not in working and e.name not in troubles]
    if open_:
        yield f"{len(open_)} to do"
    waiting = {name: trouble for name, trouble in troubles.items() if name not in working}
    due = [t.retry_at for t in waiting.values() if t.retry_at is not None and not t.stalled]
    if due:
        yield f"{len(due)} waits for retry in {_duration(max(0.0, (min(due) - now).total_seconds()), whole=True)}"
    stuck = {name: () for name, trouble in sorted(waiting.items()) if _waits_for_person(trouble)}
    if stuck:
        yield f"{len(stuck)} waits for a person ({_listed(stuck)})"
    others = {
        "suspended": plan.suspended,
        "elsewhere": plan.elsewhere,
        "retired": plan.retired,
        "expired": plan.expired,
        "refused": plan.problems,
        "held back": {name for interlock in plan.interlocks for name in interlock.environments} or plan.interlocks,
        "unreachable": [name for name, probe in snapshot.probes.items() if probe.error],
    }
    yield from (f"{len(which)} {word}" for word, which in others.items() if which)
    if snapshot.preempted:
        yield f"this host is to go away: {snapshot.preempted}"


_DONE = {
    "create": "created",
    "move": "moved",
    "adopt": "adopted",
    "update": "updated",
    "repair": "repaired",
    "retire": "retired",
    "prune": "deleted",
}


def _listed(which: Mapping[str, tuple[str, ...]]) -> str:
    told = [f"{name}: {' '.join(fields)}" if fields else name for name, fields in which.items()]
    return "; ".join(told[:_NAMED]) + (f"; {len(told) - _NAMED} more" if len(told) > _NAMED else "")


def _duration(seconds: float, *, whole: bool = False) -> str:
    if whole:
        return f"{seconds:.0f} s"
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{seconds:.1f} s"
