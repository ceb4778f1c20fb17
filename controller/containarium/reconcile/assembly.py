"""Puts the controller of a real machine together, and takes it apart again."""

from __future__ import annotations

import contextlib
import gc
import os
import random
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Protocol

from containarium.host import spot
from containarium.host.accounts import Accounts
from containarium.host.boot import seconds_since_boot
from containarium.host.cancel import Cancellation
from containarium.host.control import ControlServer
from containarium.host.hostname import own_name
from containarium.host.incus import Incus
from containarium.host.lifecycle import Event, Lifecycle
from containarium.host.lock import only_controller
from containarium.host.machine import Machine
from containarium.host.peering.account import group_number
from containarium.host.peering.channel import Channel
from containarium.host.peering.membership import Membership
from containarium.host.peering.neighbours import Neighbours, Watched
from containarium.host.peering.service import PeerService
from containarium.host.prepare import conditions
from containarium.host.probe import SSHProbe
from containarium.host.servicemanager import ServiceManager
from containarium.host.settings import HostSettings
from containarium.model.host import HostError
from containarium.reconcile.chores import Chore, Chores
from containarium.reconcile.controller import Controller
from containarium.reconcile.daemon import Daemon
from containarium.reconcile.following import Following
from containarium.reconcile.hostkeeper import EVERY as HOST_EVERY
from containarium.reconcile.housekeeping import Approvals, chores, done, host_keeper
from containarium.reconcile.probing import Probing
from containarium.reconcile.recipes import EVERY, Keeper, Telling
from containarium.reconcile.recovery import Recovery
from containarium.reconcile.revision import revision
from containarium.reconcile.rhythm import Rhythm
from containarium.reconcile.senses import Senses
from containarium.reconcile.serving import Serving
from containarium.reconcile.wakeup import WakeUp
from containarium.reconcile.workers import Workers, thread_pool
from containarium.report import log
from containarium.report.certificates import CertificateDates
from containarium.report.events import Event as Told
from containarium.report.events import Reason
from containarium.report.health import Answers, Health
from containarium.report.journal import Journal
from containarium.report.metrics import CONTENT_TYPE, Metrics
from containarium.report.reporter import STALE_AFTER, Reporter
from containarium.sources.cached import CachedSource
from containarium.sources.watch import BEGAN, Watch

_WAIT_FOR_LOCK = 5.0
"""Seconds that another command may take to end. The service manager tries again after that."""
_GARBAGE = 50_000
_BUSY = (
    "instance-exec",
    "instance-file-",
    "instance-log-",
    "instance-console",
    "instance-backup-",
    "instance-metadata",
)
"""What people do inside their environments, and what we do to them all the time: no reason to look."""
_INSIDE = ("instance-started", "instance-restarted", "instance-resumed", "instance-restored", "instance-created")
"""After these, the inside of a guest may be another one."""


@dataclass(frozen=True, slots=True)
class Options:
    """What an admin may choose. ``metrics`` empty: nothing is served. ``metadata`` empty: the cloud's own server."""

    manifests: Path
    metrics: str = ""
    spot: str = "auto"
    metadata: str = ""
    probe: bool = True
    keep_recipes: timedelta = timedelta(days=30)
    """For how long a baked image stays that nobody uses."""
    rhythm: Rhythm = field(default_factory=Rhythm)
    debug: bool = False


class _Sense(Protocol):
    """Something that has a thread of its own."""

    def start(self) -> None: ...

    def stop(self) -> None: ...


def run(settings: HostSettings, options: Options) -> None:
    """Be the controller of this machine until SIGTERM or SIGINT. Raises HostError where it cannot even begin."""
    logger = log.configure(level="debug" if options.debug else "info")
    gc.set_threshold(_GARBAGE)
    with only_controller(settings.runtime, _WAIT_FOR_LOCK), contextlib.ExitStack() as stack:
        settings.state.mkdir(mode=0o700, parents=True, exist_ok=True)
        metrics = Metrics()
        metrics.registry.register(CertificateDates(settings.etc / "containarium" / "certs" / "index.json"))
        stale_after = max(STALE_AFTER, 3 * options.rhythm.resync)
        reporter = Reporter(settings.status, Journal(settings.events), metrics, logger, stale_after=stale_after)
        assembled = _assemble(settings, options, reporter)
        daemon, wakeup, lifecycle = assembled.daemon, assembled.wakeup, assembled.lifecycle
        answers = Answers(metrics.render, CONTENT_TYPE, reporter.stale, reporter.unready)
        serving = _serving(options, answers, logger)
        clouds = _spot(options, daemon, logger)
        watch = _watch(settings, options, wakeup, logger)
        senses: list[_Sense] = [*serving, lifecycle, watch, *clouds, *assembled.fleet]
        for sense in senses:
            sense.start()
            stack.callback(sense.stop)
        stack.callback(ControlServer(settings.control, daemon.answer).close)
        reporter.record([Told(Reason.STARTED)])
        logger.info("started", manifests=str(options.manifests), pid=os.getpid())
        # What is there now stays for ever: nobody has to look through it for garbage again.
        gc.collect()
        gc.freeze()
        with _signals(daemon):
            daemon.run()
        reporter.record([Told(Reason.STOPPED)])
    if assembled.workers.busy:
        # A request that Incus does not answer keeps its thread, and Python would wait for that.
        os._exit(0)


@dataclass(frozen=True, slots=True)
class _Assembled:
    daemon: Daemon
    workers: Workers
    wakeup: WakeUp
    lifecycle: Lifecycle
    fleet: tuple[_Sense, ...]


def _assemble(settings: HostSettings, options: Options, reporter: Reporter) -> _Assembled:
    cancellation = Cancellation()
    # useradd is quick, and worse off when it is killed; only the wait for its lock is given up.
    accounts = Accounts(settings, sleep=cancellation.sleep)
    wakeup = WakeUp()
    neighbours = Neighbours(own_name(), Channel(settings, cancellation=cancellation))
    watched = Watched(neighbours, _waker(wakeup, "peers"))
    host = Machine(
        settings,
        accounts,
        cancellation=cancellation,
        built=reporter.metrics.baked,
        neighbours=neighbours,
        watched=watched,
    )
    finished = _waker(wakeup, "finished")
    workers = Workers(host, reporter, finished, clock=_now, ticks=time.monotonic)
    source = CachedSource(options.manifests)
    holder: list[Daemon] = []

    def gap() -> None:
        for daemon in holder:
            daemon.look_everywhere("incus")

    def happened(event: Event) -> None:
        if _matters(event) and holder:
            name = event.instance.removesuffix("-container")
            if name in workers.busy:
                return  # its own end wakes the loop, and most of this is our own doing
            if event.action in _INSIDE:
                holder[0].look_into(name, "incus")
            else:
                wakeup.wake("incus")

    lifecycle = Lifecycle(settings.incus_socket, happened, gap, note=lambda line: _say(reporter, line))
    senses = Senses(
        clock=_now,
        ticks=time.monotonic,
        chance=random.random,
        approvals=Approvals(settings, reporter),
        blame=lambda instance, since: _blame(lifecycle, instance, since),
    )
    controller = Controller(host, source, workers, senses, reporter, options.rhythm)
    probing = _probing(settings, wakeup) if options.probe else None
    keeper = Keeper(
        host.recipes,
        Telling(reporter),
        lambda: controller.last.load,
        lambda: workers.busy,
        _now,
        time.monotonic,
        options.keep_recipes,
        thread_pool(1, "images"),
    )
    answers = host.answers(lambda: controller.last.load, lambda: workers.busy)
    service = PeerService(settings.peer_socket, partial(group_number, settings), answers.answered)
    member = Membership(settings, Incus(settings), own_name())
    daemon = Daemon(
        host,
        controller,
        workers,
        reporter,
        ServiceManager(),
        wakeup,
        ticks=time.monotonic,
        recovery=Recovery(host, seconds_since_boot, finished, thread_pool, _recovered(reporter)),
        probing=probing,
        chores=Chores(
            (
                *chores(settings, reporter),
                Chore("images", EVERY, keeper.look),
                Chore("host", HOST_EVERY, host_keeper(settings, controller).look),
                Chore("fleet", 5.0, Following(member, service, lambda: controller.last.load).do),
            ),
            partial(done, reporter),
        ).do,
        revision=partial(revision, replace(settings, manifests=options.manifests)),
        conditions=lambda: conditions.read(settings).conditions,
    )
    holder.append(daemon)
    if probing is not None:
        probing.start()
    return _Assembled(daemon, workers, wakeup, lifecycle, (watched, service))


def _serving(options: Options, answers: Answers, logger: log.Logger) -> Iterator[Serving]:
    if options.metrics:
        yield Serving(
            partial(Health, options.metrics, answers),
            lambda address: logger.info("metrics served", address=address),
            lambda error: logger.error("metrics not served", error=error),
        )


def _recovered(reporter: Reporter) -> float | None:
    """What the status says that an earlier controller wrote; a boot takes it away."""
    return reporter.status.recovered if reporter.status is not None else None


def _matters(event: Event) -> bool:
    return event.action.startswith("instance-") and not event.action.startswith(_BUSY)


def _blame(lifecycle: Lifecycle, instance: str, since: datetime) -> str:
    """Who changed an instance last, in Incus' own words."""
    # What Incus did before the look began may be told to us after it.
    found = [event for event in lifecycle.recent(instance, since - timedelta(seconds=2)) if _matters(event)]
    return found[-1].requestor if found else ""


def _probing(settings: HostSettings, wakeup: WakeUp) -> Probing:
    probe = SSHProbe(settings)

    def attempt(name: str, instance: str, address: str) -> tuple[float, str]:
        try:
            result = probe.probe(name, instance, address)
        except HostError as error:
            return 0.0, str(error)
        return result.seconds, result.error

    return Probing(attempt, _waker(wakeup, "probe"), _now)


def _watch(settings: HostSettings, options: Options, wakeup: WakeUp, logger: log.Logger) -> Watch:
    accounts = [settings.etc / name for name in ("passwd", "shadow", "group", "subuid", "subgid")]
    reasons = {str(options.manifests): "manifests", BEGAN: "manifests"}

    def changed(path: str) -> None:
        wakeup.wake(reasons.get(path, "accounts"))

    paths = [options.manifests, *accounts, settings.jump_keys]
    return Watch(paths, changed, lambda line: logger.info("watch", text=line))


def _spot(options: Options, daemon: Daemon, logger: log.Logger) -> Iterator[spot.SpotWatch]:
    provider = (
        spot.detect() if options.spot == "auto" else None if options.spot == "off" else spot.Provider(options.spot)
    )
    if provider is None:
        return

    def notice(found: spot.Notice | None) -> None:
        if found is not None and found.deadline is None:
            # Maintenance may be an hour away, and ends with an orderly shutdown: nobody is thrown out for it now.
            logger.warning("the cloud announces maintenance", notice=found.text)
            return
        daemon.notice(found.text if found is not None else "")

    yield spot.SpotWatch(
        provider,
        options.metadata or spot.ENDPOINT,
        notice,
        note=lambda line: logger.info("spot", text=line),
    )


@contextlib.contextmanager
def _signals(daemon: Daemon) -> Iterator[None]:
    """While the block runs: SIGTERM and SIGINT end the loop, SIGHUP lets it look at everything anew."""
    handlers: dict[signal.Signals, Callable[[], None]] = {
        signal.SIGTERM: lambda: daemon.stop("SIGTERM"),
        signal.SIGINT: lambda: daemon.stop("SIGINT"),
        signal.SIGHUP: daemon.reload,
    }
    before = {number: signal.signal(number, lambda *_, act=act: act()) for number, act in handlers.items()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _waker(wakeup: WakeUp, reason: str) -> Callable[[], None]:
    return lambda: wakeup.wake(reason)


def _say(reporter: Reporter, line: str) -> None:
    reporter.logger.info("incus events", text=line)


def _now() -> datetime:
    return datetime.now(UTC)
