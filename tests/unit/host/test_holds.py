"""An environment in somebody's hands is left alone by every pass, and by nobody's death for longer."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from containarium.host.holds import held, hold
from containarium.model.host import RetryableError, TerminalError
from containarium.model.observed import Observed
from containarium.plan.decision import Verb
from containarium.plan.planner import make_plan
from tests.builders import NOW, Site, load, manifest

_HOLDER = """
import sys, time
from pathlib import Path
from containarium.host.holds import hold
with hold(Path(sys.argv[1]), "alice"):
    print("held", flush=True)
    time.sleep(60)
"""


def test_it_is_held_while_the_block_runs(tmp_path: Path) -> None:
    assert held(tmp_path) == frozenset()
    with hold(tmp_path, "alice"), hold(tmp_path, "bob"):
        assert held(tmp_path) == {"alice", "bob"}
        assert held(tmp_path) == {"alice", "bob"}, "a look does not take it away"
    assert held(tmp_path) == frozenset()
    with hold(tmp_path, "alice"):
        assert held(tmp_path) == {"alice"}


def test_it_has_one_holder_and_dies_with_it(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", _HOLDER, str(tmp_path)], stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"held\n"
        assert held(tmp_path) == {"alice"}
        with pytest.raises(RetryableError) as refused, hold(tmp_path, "alice"):
            pass
        assert refused.value.reason == "Held"
        os.kill(other.pid, signal.SIGKILL)
        other.wait()
    assert held(tmp_path) == frozenset()


@pytest.mark.parametrize("name", ["../alice", "", "Alice", "a/b"])
def test_what_is_no_name_is_no_file(tmp_path: Path, name: str) -> None:
    with pytest.raises(TerminalError), hold(tmp_path, name):
        pass


def test_a_link_in_its_place_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "held").mkdir()
    (tmp_path / "held" / "alice").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="alice"), hold(tmp_path, "alice"):
        pass
    assert not (tmp_path / "elsewhere").exists()
    assert held(tmp_path) == frozenset()


def test_the_plan_leaves_alone_what_is_held() -> None:
    site = Site(manifest("alice"), manifest("bob"))
    site.run()
    site.world.drop_instance("alice-container")
    observed = site.host.observe()
    assert {e.name: e.verb for e in make_plan(site.load, observed, NOW).environments} == {"alice": Verb.CREATE}
    taken = _held(observed, "alice")
    plan = make_plan(site.load, taken, NOW)
    assert (plan.environments, plan.suspended) == ((), ("alice",))
    assert make_plan(load(manifest("bob")), _held(observed, "alice"), NOW).environments == (), "nor does it retire it"


def _held(observed: Observed, name: str) -> Observed:
    from dataclasses import replace

    return replace(observed, held=frozenset({name}))
