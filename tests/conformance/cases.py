"""Every case: a function that plays on a stage, looks, and says what must be seen."""

from __future__ import annotations

from collections.abc import Callable

from tests.conformance import accounts, enforcement, fleet, guests, instances, lifecycle
from tests.conformance.stage import Stage

Case = Callable[[Stage], None]

CASES: tuple[Case, ...] = (
    *accounts.CASES,
    *instances.CASES,
    *lifecycle.CASES,
    *fleet.CASES,
    *guests.CASES,
    *enforcement.CASES,
)
