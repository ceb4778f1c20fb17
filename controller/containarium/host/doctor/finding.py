"""What a check tells, and what it is given."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum

from containarium.host.command import Run
from containarium.host.incus import Incus
from containarium.host.settings import HostSettings
from containarium.model.manifest import Declaration


class Level(StrEnum):
    """How bad it is: FAIL means that something does not work or is not safe, WARN that it may come to that."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of an examination. ``remedy`` says in one line what to do, empty where all is well."""

    check: str
    level: Level
    message: str
    remedy: str = ""


@dataclass(frozen=True, slots=True)
class Patient:
    """What a check looks at the machine with. ``root`` says whether everything may be read."""

    settings: HostSettings
    run: Run
    incus: Incus
    root: bool
    systemd: bool
    declaration: Declaration = field(default_factory=Declaration)
    refused: str = ""


Check = Callable[[Patient], Iterator[Finding]]
PREPARE = "containarium host prepare"


def ok(check: str, message: str) -> Finding:
    """All is well."""
    return Finding(check, Level.OK, message)


def warn(check: str, message: str, remedy: str) -> Finding:
    """It works, but."""
    return Finding(check, Level.WARN, message, remedy)


def fail(check: str, message: str, remedy: str) -> Finding:
    """It does not work, or is not safe."""
    return Finding(check, Level.FAIL, message, remedy)
