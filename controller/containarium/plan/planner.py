"""The whole decision: ``make_plan`` is what the command line, the daemon and the simulator all call."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from containarium.model import marks
from containarium.model.action import Change, Impact
from containarium.model.manifest import Load
from containarium.model.observed import Observed
from containarium.plan.adopt import adopt
from containarium.plan.decision import EnvironmentPlan, Interlock, Place, Plan, Stand, Suspicion, Verb
from containarium.plan.desired import desire
from containarium.plan.fleet import Fleet, short_name
from containarium.plan.moves import away, departed, frozen, is_retirement, settle
from containarium.plan.resolve import Resolution, owned_account, resolve, suspended_here
from containarium.plan.retire import Departure, departures, due, protected, prune, retire
from containarium.plan.safety import BUDGET_WINDOW, over_budget, unsure
from containarium.plan.terms import Terms

_USUAL = Terms()


def make_plan(load: Load, observed: Observed, now: datetime, terms: Terms = _USUAL) -> Plan:
    """Decide what one pass does. ``now`` carries a time zone. Pure: equal input gives an equal plan."""
    fleet = Fleet.of(load, observed)
    if fleet is not None and not fleet.member:
        return _outside(load, observed, fleet)
    resolution = resolve(
        load.manifests, observed, now.date(),
        may_restart=terms.may_restart, claims=terms.claims, fleet=fleet, approved=terms.approved,
    )  # fmt: skip
    elsewhere = _away(resolution, observed, now)
    plans = list(elsewhere.plans)
    unchanged: list[str] = []
    for manifest, address in resolution.settled:
        desired = desire(manifest, observed.host, address)
        instance = observed.instances.get(desired.instance)
        if instance is not None and marks.ENVIRONMENT not in instance.config:
            plans.append(adopt(desired, instance))
            continue
        plan = settle(
            desired, observed, resolution.decisions.get(desired.name), restart=terms.may_restart(desired.name)
        )
        if desired.name in resolution.held_address:
            plan = _held(plan)
        if plan.actions or plan.notices:
            plans.append(plan)
        else:
            unchanged.append(desired.name)
    leaving, retired, interlocks = _leave(load, observed, resolution, now, terms, elsewhere)
    plans.extend(leaving)
    left_alone = suspended_here(observed)
    return Plan(
        environments=tuple(sorted(plans, key=lambda plan: plan.name)),
        unchanged=tuple(unchanged),
        suspended=tuple(sorted({*resolution.suspended, *left_alone})),
        elsewhere=tuple(sorted({*resolution.elsewhere, *(manifest.name for manifest in resolution.away)})),
        retired=retired,
        expired=_without_trace(resolution, leaving, retired),
        problems=tuple(sorted((*load.problems, *resolution.problems))),
        interlocks=(*resolution.interlocks, *interlocks),
        places=_places(resolution, observed) if fleet is not None else {},
    )


def _outside(load: Load, observed: Observed, fleet: Fleet) -> Plan:
    """This host is none of those that are declared: whatever is here stays as it is."""
    here = tuple(sorted(_present(observed)))
    listed = ", ".join(sorted(fleet.hosts))
    kept = f", so everything here stays as it is ({', '.join(here)})" if here else ""
    interlock = Interlock(
        Suspicion.NOT_DECLARED,
        f"this host, {fleet.own}, is not declared, and others are ({listed}){kept}",
        f"add the Host manifest of {fleet.own}",
        here,
    )
    absent = tuple(sorted({manifest.name for manifest in load.manifests}.difference(here)))
    return Plan(elsewhere=absent, problems=tuple(sorted(load.problems)), interlocks=(interlock,))


@dataclass(frozen=True, slots=True)
class _Away:
    """What is to be done about those that run on other hosts. All of it is empty where there is no fleet."""

    plans: tuple[EnvironmentPlan, ...] = ()
    superseded: dict[str, EnvironmentPlan] = field(default_factory=dict)
    """Those that are here and on the host that counts: retired, with the same care as who leaves."""
    left: tuple[Departure, ...] = ()
    """What was left behind at moves, while its environment certainly lives on another host."""
    doors: frozenset[str] = frozenset()
    """Every environment with a jump account: each host of a fleet has all of them."""


def _away(resolution: Resolution, observed: Observed, now: datetime) -> _Away:
    if not resolution.decisions:
        return _Away()
    refused = (frozen(manifest, observed, resolution.decisions[manifest.name]) for manifest in resolution.frozen)
    plans = [plan for plan in refused if plan.actions]
    superseded: dict[str, EnvironmentPlan] = {}
    left: list[Departure] = []
    for manifest in resolution.away:
        name, decision = manifest.name, resolution.decisions[manifest.name]
        plan = away(manifest, observed, decision, now)
        if plan.actions and is_retirement(observed, name, decision):
            superseded[name] = replace(plan, verb=Verb.RETIRE)
        elif plan.actions:
            plans.append(plan)
        elif (departure := departed(name, observed, decision)) is not None:
            left.append(departure)
    doors = frozenset(account.name for account in observed.accounts.values() if owned_account(account))
    return _Away(tuple(plans), superseded, tuple(left), doors)


def _places(resolution: Resolution, observed: Observed) -> Mapping[str, Place]:
    """Where each environment lives; of those here the address is known by now."""
    found = {name: decision.place for name, decision in resolution.decisions.items()}
    for manifest, address in resolution.settled:
        if (place := found.get(manifest.name)) is not None and place.stand is not Stand.MOVING:
            found[manifest.name] = Place(Stand.HERE, short_name(observed.host), address)
    return found


def _held(plan: EnvironmentPlan) -> EnvironmentPlan:
    notice = Change(
        "spec.network.ipv4", None, "the new address needs a restart (containarium apply --restart)", Impact.RESTART
    )
    return EnvironmentPlan(plan.name, plan.verb, plan.actions, (*plan.notices, notice), plan.reason)


def _leave(
    load: Load, observed: Observed, resolution: Resolution, now: datetime, terms: Terms, fleet: _Away
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
    here = everybody - {departure.name for departure in old} | set(recent) | fleet.doors
    plans: list[EnvironmentPlan] = []
    interlocks: list[Interlock] = []
    ready = [departure for departure in (*old, *fleet.left) if due(departure, now)]
    for held in _unprunable(ready):
        interlocks.append(held)
        ready = [departure for departure in ready if departure.name not in held.environments]
    retiring = {departure.name: retire(departure, now) for departure in fresh} | fleet.superseded
    pruning = {departure.name: prune(departure) for departure in ready}
    for verb, candidates, total, before in (
        (Verb.RETIRE, retiring, len(here), recent),
        (Verb.PRUNE, pruning, len(everybody), []),
    ):
        names = list(candidates)
        interlock = unsure(load, names, terms.doubts) or over_budget(verb.value, names, total, terms.approved, before)
        if interlock is not None:
            interlocks.append(interlock)
        else:
            plans.extend(plan for plan in candidates.values() if plan.actions)
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
