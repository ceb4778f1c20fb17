"""Ctrl-C while apply works: the steps that run are finished and none begun. A second one ends it at once."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import TYPE_CHECKING

from containarium.model.action import Action
from containarium.model.fleet import Peer
from containarium.model.host import Host, Inside, Progress, everybody, silent
from containarium.model.observed import Look, Observed

if TYPE_CHECKING:
    from containarium.model.manifest import DeclaredHost

_SHOW_CURSOR = "\x1b[?25h"
_STOPPING = b"\ncontainarium: stopping after the steps that run now; press Ctrl-C again to stop at once\n"


class Interrupt:
    """Whether the person wants it to end. Used by one block of the main thread, read by every thread."""

    def __init__(self) -> None:
        self._asked = threading.Event()

    @contextmanager
    def heeded(self) -> Iterator[None]:
        """Take SIGINT over while the block runs. It ends with KeyboardInterrupt once every thread has."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = signal.signal(signal.SIGINT, self._ask)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, before)

    def guard(self, host: Host) -> Host:
        """The same host, on which nothing more is begun once the person asked for the end."""
        return _Guarded(host, self._check)

    def _check(self) -> None:
        if self._asked.is_set():
            raise KeyboardInterrupt

    def _ask(self, _signal: int, _frame: FrameType | None) -> None:
        if self._asked.is_set():
            # Nothing is lost: whatever was begun is found half-done by the next apply, and finished.
            if os.isatty(1):
                os.write(1, _SHOW_CURSOR.encode())
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            os.kill(os.getpid(), signal.SIGINT)
        self._asked.set()
        os.write(2, _STOPPING)  # not through Python's streams, which may be in the middle of a line
        raise KeyboardInterrupt


@dataclass(frozen=True, slots=True)
class _Guarded:
    """A host that asks before each thing it does whether to go on."""

    host: Host
    check: Callable[[], None]

    def observe(self, look: Look = Look.DEEP, inside: Inside = everybody) -> Observed:
        """Look, unless it is to end."""
        self.check()
        return self.host.observe(look, inside)

    def doubts(self) -> tuple[str, ...]:
        """Those of the host."""
        return self.host.doubts()

    def peers(self, hosts: Sequence[DeclaredHost]) -> Mapping[str, Peer]:
        """What the others tell the host."""
        return self.host.peers(hosts)

    def cancel(self) -> None:
        """End what runs there."""
        self.host.cancel()

    def resume(self) -> None:
        """Take a ``cancel`` back."""
        self.host.resume()

    def execute(self, action: Action, progress: Progress = silent) -> None:
        """Act, unless it is to end."""
        self.check()
        self.host.execute(action, progress)
