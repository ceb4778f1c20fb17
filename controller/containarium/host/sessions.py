"""Open sessions of an account: its processes, found by their real user id and ended by process handle."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

_PATIENCE = 2.0
"""Seconds between asking a process to end and ending it."""
_LONGEST = 10.0


def processes_of(uid: int) -> list[int]:
    """Process ids in our own PID namespace whose real user id is ``uid``.

    Other namespaces are containers: their processes may have the same number and are somebody else's.
    """
    found = []
    for entry in os.scandir("/proc"):
        if entry.name.isdecimal() and _runs_as(int(entry.name), uid):
            found.append(int(entry.name))
    return found


def end_processes(uid: int, still_ours: Callable[[], bool]) -> int:
    """End every process of ``uid``: SIGTERM, after two seconds SIGKILL. Returns how many were still there at the end.

    ``still_ours`` is asked before every round, so that a number that changed hands meanwhile is left alone.
    """
    if uid <= 0:
        raise ValueError("never the processes of root")
    start = time.monotonic()
    while (alive := processes_of(uid)) and time.monotonic() - start < _LONGEST:
        if not still_ours():
            break
        number = signal.SIGTERM if time.monotonic() - start < _PATIENCE else signal.SIGKILL
        for pid in alive:
            _signal(pid, uid, number)
        time.sleep(0.05)
    return len(alive)


def _signal(pid: int, uid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        handle = os.pidfd_open(pid)
        try:
            if _runs_as(pid, uid):  # looked at again: the handle is bound to exactly this process
                signal.pidfd_send_signal(handle, number)
        finally:
            os.close(handle)


def _runs_as(pid: int, uid: int) -> bool:
    try:
        status = Path(f"/proc/{pid}/status").read_text(errors="replace")
        if f"\nUid:\t{uid}\t" not in status or "\nState:\tZ" in status:
            return False
        return Path(f"/proc/{pid}/ns/pid").stat().st_ino == Path("/proc/self/ns/pid").stat().st_ino
    except OSError:
        return False
