"""What a plan is made of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from containarium.model.action import Action, Change
from containarium.model.problem import Problem


class Verb(StrEnum):
    """What happens to an environment, in one word. The order is that of the summary line."""

    CREATE = "create"
    MOVE = "move"
    """It comes from another host of the fleet, with everything in it."""
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
    PEER_SILENT = "PeerSilent"
    """A host that does not answer may have what would be made here."""
    LEFT_BEHIND = "OnlyLeftBehind"
    """The host that had it has it no more; another has what was left there at a move, which is older."""
    PART_ONLY = "OnlyPart"
    """All that is there is a part of a copy whose source is gone."""
    NOT_DECLARED = "HostNotDeclared"
    """Other hosts are declared, and this one is not."""


class Stand(StrEnum):
    """How an environment stands to this host, where there is a fleet."""

    HERE = "here"
    """It runs here, or is to be made here."""
    ELSEWHERE = "elsewhere"
    """It lives on another host; its jump account here leads there."""
    MOVING = "moving"
    """It is to run here, and another host still has it."""
    LEAVING = "leaving"
    """It is to run on another host, and only this one has it whole: it stays as it is until it is fetched."""
    LEFT_BEHIND = "left-behind"
    """It lives on another host, and the copy that was left here at its move waits for the end of its grace period."""
    WAITING = "waiting"
    """Nobody can tell at present: a host does not answer, or another one has to act first."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where an environment lives. ``host`` is empty while nobody knows, ``message`` says more in words."""

    stand: Stand
    host: str = ""
    address: str = ""
    """Its address there, empty while that is not known."""
    message: str = ""


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
    """Placed on another host, or nobody knows on which: neither made here nor retired here. Its jump account may have
    to be put right all the same.
    """
    retired: tuple[str, ...] = ()
    """Already retired, their data kept until the grace period ends."""
    expired: tuple[str, ...] = ()
    """Declared up to a date that is past, and nothing of them leaves in this pass or was retired before."""
    problems: tuple[Problem, ...] = ()
    interlocks: tuple[Interlock, ...] = ()
    places: Mapping[str, Place] = field(default_factory=dict)
    """Where each environment lives, by name; empty where there is no fleet."""

    @property
    def awaits_peers(self) -> bool:
        """Whether something goes on, or comes to its end, only when another host has answered or acted."""
        passing = (Stand.MOVING, Stand.LEAVING, Stand.WAITING)
        return any(place.stand in passing for place in self.places.values())

    @property
    def pending(self) -> bool:
        """Whether there is anything to do."""
        return any(environment.due for environment in self.environments)

    @property
    def unsafe(self) -> bool:
        """Whether too much would go away at once, so that an admin has to approve exactly that."""
        return any(interlock.reason is Suspicion.BUDGET for interlock in self.interlocks)
