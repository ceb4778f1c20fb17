"""The one summariser: what is true of every environment, told from a plan and the look that it was made from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from containarium.model import marks
from containarium.model.action import Impact
from containarium.model.observed import Observed
from containarium.model.status import Condition, ConditionStatus
from containarium.plan.decision import EnvironmentPlan, Place, Plan, Stand, Verb

READY = "Ready"
STALLED = "Stalled"
RECONCILING = "Reconciling"
DRIFTED = "Drifted"
RESTART_REQUIRED = "RestartRequired"
RECREATION_REQUIRED = "RecreationRequired"
SUSPENDED = "Suspended"
RETIRED = "Retired"
LEFT_BEHIND = "LeftBehind"

Conditions = tuple[Condition, ...]


def _condition(kind: str, true: bool, reason: str, message: str = "") -> Condition:
    return Condition(kind, ConditionStatus.TRUE if true else ConditionStatus.FALSE, reason, message)


def summarise(plan: Plan, observed: Observed) -> Mapping[str, Conditions]:
    """Conditions by environment, sorted by name. Ready is always there; the others only while they are true."""
    found: dict[str, Conditions] = {}
    for name in plan.unchanged:
        found[name] = (_condition(READY, True, "AsDeclared"),)
    for environment in plan.environments:
        found[environment.name] = tuple(_of_plan(environment))
    for name in plan.suspended:
        message = _why_suspended(name, observed)
        found[name] = (
            _condition(READY, False, "Suspended", message),
            _condition(SUSPENDED, True, "Suspended", message),
        )
    for name in plan.expired:
        found[name] = (_condition(READY, False, "Expired", "the date in its manifest is past (spec.expires)"),)
    for name in plan.retired:
        found[name] = tuple(_retired(name, observed))
    for name, place in plan.places.items():
        if place.stand not in (Stand.HERE, Stand.MOVING) and name not in plan.retired:
            found[name] = (*_away(name, place, observed), *(c for c in found.get(name, ()) if c.type == RECONCILING))
    for problem in plan.problems:
        if problem.environment:
            found[problem.environment] = (
                _condition(READY, False, problem.reason, str(problem)),
                _condition(STALLED, True, problem.reason, str(problem)),
            )
    return dict(sorted(found.items()))


def _of_plan(plan: EnvironmentPlan) -> Iterator[Condition]:
    drifted = sorted({change.field for change in plan.changes if change.drift})
    if not plan.due:
        yield _condition(READY, True, "AsDeclared")
    else:
        verb = {
            Verb.CREATE: "ToBeCreated",
            Verb.MOVE: "ToBeMoved",
            Verb.ADOPT: "ToBeAdopted",
            Verb.RETIRE: "ToBeRetired",
            Verb.PRUNE: "ToBePruned",
        }
        reason = verb.get(plan.verb, "Drifted" if drifted else "ToBeUpdated")
        fields = ", ".join(sorted({change.field for change in plan.changes or plan.notices}))
        yield _condition(READY, False, reason, fields)
        yield _condition(RECONCILING, True, reason, fields)
    if drifted:
        yield _condition(DRIFTED, True, "Drifted", ", ".join(drifted))
    for impact, kind in ((Impact.RESTART, RESTART_REQUIRED), (Impact.RECREATE, RECREATION_REQUIRED)):
        fields = ", ".join(change.field for change in plan.notices if change.impact is impact)
        if fields:
            yield _condition(kind, True, kind, fields)


_AWAY = {
    Stand.ELSEWHERE: "Elsewhere",
    Stand.LEFT_BEHIND: "Elsewhere",
    Stand.LEAVING: "Leaving",
    Stand.WAITING: "WaitingForPeer",
}
"""Reasons of environments that are not to run on this host, or of which nobody knows on which."""


def _away(name: str, place: Place, observed: Observed) -> Iterator[Condition]:
    yield Condition(READY, ConditionStatus.UNKNOWN, _AWAY[place.stand], place.message)
    if place.stand is Stand.LEFT_BEHIND:
        instance = observed.instances.get(marks.instance_name(name))
        until = instance.config.get(marks.PRUNE_AFTER, "") if instance is not None else ""
        message = f"the copy that was left here is kept until {until}" if until else "a copy was left here"
        yield _condition(LEFT_BEHIND, True, "LeftBehind", message)


def _why_suspended(name: str, observed: Observed) -> str:
    if name in observed.held:
        return "a command works on it at this moment"
    instance = observed.instances.get(marks.instance_name(name))
    since = instance.config.get(marks.SUSPENDED, "") if instance is not None else ""
    if not since:
        return "left alone because its manifest says so"
    return f"left alone since {since}, until containarium resume {name}"


def _retired(name: str, observed: Observed) -> Iterator[Condition]:
    instance = observed.instances.get(marks.instance_name(name))
    until = instance.config.get(marks.PRUNE_AFTER, "") if instance is not None else ""
    message = f"data kept until {until}" if until else "data kept"
    yield _condition(READY, False, "Retired", message)
    yield _condition(RETIRED, True, "Retired", message)
