"""Telling a living controller from a dead one whose process id somebody else was given."""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

_PROC = Path("/proc")
_BIRTH_FIELD = 19
"""Start time in clock ticks since the boot, counted behind the closing bracket of the command's name."""


@dataclass(frozen=True, slots=True)
class Daemon:
    """A controller's process. ``birth`` is its start in clock ticks since the boot; with the pid it is unique."""

    pid: int
    started: datetime
    birth: str = ""


def this_process(now: datetime | None = None) -> Daemon:
    """The running process, started ``now`` (UTC) as far as readers are told."""
    pid = os.getpid()
    return Daemon(pid, now or datetime.now(UTC), _birth(pid))


def alive(daemon: Daemon) -> bool:
    """Whether this very process still runs. Anybody may ask."""
    if daemon.pid <= 0:
        return False
    try:
        os.kill(daemon.pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass  # it is there, and somebody else's
    except OverflowError:
        return False
    birth = _birth(daemon.pid)
    # Where other people's processes are hidden, that there is one of this number has to do.
    return not birth or not daemon.birth or birth == daemon.birth


def _birth(pid: int) -> str:
    try:
        text = (_PROC / str(pid) / "stat").read_text(errors="replace")
    except OSError:
        return ""
    fields = text.rpartition(")")[2].split()
    return fields[_BIRTH_FIELD] if len(fields) > _BIRTH_FIELD else ""
