"""Commands that strangers can make print without end: what they print is bounded, and so is what they write.

As in host/command.py they are argument lists with a timeout. Past that, nothing of the caller's environment reaches
them, their output is bytes, and the kernel bounds the files and the memory of all their processes.
"""

from __future__ import annotations

import os
import selectors
import signal
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import IO

from containarium.model.host import RetryableError, TerminalError

_CHUNK = 1 << 16
_ERRORS = 1 << 16
"""Bytes of standard error that are kept; the rest is read and dropped."""


@dataclass(frozen=True, slots=True)
class Output:
    """A command that ran to its end. A negative ``code`` is the signal that killed it."""

    code: int
    out: bytes
    err: str


@dataclass(frozen=True, slots=True)
class Limits:
    """What a command may use: seconds, bytes of output, bytes of each file that it writes, bytes of memory."""

    seconds: float
    output: int = 1 << 20
    file: int = 1 << 20
    memory: int = 2 << 30


def run_bounded(args: Sequence[str], limits: Limits, *, env: Mapping[str, str], stdin: bytes = b"") -> Output:
    """Run a command without a shell, in its own session, with exactly this environment.

    Past its time the whole process group is killed and RetryableError (CommandTimeout) raised; past its output
    TerminalError (OutputTooLarge).
    """
    bounds = ["prlimit", f"--fsize={limits.file}", f"--as={limits.memory}", "--core=0", "--"]
    with tempfile.TemporaryFile() as given:
        given.write(stdin)
        given.seek(0)
        try:
            process = subprocess.Popen(
                [*bounds, *args],
                stdin=given,
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
            out, err = _drain(process.stdout, process.stderr, limits, args[0])
            code = process.wait(timeout=max(1.0, limits.seconds))
        except subprocess.TimeoutExpired:
            _kill(process.pid)
            raise _late(args[0], limits) from None
        except BaseException:
            _kill(process.pid)
            raise
    return Output(code, out, err.decode(errors="replace"))


def _drain(out: IO[bytes], err: IO[bytes], limits: Limits, name: str) -> tuple[bytes, bytes]:
    """Everything that both pipes bring until they close."""
    deadline = time.monotonic() + limits.seconds
    kept: dict[int, bytearray] = {out.fileno(): bytearray(), err.fileno(): bytearray()}
    with selectors.DefaultSelector() as selector:
        for pipe in (out, err):
            selector.register(pipe, selectors.EVENT_READ)
        while selector.get_map():
            left = deadline - time.monotonic()
            if left <= 0:
                raise _late(name, limits)
            for key, _ in selector.select(left):
                data = os.read(key.fd, _CHUNK)
                if not data:
                    selector.unregister(key.fileobj)
                elif key.fd == err.fileno():
                    kept[key.fd] += data[: max(0, _ERRORS - len(kept[key.fd]))]
                elif len(kept[key.fd]) + len(data) > limits.output:
                    raise TerminalError(f"{name} printed more than {limits.output} bytes", reason="OutputTooLarge")
                else:
                    kept[key.fd] += data
    return bytes(kept[out.fileno()]), bytes(kept[err.fileno()])


def _late(name: str, limits: Limits) -> RetryableError:
    return RetryableError(f"{name} did not end within {limits.seconds:.0f} s", reason="CommandTimeout")


def _kill(pid: int) -> None:
    """End the command and everything that it started. Nobody has waited for it yet, so the number is still its own."""
    try:
        os.killpg(pid, signal.SIGKILL)
    except ProcessLookupError:
        return
