"""Commands of the host: argument lists only, always with a timeout, the exit code always looked at."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from containarium.model.host import RetryableError, TerminalError

_CLEAN_ENVIRONMENT = {"LC_ALL": "C.UTF-8", "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
_TAIL = 5
"""How many last lines of a failed command's output a person is shown."""


@dataclass(frozen=True, slots=True)
class Completed:
    """A command that ran to its end."""

    code: int
    out: str
    err: str

    @property
    def tail(self) -> str:
        """The last lines it printed, joined into one."""
        lines = [line.strip() for line in (self.err or self.out).splitlines() if line.strip()]
        return " | ".join(lines[-_TAIL:])


class Run(Protocol):
    """Something that runs a command; tests hand in their own."""

    def __call__(
        self,
        args: Sequence[str],
        *,
        timeout: float,
        stdin: str = "",
        check: bool = True,
        env: Mapping[str, str] | None = None,
    ) -> Completed: ...


def run(
    args: Sequence[str],
    *,
    timeout: float,
    stdin: str = "",
    check: bool = True,
    env: Mapping[str, str] | None = None,
) -> Completed:
    """Run a command without a shell, in its own session, with a fixed locale and path.

    ``timeout`` is in seconds; past it the whole process group is killed and RetryableError raised. With ``check``, a
    non-zero exit code raises TerminalError with the command's own last lines. ``env`` is added to the
    inherited environment.
    """
    try:
        process = subprocess.Popen(
            list(args),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, **_CLEAN_ENVIRONMENT, **(env or {})},
            text=True,
            errors="replace",
            start_new_session=True,
        )
    except OSError as error:
        raise TerminalError(
            f"cannot run {args[0]}: {error.strerror}",
            remedy="install the package that holds it (containarium host prepare --install)",
            reason="CommandMissing",
        ) from error
    try:
        out, err = process.communicate(stdin, timeout=timeout)
    except subprocess.TimeoutExpired as error:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        raise RetryableError(f"{args[0]} did not end within {timeout:.0f} s", reason="CommandTimeout") from error
    done = Completed(process.returncode, out, err)
    if check and done.code != 0:
        raise TerminalError(f"{args[0]} failed with exit code {done.code}: {done.tail}", reason="CommandFailed")
    return done
