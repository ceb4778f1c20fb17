"""Commands whose output nobody could keep: it is taken line by line, while somebody wants more and time is left.

In everything else they are as those of host/bounded.py.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import IO

from containarium.host.bounded import Limits
from containarium.model.host import RetryableError, TerminalError

_CHUNK = 1 << 16
_ERRORS = 1 << 16
"""Bytes of standard error that are kept; the rest is read and dropped."""

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
    bounds = ["prlimit", f"--fsize={limits.file}", f"--as={limits.memory}", "--core=0", "--"]
    try:
        process = subprocess.Popen(
            [*bounds, *args],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=dict(env),
            start_new_session=True,
        )
    except OSError as error:
        raise TerminalError(
            f"cannot run {bounds[0]}: {error.strerror}", remedy="install util-linux", reason="CommandMissing"
        ) from error
    with process:
        assert process.stdout is not None  # noqa: S101 (both are pipes)
        assert process.stderr is not None  # noqa: S101
        try:
            whole, err = _read(process.stdout, process.stderr, limits, each)
            if whole:
                return Streamed(True, process.wait(timeout=max(1.0, limits.seconds)), err)
            _kill(process.pid)
        except subprocess.TimeoutExpired:
            _kill(process.pid)
            raise RetryableError(
                f"{args[0]} did not end within {limits.seconds:.0f} s", reason="CommandTimeout"
            ) from None
        except BaseException:
            _kill(process.pid)
            raise
    return Streamed(False, err=err)


def _read(out: IO[bytes], err: IO[bytes], limits: Limits, each: Each) -> tuple[bool, str]:
    """Whether all of it was read, and what it complained of."""
    deadline = time.monotonic() + limits.seconds
    lines, complaints = _Lines(limits.output), bytearray()
    with selectors.DefaultSelector() as selector:
        for pipe in (out, err):
            selector.register(pipe, selectors.EVENT_READ)
        while selector.get_map():
            left = deadline - time.monotonic()
            if left <= 0:
                return False, complaints.decode(errors="replace")
            for key, _ in selector.select(left):
                data = os.read(key.fd, _CHUNK)
                if not data:
                    selector.unregister(key.fileobj)
                elif key.fd == err.fileno():
                    complaints += data[: max(0, _ERRORS - len(complaints))]
                elif not all(each(line) for line in lines.of(data)):
                    return False, complaints.decode(errors="replace")
    return True, complaints.decode(errors="replace")


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


def _kill(pid: int) -> None:
    """End the command and everything that it started. Nobody has waited for it yet, so the number is still its own."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)
