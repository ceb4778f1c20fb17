"""Conditions: what is true of an environment, in the form that Kubernetes made common."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class ConditionStatus(StrEnum):
    TRUE = "True"
    FALSE = "False"
    UNKNOWN = "Unknown"


@dataclass(frozen=True, slots=True)
class Condition:
    """``reason`` is a constant in CamelCase; ``last_transition`` (RFC 3339, UTC) moves only when ``status`` does."""

    type: str
    status: ConditionStatus
    reason: str
    message: str = ""
    last_transition: str = ""
    observed_generation: int = 0


IMAGE_BUILDING = "ImageBuilding"
"""Why an environment waits whose image somebody else is building: nothing has failed."""
