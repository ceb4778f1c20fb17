"""What a plan is made of."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from containarium.model.action import Action, Change
from containarium.model.problem import Problem


class Verb(StrEnum):
    """What happens to an environment, in one word. The order is that of the summary line."""

    CREATE = "create"
    ADOPT = "adopt"
    """An instance that nobody else manages becomes ours, because its manifest says so."""
    UPDATE = "update"
    REPAIR = "repair"
    """Only drift: the manifest has not changed since it was last reached."""
    RETIRE = "retire"
    PRUNE = "prune"
    NONE = "none"


class Suspicion(StrEnum):
    """Why something that would go away is kept for now."""

    SOURCE_INCOMPLETE = "SourceIncomplete"
    MANIFEST_ERRORS = "ManifestErrors"
    BUDGET = "Budget"
    HOST_UNSURE = "HostUnsure"
    """The pool is not online, the manifests were not read whole in this boot, the clock jumped."""
    SETTLING = "Settling"
    """The manifests are being changed at this moment; it passes by itself."""
    PROTECTED = "Protected"


@dataclass(frozen=True, slots=True)
class Interlock:
    """A reason not to act now. ``digest`` is what an admin approves, empty where approval is not the way out."""

    reason: Suspicion
    message: str
    remedy: str
    environments: tuple[str, ...]
    digest: str = ""

    def __str__(self) -> str:
        return f"{self.message}; {self.remedy}"


@dataclass(frozen=True, slots=True)
class EnvironmentPlan:
    """The actions for one environment, in the order in which they are carried out.

    ``notices`` are differences that are reported and never acted on by themselves (a changed image).
    """

    name: str
    verb: Verb
    actions: tuple[Action, ...] = ()
    notices: tuple[Change, ...] = ()
    reason: str = ""

    @property
    def changes(self) -> tuple[Change, ...]:
        return tuple(change for action in self.actions for change in action.changes)

    @property
    def due(self) -> bool:
        """Whether it is not as declared: there is something to do, or too little was seen to say what."""
        return bool(self.actions) or self.verb is not Verb.NONE


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything that one pass would do. Environments that need nothing are only counted."""

    environments: tuple[EnvironmentPlan, ...] = ()
    unchanged: tuple[str, ...] = ()
    suspended: tuple[str, ...] = ()
    elsewhere: tuple[str, ...] = ()
    """Placed on another host: neither made here nor retired here."""
    retired: tuple[str, ...] = ()
    """Already retired, their data kept until the grace period ends."""
    expired: tuple[str, ...] = ()
    """Declared up to a date that is past, and nothing of them leaves in this pass or was retired before."""
    problems: tuple[Problem, ...] = ()
    interlocks: tuple[Interlock, ...] = ()

    @property
    def pending(self) -> bool:
        """Whether there is anything to do."""
        return any(environment.due for environment in self.environments)

    @property
    def unsafe(self) -> bool:
        """Whether too much would go away at once, so that an admin has to approve exactly that."""
        return any(interlock.reason is Suspicion.BUDGET for interlock in self.interlocks)
