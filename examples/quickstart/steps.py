"""How the quickstart runs and reports its steps: one line each, with the time it took."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress

from containarium.cli.output import printable, say

_WIDTH = 79


class QuickstartError(Exception):
    """Why it cannot go on, in one line that says what to do."""


class Step:
    """A step that is under way. ``note`` adds to its line; ``progress`` shows what is going on, on a terminal only."""

    def __init__(self, title: str) -> None:
        self._title = title
        self._notes: list[str] = []
        self._started = time.monotonic()
        self._terminal = sys.stdout.isatty()

    def note(self, text: str) -> None:
        """Put ``text`` on the line of this step."""
        self._notes.append(text)

    def progress(self, text: str) -> None:
        """Show ``text`` until something else is shown."""
        if self._terminal:
            sys.stdout.write(f"\r\033[K  {printable(f'{self._title}: {text}')[:_WIDTH]}")
            sys.stdout.flush()

    def end(self, mark: str) -> None:
        """Print the line of this step."""
        if self._terminal:
            sys.stdout.write("\r\033[K")
        text = f"{self._title}: {', '.join(self._notes)}" if self._notes else self._title
        say(f"{mark:<4} {time.monotonic() - self._started:6.1f} s  {text}")
        sys.stdout.flush()


@contextmanager
def step(title: str) -> Iterator[Step]:
    """Time what happens in the block and print one line about it."""
    running = Step(title)
    running.progress("...")
    try:
        yield running
    except BaseException:
        running.end("FAIL")
        raise
    running.end("ok")


def containarium(*args: str, timeout: float, progress: Callable[[str], None] = lambda _line: None) -> list[str]:
    """Run the command ``containarium`` and return its lines; its last line says why when it fails."""
    return follow([sys.executable, "-m", "containarium", *args], timeout=timeout, progress=progress)


def follow(args: Sequence[str], *, timeout: float, progress: Callable[[str], None]) -> list[str]:
    """Run a command, handing over each line that it prints. Past ``timeout`` seconds it and its children are killed."""
    lines: list[str] = []
    with subprocess.Popen(
        args,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,
    ) as process:
        timer = threading.Timer(timeout, _signal, (process.pid, signal.SIGKILL))
        timer.start()
        try:
            for line in process.stdout or ():
                if line.strip():
                    lines.append(line.rstrip())
                    progress(line.strip())
            code = process.wait()
        except KeyboardInterrupt:
            _signal(process.pid, signal.SIGINT)
            raise
        finally:
            expired = not timer.is_alive()
            timer.cancel()
    if expired and code < 0:
        raise QuickstartError(f"no end after {timeout:.0f} s: {' '.join(args[2:])}")
    if code != 0:
        said = [line for line in lines if "error" in line.lower()] or lines
        raise QuickstartError(said[-1].strip() if said else f"exit code {code}: {' '.join(args[2:])}")
    return lines


def _signal(pid: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.killpg(pid, number)
