"""The controller without its threads and signals: one pass after the other, each from what is there now.

A pass gathers what has ended, reads the manifests, looks at the host, decides, hands work out and says how it was.
Nothing that it remembers is needed to do the right thing; it only decides when to look and when to try again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import datetime, timedelta

from containarium.model import marks
from containarium.model.host import Host, HostError, RetryableError
from containarium.model.manifest import Load
from containarium.model.observed import Look, Observed
from containarium.plan.decision import EnvironmentPlan, Plan, Suspicion, Verb
from containarium.plan.terms import EVERYBODY, Doubt, Terms
from containarium.reconcile.circles import Circles
from containarium.reconcile.clockwatch import ClockWatch
from containarium.reconcile.decide import decide
from containarium.reconcile.edits import Edits
from containarium.reconcile.execute import Failure, unexpected
from containarium.reconcile.retries import Retries
from containarium.reconcile.rhythm import Rhythm, Turns
from containarium.reconcile.senses import Audience, Senses, Source
from containarium.reconcile.workers import Ended, Workers
from containarium.report.snapshot import Snapshot

_DOUBLINGS = 16
"""More of them change no pause, and would end in a number too large."""


class Controller:
    """Makes the passes. Only one thread may call it; the workers have their own."""

    def __init__(
        self, host: Host, source: Source, workers: Workers, senses: Senses, audience: Audience, rhythm: Rhythm
    ) -> None:
        self._host = host
        self._source = source
        self._workers = workers
        self._senses = senses
        self._audience = audience
        self._rhythm = rhythm
        self._retries = Retries(senses.chance)
        self._turns = Turns(rhythm.deep)
        self._edits = Edits()
        self._clockwatch = ClockWatch()
        self._last = Snapshot(id="", triggers=(), started=senses.clock(), seconds=0.0)
        self._restart: frozenset[str] = frozenset()
        self._circles = Circles()
        self._waiting: dict[str, float] = {}
        self._fine_at: dict[str, datetime] = {}
        self._settled: tuple[int, float] | None = None
        self._failed_looks = 0
        self._next_resync = 0.0
        self._deferred = False
        self.halted = False
        """While it is true nothing is begun: the machine is about to go away, or the controller to end."""

    # What others ask of it

    def hurry(self) -> None:
        """Try at once what waits, and look into every guest: somebody asked for it."""
        self._retries.hurry()
        if self._last.observed is not None:
            self._turns.ask(_ours(self._last.observed))

    def allow_restart(self, names: frozenset[str]) -> None:
        """Let these be restarted once where a change needs it, as soon as they can be worked on."""
        self._restart |= names

    def look_into(self, names: Iterable[str]) -> None:
        """Something happened to these environments: look inside next time."""
        self._turns.ask(names)

    @property
    def last(self) -> Snapshot:
        """The last pass."""
        return self._last

    def pause(self) -> tuple[float, str]:
        """Seconds until it wants to make the next pass by itself, and why."""
        now = self._senses.ticks()
        if self._failed_looks:
            pause = self._rhythm.look_again * 2.0 ** min(self._failed_looks - 1, _DOUBLINGS)
            return min(self._rhythm.look_again_at_most, pause), "retry"
        moments = [(self._next_resync, "resync")]
        if not self.halted:
            due = self._retries.next_due(self._workers.busy)
            if due is not None:
                moments.append((due, "retry"))
            if self._deferred and self._turns.asked:
                moments.append((now, "finished"))
        if self._settled is not None and self._settled[1] > now and self._held_by_settling():
            moments.append((self._settled[1], "manifests"))
        moment, why = min(moments)
        return max(0.0, moment - now), why

    # A pass

    def make_pass(self, triggers: frozenset[str], name: str = "") -> Snapshot:
        """Look once, decide, and hand work out. Never raises. ``name`` is the pass's id."""
        senses, begin = self._senses, self._senses.ticks()
        head = Snapshot(id=name, triggers=tuple(sorted(triggers)), started=senses.clock(), seconds=0.0)
        try:
            shown = self._whole_pass(head, begin)
        except HostError as error:
            shown = self._half_pass(head, error)
        except Exception as error:  # noqa: BLE001 - whatever it is, the loop goes on
            self._audience.surprised(error)
            shown = self._half_pass(head, unexpected(error))
        else:
            self._failed_looks = 0
        self._last = replace(
            shown,
            working=self._workers.working, troubles=self._retries.troubles, seconds=senses.ticks() - begin,
        )  # fmt: skip
        return self._last

    def _whole_pass(self, head: Snapshot, begin: float) -> Snapshot:
        self._gather(begin, head.started)
        # Both from before the look: what ends while it lasts was not seen as it is now.
        busy, claims = self._workers.busy, self._workers.claims
        load, observed, inside = self._look(begin)
        terms = self._terms(begin, head.started, claims)
        plan = decide(load, observed, self._host, head.started, terms)
        self._next_resync = begin + self._rhythm.resync * (1 + self._rhythm.jitter * (2 * self._senses.chance() - 1))
        self._workers.confirm(frozenset(e.name for e in plan.environments if e.verb is Verb.PRUNE))
        self._take_stock(plan, busy, begin, head.started)
        self._hand_out(plan, busy, inside)
        success = head.started if load.complete else self._last.last_success
        return replace(head, load=load, observed=observed, plan=plan, last_success=success)

    def _half_pass(self, head: Snapshot, error: HostError) -> Snapshot:
        """What is known is what the pass before knew."""
        self._failed_looks += 1
        return replace(self._last, id=head.id, triggers=head.triggers, started=head.started, error=str(error))

    def _gather(self, clock: float, now: datetime) -> None:
        for ended in self._workers.collect():
            name = ended.plan.name
            trouble = None
            if ended.failure is None:
                self._circles.ended(ended.plan, ended.revision)
            else:
                self._circles.forget(name)
                if not self.halted:
                    trouble = self._retries.failed(ended.failure, ended.revision, clock, now)
            self._turns.ask((name,))
            self._audience.ended(ended, trouble)

    def _look(self, clock: float) -> tuple[Load, Observed, frozenset[str]]:
        """The manifests, what is there, and whose inside was asked for. They are read while Incus makes its answer."""
        read: list[tuple[Load, frozenset[str] | None]] = []

        def inside() -> frozenset[str] | None:
            read.append(self._read(clock))
            return read[0][1]

        try:
            observed = self._host.observe(Look.DEEP, inside)
        finally:
            if not read:  # the status tells of broken manifests although Incus is gone
                inside()
        load, chosen = read[0]
        looked = _ours(observed) if chosen is None else chosen
        self._turns.done(looked, clock)
        self._turns.forget_all_but(_ours(observed) | {manifest.name for manifest in load.manifests})
        return load, observed, looked

    def _read(self, clock: float) -> tuple[Load, frozenset[str] | None]:
        """The manifests, and whose turn it is to be looked into; None: everybody's, at the first look."""
        load = self._source.load()
        known = self._last.observed
        self._last = replace(self._last, load=load)
        if known is None:
            return load, None
        if load.complete:  # a folder that is away for a moment is no edit of everybody
            revisions = {manifest.name: self._source.revision(manifest.name) for manifest in load.manifests}
            self._turns.ask(self._edits.changed(revisions, clock))
        return load, self._turns.due(_ours(known) | {manifest.name for manifest in load.manifests}, clock)

    def _terms(self, clock: float, now: datetime, claims: Mapping[str, str]) -> Terms:
        return Terms(
            approved=frozenset(self._senses.approvals(now)),
            restart=self._restart,
            claims=claims,
            doubts=tuple(self._doubts(clock, now)),
        )

    def _doubts(self, clock: float, now: datetime) -> list[Doubt]:
        found = []
        if wrong := self._clockwatch.check(clock, now):
            found.append(Doubt(wrong, "see that the time is right (timedatectl); it is believed after an hour"))
        generation = self._source.generation
        if self._settled is None or self._settled[0] != generation:
            self._settled = (generation, clock + self._rhythm.settle)
        if clock < self._settled[1]:
            found.append(Doubt("the manifests changed a moment ago", reason=Suspicion.SETTLING))
        return found

    def _held_by_settling(self) -> bool:
        plan = self._last.plan
        return plan is not None and any(i.reason is Suspicion.SETTLING for i in plan.interlocks)

    def _take_stock(self, plan: Plan, busy: frozenset[str], clock: float, now: datetime) -> None:
        """Note who is as declared, and who is not although all was done."""
        pending = {environment.name for environment in plan.environments if environment.due}
        for name in (*plan.unchanged, *(e.name for e in plan.environments if not e.due)):
            if name in busy:
                continue
            self._fine_at[name] = now
            self._waiting.pop(name, None)
            self._circles.forget(name)
            self._retries.succeeded(name)
            if (seconds := self._edits.reached(name, clock)) is not None:
                self._audience.edited(name, seconds)
        self._retries.forget_all_but(frozenset(pending) | busy)
        known = frozenset({*busy, *plan.unchanged, *(e.name for e in plan.environments)})
        self._circles.forget_all_but(known)
        for gone in self._waiting.keys() - known:
            del self._waiting[gone]
        for gone in self._fine_at.keys() - known:
            del self._fine_at[gone]

    def _hand_out(self, plan: Plan, busy: frozenset[str], inside: frozenset[str]) -> None:
        """Begin what can be begun: whose access has to end goes first, then whoever has waited longest."""
        clock, now = self._senses.ticks(), self._senses.clock()
        self._deferred = False
        todo = [environment for environment in plan.environments if environment.due and environment.name not in busy]
        for environment in todo:
            self._waiting.setdefault(environment.name, clock)
        todo.sort(key=lambda e: (e.verb is not Verb.RETIRE, self._waiting[e.name]))
        for environment in todo:
            name = environment.name
            revision = self._source.revision(name)
            self._judge(environment, revision, looked=name in inside, clock=clock, now=now)
            if self.halted or not self._retries.may_try(name, revision, clock):
                continue
            if not environment.actions:  # nobody looked inside: that comes next
                self._turns.ask((name,))
                self._deferred = True
                continue
            # Deletions may wait for long backups: like those that failed, they leave half of the hands to the others.
            trouble = self._retries.troubles.get(name)
            suspect = (trouble is not None and not trouble.waiting) or environment.verb is Verb.PRUNE
            if not self._workers.free(environment, suspect=suspect):
                continue
            if any(change.drift for change in environment.changes):
                since = self._fine_at.get(name, now - timedelta(seconds=self._rhythm.resync))
                self._audience.drifted(environment, self._senses.blame(marks.instance_name(name), since))
            self._waiting.pop(name, None)
            self._workers.begin(environment, revision, suspect=suspect)
        # Who is not begun yet, and does not wait for something else either, keeps the permission.
        still = frozenset({*busy, *self._waiting}) - self._retries.troubles.keys()
        self._restart = still if self._restart >= EVERYBODY else self._restart & still

    def _judge(self, environment: EnvironmentPlan, revision: str, *, looked: bool, clock: float, now: datetime) -> None:
        """Note where the work before this plan did not help, or where looking inside did not."""
        if environment.actions:
            judgement = self._circles.judge(environment, revision)
        else:
            judgement = looked and self._retries.may_try(environment.name, revision, clock) and _unreadable(environment)
        if isinstance(judgement, Failure):
            trouble = self._retries.failed(judgement, revision, clock, now)
            self._audience.ended(Ended(environment, revision, judgement, 0.0), trouble)
        elif judgement:
            self._retries.succeeded(environment.name)


def _ours(observed: Observed) -> frozenset[str]:
    """The environments that have an instance here."""
    return frozenset(
        name for instance in observed.instances.values() if (name := instance.config.get(marks.ENVIRONMENT)) is not None
    )


def _unreadable(environment: EnvironmentPlan) -> Failure:
    error = RetryableError(
        "nobody can look inside the guest",
        remedy=f"see that it answers: incus exec {marks.instance_name(environment.name)} -- true",
        reason="GuestUnreadable",
    )
    return Failure(environment.name, "Look", error)
