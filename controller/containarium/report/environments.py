"""Environments as everybody is shown them: which there are, their few facts, their conditions. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from containarium.model import marks
from containarium.model.observed import Instance, Observed
from containarium.model.status import Condition, ConditionStatus
from containarium.plan.addresses import pinned
from containarium.plan.conditions import DRIFTED, READY
from containarium.plan.decision import Plan
from containarium.plan.desired import AUTOSTART, ROOT_DEVICE
from containarium.plan.resolve import owned_account

ABSENT = "Absent"
"""Status of an environment that has no container here."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What a container's own configuration says. ``ip`` and ``quota`` are empty where there is none."""

    status: str = ABSENT
    ip: str = ""
    quota: str = ""
    autostart: bool = False


def owned_instance(observed: Observed, name: str) -> Instance | None:
    """The instance of an environment, None where there is none or it is somebody else's."""
    instance = observed.instances.get(marks.instance_name(name))
    return instance if instance is not None and instance.config.get(marks.ENVIRONMENT) == name else None


def names(plan: Plan, observed: Observed) -> list[str]:
    """Every environment that is declared here or present here, sorted. Nothing foreign is among them."""
    found = {environment.name for environment in plan.environments}
    found.update(plan.unchanged, plan.suspended, plan.elsewhere, plan.retired, plan.expired)
    found.update(problem.environment for problem in plan.problems if problem.environment)
    found.update(
        environment
        for instance in observed.instances.values()
        if (environment := instance.config.get(marks.ENVIRONMENT)) and owned_instance(observed, environment) is instance
    )
    found.update(account.name for account in observed.accounts.values() if owned_account(account))
    return sorted(found)


def facts(observed: Observed, name: str) -> Facts:
    """The facts of one environment."""
    instance = owned_instance(observed, name)
    if instance is None:
        return Facts()
    return Facts(
        status=instance.status.value,
        ip=pinned(observed, name) or "",
        quota=instance.devices.get(ROOT_DEVICE, {}).get("size", ""),
        autostart=instance.config.get(AUTOSTART) == "true",
    )


def conditions(
    plan: Plan, name: str, known: Mapping[str, tuple[Condition, ...]], *, declared: bool = True
) -> tuple[Condition, ...]:
    """The conditions of an environment; what no summary knows has at least an unknown Ready.

    ``declared`` is false where there was no folder of manifests to compare the host with.
    """
    found = known.get(name, ())
    if any(condition.type == READY for condition in found):
        return found
    reason, message = _why_unknown(plan, name, declared=declared)
    return (Condition(READY, ConditionStatus.UNKNOWN, reason, message), *found)


def drift(conditions: tuple[Condition, ...]) -> tuple[str, ...]:
    """Names of the fields that have drifted."""
    text = next((condition.message for condition in conditions if condition.type == DRIFTED), "")
    return tuple(text.split(", ")) if text else ()


def _why_unknown(plan: Plan, name: str, *, declared: bool) -> tuple[str, str]:
    if not declared:
        return "NoManifests", "there are no manifests to compare it with"
    if name in plan.elsewhere:
        return "Elsewhere", "its manifest places it on another host"
    for interlock in plan.interlocks:
        if name in interlock.environments:
            return interlock.reason.value, str(interlock)
    return "NotDeclared", "no manifest names it"
