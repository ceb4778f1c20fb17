"""Commands of the host: argument lists only, always with a timeout, the exit code always looked at."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Protocol

from containarium.host.cancel import GLANCE, NEVER, PARTING, CancelledError, Never
from containarium.model.host import RetryableError, TerminalError

_CLEAN_ENVIRONMENT = {"LC_ALL": "C.UTF-8", "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
_TAIL = 5
"""How many last lines of a failed command's output a person is shown."""
_REAPING = 2.0
"""Seconds that a killed command's output is waited for: whoever left its session may still hold it open."""
_POLL = 0.02


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
    cancellation: Never = NEVER,
) -> Completed:
    """Run a command without a shell, in its own session, with a fixed locale and path.

    ``timeout`` is in seconds; past it the whole process group is killed and RetryableError raised. With ``check``, a
    non-zero exit code raises TerminalError with the command's own last lines. ``env`` is added to the
    inherited environment. On ``cancellation`` the process group is ended and CancelledError raised.
    """
    cancellation.check()
    process = _start(args, stdin, env or {})
    try:
        out, err = _attend(process, timeout, cancellation)
    except subprocess.TimeoutExpired as error:
        _end(process)
        raise RetryableError(f"{args[0]} did not end within {timeout:.0f} s", reason="CommandTimeout") from error
    except CancelledError:
        _end(process, PARTING)
        raise
    done = Completed(process.returncode, out, err)
    if check and done.code != 0:
        raise TerminalError(f"{args[0]} failed with exit code {done.code}: {done.tail}", reason="CommandFailed")
    return done


def _start(args: Sequence[str], stdin: str, env: Mapping[str, str]) -> subprocess.Popen[str]:
    with _given(stdin) as given:
        try:
            return subprocess.Popen(
                list(args),
                stdin=given,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env={**os.environ, **_CLEAN_ENVIRONMENT, **env},
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


@contextmanager
def _given(text: str) -> Iterator[int]:
    """A standard input. No pipe: communicate() loses what is not yet written to it when its timeout is over."""
    if not text:
        yield subprocess.DEVNULL
        return
    import tempfile

    with tempfile.TemporaryFile() as file:
        file.write(text.encode())
        file.seek(0)
        yield file.fileno()


def _attend(process: subprocess.Popen[str], timeout: float, cancellation: Never) -> tuple[str, str]:
    """What it printed, once it ended. Raises TimeoutExpired and CancelledError; it still runs then."""
    deadline = time.monotonic() + timeout
    while True:
        try:
            return process.communicate(timeout=max(0.0, min(GLANCE, deadline - time.monotonic())))
        except subprocess.TimeoutExpired:
            cancellation.check()
            if time.monotonic() >= deadline:
                raise


def _end(process: subprocess.Popen[str], patience: float = 0.0) -> None:
    """End the whole process group: by request for ``patience`` seconds, then by force whoever is left of it."""
    if patience:
        os.killpg(process.pid, signal.SIGTERM)
        deadline = time.monotonic() + patience
        while time.monotonic() < deadline and not _ended(process):
            time.sleep(_POLL)
    os.killpg(process.pid, signal.SIGKILL)
    try:
        process.communicate(timeout=_REAPING)
    except subprocess.TimeoutExpired:
        for stream in filter(None, (process.stdout, process.stderr)):
            with suppress(OSError):
                stream.close()
        process.poll()


def _ended(process: subprocess.Popen[str]) -> bool:
    """Whether it ended, without reaping it: until then its number, and so its group's, is nobody else's."""
    return os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT | os.WNOHANG) is not None
