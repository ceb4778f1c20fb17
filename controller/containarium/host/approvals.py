"""What an admin approved, kept where a reboot forgets it: in a file of the runtime folder."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from containarium.host.files import read_small, write_atomically
from containarium.model.host import TerminalError
from containarium.plan.decision import Interlock
from containarium.plan.terms import Approval

VALID = timedelta(minutes=15)
"""How long a word holds: long enough for a slow stop, too short for the next mistake."""


def _file(runtime: Path) -> Path:
    return runtime / "approvals.json"


def read(runtime: Path, now: datetime) -> frozenset[Approval]:
    """The approvals that still hold. What cannot be read approves nothing."""
    return frozenset(Approval(verb, names) for verb, names, _at in _entries(runtime, now))


def approve(runtime: Path, interlock: Interlock, verb: str, now: datetime) -> Approval:
    """Write an approval down. Raises TerminalError when that cannot be done."""
    approval = Approval(verb, frozenset(interlock.environments))
    entries = [
        {"verb": verb, "environments": sorted(names), "at": at.isoformat()}
        for verb, names, at in (*_entries(runtime, now), (verb, approval.environments, now))
    ]
    path = _file(runtime)
    try:
        write_atomically(path, json.dumps(entries) + "\n", 0o600)
    except OSError as error:
        raise TerminalError(
            f"cannot write {path}: {error.strerror}", remedy="run it as root", reason="NotRoot"
        ) from error
    return approval


def _entries(runtime: Path, now: datetime) -> list[tuple[str, frozenset[str], datetime]]:
    text = read_small(_file(runtime))
    try:
        found = [_entry(entry) for entry in json.loads(text or "[]")]
    except (ValueError, TypeError, KeyError, AttributeError):
        return []
    return [entry for entry in found if timedelta() <= now - entry[2] <= VALID]


def _entry(entry: dict[str, Any]) -> tuple[str, frozenset[str], datetime]:
    at = datetime.fromisoformat(entry["at"])
    if at.tzinfo is None:
        raise ValueError(entry["at"])
    return str(entry["verb"]), frozenset(str(name) for name in entry["environments"]), at
