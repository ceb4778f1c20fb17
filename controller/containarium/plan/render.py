"""A plan for people, in the form that infrastructure tools made familiar, and as JSON for everything else."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

from containarium.model.action import Change, FetchInstance, Impact, RestartInstance
from containarium.plan.decision import EnvironmentPlan, Plan, Verb

_SIGNS = {
    Verb.CREATE: "+",
    Verb.MOVE: ">",
    Verb.ADOPT: "+",
    Verb.UPDATE: "~",
    Verb.REPAIR: "~",
    Verb.RETIRE: "-",
    Verb.PRUNE: "-",
    Verb.NONE: "!",
}
_TITLES = {
    Verb.CREATE: "will be created",
    Verb.MOVE: "will be moved here",
    Verb.ADOPT: "will be adopted as it is",
    Verb.UPDATE: "will be updated",
    Verb.REPAIR: "has drifted and will be repaired",
    Verb.RETIRE: "will be retired: access cut, data kept",
    Verb.PRUNE: "will be deleted with its data",
    Verb.NONE: "needs an admin",
}
_FIELD_WIDTH = 30


def text(plan: Plan) -> str:
    """The plan as lines for a terminal, without colour. Problems and interlocks come last, where they are seen."""
    return "\n".join((*_environments(plan), *_warnings(plan), summary(plan)))


def summary(plan: Plan) -> str:
    """One sentence: how many environments are created, updated, repaired, retired, pruned and left as they are."""
    counts = Counter(environment.verb for environment in plan.environments if environment.due)
    parts = [f"{counts[verb]} to {verb.value}" for verb in Verb if counts[verb]]
    if not parts and not plan.problems and not plan.interlocks:
        parts.append("nothing to do")
    parts.append(f"{len(plan.unchanged)} unchanged")
    held = {name for interlock in plan.interlocks for name in interlock.environments}
    others = {
        "waiting for an admin": [environment for environment in plan.environments if not environment.due],
        "suspended": plan.suspended,
        "elsewhere": plan.elsewhere,
        "expired": plan.expired,
        "retired": plan.retired,
        "refused": plan.problems,
        "held back": held or plan.interlocks,
    }
    parts.extend(f"{len(which)} {word}" for word, which in others.items() if which)
    return f"Plan: {', '.join(parts)}."


def _environments(plan: Plan) -> Iterator[str]:
    for environment in plan.environments:
        yield from _environment(environment)
        yield ""


def _environment(plan: EnvironmentPlan) -> Iterator[str]:
    why = f" ({plan.reason})" if plan.reason else ""
    yield f"  {_SIGNS[plan.verb]} {plan.name} {_TITLES[plan.verb]}{why}"
    if plan.actions and not plan.changes:
        yield "      = as declared, to be recorded"
    now = any(isinstance(action, RestartInstance | FetchInstance) for action in plan.actions)
    for change in plan.changes:
        yield "      " + _change(change, restarted=now)
    for change in plan.notices:
        yield "      " + _change(change, notice=True)


def _change(change: Change, *, notice: bool = False, restarted: bool = False) -> str:
    sign = "!" if notice else "+" if change.before is None else "-" if change.after is None else "~"
    before = "" if change.before is None else change.before
    after = "(none)" if change.after is None else change.after
    value = f"{before} -> {after}" if before else after
    labels = [change.impact.value]
    if change.impact is Impact.RESTART and not notice:
        labels = ["restart: made now" if restarted else "restart: acts after the next one"]
    if notice and change.impact is Impact.RECREATE:
        labels = ["recreate: never done by itself"]
    if change.drift:
        labels.append("drift")
    return f"{sign} {change.field:<{_FIELD_WIDTH}} {value}  [{', '.join(labels)}]"


def _warnings(plan: Plan) -> Iterator[str]:
    lines = [f"Refused: {problem}" for problem in plan.problems]
    lines += [f"Held back: {interlock}" for interlock in plan.interlocks]
    if lines:
        yield from lines
        yield ""


def as_json(plan: Plan) -> dict[str, Any]:
    """The plan as plain data, in a stable order. Keys in snake_case; actions as Action.to_json gives them."""
    return {
        "environments": [
            {
                "name": environment.name,
                "verb": environment.verb.value,
                "reason": environment.reason,
                "actions": [action.to_json() for action in environment.actions],
                "notices": [_plain_change(change) for change in environment.notices],
            }
            for environment in plan.environments
        ],
        "unchanged": list(plan.unchanged),
        "suspended": list(plan.suspended),
        "elsewhere": list(plan.elsewhere),
        "expired": list(plan.expired),
        "retired": list(plan.retired),
        "problems": [
            {
                "file": problem.location.file,
                "line": problem.location.line,
                "column": problem.location.column,
                "field": problem.field,
                "environment": problem.environment,
                "reason": problem.reason,
                "message": problem.message,
                "remedy": problem.remedy,
            }
            for problem in plan.problems
        ],
        "interlocks": [
            {
                "reason": interlock.reason.value,
                "message": interlock.message,
                "remedy": interlock.remedy,
                "environments": list(interlock.environments),
                "digest": interlock.digest,
            }
            for interlock in plan.interlocks
        ],
        "places": {
            name: {"stand": place.stand.value, "host": place.host, "address": place.address, "message": place.message}
            for name, place in sorted(plan.places.items())
        },
        "summary": summary(plan),
    }


def _plain_change(change: Change) -> dict[str, Any]:
    return {
        "field": change.field,
        "before": change.before,
        "after": change.after,
        "impact": change.impact.value,
        "drift": change.drift,
    }
