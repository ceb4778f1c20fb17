"""Ending early what runs: commands, waits for Incus, pauses; and what still works afterwards."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from containarium.host import command
from containarium.host.cancel import Cancellation, CancelledError
from containarium.host.incus import Incus, Versioned
from containarium.host.instances import Instances
from containarium.host.login import await_login
from containarium.host.machine import Machine
from containarium.host.nicfilters import NicFilters
from containarium.host.power import Power
from containarium.host.settings import HostSettings
from containarium.model import action as act
from containarium.model import marks
from containarium.model.host import HostError, Progress, RetryableError, silent
from containarium.model.observed import Account
from tests.unit.host.test_await_login import Always
from tests.unit.host.test_incus import Answer, Daemon, error, running, sync
from tests.unit.host.unixhttp import serving

LONG = 60.0
"""Seconds that a command or a wait would take if it were not ended; no test waits for them."""


@pytest.fixture
def cancellation() -> Cancellation:
    return Cancellation()


def when(true: Callable[[], bool], then: Callable[[], None]) -> None:
    """Do something as soon as something is so, from another thread."""

    def wait() -> None:
        while not true():
            time.sleep(0.01)
        then()

    threading.Thread(target=wait, daemon=True).start()


def lives(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def ended(pids: Path) -> bool:
    """Whether all of these end: the kernel kills a grandchild a moment after it was told to."""
    deadline = time.monotonic() + 5.0
    while left := [pid for pid in map(int, pids.read_text().split()) if lives(pid)]:
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return not left


# -- commands of this machine


class TestCommands:
    @pytest.mark.parametrize("trap", ["", 'trap "" TERM;'])
    def test_the_whole_group_is_ended(self, tmp_path: Path, cancellation: Cancellation, trap: str) -> None:
        pids = tmp_path / "pids"
        script = f'{trap} sleep 61 & sleep 62 & echo $$ $! > "$1.new"; mv "$1.new" "$1"; wait'
        when(pids.exists, cancellation.cancel)
        with pytest.raises(CancelledError):
            command.run(["sh", "-c", script, "sh", str(pids)], timeout=LONG, cancellation=cancellation)
        assert ended(pids)

    def test_it_may_end_in_order(self, tmp_path: Path, cancellation: Cancellation) -> None:
        begun, tidied = tmp_path / "begun", tmp_path / "tidied"
        script = 'trap "echo done > $2; exit" TERM; echo > "$1"; while :; do sleep 0.02; done'
        when(begun.exists, cancellation.cancel)
        with pytest.raises(CancelledError):
            command.run(["sh", "-c", script, "sh", str(begun), str(tidied)], timeout=LONG, cancellation=cancellation)
        assert tidied.exists()

    def test_nothing_begins(self, tmp_path: Path, cancellation: Cancellation) -> None:
        cancellation.cancel()
        with pytest.raises(CancelledError):
            command.run(["touch", str(tmp_path / "x")], timeout=LONG, cancellation=cancellation)
        assert not (tmp_path / "x").exists()
        cancellation.resume()
        command.run(["touch", str(tmp_path / "x")], timeout=LONG, cancellation=cancellation)
        assert (tmp_path / "x").exists()

    def test_input_and_output_survive_a_slow_command(self) -> None:
        text = "x" * 300_000
        done = command.run(["sh", "-c", "sleep 0.7; cat; echo >&2 end"], timeout=LONG, stdin=text)
        assert (done.out, done.err) == (text, "end\n")

    def test_a_timeout_ends_the_group(self, tmp_path: Path) -> None:
        pids = tmp_path / "pids"
        with pytest.raises(RetryableError) as caught:
            command.run(["sh", "-c", 'sleep 61 & echo $$ $! > "$1"; wait', "sh", str(pids)], timeout=0.5)
        assert caught.value.reason == "CommandTimeout"
        assert ended(pids)

    def test_whoever_left_the_group_holds_nothing_up(self, tmp_path: Path) -> None:
        """It keeps the output open; it would be waited for until it ends by itself."""
        fled = tmp_path / "fled"
        script = 'setsid sh -c "echo \\$\\$ > $1; exec sleep 63" & sleep 64'
        with pytest.raises(RetryableError):
            command.run(["sh", "-c", script, "sh", str(fled)], timeout=0.5)
        pid = int(fled.read_text())
        assert lives(pid)
        command.run(["kill", str(pid)], timeout=5)


# -- pauses


def test_a_pause_ends_at_once(cancellation: Cancellation) -> None:
    when(lambda: True, cancellation.cancel)
    with pytest.raises(CancelledError):
        cancellation.sleep(LONG)


def test_a_silent_ssh_server_is_waited_for_no_longer(
    monkeypatch: pytest.MonkeyPatch, cancellation: Cancellation
) -> None:
    kept = []

    def connect(_address: tuple[str, int], timeout: float) -> socket.socket:
        ours, theirs = socket.socketpair()
        kept.append(theirs)
        return ours

    monkeypatch.setattr(socket, "create_connection", connect)
    when(lambda: bool(kept), cancellation.cancel)
    with pytest.raises(CancelledError):
        await_login("192.0.2.1", Always(), LONG, cancellation)
    for peer in kept:
        peer.close()


# -- Incus


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    with serving(Daemon(tmp_path / "unix.socket")) as server:
        yield server


@pytest.fixture
def settings(daemon: Daemon, tmp_path: Path) -> HostSettings:
    return HostSettings(incus_socket=Path(str(daemon.server_address)), state=tmp_path, etc=tmp_path)


def busy(daemon: Daemon) -> None:
    """Every operation runs for ever."""

    def hold() -> Answer:
        time.sleep(0.1)
        return error(500, "context deadline exceeded", 200)

    daemon.answers["GET", "/1.0/operations/op1/wait"] = hold
    daemon.answers["GET", "/1.0/operations/op1"] = lambda: sync({"id": "op1", "status_code": 103})


def test_a_wait_ends_and_the_operation_is_cancelled(
    daemon: Daemon, settings: HostSettings, cancellation: Cancellation
) -> None:
    incus = Incus(settings, cancellation=cancellation)
    busy(daemon)
    daemon.answers["POST", "/1.0/instances"] = running
    when(lambda: any("wait" in asked for asked in daemon.asked), cancellation.cancel)
    with pytest.raises(CancelledError):
        incus.post("instances", body={}, timeout=LONG)
    assert daemon.asked[-1] == "DELETE /1.0/operations/op1"
    incus.close()


def test_what_is_done_is_done(daemon: Daemon, settings: HostSettings, cancellation: Cancellation) -> None:
    incus = Incus(settings, cancellation=cancellation)

    def end() -> Answer:
        cancellation.cancel()
        return sync({"id": "op1", "status_code": 200, "metadata": {"x": 1}})

    daemon.answers["POST", "/1.0/instances"] = running
    daemon.answers["GET", "/1.0/operations/op1/wait"] = end
    assert incus.post("instances", body={}) == {"x": 1}
    incus.close()


def test_no_change_begins_and_looking_goes_on(
    daemon: Daemon, settings: HostSettings, cancellation: Cancellation
) -> None:
    incus = Incus(settings, cancellation=cancellation)
    daemon.answers["GET", "/1.0/instances"] = lambda: sync([])
    cancellation.cancel()
    changes: list[Callable[[], object]] = [
        lambda: incus.patch("instances", "a", body={}),
        lambda: incus.post("instances", body={}),
        lambda: incus.put("instances", "a", "state", body={}),
        lambda: incus.delete("instances", "a"),
        lambda: incus.execute("a", ["true"], timeout=LONG),
    ]
    for change in changes:
        with pytest.raises(CancelledError):
            change()
    assert incus.get("instances") == []
    assert daemon.asked == ["GET /1.0/instances"]
    incus.close()


# -- the machine


class NoAccounts:
    """Accounts of a host that has none; remembers what was asked."""

    def __init__(self) -> None:
        self.ensured: list[str] = []

    def observe(self) -> tuple[Mapping[str, Account], frozenset[str]]:
        return {}, frozenset()

    def ensure(self, name: str, progress: Progress) -> None:
        self.ensured.append(name)

    def write_keys(self, name: str, lines: tuple[str, ...]) -> None:
        raise NotImplementedError

    def lock(self, name: str) -> None:
        raise NotImplementedError

    def delete(self, name: str) -> None:
        raise NotImplementedError


STOP = act.StopInstance(environment="alice", instance="a", patience=12)
START = act.StartInstance(environment="alice", instance="a")
ENSURE = act.EnsureAccount(environment="alice", account="alice")


def alice(status: str) -> Callable[[], Answer]:
    there = {"name": "a", "status": status, "config": {marks.ENVIRONMENT: "alice", marks.APPLIED: "x"}}
    return lambda: sync(there)


def test_nothing_but_a_stop_is_carried_out(daemon: Daemon, settings: HostSettings) -> None:
    accounts = NoAccounts()
    machine = Machine(settings, accounts)
    daemon.answers["GET", "/1.0/instances/a"] = alice("Running")
    stopped = []
    daemon.answers["PUT", "/1.0/instances/a/state"] = lambda: stopped.append(True) or sync({})  # type: ignore[func-returns-value]
    machine.cancel()
    for refused in (START, ENSURE, act.RestartInstance(environment="alice", instance="a")):
        with pytest.raises(RetryableError) as caught:
            machine.execute(refused)
        assert caught.value.reason == "Cancelled"
    assert not daemon.asked
    machine.execute(STOP)
    assert stopped
    machine.resume()
    machine.execute(ENSURE)
    assert accounts.ensured == ["alice"]


@pytest.mark.parametrize("action", [START, STOP, act.DeleteInstance(environment="alice", instance="a", reason="x")])
def test_what_runs_is_ended(daemon: Daemon, settings: HostSettings, action: act.Action) -> None:
    """A stop that was asked for before, too: it may have all the time of an ordinary one."""
    machine = Machine(settings, NoAccounts())
    busy(daemon)
    daemon.answers["GET", "/1.0/instances/a"] = alice("Running" if action is STOP else "Stopped")
    daemon.answers["GET", "/1.0/operations"] = lambda: sync({})
    for method, path in (("PUT", "/1.0/instances/a/state"), ("DELETE", "/1.0/instances/a")):
        daemon.answers[method, path] = running
    when(lambda: any("op1/wait" in asked for asked in daemon.asked), machine.cancel)
    with pytest.raises(CancelledError):
        machine.execute(action)
    changes = [asked for asked in daemon.asked if not asked.startswith("GET")]
    assert changes[1:] == ["DELETE /1.0/operations/op1"]


# -- a stop's patience


class OneGuest(Incus):
    """An Incus with one guest, which goes at once, late (after ``needs`` seconds), or never by itself."""

    def __init__(self, needs: float, status: str = "Running") -> None:
        super().__init__(HostSettings())
        self.status = status
        self.needs = needs
        self.asked: list[dict[str, Any]] = []
        self.starting: list[str] = []

    def get(self, *path: str, timeout: float | None = None, **params: str) -> Any:
        assert path == ("operations",)
        description = {"description": "Starting instance", "resources": {"instances": ["/1.0/instances/a"]}}
        return {"running": [{"id": name, **description} for name in self.starting]}

    def wait(
        self, operation: str, timeout: float, progress: Progress = silent, check: Callable[[], None] = lambda: None
    ) -> Mapping[str, Any]:
        self.starting.remove(operation)
        self.status = "Running"
        return {}

    def get_versioned(self, *path: str) -> Versioned:
        return Versioned(json.loads(alice(self.status)()[2])["metadata"], "etag")

    def put(self, *path: str, body: Any, timeout: float | None = None, etag: str = "") -> Any:
        self.asked.append(body)
        assert timeout is not None
        assert timeout > body["timeout"]
        if body.get("force") or self.needs <= body["timeout"]:
            self.status = "Stopped"
            return
        raise RetryableError("Failed shutting down instance: context deadline exceeded", reason="IncusTimeout")


def stop(guest: OneGuest, patience: float | None) -> list[tuple[int, bool]]:
    settings = HostSettings()
    Power(guest, Instances(guest, NicFilters(guest, command.run), settings)).stop("a", "alice", patience=patience)
    assert guest.status == "Stopped"
    return [(body["timeout"], body.get("force", False)) for body in guest.asked]


@pytest.mark.parametrize(
    ("needs", "patience", "asked"),
    [
        (5, None, [(30, False)]),
        (5, 12.0, [(12, False)]),
        (20, None, [(30, False)]),
        (20, 12.0, [(12, False), (30, True)]),
        (1e9, None, [(30, False), (30, True)]),
        (1, 0.0, [(30, True)]),
    ],
)
def test_patience(needs: float, patience: float | None, asked: list[tuple[int, bool]]) -> None:
    assert stop(OneGuest(needs), patience) == asked


def test_a_guest_that_is_just_being_started_is_stopped_too() -> None:
    guest = OneGuest(1, status="Stopped")
    guest.starting = ["op1"]
    assert stop(guest, 12) == [(12, False)]


def test_a_stopped_guest_stays_so() -> None:
    assert stop(OneGuest(1, status="Stopped"), 12) == []


def test_patience_in_json() -> None:
    assert STOP.to_json()["patience"] == 12
    usual = act.StopInstance(environment="alice", instance="a").to_json()
    assert usual == {"kind": "StopInstance", "environment": "alice", "changes": [], "instance": "a"}


def test_the_error_says_what_comes_next() -> None:
    caught: HostError = CancelledError()
    assert str(caught).endswith("; it is gone on with afterwards")
