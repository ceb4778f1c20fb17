"""Commands whose output nobody could keep: it is taken line by line, while somebody wants more and time is left.

In everything else they are as those of host/bounded.py.
"""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from containarium.host.bounded import Limits, begun, kill, pieces

Each = Callable[[bytes], bool]
"""Is given a line without its end; says whether it wants more."""


@dataclass(frozen=True, slots=True)
class Streamed:
    """How it ended. ``whole``: by itself, with this exit code; else it was ended for want of time, or of interest."""

    whole: bool
    code: int = 0
    err: str = ""


def stream(args: Sequence[str], limits: Limits, each: Each, *, env: Mapping[str, str]) -> Streamed:
    """Run a command without a shell, in its own session, with exactly this environment.

    ``limits.output`` are bytes of one line; longer ones are left out. Past its time the whole process group is killed,
    and what it said until then stands. Raises HostError.
    """
    errors = bytearray()
    with begun(args, limits, env=env, stdin=subprocess.DEVNULL) as process:
        whole = _read(process, limits, each, errors)
        if whole:
            code = process.wait(timeout=max(1.0, limits.seconds))
            return Streamed(True, code, errors.decode(errors="replace"))
        kill(process)
    return Streamed(False, err=errors.decode(errors="replace"))


def _read(process: subprocess.Popen[bytes], limits: Limits, each: Each, errors: bytearray) -> bool:
    """Whether all of it was read: in time, and wanted to the end."""
    lines = _Lines(limits.output)
    with contextlib.suppress(subprocess.TimeoutExpired):
        return all(each(line) for data in pieces(process, limits, errors) for line in lines.of(data))
    return False


class _Lines:
    """Puts lines together. One that is too long, or has no end, is none."""

    def __init__(self, longest: int) -> None:
        self._longest = longest
        self._begun = b""
        self._too_long = False

    def of(self, data: bytes) -> Iterator[bytes]:
        """The lines that end in this piece."""
        *ended, rest = data.split(b"\n")
        for piece in ended:
            line = self._begun + piece
            if not self._too_long and len(line) <= self._longest:
                yield line
            self._begun, self._too_long = b"", False
        self._begun += rest
        if len(self._begun) > self._longest:
            self._begun, self._too_long = b"", True
