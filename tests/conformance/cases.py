"""Every case: a function that plays on a stage, looks, and says what must be seen."""

from __future__ import annotations

from collections.abc import Callable

from tests.conformance import accounts, guests, instances
from tests.conformance.stage import Stage

Case = Callable[[Stage], None]

CASES: tuple[Case, ...] = (*accounts.CASES, *instances.CASES, *guests.CASES)
