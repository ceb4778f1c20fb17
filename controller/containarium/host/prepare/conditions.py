"""How each step of the last preparation ended, as conditions in a file that the controller and doctor read."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from containarium.host.files import read_small, write_atomically
from containarium.host.prepare.steps import Step
from containarium.host.settings import HostSettings
from containarium.model.status import Condition, ConditionStatus

_VERSION = 1
_DONE, _LIMITED, NOT_REACHED = "Done", "Limited", "NotReached"


@dataclass(frozen=True, slots=True)
class Last:
    """The last preparation. ``digest`` is that of the declaration that it carried out, empty where nobody knows."""

    digest: str = ""
    at: str = ""
    conditions: tuple[Condition, ...] = ()


def write(settings: HostSettings, steps: Iterable[Step], digest: str, now: datetime) -> Last:
    """Replace the file. A condition whose status is what it was keeps its time. Raises OSError."""
    before = {condition.type: condition for condition in read(settings).conditions}
    stamp = now.isoformat(timespec="seconds")
    conditions = tuple(_condition(step, before.get(condition_type(step.name)), stamp) for step in steps)
    content = {
        "version": _VERSION,
        "digest": digest,
        "at": stamp,
        "conditions": [
            {
                "type": c.type,
                "status": c.status.value,
                "reason": c.reason,
                "message": c.message,
                "lastTransitionTime": c.last_transition,
            }
            for c in conditions
        ],
    }
    write_atomically(settings.conditions, json.dumps(content, indent=1) + "\n")
    return Last(digest, stamp, conditions)


def read(settings: HostSettings) -> Last:
    """What the last preparation since the boot left; nothing where there was none, or the file makes no sense."""
    try:
        content = json.loads(read_small(settings.conditions) or "{}")
        return Last(
            str(content.get("digest", "")),
            str(content.get("at", "")),
            tuple(
                Condition(
                    str(c["type"]),
                    ConditionStatus(c["status"]),
                    str(c["reason"]),
                    str(c["message"]),
                    str(c["lastTransitionTime"]),
                )
                for c in content.get("conditions", ())
            ),
        )
    except (ValueError, KeyError, TypeError, AttributeError):
        return Last()


def condition_type(name: str) -> str:
    """A step's name as conditions want it: ``storage pool`` is StoragePool."""
    return "".join(word[:1].upper() + word[1:] for word in name.replace("-", " ").split())


def _condition(step: Step, before: Condition | None, stamp: str) -> Condition:
    error = step.error
    if error is None:
        status, reason = ConditionStatus.TRUE, _LIMITED if step.warning else _DONE
        message = step.warning or step.detail
    else:
        status = ConditionStatus.UNKNOWN if error.reason == NOT_REACHED else ConditionStatus.FALSE
        reason, message = error.reason, str(error)
    same = before is not None and before.status is status and before.last_transition
    since = before.last_transition if before is not None and same else stamp
    return Condition(condition_type(step.name), status, reason, message, since)
