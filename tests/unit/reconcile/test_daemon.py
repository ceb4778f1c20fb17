"""The loop itself, in a thread, over a simulated host: requests, notices, reloads and the end."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from containarium.host.control import ControlServer, ask
from containarium.model.host import RetryableError, TerminalError
from containarium.model.observed import InstanceStatus
from containarium.reconcile.daemon import Daemon
from containarium.reconcile.recovery import RECENT, Recovery
from containarium.reconcile.requests import Requests, Taken
from containarium.reconcile.wakeup import WakeUp
from containarium.reconcile.workers import thread_pool
from containarium.report.journal import Journal
from containarium.report.metrics import Metrics
from containarium.report.process import this_process
from containarium.report.reporter import Reporter
from containarium.report.statusfile import read
from containarium.simulate.faults import Fail, Scripted
from containarium.simulate.host import SimulatedHost
from containarium.simulate.somebody import Somebody
from tests.builders import Site, manifest
from tests.living import Living

BOX = "alice-container"


class Manager:
    """A service manager that remembers what it was told."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.text = ""

    def ready(self) -> None:
        self.told.append("ready")

    def status(self, text: str) -> None:
        self.text = text

    def reloading(self) -> None:
        self.told.append("reloading")

    def stopping(self) -> None:
        self.told.append("stopping")

    def watchdog(self) -> None:
        if "watchdog" not in self.told:
            self.told.append("watchdog")

    def extend(self, seconds: float) -> None:
        assert seconds > 0
        self.told.append("extend")


class Quiet:
    """A log that nobody reads."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def _note(self, event: str, **_values: Any) -> None:
        self.lines.append(event)

    debug = info = warning = error = _note


class Running:
    """A daemon that runs in a thread."""

    def __init__(self, folder: Path, *names: str, faults: Any = None, **parts: Any) -> None:
        self.life = Living(Site(*(manifest(name) for name in names)))
        if faults is not None:
            self.life.site.host = SimulatedHost(self.life.site.world, faults)
            self.life.born()
        self.path = folder / "status.json"
        self.log, self.manager, self.wakeup = Quiet(), Manager(), WakeUp()
        self.life.on_finished = lambda: self.wakeup.wake("finished")
        reporter = Reporter(self.path, Journal(folder / "events.jsonl"), Metrics(), self.log, this_process())
        host = self.life.site.host
        recovery = Recovery(host, lambda: RECENT + 1, lambda: None, thread_pool)
        self.daemon = Daemon(
            host,
            self.life.controller,
            self.life.workers,
            reporter,
            self.manager,
            self.wakeup,
            ticks=time.monotonic,
            recovery=recovery,
            **parts,
        )
        self.thread = threading.Thread(target=self.daemon.run, daemon=True)

    @property
    def world(self) -> Any:
        return self.life.site.world

    def until(self, true: Callable[[], object], seconds: float = 20.0) -> None:
        """Wait for something, and fail when it does not come."""
        deadline = time.monotonic() + seconds
        while not true():
            assert time.monotonic() < deadline, self.log.lines
            time.sleep(0.01)

    def stop(self) -> None:
        self.daemon.stop("test")
        self.thread.join(20)
        assert not self.thread.is_alive()


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Running]]:
    """Give a maker of running daemons."""
    made: list[Running] = []

    def make(*names: str, **options: Any) -> Running:
        running = Running(tmp_path, *names, **options)
        made.append(running)
        running.thread.start()
        return running

    yield make
    for running in made:
        running.stop()


def request(running: Running, **more: Any) -> Any:
    return running.daemon.answer({"do": "reconcile", "settle": 20.0, **more})


def test_it_converges_says_so_and_ends_when_told(start: Callable[..., Running]) -> None:
    running = start("alice", "bob")
    answer = request(running)
    assert answer["settled"]
    assert {i.status for i in running.world.instances.values()} == {InstanceStatus.RUNNING}
    assert running.manager.told.count("ready") == 1
    assert "2 as declared" in running.manager.text
    status = read(running.path)
    assert status is not None
    assert [environment.name for environment in status.environments] == ["alice", "bob"]
    running.stop()
    assert running.manager.told[-1] == "stopping"


def test_a_request_is_answered_by_a_pass_that_began_after_it(start: Callable[..., Running]) -> None:
    running = start("alice")
    request(running)
    for _ in range(5):
        Somebody(running.world).set_config(BOX, "limits.memory", "1GiB")
        request(running)
        assert running.world.instances[BOX].config["limits.memory"] != "1GiB"


@pytest.mark.parametrize("nonsense", [{}, {"do": "dance"}, {"do": "reconcile", "restart": "alice"}])
def test_nonsense_is_refused(start: Callable[..., Running], nonsense: dict[str, Any]) -> None:
    running = start("alice")
    with pytest.raises(RetryableError):
        running.daemon.answer(nonsense)


def test_it_is_ready_only_after_a_look(start: Callable[..., Running]) -> None:
    running = start("alice", faults=Scripted(looks={1: Fail("Down")}))
    running.until(lambda: "ready" in running.manager.told)
    assert running.manager.told.index("extend") < running.manager.told.index("ready")


def test_a_notice_stops_everybody_and_its_end_brings_them_back(start: Callable[..., Running]) -> None:
    running = start("alice", "bob")
    request(running)
    running.daemon.notice("the cloud takes it at noon")
    running.until(lambda: {i.status for i in running.world.instances.values()} == {InstanceStatus.STOPPED})
    status = read(running.path)
    assert status is not None
    assert status.preempted == "the cloud takes it at noon"
    running.wakeup.wake("incus")
    time.sleep(0.3)
    assert {i.status for i in running.world.instances.values()} == {InstanceStatus.STOPPED}, "nothing is begun"
    running.daemon.notice("")
    running.until(lambda: {i.status for i in running.world.instances.values()} == {InstanceStatus.RUNNING})


def test_a_reload_tries_at_once_what_waits(start: Callable[..., Running]) -> None:
    running = start("alice", faults=Scripted({n: Fail() for n in range(1, 6)}))
    running.until(lambda: running.life.controller.last.troubles)

    def runs() -> bool:
        running.daemon.reload()
        return BOX in running.world.instances and running.world.instances[BOX].status == "Running"

    running.until(runs)
    assert running.manager.told.count("reloading") >= 1


def test_the_socket_carries_requests_and_refusals(start: Callable[..., Running], tmp_path: Path) -> None:
    running = start("alice")
    path = tmp_path / "control.sock"
    server = ControlServer(path, running.daemon.answer)
    try:
        assert path.stat().st_mode & 0o777 == 0o600
        assert ask(path, {"do": "reconcile", "settle": 20.0}, timeout=30)["settled"]
        with pytest.raises(RetryableError, match="nothing I can do"):
            ask(path, {"do": "dance"}, timeout=10)
    finally:
        server.close()
    with pytest.raises(TerminalError, match="no controller runs"):
        ask(path, {"do": "reconcile"}, timeout=5)


def test_a_dead_controllers_socket_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "control.sock"
    first = ControlServer(path, lambda _request: {"who": "first"})
    second = ControlServer(path, lambda _request: {"who": "second"})
    assert ask(path, {}, timeout=5)["who"] == "second"
    first.close()
    second.close()


def test_who_says_nothing_on_the_socket_holds_up_nobody(tmp_path: Path) -> None:
    import socket

    path = tmp_path / "control.sock"
    server = ControlServer(path, lambda _request: {"who": "me"})
    silent = [socket.socket(socket.AF_UNIX) for _ in range(3)]
    try:
        for connection in silent:
            connection.connect(str(path))
        assert ask(path, {}, timeout=5)["who"] == "me"
    finally:
        for connection in silent:
            connection.close()
        server.close()


def test_work_that_does_not_end_does_not_keep_the_controller_from_ending() -> None:
    life = Living(Site(manifest("alice")), at_once=False)
    life.make_pass()
    assert life.workers.close(0.05) == {"alice"}
    life.pool.work()
    assert life.workers.close(0.05) == frozenset()


def test_an_error_that_nobody_thought_of_ends_no_loop_and_is_told(start: Callable[..., Running]) -> None:
    running = start("alice")
    request(running)
    observe, broken = running.life.site.host.observe, threading.Event()

    def sometimes(*args: Any) -> Any:
        if broken.is_set():
            raise ZeroDivisionError
        return observe(*args)

    running.life.site.host.observe = sometimes  # type: ignore[method-assign, assignment]
    broken.set()
    running.wakeup.wake("incus")
    running.until(lambda: "internal error (ZeroDivisionError)" in running.manager.text)
    status = read(running.path)
    assert status is not None
    assert "ZeroDivisionError" in status.last_pass.error
    broken.clear()
    Somebody(running.world).stop(BOX)
    assert request(running)["settled"]
    assert running.world.instances[BOX].status is InstanceStatus.RUNNING


@pytest.mark.parametrize("part", ["chores", "revision"])
def test_a_part_that_fails_again_and_again_does_not_keep_the_rest_from_work(
    start: Callable[..., Running], part: str
) -> None:
    failed = threading.Event()

    def broken(*_clock: float) -> Any:
        failed.set()
        raise ZeroDivisionError

    running = start("alice", **{part: broken})
    running.until(failed.is_set)
    running.until(lambda: "internal error" in running.log.lines)
    running.until(
        lambda: BOX in running.world.instances and running.world.instances[BOX].status is InstanceStatus.RUNNING
    )
    running.daemon.notice("soon")
    running.until(lambda: running.world.instances[BOX].status is InstanceStatus.STOPPED, seconds=5.0)


def test_a_request_waits_until_it_is_certain_who_leaves(start: Callable[..., Running]) -> None:
    running = start("alice", "bob")
    request(running)
    running.life.site.declare(manifest("bob"))
    time_goes_by = threading.Timer(0.5, running.life.wait, [3.0])
    time_goes_by.start()
    assert request(running)["settled"]
    assert running.world.instances[BOX].status is InstanceStatus.STOPPED


def test_a_reload_before_the_first_look_says_nothing_of_being_ready(start: Callable[..., Running]) -> None:
    running = start("alice", faults=Scripted(looks={1: Fail("Down"), 2: Fail("Down")}))
    running.until(lambda: "extend" in running.manager.told)
    running.daemon.reload()
    running.until(lambda: running.manager.told.count("extend") == 2)
    assert "ready" not in running.manager.told
    running.until(lambda: "ready" in running.manager.told)


def test_every_request_up_to_a_ticket_is_taken_with_it() -> None:
    requests = Requests()
    first = requests.hurry(["alice"])
    second = requests.hurry(["bob"])
    taken = requests.take()
    assert (taken.restart, taken.ticket, taken.hurry) == (frozenset({"alice", "bob"}), second, True)
    assert first < second
    assert requests.take() == Taken(frozenset(), frozenset(), hurry=False, reload=False, notice=None, ticket=second)
