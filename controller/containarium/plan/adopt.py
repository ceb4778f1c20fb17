"""Taking over an instance that nobody manages: only when nobody who works in it would notice."""

from __future__ import annotations

from containarium.model import marks
from containarium.model.action import AdoptInstance, Impact
from containarium.model.observed import Instance
from containarium.plan.compare import compare_instance
from containarium.plan.decision import EnvironmentPlan, Verb
from containarium.plan.desired import DesiredEnvironment

_REACHED_ADOPTED = "adopted"
"""Stands where the digest of a finished environment stands, so that nothing takes the instance for half-born."""


def obstacles_to_adoption(desired: DesiredEnvironment, instance: Instance) -> tuple[str, ...]:
    """The fields that would need a restart or a new instance; empty when all changes are live.

    What it was once made of is not written on it, and the manifest's word for that is taken.
    """
    found = compare_instance(desired, instance)
    return tuple(
        change.field
        for change in (*found.changes, *found.notices)
        if change.impact is Impact.RESTART or (change.impact is Impact.RECREATE and change.before)
    )


def adopt(desired: DesiredEnvironment, instance: Instance) -> EnvironmentPlan:
    """Mark it and make it as declared, in one change. What is inside of it is mended by the next pass, as drift is."""
    found = compare_instance(desired, instance)
    action = AdoptInstance(
        environment=desired.name,
        instance=instance.name,
        config={**found.config, marks.APPLIED: _REACHED_ADOPTED},
        devices=found.devices,
        changes=found.changes,
    )
    return EnvironmentPlan(desired.name, Verb.ADOPT, (action,), reason="its manifest asks for it")
