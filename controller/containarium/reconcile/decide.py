"""The plan of a pass, with the last question asked of the host before anything may go away."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from containarium.model.host import Host, HostError
from containarium.model.manifest import Load
from containarium.model.observed import Observed
from containarium.plan.decision import Plan, Verb
from containarium.plan.planner import make_plan
from containarium.plan.terms import Doubt, Terms


def decide(load: Load, observed: Observed, host: Host, now: datetime, terms: Terms) -> Plan:
    """Make the plan, with what the other hosts tell where there are any. Where anything would be retired or deleted,
    the host's doubts are heard first.
    """
    if load.hosts:
        observed = replace(observed, peers=host.peers(load.hosts))
    plan = make_plan(load, observed, now, terms)
    if not any(environment.verb in (Verb.RETIRE, Verb.PRUNE) for environment in plan.environments):
        return plan
    doubts = _doubts(host)
    return make_plan(load, observed, now, replace(terms, doubts=(*terms.doubts, *doubts))) if doubts else plan


def _doubts(host: Host) -> tuple[Doubt, ...]:
    try:
        return tuple(Doubt(message) for message in host.doubts())
    except HostError as error:
        return (Doubt(f"nobody knows whether the host is whole ({error.message})"),)
