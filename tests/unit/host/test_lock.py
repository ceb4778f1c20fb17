"""One controller per host, and a lock that never outlives its process."""

from __future__ import annotations

import os
import signal
import stat
from pathlib import Path

import pytest

from containarium.host.lock import only_controller
from containarium.model.host import HostError
from tests.unit.host.fulldisk import no_room


def test_it_is_held_and_given_back(tmp_path: Path) -> None:
    runtime = tmp_path / "run"
    with only_controller(runtime):
        assert (runtime / "lock").read_text() == f"{os.getpid()}\n"
        with (
            pytest.raises(HostError, match=rf"another containarium \(pid {os.getpid()}\)") as refused,
            only_controller(runtime),
        ):
            pass
        assert refused.value.reason == "Locked"
    with only_controller(runtime):
        assert stat.S_IMODE((runtime / "lock").stat().st_mode) == 0o600


def test_a_shorter_pid_replaces_a_longer_text(tmp_path: Path) -> None:
    (tmp_path / "lock").write_text("9" * 30)
    with only_controller(tmp_path):
        assert (tmp_path / "lock").read_text() == f"{os.getpid()}\n"


def test_a_killed_holder_holds_nothing(tmp_path: Path) -> None:
    ready, tell = os.pipe()
    pid = os.fork()
    if pid == 0:
        with only_controller(tmp_path):
            os.write(tell, b"x")
            signal.pause()
        os._exit(0)
    os.read(ready, 1)
    with pytest.raises(HostError, match=rf"\(pid {pid}\)"), only_controller(tmp_path, 0.01):
        pass
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    with only_controller(tmp_path):
        pass
    os.close(ready)
    os.close(tell)


def test_waiting_ends_when_the_other_does(tmp_path: Path) -> None:
    ready, tell = os.pipe()
    pid = os.fork()
    if pid == 0:
        with only_controller(tmp_path):
            os.write(tell, b"x")
            signal.sigtimedwait({signal.SIGUSR1}, 0.2)
        os._exit(0)
    os.read(ready, 1)
    with only_controller(tmp_path, 30):
        pass
    os.waitpid(pid, 0)
    os.close(ready)
    os.close(tell)


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "lock").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(HostError, match="cannot open"), only_controller(tmp_path):
        pass
    assert not (tmp_path / "elsewhere").exists()


def test_it_holds_where_the_disk_is_full(tmp_path: Path) -> None:
    refused = pytest.raises(HostError, match="is working on this host")
    with no_room(), only_controller(tmp_path), refused, only_controller(tmp_path):
        pass
