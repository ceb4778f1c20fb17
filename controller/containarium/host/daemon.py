"""Daemons started by hand, for machines without systemd: detached, with a pid file and a log."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from containarium.host.command import Run, run
from containarium.host.files import make_folder, read_small
from containarium.model.host import RetryableError, TerminalError


@dataclass(frozen=True)
class Daemon:
    """One such daemon. ``command`` begins with the absolute path of its program, which stays in the foreground."""

    command: Sequence[str]
    pid_file: Path
    log: Path
    run: Run = run

    def start(self, env: Mapping[str, str] | None = None) -> bool:
        """Start it in a session of its own. Returns False when it runs already; whether it is ready is another matter.

        Raises TerminalError (DaemonNotStarted).
        """
        if self.pid() is not None:
            return False
        make_folder(self.pid_file.parent)
        make_folder(self.log.parent, 0o700)
        program, *arguments = self.command
        how = ["--start", "--background", "--make-pidfile", "--pidfile", str(self.pid_file), "--output", str(self.log)]
        done = self.run(
            ["start-stop-daemon", *how, "--startas", program, "--", *arguments], timeout=30, check=False, env=env
        )
        if done.code != 0:
            raise TerminalError(
                f"{program} did not start: {done.tail}", remedy=f"read {self.log}", reason="DaemonNotStarted"
            )
        return True

    def stop(self, patience: float = 30) -> bool:
        """End it: SIGTERM, after ``patience`` seconds SIGKILL. Returns False when it was not running."""
        pid = self.pid()
        if pid is None:
            return False
        for number, seconds in ((signal.SIGTERM, patience), (signal.SIGKILL, 10.0)):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
            deadline = time.monotonic() + seconds
            while self.pid() == pid and time.monotonic() < deadline:
                time.sleep(0.05)
            if self.pid() != pid:
                self.pid_file.unlink(missing_ok=True)
                return True
        raise RetryableError(f"{self.command[0]} (process {pid}) does not end", reason="DaemonNotStopped")

    def pid(self) -> int | None:
        """Its process id while it runs; the number of a dead one that another program got does not count."""
        try:
            pid = int((read_small(self.pid_file) or "").strip())
            words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        except (ValueError, OSError):
            return None
        given = [word.encode() for word in self.command]
        # sshd and its like write what they do before their command line
        return pid if given[0] in words[0] and all(word in b" ".join(words) for word in given[1:]) else None
