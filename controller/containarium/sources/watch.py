"""Wakes the loop when files change, in a thread of its own. What it says is a reason to look, never a fact.

Folders are watched by inotify, each one by itself and no deeper, so that no link in them leads the watch astray. Where
that cannot be done they are looked at every few seconds instead.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Generator, Iterable, Sequence
from pathlib import Path
from typing import Any, Final, Protocol

from containarium.sources.route import MAX_FOLDERS, Route, Stamp, silent_folders, snapshot, trace

BEGAN: Final = "watch"
"""The reason that is given when the watch begins, or begins again after a failure: anything may have changed."""

_STEP: Final = 110
"""Milliseconds. watchfiles looks so often whether anything was told: half of this is the usual delay, all of it what
a burst must pause. Each look costs a wake-up of the processor, and together they are all that the watch costs at rest.
"""
_BURST: Final = 200
"""Milliseconds after which a burst is told although it goes on."""
_LOOK: Final = 2.0
"""Seconds between two looks at what nobody tells about."""
_FIRST_WAIT, _LONGEST_WAIT = 0.2, 60.0
_HELD: Final = 10.0
"""Seconds after which a watch counts as one that works."""


class Stop(Protocol):
    """Is asked on every step."""

    def is_set(self) -> bool:
        """Whether to end."""
        ...


Listen = Callable[[Iterable[str], Stop], Generator[set[tuple[Any, str]], None, None]]
"""Yields what changed directly in some folders, as sets of kind and path, until it is told to stop.

It asks for the first time when it has begun to listen. Raises what it likes when it cannot.
"""


def inotify(folders: Iterable[str], stop: Stop) -> Generator[set[tuple[Any, str]], None, None]:
    """Listen with watchfiles."""
    import watchfiles  # with what it imports it costs 6 MB

    logging.getLogger("watchfiles").setLevel(logging.WARNING)  # it would write a line about every change
    return watchfiles.watch(
        *folders,
        watch_filter=None,
        debounce=_BURST,
        step=_STEP,
        stop_event=stop,
        rust_timeout=60_000,
        raise_interrupt=False,
        force_polling=False,
        recursive=False,
        ignore_permission_denied=False,  # else a limit that is used up is ignored as well
    )


class Watch:
    """Watches files and folders, which need not exist yet, and calls back when something about them changed."""

    def __init__(
        self,
        paths: Sequence[Path],
        changed: Callable[[str], None],
        note: Callable[[str], None] = lambda _line: None,
        *,
        listen: Listen = inotify,
        look: float = _LOOK,
    ) -> None:
        """Nothing happens before ``start``. Both callbacks come from the watch's thread.

        ``changed`` gets the path as it was given here, or BEGAN; other paths may have changed as well. ``note`` gets
        a line for the log when the way of watching changes. ``look`` is in seconds.
        """
        self._paths = {str(path): str(Path.cwd() / path) for path in paths}
        self._changed = changed
        self._note = note
        self._listen = listen
        self._look = look
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)
        self._routes: dict[str, Route] = {}
        self._seen: dict[str, frozenset[tuple[str, Stamp]]] = {}
        self._polled: set[str] = set()
        self._untold = {BEGAN}
        self._failures = 0
        self._began = 0.0
        self._said = ""

    def start(self) -> None:
        """Begin, and give a reason to look as soon as nothing can be missed any more."""
        self._thread.start()

    def stop(self) -> None:
        """End; returns when no callback will come any more."""
        self._stop.set()
        if self._thread.is_alive() and self._thread is not threading.current_thread():
            self._thread.join()

    # Its thread

    def _run(self) -> None:
        rest = 0.0
        while not self._stop.is_set():
            self._began = 0.0
            try:
                if rest:
                    self._poll(rest)
                rest = 0.0
                self._watch()
            except Exception as error:  # noqa: BLE001 - whatever it is, the watch goes on another way
                held = self._began and time.monotonic() - self._began > _HELD
                self._failures = 1 if held else self._failures + 1
                if self._began:
                    self._untold.add(BEGAN)
                rest = min(_LONGEST_WAIT, _FIRST_WAIT * 4 ** (self._failures - 1))
                if self._failures > 1:  # once is a folder that went away between two steps
                    self._say(_told(error, self._look))
                self._stop.wait(_FIRST_WAIT)

    def _watch(self) -> None:
        """Listen until a route changes."""
        self._routes = self._trace()
        silent = {folder for route in self._routes.values() for folder in silent_folders(route)}
        polled = {given for given, route in self._routes.items() if not silent.isdisjoint(route.watched)}
        self._compare(polled | self._seen.keys())
        self._polled = polled
        folders = {folder for route in self._routes.values() for folder in route.watched} - silent
        if not folders:
            self._poll(_LONGEST_WAIT)
            return
        batches = self._listen(sorted(folders), _Pulse(self._stop, self._outdated, self._look))
        with contextlib.closing(batches):
            for batch in batches:
                paths = {path for _, path in batch}
                told = (given for given, route in self._routes.items() if any(map(route.concerns, paths)))
                self._untold.update(told)
                if self._differs():
                    return
                self._tell()

    def _outdated(self) -> bool:
        """Asked as soon as it listens, and every few seconds: whether it should listen to other folders."""
        if not self._began:
            self._began = time.monotonic()
        elif self._failures and time.monotonic() - self._began > _HELD:
            if self._failures > 1:
                self._say("watching the files again")
            self._failures = 0
        outdated = self._differs()
        self._compare(self._seen)
        self._seen = {given: seen for given, seen in self._seen.items() if given in self._polled}
        self._tell()
        return outdated

    def _poll(self, seconds: float) -> None:
        """Look for so long, without listening."""
        end = time.monotonic() + seconds
        while True:
            self._routes = self._trace()
            self._compare(self._routes)
            self._tell()
            left = end - time.monotonic()
            if left <= 0 or self._stop.wait(min(self._look, left)):
                return

    def _compare(self, paths: Iterable[str]) -> None:
        """Compare what is there with what was there."""
        for given in tuple(paths):
            now = snapshot(self._routes[given])
            if given in self._seen and self._seen[given] != now:
                self._untold.add(given)
            self._seen[given] = now

    def _trace(self) -> dict[str, Route]:
        routes = {given: trace(path) for given, path in self._paths.items()}
        for given, route in routes.items():
            if given in self._routes and self._routes[given] != route:
                self._untold.add(given)
            if route.cut:
                self._say(f"{given} holds more than {MAX_FOLDERS} folders: changes in the others are found later")
        return routes

    def _differs(self) -> bool:
        """Whether a path leads elsewhere than it did; what did is told when it is listened to."""
        return self._trace() != self._routes

    def _tell(self) -> None:
        untold, self._untold = sorted(self._untold), set()
        for reason in untold:
            self._changed(reason)

    def _say(self, line: str) -> None:
        if line != self._said:
            self._said = line
            self._note(line)


class _Pulse:
    """Ends the listening when it should stop, or when a question is answered with yes: asked first, then regularly."""

    def __init__(self, stop: threading.Event, question: Callable[[], bool], every: float) -> None:
        self._stop = stop
        self._question = question
        self._every = every
        self._next = 0.0

    def is_set(self) -> bool:
        if self._stop.is_set():
            return True
        now = time.monotonic()
        if now < self._next:
            return False
        self._next = now + self._every
        return self._question()


def _told(error: Exception, look: float) -> str:
    why = " ".join(str(error).split())[:200] or type(error).__name__
    return (
        f"cannot watch the files ({why}): looking every {look:g} s instead; "
        "if a limit is used up, raise fs.inotify.max_user_watches and fs.inotify.max_user_instances"
    )
