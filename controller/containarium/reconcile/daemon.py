"""The loop that needs nobody: it sleeps, is woken or wakes by itself, makes a pass, and tells what came of it."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Protocol

from containarium.model.host import Host, RetryableError
from containarium.model.status import Condition
from containarium.plan.decision import Suspicion
from containarium.reconcile.controller import Controller
from containarium.reconcile.preemption import stop_everybody
from containarium.reconcile.probing import Probing
from containarium.reconcile.recovery import Recovery
from containarium.reconcile.requests import Requests, Taken
from containarium.reconcile.wakeup import WakeUp
from containarium.reconcile.workers import Pools, Workers, thread_pool
from containarium.report.log import Logger, bound
from containarium.report.snapshot import Revision, Snapshot
from containarium.report.statusfile import Status

LONGEST_NAP = 20.0
"""Seconds that the loop sleeps at most: the watchdog is fed by it and nobody else."""
DUTY = 2.0
"""After a pass the loop rests at least so many times as long as that took: a storm of events must not eat the host."""
LONGEST_REST = 0.5
RELUCTANCE = 30.0
"""Seconds that it rests at most after a pass that ended in an error nobody thought of; from half a second, doubling."""
LONGEST_ANSWER = 3600.0
"""Seconds that somebody who asks may wait for the answer, whatever they wish."""
NOTICE_HOLDS = 300.0
"""Seconds after a spot notice's end at which a machine that is still there goes on as before."""


class ServiceManager(Protocol):
    """Who started the controller, as far as it wants to know how it is."""

    def ready(self) -> None: ...

    def status(self, text: str) -> None: ...

    def reloading(self) -> None: ...

    def stopping(self) -> None: ...

    def watchdog(self) -> None: ...

    def extend(self, seconds: float) -> None: ...


class Telemetry(Protocol):
    """Whoever is told of every pass, and makes a status of it."""

    @property
    def logger(self) -> Logger: ...

    def passed(self, snapshot: Snapshot) -> Status: ...

    def surprised(self, error: Exception) -> None: ...


class Daemon:
    """Owns the loop. What others call (``wake``, ``ask``, ``stop`` ...) is safe from any thread or signal handler."""

    def __init__(
        self,
        host: Host,
        controller: Controller,
        workers: Workers,
        telemetry: Telemetry,
        manager: ServiceManager,
        wakeup: WakeUp,
        *,
        ticks: Callable[[], float],
        recovery: Recovery,
        probing: Probing | None = None,
        revision: Callable[[], Revision] = Revision,
        conditions: Callable[[], tuple[Condition, ...]] = tuple,
        chores: Callable[[float], None] = lambda _clock: None,
        pools: Pools = thread_pool,
    ) -> None:
        self._host = host
        self._controller = controller
        self._workers = workers
        self._telemetry = telemetry
        self._manager = manager
        self._wakeup = wakeup
        self._ticks = ticks
        self._recovery = recovery
        self._probing = probing
        self._revision = revision
        self._conditions = conditions
        self._chores = chores
        self._pools = pools
        self._born = f"{int(controller.last.started.timestamp()):x}"
        self._numbers = itertools.count(1)
        self._requests = Requests()
        self._passed = threading.Condition()
        self._answered = 0
        self._surprises = 0
        self._ready = False
        self._preempted = ""
        self._preempted_at = 0.0
        self._shown = controller.last

    # From other threads

    def stop(self, why: str) -> None:
        """End after the pass that runs."""
        self._requests.stop = why
        self._wakeup.wake("stop")

    def reload(self) -> None:
        """Look at everything anew, and try at once what waits."""
        self._requests.reload = True
        self._wakeup.wake("request")

    def look_into(self, environment: str, reason: str) -> None:
        """Something happened to an environment."""
        self._requests.look_into(environment)
        self._wakeup.wake(reason)

    def look_everywhere(self, reason: str) -> None:
        """Something may have been missed: look at everything, guests included, and try at once what waits."""
        self._requests.hurry()
        self._wakeup.wake(reason)

    def notice(self, text: str) -> None:
        """The cloud is going to take the machine away; empty: it has thought better of it."""
        self._requests.notice(text)
        self._wakeup.wake("notice")

    @property
    def shown(self) -> Snapshot:
        """The last pass, as it was told."""
        return self._shown

    def answer(self, request: Mapping[str, Any]) -> Mapping[str, Any]:
        """Serve one request from the local socket.

        ``{"do": "reconcile", "restart": [NAME...], "settle": SECONDS}`` makes a pass and answers when one that began
        afterwards is over; with ``settle``, when nothing is under way any more. Raises HostError.
        """
        if request.get("do") != "reconcile":
            raise RetryableError("that is nothing I can do")
        names = request.get("restart") or []
        patience = request.get("settle") or 0.0
        if not isinstance(names, list) or not isinstance(patience, int | float):
            raise RetryableError("restart is a list of names, settle a number of seconds")
        ticket = self._requests.hurry(map(str, names))
        self._wakeup.wake("request")
        with self._passed:
            over = self._passed.wait_for(
                lambda: self._answered >= ticket and (not patience or _settled(self._shown)),
                timeout=min(LONGEST_ANSWER, max(60.0, float(patience))),
            )
            shown = self._shown
        return {"pass": shown.id, "settled": over and _settled(shown), "error": ""} if over else _late(shown)

    # The loop

    def run(self) -> None:
        """Work until ``stop``."""
        triggers = frozenset({"boot" if self._recovery.under_way else "start"})
        while not self._requests.stop:
            began = self._ticks()
            try:
                self._turn(triggers)
                rest = min(LONGEST_REST, (self._ticks() - began) * DUTY)
                self._surprises = 0
            except Exception as error:  # noqa: BLE001 - whatever it is, this host has no other controller
                rest = min(RELUCTANCE, LONGEST_REST * 2.0 ** min(self._surprises, 16))
                self._surprises += 1
                self._telemetry.surprised(error)
            triggers = self._sleep(rest)
        self._end()

    def _turn(self, triggers: frozenset[str]) -> None:
        ticket = self._heed(self._requests.take())
        try:
            self._pass(triggers, ticket)
        finally:
            if self._preempted:  # whoever was made or started after the look before the notice
                self._stop_guests(self._workers.busy)
        if not self._preempted:
            self._chores(self._ticks())
            self._manager.watchdog()

    def _sleep(self, rest: float) -> frozenset[str]:
        """Until something happens or it is time; not before the rest is over."""
        pause, why = self._controller.pause()
        until = self._ticks() + max(rest, pause)
        earliest = self._ticks() + rest
        reasons: frozenset[str] = frozenset()
        while not self._requests.stop:
            now = self._ticks()
            if (reasons and now >= earliest) or now >= until or "notice" in reasons:
                break
            nap = min(LONGEST_NAP, (earliest if reasons else until) - now)
            reasons |= self._wakeup.wait(nap)
            self._manager.watchdog()
        return reasons or frozenset({why})

    def _heed(self, taken: Taken) -> int:
        """Take over what others left. Returns the last ticket among it."""
        announce = taken.reload and self._ready  # a manager that waits for the first pass is not told otherwise
        if announce:
            self._manager.reloading()
        self._controller.look_into(taken.look_into)
        if taken.hurry:
            self._controller.hurry()
        self._controller.allow_restart(taken.restart)
        if taken.notice is not None:
            self._on_notice(taken.notice)
        elif self._preempted and self._ticks() - self._preempted_at > NOTICE_HOLDS:
            self._on_notice("")
        if announce:
            self._manager.ready()
        return taken.ticket

    def _pass(self, triggers: frozenset[str], ticket: int) -> None:
        name = f"{self._born}-{next(self._numbers)}"
        with bound(pass_id=name):
            snapshot = self._told(self._controller.make_pass(triggers, name))
            if not self._preempted and self._recovery.check(snapshot):
                snapshot = replace(snapshot, recovered=self._recovery.seconds)
            if self._probing is not None:
                self._probing.check(snapshot)
            sentence = self._telemetry.passed(snapshot).last_pass.sentence
        with self._passed:
            self._shown, self._answered = snapshot, ticket
            self._passed.notify_all()
        self._manager.watchdog()
        self._manager.status(sentence)
        if not self._ready:
            if snapshot.plan is not None and not snapshot.error:
                self._ready = True
                self._manager.ready()
            else:
                self._manager.extend(60.0)

    def _told(self, snapshot: Snapshot) -> Snapshot:
        return replace(
            snapshot,
            probes=self._probing.results if self._probing is not None else {},
            revision=self._revision(),
            conditions=self._conditions(),
            preempted=self._preempted,
            recovered=self._recovery.seconds,
        )

    def _on_notice(self, text: str) -> None:
        if not text:
            if self._preempted:
                self._preempted = ""
                self._host.resume()
                self._controller.halted = False
                self._telemetry.logger.info("the machine stays after all")
            return
        if self._preempted:
            return
        self._preempted, self._preempted_at = text, self._ticks()
        self._controller.halted = True
        busy = self._workers.busy
        self._host.cancel()
        self._telemetry.logger.info("the machine is about to be taken away", notice=text)
        # Whoever reads the status while the guests go down has to find the reason there.
        try:
            self._telemetry.passed(self._told(self._shown))
        except Exception as error:  # noqa: BLE001 - the guests come down all the same
            self._telemetry.surprised(error)
        self._stop_guests(busy)

    def _stop_guests(self, busy: frozenset[str]) -> None:
        observed = self._controller.last.observed
        asked, late = stop_everybody(self._host, observed, busy, self._pools) if observed is not None else ((), ())
        if asked:
            self._telemetry.logger.info("every guest was asked to stop", asked=len(asked), not_down=list(late))

    def _end(self) -> None:
        self._manager.stopping()
        self._controller.halted = True
        self._recovery.close()
        if self._probing is not None:
            self._probing.stop()
        self._host.cancel()
        left = self._workers.close()
        self._telemetry.logger.info("stopped", why=self._requests.stop, left=sorted(left))


def _settled(snapshot: Snapshot) -> bool:
    """Nothing is under way or about to be, and whatever is left failed, is refused or waits for a person."""
    plan = snapshot.plan
    if plan is None or snapshot.error or snapshot.working:
        return False
    if any(interlock.reason is Suspicion.SETTLING for interlock in plan.interlocks):
        return False
    failed = {name for name, trouble in snapshot.troubles.items() if not trouble.waiting}
    return all(not environment.due or environment.name in failed for environment in plan.environments)


def _late(snapshot: Snapshot) -> Mapping[str, Any]:
    busy = ", ".join(snapshot.working) or "the host"
    return {"pass": snapshot.id, "settled": False, "error": f"still busy with {busy}"}
