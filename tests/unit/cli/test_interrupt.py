"""Ctrl-C: what runs is finished, nothing more is begun, and a second one ends it."""

from __future__ import annotations

import os
import signal
import threading
import time

import pytest

from containarium.cli.interrupt import Interrupt
from containarium.model.action import CreateInstance
from containarium.simulate.faults import DONE, Boundary, Fault
from tests.unit.cli.conftest import Shell


def test_it_ends_after_the_step_that_runs(shell: Shell) -> None:
    def press(boundary: Boundary) -> Fault | None:
        if isinstance(boundary.action, CreateInstance) and boundary.step == DONE:
            time.sleep(0.2)  # until the main thread waits for the workers
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.2)
        return None

    shell.declare("alice")
    shell.faults = press
    done = shell("apply")
    assert done.code == 130
    assert shell.world.instances["alice-container"].status == "Stopped"
    assert "alice" not in shell.world.accounts
    shell.faults = lambda _boundary: None
    assert shell("apply").code == 0


def test_the_handler_is_put_back() -> None:
    before = signal.getsignal(signal.SIGINT)
    with Interrupt().heeded():
        assert signal.getsignal(signal.SIGINT) != before
    assert signal.getsignal(signal.SIGINT) == before


def test_beside_the_main_thread_signals_are_left_alone() -> None:
    before = signal.getsignal(signal.SIGINT)
    seen: list[object] = []

    def work() -> None:
        with Interrupt().heeded():
            seen.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [before]


def test_a_second_one_ends_the_process() -> None:
    pid = os.fork()
    if pid == 0:
        try:
            with Interrupt().heeded():
                for _ in range(2):
                    try:
                        os.kill(os.getpid(), signal.SIGINT)
                        time.sleep(5)
                    except KeyboardInterrupt:
                        pass
        finally:
            os._exit(99)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGINT


def test_the_guarded_host_is_the_host(shell: Shell) -> None:
    from containarium.simulate.host import SimulatedHost

    host = SimulatedHost(shell.world)
    assert Interrupt().guard(host).observe() == host.observe()


def test_other_threads_see_it(shell: Shell) -> None:
    from containarium.simulate.host import SimulatedHost

    interrupt = Interrupt()
    host = interrupt.guard(SimulatedHost(shell.world))
    with interrupt.heeded(), pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        host.observe()
