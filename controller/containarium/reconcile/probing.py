"""When whose SSH is tried for real: everybody's in turn, and at once where a door was just made or mended."""

from __future__ import annotations

import collections
import threading
from collections.abc import Callable, Mapping
from datetime import datetime

from containarium.model import marks
from containarium.model.observed import InstanceStatus
from containarium.plan.addresses import pinned
from containarium.reconcile.execute import unexpected
from containarium.report.snapshot import Probe, Snapshot

EVERY = 60.0
"""Seconds between two probes while nothing happens, whatever the number of environments: each is a few processes."""
_AGAIN = 15.0
"""Seconds until one that failed is tried once more, out of turn."""

Try = Callable[[str, str, str], tuple[float, str]]
"""Tries environment, instance and address; returns seconds, and what is wrong (empty: nothing)."""


class Probing:
    """Probes one environment after the other in a thread of its own."""

    def __init__(self, attempt: Try, changed: Callable[[], None], clock: Callable[[], datetime]) -> None:
        """``changed`` is called when an environment can be reached that could not, or the other way round."""
        self._attempt = attempt
        self._changed = changed
        self._clock = clock
        self._lock = threading.Condition()
        self._targets: dict[str, tuple[str, str]] = {}
        self._urgent: collections.deque[str] = collections.deque()
        self._turn: collections.deque[str] = collections.deque()
        self._results: dict[str, Probe] = {}
        self._confirmed: set[str] = set()
        """Who failed twice in a row: it waits for its turn like everybody."""
        self._stopped = False

    def start(self) -> None:
        """Begin."""
        threading.Thread(target=self._run, name="probe", daemon=True).start()

    def stop(self) -> None:
        """End after the probe that runs."""
        with self._lock:
            self._stopped = True
            self._lock.notify_all()

    @property
    def results(self) -> Mapping[str, Probe]:
        """How the last probe of each environment ended."""
        with self._lock:
            return dict(self._results)

    def ask(self, name: str) -> None:
        """Probe this one next."""
        with self._lock:
            if name in self._targets and name not in self._urgent:
                self._urgent.append(name)
                self._lock.notify_all()

    def check(self, snapshot: Snapshot) -> None:
        """Take over from a pass who can be probed: who is as declared and runs. News come first."""
        plan, observed = snapshot.plan, snapshot.observed
        if plan is None or observed is None or snapshot.error or not observed.host.probe_key:
            return
        targets = {}
        for name in plan.unchanged:
            box = marks.instance_name(name)
            instance, address = observed.instances.get(box), pinned(observed, name)
            if instance is not None and instance.status is InstanceStatus.RUNNING and address:
                targets[name] = (box, address)
        with self._lock:
            new = [name for name, target in targets.items() if self._targets.get(name) != target]
            self._targets = targets
            for name in self._results.keys() - targets.keys():
                del self._results[name]
            self._confirmed &= targets.keys()
            self._turn = collections.deque(name for name in self._turn if name in targets and name not in new)
            self._turn.extend(name for name in targets if name not in self._turn)
            self._urgent.extend(name for name in new if name not in self._urgent)
            if new:
                self._lock.notify_all()

    def _run(self) -> None:
        while (name := self._next()) is not None:
            self._probe(name)

    def _next(self) -> str | None:
        with self._lock:
            if not self._urgent and not self._stopped:
                self._lock.wait(_AGAIN if self._failing() else EVERY)
            if self._stopped:
                return None
            if self._urgent:
                return self._urgent.popleft()
            failing = self._failing()
            if failing:
                return failing
            if not self._turn:
                return ""
            self._turn.rotate(-1)
            return self._turn[-1]

    def _failing(self) -> str:
        """Who failed only once so far: it may have been a moment's trouble."""
        return next((name for name, probe in self._results.items() if probe.error and name not in self._confirmed), "")

    def _probe(self, name: str) -> None:
        with self._lock:
            target = self._targets.get(name)
        if target is None:
            return
        try:
            seconds, error = self._attempt(name, *target)
        except Exception as unknown:  # noqa: BLE001 - whatever it is, the others are tried all the same
            seconds, error = 0.0, str(unexpected(unknown))
        with self._lock:
            before = self._results.get(name)
            if name not in self._targets:
                return
            self._results[name] = Probe(self._clock(), seconds, error)
            if error and before is not None and before.error:
                self._confirmed.add(name)
            elif not error:
                self._confirmed.discard(name)
        if before is None or bool(before.error) != bool(error):
            self._changed()
