"""Whether a controller lives."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace

from containarium.report.process import Daemon, alive, this_process
from tests.builders import NOW


def test_this_process_lives() -> None:
    assert alive(this_process())


def test_a_process_that_was_given_the_number_later_is_another_one() -> None:
    mine = this_process(NOW)
    assert mine.birth
    assert not alive(replace(mine, birth="1"))


def test_the_dead_are_dead() -> None:
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    assert not alive(Daemon(child.pid, NOW))
    assert not alive(Daemon(0, NOW))
    assert not alive(Daemon(-1, NOW))
    assert not alive(Daemon(1 << 70, NOW))


def test_without_a_time_of_birth_the_number_has_to_do() -> None:
    assert alive(Daemon(os.getpid(), NOW))
