"""Commands that strangers can make print without end: what they print is bounded, and so is what they write.

As in host/command.py they are argument lists with a timeout. Past that, nothing of the caller's environment reaches
them, their output is bytes, and the kernel bounds the files and the memory of all their processes.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
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
    out, errors = bytearray(), bytearray()
    with tempfile.TemporaryFile() as given:
        given.write(stdin)
        given.seek(0)
        with begun(args, limits, env=env, stdin=given) as process:
            for data in pieces(process, limits, errors):
                if len(out) + len(data) > limits.output:
                    raise TerminalError(f"{args[0]} printed more than {limits.output} bytes", reason="OutputTooLarge")
                out += data
            code = process.wait(timeout=max(1.0, limits.seconds))
    return Output(code, bytes(out), errors.decode(errors="replace"))


@contextlib.contextmanager
def begun(
    args: Sequence[str], limits: Limits, *, env: Mapping[str, str], stdin: int | IO[bytes]
) -> Iterator[subprocess.Popen[bytes]]:
    """A command without a shell, in its own session, under the kernel's bounds. A block that fails ends it whole.

    Raises TerminalError (CommandMissing), and RetryableError (CommandTimeout) for a TimeoutExpired of the block.
    """
    bounds = ["prlimit", f"--fsize={limits.file}", f"--as={limits.memory}", "--core=0", "--"]
    try:
        process = subprocess.Popen(
            [*bounds, *args],
            stdin=stdin,
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
        try:
            yield process
        except subprocess.TimeoutExpired:
            kill(process)
            raise RetryableError(
                f"{args[0]} did not end within {limits.seconds:.0f} s", reason="CommandTimeout"
            ) from None
        except BaseException:
            kill(process)
            raise


def pieces(process: subprocess.Popen[bytes], limits: Limits, errors: bytearray) -> Iterator[bytes]:
    """What it prints, until both pipes close; ``errors`` takes its standard error, bounded. Raises TimeoutExpired."""
    assert process.stdout is not None  # noqa: S101 (both are pipes)
    assert process.stderr is not None  # noqa: S101
    deadline = time.monotonic() + limits.seconds
    with selectors.DefaultSelector() as selector:
        for pipe in (process.stdout, process.stderr):
            selector.register(pipe, selectors.EVENT_READ)
        while selector.get_map():
            left = deadline - time.monotonic()
            if left <= 0:
                raise subprocess.TimeoutExpired(process.args, limits.seconds)
            for key, _ in selector.select(left):
                data = os.read(key.fd, _CHUNK)
                if not data:
                    selector.unregister(key.fileobj)
                elif key.fd == process.stderr.fileno():
                    errors += data[: max(0, _ERRORS - len(errors))]
                else:
                    yield data


def kill(process: subprocess.Popen[bytes]) -> None:
    """End the command and everything that it started. Nobody has waited for it yet, so the number is still its own."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
