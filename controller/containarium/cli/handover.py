"""apply on a host with a running controller: it does the work, and the person is told how that went."""

from __future__ import annotations

from pathlib import Path

from containarium.cli.errors import FAILED, OK, UNSAFE, CommandError
from containarium.cli.known import known
from containarium.cli.output import Format, complain, say, say_json
from containarium.cli.steering import confirm
from containarium.cli.wiring import Wiring
from containarium.host.control import ask
from containarium.model.host import TerminalError
from containarium.report.statusfile import EnvironmentStatus, Status

SETTLE = 900.0
"""Seconds for which the controller may be busy; then it goes on without being waited for."""


def hand_over(
    wired: Wiring, folder: Path, *, only: frozenset[str], approved: frozenset[str], restart: bool, output: Format
) -> int | None:
    """Ask the controller for a pass and wait until it is through. Returns the exit code.

    None where nobody answers: then it is another command that holds the lock. Raises HostError, CommandError.
    """
    request = {"do": "reconcile", "restart": (sorted(only) or ["*"]) if restart else [], "settle": SETTLE}
    if folder.resolve() != wired.settings.manifests.resolve():
        if not wired.settings.control.exists():
            return None
        raise CommandError(
            f"the controller of this host keeps to {wired.settings.manifests}",
            f"put the manifests there, or stop it first (systemctl stop containarium) to apply {folder}",
        )
    if not wired.settings.control.exists():
        return None
    for digest in sorted(approved):
        confirm(wired, folder, digest)
    if output is Format.TEXT:
        say("The controller of this host does it.")
    try:
        ask(wired.settings.control, request, timeout=SETTLE + 30.0)
    except TerminalError as error:
        if error.reason == "NoController":
            return None
        raise
    found = known(wired)
    if found is None:
        raise CommandError("the controller wrote no status", "see journalctl -u containarium")
    return _tell(found.status, only, output)


def _tell(status: Status, only: frozenset[str], output: Format) -> int:
    shown = [e for e in status.environments if not only or e.name in only]
    if strangers := sorted(only - {environment.name for environment in shown}):
        raise CommandError(f"there is no environment {', '.join(strangers)}", "see containarium list")
    bad = [environment for environment in shown if environment.wanting]
    interlocks = [i for i in status.interlocks if not only or not only.isdisjoint(i.environments)]
    problems = [p for p in status.problems if not only or p.environment in only]
    code = UNSAFE if any(i.digest for i in interlocks) else FAILED if bad or problems or interlocks else OK
    if output is Format.JSON:
        say_json({"summary": status.last_pass.sentence, "converged": code == OK, **status.to_json()})
        return code
    for environment in bad:
        complain(f"{environment.name}: {_why(environment)}", "red")
    for problem in problems:
        complain(f"Refused: {problem.message}", "red")
    for interlock in interlocks:
        complain(f"Held back: {interlock.message}; {interlock.remedy}", "red")
    say(status.last_pass.sentence, "red" if code else "green")
    return code


def _why(environment: EnvironmentStatus) -> str:
    if environment.trouble is not None:
        return environment.trouble.message
    ready = environment.ready
    return f"{ready.reason}: {ready.message}" if ready.message else ready.reason
