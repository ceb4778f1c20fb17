"""What the running controller found in its last pass, without asking Incus again: quick, and open to everybody."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from containarium.cli.output import complain, count
from containarium.cli.wiring import Wiring
from containarium.plan.conditions import READY
from containarium.report import statusfile
from containarium.report.process import alive
from containarium.report.statusfile import EnvironmentStatus, Status

FRESH = 300.0
"""Seconds. A status that is older says nothing any more, even if the controller's process is still there."""
_OLD = 90.0
"""Seconds. A status that is older is shown, and its age with it: a pass is made every minute."""


@dataclass(frozen=True, slots=True)
class Known:
    """A status and its age in seconds; ``alive`` says whether the controller that wrote it still runs."""

    status: Status
    age: float
    alive: bool

    @property
    def current(self) -> bool:
        """Whether it can stand for a look at the host."""
        return self.alive and self.status.seen and -_OLD <= self.age <= FRESH


def known(wired: Wiring) -> Known | None:
    """The last status that a controller wrote since the boot; None where there is none."""
    status = statusfile.read(wired.settings.status)
    if status is None:
        return None
    last = status.last_pass
    age = (wired.clock() - last.started).total_seconds() - last.seconds
    return Known(status, age, alive(status.daemon))


def current(wired: Wiring) -> Known | None:
    """The status, where it can stand for a look at the host."""
    found = known(wired)
    return found if found is not None and found.current else None


def mention(found: Known) -> None:
    """Say beside a list what its reader has to know: its age, and mistakes in the manifests."""
    if found.age > _OLD:
        complain(f"As it was {ago(found.age)}: --live looks at the host now.", "bright_black")
    if found.status.last_pass.error:
        complain(f"The host could not be looked at: {found.status.last_pass.error}", "red")
    if found.status.problems:
        complain(f"{count(len(found.status.problems), 'problem')} in the manifests: see containarium status", "yellow")


def row(environment: EnvironmentStatus) -> dict[str, Any]:
    """An environment as ``list`` shows it; the same shape as ``overview.rows`` gives."""
    ready, probe = environment.ready, environment.probe
    return {
        "name": environment.name,
        "status": environment.status,
        "ip": environment.ip,
        "quota": environment.quota,
        "autostart": environment.autostart,
        "ready": {"status": ready.status.value, "reason": ready.reason, "message": ready.message},
        "drift": list(environment.drift),
        "ssh": None
        if probe is None
        else {
            "result": "failed" if probe.error else "ok",
            "error": probe.error,
            "at": probe.at.isoformat(timespec="seconds"),
        },
        "host": environment.host,
    }


def overlaid(data: dict[str, Any], found: Known | None) -> dict[str, Any]:
    """What ``info`` saw now, with what only the running controller knows: how its probe and its attempts went.

    Ready is the controller's word where it has any of its own: a look alone cannot tell that nobody gets in.
    """
    environment = found.status.environment(data["name"]) if found is not None else None
    shown = row(environment) if environment is not None else {}
    told = {"ssh": shown.get("ssh"), "trouble": ""}
    if environment is None:
        return data | told
    if environment.trouble is not None:
        told["trouble"] = f"{environment.trouble.action}: {environment.trouble.message}"
    if data["ready"]["status"] == "True" and shown["ready"]["status"] != "True":
        told["ready"] = shown["ready"]
        others = [each for each in data["conditions"] if each["type"] != READY]
        told["conditions"] = [{"type": READY, **shown["ready"]}, *others]
    return data | told


def ago(seconds: float) -> str:
    """``4 s ago``, ``3 min ago``, ``2 h ago``."""
    return f"{span(seconds)} ago"


def span(seconds: float) -> str:
    """A time in its largest whole unit."""
    seconds = max(0.0, seconds)
    for length, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"
