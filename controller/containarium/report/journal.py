"""The file of events: a line of JSON each, appended whole, bounded in size. One old file is kept beside it."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from containarium.report.events import Event

ROTATE_AT = 4 << 20
"""Bytes at which the file becomes the old one."""
_MODE = 0o640
_FLAGS = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW


def old(path: Path) -> Path:
    """Where the file goes when it is full."""
    return path.with_name(path.name + ".1")


class Journal:
    """Appends events. Safe to share between threads and processes: each append is one write.

    A full disk must not stop the controller: what cannot be written is counted in ``lost``, and ``error`` says why.
    """

    def __init__(
        self, path: Path, clock: Callable[[], datetime] = lambda: datetime.now(UTC), *, rotate_at: int = ROTATE_AT
    ) -> None:
        """Nothing is opened before the first event. The folder has to be there by then."""
        self.path = path
        self.lost = 0
        self.error = ""
        self._clock = clock
        self._rotate_at = rotate_at

    def record(self, events: Iterable[Event], pass_id: str = "") -> int:
        """Append events that happened now; returns how many there were."""
        now = self._clock()
        lines = [json.dumps(event.to_json(now, pass_id), separators=(",", ":")) for event in events]
        if lines:
            try:
                self._append("".join(line + "\n" for line in lines).encode("ascii"))
            except OSError as error:
                self.lost += len(lines)
                self.error = f"{self.path}: {error.strerror or error}"
            else:
                self.error = ""
        return len(lines)

    def _append(self, data: bytes) -> None:
        handle = os.open(self.path, _FLAGS, _MODE)
        try:
            size = os.fstat(handle).st_size
            if size and size + len(data) > self._rotate_at:
                self.path.replace(old(self.path))
                os.close(handle)
                handle, size = -1, 0
                handle = os.open(self.path, _FLAGS, _MODE)
            # A line that was cut short (disk full, power) must not take the next one with it.
            if size and os.pread(handle, 1, size - 1) != b"\n":
                data = b"\n" + data
            written = os.write(handle, data)
            if written != len(data):
                raise OSError(None, "disk full")
        finally:
            if handle >= 0:
                os.close(handle)


def read(path: Path, environment: str = "", limit: int = 100) -> list[dict[str, Any]]:
    """The last ``limit`` events, oldest first; of one environment, where it is named. Whatever is no event is left out.

    Raises OSError where the file is there and may not be read.
    """
    found: list[dict[str, Any]] = []
    for line in _backwards(path):
        if len(found) >= limit:
            break
        event = _event(line)
        if event is not None and (not environment or event.get("environment") == environment):
            found.append(event)
    return found[::-1]


def _backwards(path: Path) -> Iterator[bytes]:
    for file in (path, old(path)):
        try:
            handle = os.open(file, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        except FileNotFoundError:
            continue
        with os.fdopen(handle, "rb") as stream:
            # Somebody may have made it larger than we would: the end is what counts.
            stream.seek(max(0, stream.seek(0, os.SEEK_END) - 2 * ROTATE_AT))
            lines = stream.read(2 * ROTATE_AT).split(b"\n")
        yield from reversed(lines)


def _event(line: bytes) -> dict[str, Any] | None:
    if not line.startswith(b"{"):
        return None
    try:
        event = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return event if isinstance(event, dict) and isinstance(event.get("reason"), str) else None
