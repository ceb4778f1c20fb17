"""Carrying out one environment's plan, action by action, until its end or the first failure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from containarium.model.action import Action
from containarium.model.host import Host, HostError, RetryableError
from containarium.plan.decision import EnvironmentPlan


@dataclass(frozen=True, slots=True)
class Failure:
    """One environment's action that did not succeed. The rest of that environment's actions were left out."""

    environment: str
    action: str
    error: HostError


class Listener(Protocol):
    """Is told what happens to environments, from several threads at once."""

    def started(self, environment: str, action: Action) -> None: ...

    def progress(self, environment: str, message: str) -> None: ...

    def finished(self, environment: str, failure: Failure | None) -> None: ...


def carry_out(
    plan: EnvironmentPlan, host: Host, told: Listener, may_go_on: Callable[[], None] = lambda: None
) -> Failure | None:
    """Carry out a plan. Whatever goes wrong is returned, so that the other environments go on.

    ``may_go_on`` is asked before each action, and raises HostError where the rest is to be left out.
    """
    failure: Failure | None = None
    for action in plan.actions:
        told.started(plan.name, action)
        try:
            may_go_on()
            host.execute(action, lambda message: told.progress(plan.name, message))
        except HostError as error:
            failure = Failure(plan.name, action.kind, error)
            break
        except Exception as error:  # noqa: BLE001 - whatever it is, the other environments go on
            failure = Failure(plan.name, action.kind, unexpected(error))
            break
    told.finished(plan.name, failure)
    return failure


def unexpected(error: Exception) -> HostError:
    """An error that nobody thought of, as one that is tried again; a bug names itself as one."""
    if isinstance(error, OSError) and error.strerror:
        place = f"{error.filename}: " if error.filename else ""
        return RetryableError(
            f"{place}{error.strerror}", remedy="mend that and run it again", reason=type(error).__name__
        )
    found = RetryableError(
        f"internal error ({type(error).__name__})", remedy="please report it", reason="InternalError"
    )
    found.__cause__ = error
    return found
