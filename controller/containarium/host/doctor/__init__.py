"""Examines the host: is everything in place, in force and safe, and if not, what mends it. Changes nothing."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from containarium.host import command
from containarium.host.doctor import access, declared, fleet, incus, kernel, service
from containarium.host.doctor.finding import Check, Finding, Level, Patient
from containarium.host.incus import Incus
from containarium.host.settings import HostSettings
from containarium.model.host import HostError
from containarium.model.manifest import Declaration

__all__ = ["Finding", "Level", "examine"]

_CHECKS: tuple[Check, ...] = (
    *declared.CHECKS,
    *incus.CHECKS,
    *kernel.CHECKS,
    *access.CHECKS,
    *service.CHECKS,
    *fleet.CHECKS,
)
_CLIENT_TIMEOUT = 10.0


def examine(
    settings: HostSettings,
    *,
    run: command.Run = command.run,
    client: Incus | None = None,
    declaration: Declaration | None = None,
    refused: str = "",
    checks: Sequence[Check] = _CHECKS,
) -> list[Finding]:
    """Carry out every check; one that cannot be carried out is a finding too. Without root some say so and no more.

    ``declaration`` is what Host manifests say, ``refused`` why that cannot be told.
    """
    patient = Patient(
        settings=settings,
        run=run,
        incus=client or Incus(settings, timeout=_CLIENT_TIMEOUT),
        root=os.geteuid() == 0,
        systemd=Path("/run/systemd/system").is_dir(),
        declaration=declaration or Declaration(),
        refused=refused,
    )
    return [finding for check in checks for finding in _carried_out(check, patient)]


def _carried_out(check: Check, patient: Patient) -> Iterator[Finding]:
    name = check.__name__.replace("_", " ")
    try:
        yield from check(patient)
    except HostError as error:
        level = Level.WARN if error.reason == "NotRoot" else Level.FAIL
        yield Finding(name, level, error.message, error.remedy or "see the message")
    except (OSError, ValueError, KeyError) as error:
        yield Finding(name, Level.FAIL, f"cannot be checked: {error}", "run it as root; else report this as a fault")
