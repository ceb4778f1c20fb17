"""Environments as list and info show them: plain data, told from a survey. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from containarium.cli.survey import Survey
from containarium.model import marks
from containarium.model.observed import Account, InstanceStatus, Password
from containarium.model.status import Condition
from containarium.plan.conditions import READY, summarise
from containarium.plan.resolve import owned_account
from containarium.report import environments


def names(survey: Survey) -> list[str]:
    """Every environment that is declared here or present here, sorted. Nothing foreign is among them."""
    return environments.names(survey.plan, survey.observed)


def rows(survey: Survey) -> list[dict[str, Any]]:
    """What list shows, sorted by name."""
    conditions = summarise(survey.plan, survey.observed)
    return [_row(survey, name, _conditions(survey, name, conditions)) for name in names(survey)]


def details(survey: Survey, name: str) -> dict[str, Any]:
    """What info shows of one environment, which has to be among ``names``."""
    conditions = _conditions(survey, name, summarise(survey.plan, survey.observed))
    instance = environments.owned_instance(survey.observed, name)
    config = instance.config if instance is not None else {}
    row = _row(survey, name, conditions)
    return {
        "name": name,
        "container": marks.instance_name(name),
        "user": name,
        "host": row["host"],
        "status": row["status"],
        "ip": row["ip"],
        "resources": {
            "cpu": config.get("limits.cpu", ""),
            "memory": config.get("limits.memory", ""),
            "disk": row["quota"],
            "processes": config.get("limits.processes", ""),
        },
        "autostart": row["autostart"],
        "image": config.get(marks.IMAGE, ""),
        "created": instance.created_at if instance is not None else "",
        "last_used": instance.last_used_at if instance is not None else "",
        "retired": config.get(marks.RETIRED, ""),
        "retired_until": config.get(marks.PRUNE_AFTER, ""),
        "jump_account": _account(survey.observed.accounts.get(name)),
        "keys": _keys(survey, name),
        "ready": row["ready"],
        "drift": row["drift"],
        "conditions": [_condition(condition) for condition in conditions],
    }


def uptime(survey: Survey, name: str, now: datetime) -> float | None:
    """Seconds since it was started; None while it does not run."""
    instance = environments.owned_instance(survey.observed, name)
    if instance is None or instance.status is not InstanceStatus.RUNNING:
        return None
    try:
        since = datetime.fromisoformat(instance.last_used_at)
    except ValueError:
        return None
    return max(0.0, (now - since).total_seconds()) if since.tzinfo is not None else None


def _row(survey: Survey, name: str, conditions: tuple[Condition, ...]) -> dict[str, Any]:
    facts = environments.facts(survey.observed, name)
    ready = next(condition for condition in conditions if condition.type == READY)
    return {
        "name": name,
        "status": facts.status,
        "ip": facts.ip,
        "quota": facts.quota,
        "autostart": facts.autostart,
        "ready": {"status": ready.status.value, "reason": ready.reason, "message": ready.message},
        "drift": list(environments.drift(conditions)),
        "ssh": None,
        "host": place.host if (place := survey.plan.places.get(name)) is not None else "",
    }


def _conditions(survey: Survey, name: str, known: Mapping[str, tuple[Condition, ...]]) -> tuple[Condition, ...]:
    return environments.conditions(survey.plan, name, known, declared=survey.declared)


def _condition(condition: Condition) -> dict[str, str]:
    return {
        "type": condition.type,
        "status": condition.status.value,
        "reason": condition.reason,
        "message": condition.message,
    }


def _account(account: Account | None) -> dict[str, str]:
    """The jump account in a word, and what is not as it should be."""
    if account is None:
        return {"state": "missing", "detail": ""}
    if not owned_account(account):
        return {"state": "foreign", "detail": f"uid {account.uid} is not ours"}
    odd = []
    if account.shell != marks.JUMP_SHELL:
        odd.append(f"shell {account.shell}")
    if account.password is not Password.NONE:
        odd.append(f"password {account.password.value}")
    if account.groups - {marks.JUMP_GROUP}:
        odd.append(f"groups {', '.join(sorted(account.groups - {marks.JUMP_GROUP}))}")
    if account.subordinate_ids:
        odd.append("subordinate ids")
    if not account.keys:
        odd.append("no keys")
    state = "locked" if account.expired else "altered" if odd else "active"
    return {"state": state, "detail": "; ".join(odd)}


def _keys(survey: Survey, name: str) -> list[dict[str, Any]]:
    """Every key by its fingerprint: those the manifest declares, and those the jump account accepts."""
    from containarium.model.sshkey import SSHKey

    account = survey.observed.accounts.get(name)
    lines = account.keys or () if account is not None and owned_account(account) else ()
    installed: dict[str, tuple[str, str]] = {}
    for line in lines:
        # A line of ours is options, a blank, and the key; there is no blank within the options.
        try:
            key = SSHKey.parse(line.partition(" ")[2])
        except ValueError:
            installed[f"unreadable: {line[:40]}"] = ("", "")
        else:
            if key.identity != survey.observed.host.probe_key:  # the controller's own: nobody declares it
                installed[key.fingerprint] = (key.type, key.comment)
    declared = {
        key.fingerprint: (key.type, key.comment) for m in survey.load.manifests if m.name == name for key in m.keys
    }
    return [
        {
            "fingerprint": fingerprint,
            "type": kind,
            "comment": comment,
            "declared": fingerprint in declared,
            "installed": fingerprint in installed,
        }
        for fingerprint, (kind, comment) in sorted((installed | declared).items())
    ]
