"""The whole decision: ``make_plan`` is what the command line, the daemon and the simulator all call."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from containarium.model import marks
from containarium.model.action import Change, Impact
from containarium.model.manifest import Load
from containarium.model.observed import Observed
from containarium.plan.adopt import adopt
from containarium.plan.decision import EnvironmentPlan, Interlock, Plan, Suspicion, Verb
from containarium.plan.desired import desire
from containarium.plan.diff import diff
from containarium.plan.resolve import Resolution, resolve, suspended_here
from containarium.plan.retire import Departure, departures, due, protected, prune, retire
from containarium.plan.safety import BUDGET_WINDOW, over_budget, unsure
from containarium.plan.terms import Terms

_USUAL = Terms()


def make_plan(load: Load, observed: Observed, now: datetime, terms: Terms = _USUAL) -> Plan:
    """Decide what one pass does. ``now`` carries a time zone. Pure: equal input gives an equal plan."""
    resolution = resolve(load.manifests, observed, now.date(), may_restart=terms.may_restart, claims=terms.claims)
    plans: list[EnvironmentPlan] = []
    unchanged: list[str] = []
    for manifest, address in resolution.settled:
        desired = desire(manifest, observed.host, address)
        instance = observed.instances.get(desired.instance)
        if instance is not None and marks.ENVIRONMENT not in instance.config:
            plans.append(adopt(desired, instance))
            continue
        plan = diff(desired, observed, restart=terms.may_restart(desired.name))
        if desired.name in resolution.held_address:
            plan = _held(plan)
        if plan.actions or plan.notices:
            plans.append(plan)
        else:
            unchanged.append(desired.name)
    leaving, retired, interlocks = _leave(load, observed, resolution, now, terms)
    plans.extend(leaving)
    left_alone = suspended_here(observed)
    return Plan(
        environments=tuple(sorted(plans, key=lambda plan: plan.name)),
        unchanged=tuple(unchanged),
        suspended=tuple(sorted({*resolution.suspended, *left_alone})),
        elsewhere=resolution.elsewhere,
        retired=retired,
        expired=_without_trace(resolution, leaving, retired),
        problems=tuple(sorted((*load.problems, *resolution.problems))),
        interlocks=tuple(interlocks),
    )


def _held(plan: EnvironmentPlan) -> EnvironmentPlan:
    notice = Change(
        "spec.network.ipv4", None, "the new address needs a restart (containarium apply --restart)", Impact.RESTART
    )
    return EnvironmentPlan(plan.name, plan.verb, plan.actions, (*plan.notices, notice), plan.reason)


def _leave(
    load: Load, observed: Observed, resolution: Resolution, now: datetime, terms: Terms
) -> tuple[list[EnvironmentPlan], tuple[str, ...], list[Interlock]]:
    """Who goes: plans for it, who is retired already, and what holds it back."""
    expired = {manifest.name for manifest in resolution.expired}
    kept = frozenset(manifest.name for manifest in load.manifests) - expired
    kept |= {problem.environment for problem in load.problems if problem.environment}
    kept |= suspended_here(observed)
    leaving = departures(observed, kept, resolution.expired)
    everybody = {*(d.name for d in leaving), *_present(observed)}
    fresh = [departure for departure in leaving if not departure.retired]
    old = [departure for departure in leaving if departure.retired]
    recent = [departure.name for departure in old if departure.went_after(now - BUDGET_WINDOW)]
    # Who went long ago makes nobody's share of those who are still here any larger.
    here = everybody - {departure.name for departure in old} | set(recent)
    plans: list[EnvironmentPlan] = []
    interlocks: list[Interlock] = []
    ready = [departure for departure in old if due(departure, now)]
    for held in _unprunable(ready):
        interlocks.append(held)
        ready = [departure for departure in ready if departure.name not in held.environments]
    for verb, candidates, total, before in (
        (Verb.RETIRE, fresh, len(here), recent),
        (Verb.PRUNE, ready, len(everybody), []),
    ):
        names = [departure.name for departure in candidates]
        interlock = unsure(load, names, terms.doubts) or over_budget(verb.value, names, total, terms.approved, before)
        if interlock is not None:
            interlocks.append(interlock)
        elif verb is Verb.RETIRE:
            plans.extend(plan for departure in candidates if (plan := retire(departure, now)).actions)
        else:
            plans.extend(prune(departure) for departure in candidates)
    acted = {plan.name for plan in plans if plan.verb is Verb.PRUNE}
    kept_here = [departure for departure in old if departure.name not in acted]
    if unsure(load, [departure.name for departure in kept_here], terms.doubts) is None:
        plans.extend(plan for departure in kept_here if (plan := retire(departure, now)).actions)
    return plans, tuple(departure.name for departure in kept_here), interlocks


def _without_trace(
    resolution: Resolution, leaving: Sequence[EnvironmentPlan], retired: tuple[str, ...]
) -> tuple[str, ...]:
    """Expired manifests of which nothing is here that could leave."""
    here = {*(plan.name for plan in leaving), *retired}
    return tuple(manifest.name for manifest in resolution.expired if manifest.name not in here)


def _present(observed: Observed) -> frozenset[str]:
    """The environments that have an instance here."""
    return frozenset(
        environment
        for instance in observed.instances.values()
        if (environment := instance.config.get(marks.ENVIRONMENT)) is not None
    )


def _unprunable(ready: Sequence[Departure]) -> list[Interlock]:
    shielded = tuple(departure.name for departure in ready if protected(departure))
    found: list[Interlock] = []
    if shielded:
        found.append(
            Interlock(
                Suspicion.PROTECTED,
                f"protected against deletion: {', '.join(shielded)}",
                "take the protection off the instance itself (security.protection.delete) if the data may go",
                shielded,
            )
        )
    return found
