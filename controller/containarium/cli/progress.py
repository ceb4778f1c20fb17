"""What a person sees while apply works: a live table on a terminal, plain lines anywhere else."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from containarium.cli.output import printable
from containarium.cli.steps import step
from containarium.model.action import Action
from containarium.model.host import BuildingError
from containarium.plan.decision import Plan

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.live import Live
    from rich.spinner import Spinner

    from containarium.reconcile.execute import Failure

_BESIDE = 20
"""Columns that the spinner, the elapsed time and the gaps take."""
_LEAST = 12
_NUMBERS = re.compile(r"[0-9.]+")


class PlainReporter:
    """One line per step, ``alice: installing git``. Progress that only counts up is told once."""

    def __init__(self, tell: Callable[[str], None], show_plan: Callable[[Plan], None]) -> None:
        self._tell = tell
        self._show_plan = show_plan
        self._last: dict[str, str] = {}
        self._waiting: set[str] = set()
        self._lock = threading.Lock()

    def running(self) -> AbstractContextManager[None]:
        """Nothing has to be put back in order afterwards."""
        return nullcontext()

    def planned(self, plan: Plan) -> None:
        """Show what is going to be done."""
        self._show_plan(plan)

    def started(self, environment: str, action: Action) -> None:
        """Tell the step; of one that waited, only what is new."""
        with self._lock:
            waited = environment in self._waiting
            self._waiting.discard(environment)
        if not waited:
            self.progress(environment, step(action))

    def progress(self, environment: str, message: str) -> None:
        """Tell a part of the step, unless it is the same line with other numbers in it."""
        gist = _NUMBERS.sub("", message)
        with self._lock:
            if self._last.get(environment) != gist:
                self._last[environment] = gist
                self._tell(f"{environment}: {message}")

    def finished(self, environment: str, failure: Failure | None) -> None:
        """Tell the end. What went wrong stands in the summary, with its remedy."""
        if failure is not None and isinstance(failure.error, BuildingError):
            self.progress(environment, f"waiting: {failure.error}")
            with self._lock:
                self._waiting.add(environment)
            return
        with self._lock:
            self._last.pop(environment, None)
            self._tell(f"{environment}: {'failed' if failure else 'done'}")


@dataclass(slots=True)
class _Row:
    spinner: Spinner
    since: float
    message: str = ""


@dataclass(slots=True)
class LiveReporter:
    """A row per environment that is worked on, with its step and how long it has taken; the finished ones scroll up."""

    console: Console
    show_plan: Callable[[Plan], None]
    monotonic: Callable[[], float] = time.monotonic
    _rows: dict[str, _Row] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _waiting: Live | None = None
    """The table, until it is shown. Outside the lock, since showing it asks for its rows."""

    @contextmanager
    def running(self) -> Iterator[None]:
        """Leave nothing of the table behind when the block ends. It appears with the first step, below the plan."""
        from rich.live import Live

        self._waiting = live = Live(
            get_renderable=self.table, console=self.console, refresh_per_second=8, transient=True
        )
        try:
            yield
        finally:
            live.stop()

    def planned(self, plan: Plan) -> None:
        """Show what is going to be done."""
        self.show_plan(plan)

    def started(self, environment: str, action: Action) -> None:
        """Show the step."""
        from rich.spinner import Spinner

        with self._lock:
            row = self._rows.get(environment)
            if row is None:
                row = self._rows[environment] = _Row(Spinner("dots", style="cyan"), self.monotonic())
            row.message = step(action)
            live, self._waiting = self._waiting, None
        if live is not None:
            live.start()

    def progress(self, environment: str, message: str) -> None:
        """Show a part of the step."""
        with self._lock:
            if environment in self._rows:
                self._rows[environment].message = message

    def finished(self, environment: str, failure: Failure | None) -> None:
        """Take the row away and leave a line."""
        from rich.text import Text

        if failure is not None and isinstance(failure.error, BuildingError):
            self.progress(environment, f"waiting: {failure.error}")
            return
        with self._lock:
            row = self._rows.pop(environment, None)
        elapsed = self.monotonic() - row.since if row else 0.0
        mark, colour, word = ("x", "red", "failed") if failure else ("✓", "green", "done")
        self.console.print(Text.assemble((f"{mark} ", colour), f"{environment}: {word} after {_seconds(elapsed)}"))

    def table(self) -> RenderableType:
        """The rows as they stand now."""
        from rich.table import Table
        from rich.text import Text

        table = Table.grid(padding=(0, 2))
        for justify in ("left", "left", "left", "right"):
            table.add_column(no_wrap=True, justify=justify)
        now = self.monotonic()
        with self._lock:
            room = self.console.width - max(map(len, self._rows), default=0) - _BESIDE
            for name, row in self._rows.items():
                message = Text(printable(row.message).replace("\n", " "))
                message.truncate(max(room, _LEAST), overflow="ellipsis")
                table.add_row(row.spinner, Text(name, "bold"), message, Text(_seconds(now - row.since), "dim"))
        return table


def _seconds(elapsed: float) -> str:
    if elapsed < 60:
        return f"{elapsed:.0f} s"
    minutes, seconds = divmod(int(elapsed), 60)
    return f"{minutes} min {seconds:02} s"
