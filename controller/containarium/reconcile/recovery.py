"""How long it takes after a boot until everybody can log in again."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from datetime import UTC, datetime, timedelta

from containarium.model import marks
from containarium.model.action import AwaitLogin
from containarium.model.host import Host
from containarium.model.observed import Instance, InstanceStatus, Observed
from containarium.plan.addresses import pinned
from containarium.report.snapshot import Snapshot

RECENT = 600.0
"""Seconds after a boot within which a controller that starts takes part in the recovery."""
_AT_ONCE = 16
_LONG_AGO = datetime(2000, 1, 1, tzinfo=UTC)


class Recovery:
    """Follows everybody's way back: of those who were here before the boot, as the first look finds them.

    ``check`` is the loop's; SSH is waited for in threads.
    """

    def __init__(
        self,
        host: Host,
        since_boot: Callable[[], float],
        finished: Callable[[], None],
        pools: Callable[[int, str], Executor],
        known: float | None = None,
    ) -> None:
        """``finished`` is called after each environment that answered, or did not.

        ``known`` is what an earlier controller of this boot found: a recovery is over once, however often one starts.
        """
        self._host = host
        self._since_boot = since_boot
        self._finished = finished
        self._lock = threading.Lock()
        self._asked: set[str] = set()
        self._answered: set[str] = set()
        self._former: frozenset[str] | None = None
        self._last = 0.0
        self.seconds = known
        """How long the recovery took; None while it is under way, or where there was none to follow."""
        self._pool: Executor | None = None
        if known is None and 0.0 < since_boot() < RECENT:
            self._pool = pools(_AT_ONCE, "recovery")

    @property
    def under_way(self) -> bool:
        """Whether somebody is still waited for."""
        return self._pool is not None

    def check(self, snapshot: Snapshot) -> bool:
        """Look at a pass. Returns whether the recovery has just ended."""
        plan, observed = snapshot.plan, snapshot.observed
        if self._pool is None or plan is None or observed is None or snapshot.error:
            return False
        if self._former is None:
            boot = snapshot.started - timedelta(seconds=self._since_boot())
            self._former = frozenset(_former(observed, boot))
            if not self._former:  # a machine that is new: whoever comes now comes for the first time
                self.close()
                return False
        back: set[str] = set()
        for name in self._former.intersection(plan.unchanged):
            box = marks.instance_name(name)
            instance, address = observed.instances.get(box), pinned(observed, name)
            if instance is None or instance.status is not InstanceStatus.RUNNING or address is None:
                continue
            back.add(name)
            with self._lock:
                if name in self._asked:
                    continue
                self._asked.add(name)
            self._pool.submit(self._await, AwaitLogin(environment=name, instance=box, address=address))
        with self._lock:
            waiting = back - self._answered
        due = {environment.name for environment in plan.environments if environment.due}
        open_ = self._former & (due | snapshot.working.keys())
        if waiting or open_ or snapshot.load is None or not snapshot.load.complete:
            return False
        # It was over when the last one answered, not when the loop came to see it.
        self.seconds = self._last or self._since_boot()
        self.close()
        return True

    def close(self) -> None:
        """Stop following."""
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)
            self._pool = None

    def _await(self, action: AwaitLogin) -> None:
        try:
            self._host.execute(action)
        except Exception:  # noqa: BLE001 - whatever it is, it is asked again
            with self._lock:
                self._asked.discard(action.environment)  # the next pass asks again
        else:
            with self._lock:
                self._answered.add(action.environment)
                self._last = self._since_boot()
        self._finished()


def _former(observed: Observed, boot: datetime) -> Iterator[str]:
    """The environments that were whole once, have not been retired, and were made before the boot."""
    for instance in observed.instances.values():
        config = instance.config
        here = config.get(marks.APPLIED) and not config.get(marks.RETIRED) and _made(instance) < boot
        if here and marks.ENVIRONMENT in config:
            yield config[marks.ENVIRONMENT]


def _made(instance: Instance) -> datetime:
    """When; long ago where that cannot be told."""
    try:
        made = datetime.fromisoformat(instance.created_at)
    except ValueError:
        return _LONG_AGO
    return made if made.tzinfo is not None else _LONG_AGO
