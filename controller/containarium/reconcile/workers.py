"""Environments at work, each by itself: bounded, several at a time, and a slow one never keeps a quick one waiting."""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import datetime

from containarium.model import action as act
from containarium.model.host import Host, RetryableError
from containarium.plan.decision import EnvironmentPlan, Verb
from containarium.plan.desired import NIC_DEVICE
from containarium.reconcile.execute import Failure, Listener, carry_out, unexpected
from containarium.report.snapshot import Work

SLOW = 6
"""Environments that may be created, given packages or backed up at the same time."""
QUICK = 8
"""Environments that may be repaired at the same time, besides."""

FETCHED = 2
"""Environments that may be fetched from other hosts at the same time, besides: each may take many minutes."""

PATIENCE = 10.0
"""Seconds that cancelled work has to come to a halt in."""

_SLOW_ACTIONS = (act.CreateInstance, act.InstallPackages, act.BackupInstance, act.DeleteInstance)
Pools = Callable[[int, str], Executor]
HANDS: Mapping[str, int] = {"quick": QUICK, "slow": SLOW, "fetch": FETCHED}
"""How many environments of each kind of work may be worked on at the same time. None waits for another kind."""


def thread_pool(workers: int, name: str) -> Executor:
    """Real threads."""
    return ThreadPoolExecutor(max_workers=workers, thread_name_prefix=name)


@dataclass(frozen=True, slots=True)
class Ended:
    """One environment's work that is over. ``seconds`` is how long it took."""

    plan: EnvironmentPlan
    revision: str
    failure: Failure | None
    seconds: float

    @property
    def surprise(self) -> BaseException | None:
        """What nobody thought of, where that is how it failed."""
        return self.failure.error.__cause__ if self.failure and self.failure.error.reason == "InternalError" else None


@dataclass(slots=True)
class _Job:
    plan: EnvironmentPlan
    revision: str
    began: float
    work_kind: str
    suspect: bool
    work: Work
    called_off: bool = False

    def may_go_on(self) -> None:
        if self.called_off:
            raise RetryableError(
                "it is no longer certain that the data may go",
                remedy="nothing to do: it is looked at again",
                reason="CalledOff",
            )


class Workers:
    """Carries out plans. ``begin`` and ``collect`` are the loop's; what happens meanwhile is told from threads."""

    def __init__(
        self,
        host: Host,
        told: Listener,
        finished: Callable[[], None],
        *,
        clock: Callable[[], datetime],
        ticks: Callable[[], float],
        pools: Pools = thread_pool,
    ) -> None:
        """``finished`` is called after each environment; ``ticks`` counts seconds and never jumps."""
        self._host = host
        self._told = told
        self._finished = finished
        self._clock = clock
        self._ticks = ticks
        self._lock = threading.Lock()
        self._idle = threading.Condition(self._lock)
        self._jobs: dict[str, _Job] = {}
        self._ended: list[Ended] = []
        self._pools = {kind: pools(hands, kind) for kind, hands in HANDS.items()}

    @property
    def busy(self) -> frozenset[str]:
        """Environments that are being worked on."""
        with self._lock:
            return frozenset(self._jobs)

    @property
    def working(self) -> Mapping[str, Work]:
        """What is being done for each of them."""
        with self._lock:
            return {name: job.work for name, job in sorted(self._jobs.items())}

    @property
    def claims(self) -> Mapping[str, str]:
        """The addresses that they were promised, by environment."""
        with self._lock:
            return {name: address for name, job in self._jobs.items() if (address := _address(job.plan))}

    def free(self, plan: EnvironmentPlan, *, suspect: bool = False) -> bool:
        """Whether there is a hand free for this plan. None is promised ahead: who waits is planned anew.

        Suspects, which failed the last time, get half of the hands at most: guests that make everything hang must
        not keep the others waiting.
        """
        kind = kind_of(plan)
        hands = HANDS[kind]
        with self._lock:
            busy = [job for job in self._jobs.values() if job.work_kind == kind]
        return len(busy) < hands and not (suspect and sum(job.suspect for job in busy) >= hands // 2)

    def begin(self, plan: EnvironmentPlan, revision: str, *, suspect: bool = False) -> None:
        """Start to carry a plan out."""
        first = plan.actions[0].kind if plan.actions else ""
        work = Work(plan.verb.value, first, self._clock())
        job = _Job(plan, revision, self._ticks(), kind_of(plan), suspect, work)
        with self._lock:
            self._jobs[plan.name] = job
        try:
            # What the pass has put on its lines of the log belongs on those of its work as well.
            self._pools[job.work_kind].submit(contextvars.copy_context().run, self._run, job)
        except RuntimeError as error:  # no thread to be had
            self._end(job, Failure(plan.name, first, unexpected(error)))

    def confirm(self, leaving: frozenset[str]) -> None:
        """Of all whose data is about to be deleted, only these may still go: a backup takes long enough for a manifest
        to come back. The others' work ends before its next action.
        """
        with self._lock:
            for name, job in self._jobs.items():
                if job.plan.verb is Verb.PRUNE:
                    job.called_off = name not in leaving

    def collect(self) -> tuple[Ended, ...]:
        """What has ended since the last call."""
        with self._lock:
            ended, self._ended = tuple(self._ended), []
            return ended

    def close(self, patience: float = PATIENCE) -> frozenset[str]:
        """Begin nothing more and wait until everybody has ended, so many seconds at most. Returns who has not.

        What they leave is found half-done by the next controller, and finished.
        """
        for pool in self._pools.values():
            pool.shutdown(wait=False, cancel_futures=True)
        with self._idle:
            self._idle.wait_for(lambda: not self._jobs, timeout=patience)
            return frozenset(self._jobs)

    def _run(self, job: _Job) -> None:
        with self._lock:
            if self._jobs.get(job.plan.name) is not job:
                return  # it was given up before a thread came to it
        failure: Failure | None = None
        try:
            failure = carry_out(job.plan, self._host, self, job.may_go_on)
        except Exception as error:  # noqa: BLE001 - whoever is told may fail as well, and that is no success
            failure = Failure(job.plan.name, job.work.action, unexpected(error))
        finally:
            self._end(job, failure)

    def _end(self, job: _Job, failure: Failure | None) -> None:
        with self._lock:
            self._jobs.pop(job.plan.name, None)
            self._ended.append(Ended(job.plan, job.revision, failure, self._ticks() - job.began))
            self._idle.notify_all()
        self._finished()

    # What happens, from the threads

    def started(self, environment: str, action: act.Action) -> None:
        """An action begins."""
        self._note(environment, lambda work: replace(work, action=action.kind, step=""))
        self._told.started(environment, action)

    def progress(self, environment: str, message: str) -> None:
        """An action tells how far it is."""
        self._note(environment, lambda work: replace(work, step=message))
        self._told.progress(environment, message)

    def finished(self, environment: str, failure: Failure | None) -> None:
        """The last action ended."""
        self._told.finished(environment, failure)

    def _note(self, environment: str, change: Callable[[Work], Work]) -> None:
        with self._lock:
            job = self._jobs.get(environment)
            if job is not None:
                job.work = change(job.work)


def kind_of(plan: EnvironmentPlan) -> str:
    """Which kind of work a plan is: a fetch waits for another host, slow work may take minutes, the rest is quick."""
    if any(isinstance(action, act.FetchInstance) for action in plan.actions):
        return "fetch"
    return "slow" if any(isinstance(action, _SLOW_ACTIONS) for action in plan.actions) else "quick"


def _address(plan: EnvironmentPlan) -> str:
    for action in plan.actions:
        if isinstance(action, act.CreateInstance | act.FetchInstance | act.UpdateInstance | act.AdoptInstance):
            address = action.devices.get(NIC_DEVICE, {}).get("ipv4.address")
            if address:
                return address
    return ""
