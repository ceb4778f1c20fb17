"""Running commands: argument lists only, always a timeout, and the exit code counts."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

Completed = subprocess.CompletedProcess[str]


class LabError(Exception):
    """The lab could not do what was asked of it."""


class CommandError(LabError):
    """A command ended with an exit code other than 0."""

    def __init__(self, result: Completed) -> None:
        """Keep the result; show the command and the end of what it said."""
        self.result = result
        said = (result.stderr.strip() or result.stdout.strip())[-2000:]
        super().__init__(f"exit code {result.returncode}: {shlex.join(result.args)}\n{said}")


class CommandTimeoutError(LabError):
    """A command did not end in time and was killed."""


def run(
    argv: Sequence[str | Path],
    *,
    timeout: float,
    check: bool = True,
    input: str | bytes | None = None,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
) -> Completed:
    """Run `argv`; on timeout kill its whole process group, so that no grandchild holds the pipes open."""
    args = [str(a) for a in argv]
    process = subprocess.Popen(
        args,
        stdin=subprocess.DEVNULL if input is None else subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, **(env or {})},
        cwd=cwd,
        start_new_session=True,
    )
    data = input.encode() if isinstance(input, str) else input
    try:
        out, err = process.communicate(data, timeout=timeout)
    except BaseException as error:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        if isinstance(error, subprocess.TimeoutExpired):
            raise CommandTimeoutError(f"no end after {timeout:g} s: {shlex.join(args)}") from None
        raise
    result = Completed(args, process.returncode, out.decode(errors="replace"), err.decode(errors="replace"))
    if check and result.returncode != 0:
        raise CommandError(result)
    return result


def wait_until(what: str, condition: Callable[[], bool], *, timeout: float, interval: float = 0.1) -> None:
    """Poll `condition` until it holds; a `LabError` names `what` never came."""
    end = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > end:
            raise LabError(f"{what}: not within {timeout:g} s")
        time.sleep(interval)
