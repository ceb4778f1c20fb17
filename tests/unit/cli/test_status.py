"""status, events, and list while a controller runs: what it found, without asking Incus."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from containarium.plan.planner import make_plan
from containarium.report.events import Event, Reason
from containarium.report.journal import Journal
from containarium.report.process import Daemon, this_process
from containarium.report.snapshot import Probe, Revision, Snapshot, Trouble, Work
from containarium.report.status import build
from containarium.report.statusfile import write
from containarium.simulate.host import SimulatedHost
from containarium.sources.directory import load
from tests.builders import NOW
from tests.unit.cli.conftest import Shell
from tests.unit.cli.test_imports import HEAVY, TYPER


def controller(shell: Shell, daemon: Daemon | None = None, **known: Any) -> None:
    """Write what a controller would have written a second ago."""
    observed = SimulatedHost(shell.world).observe()
    manifests = load(shell.folder)
    started = shell.now - timedelta(seconds=2)
    seen = Snapshot(
        **{
            "id": "000007",
            "triggers": ("resync",),
            "started": started,
            "seconds": 1.0,
            "load": manifests,
            "observed": observed,
            "plan": make_plan(manifests, observed, shell.now),
            "last_success": started,
            **known,
        }
    )
    shell.settings.runtime.mkdir(exist_ok=True)
    write(build(seen, None, daemon or this_process(started)), shell.settings.status)


@pytest.fixture
def host(shell: Shell) -> Shell:
    """Give a host with alice and bob, as declared."""
    shell.declare("alice", "bob")
    shell("apply")
    return shell


def _incus_is_gone(shell: Shell) -> None:
    def fail(_settings: object) -> Any:
        raise AssertionError("the host was looked at")

    shell._host = fail  # type: ignore[method-assign]


def fields(out: str) -> dict[str, str]:
    found: dict[str, str] = {}
    last = ""
    for line in out.splitlines():
        if not line.startswith(" "):
            last, _, rest = line.partition(":")
            found[last] = rest.strip()
        else:
            found[last] += "\n" + line.strip()
    return found


# -- list


def test_list_shows_what_the_controller_found_and_asks_nobody(host: Shell) -> None:
    probes = {"alice": Probe(NOW, 0.1), "bob": Probe(NOW, 2.0, "nobody answers")}
    controller(host, probes=probes)
    _incus_is_gone(host)
    done = host("list")
    assert (done.code, done.err) == (0, "")
    assert [line.split() for line in done.out.splitlines()] == [
        ["NAME", "STATUS", "IP", "QUOTA", "AUTOSTART", "SSH", "READY", "DRIFT"],
        ["alice", "Running", "10.0.3.2", "50GiB", "yes", "ok", "True", "-"],
        ["bob", "Running", "10.0.3.3", "50GiB", "yes", "failed", "False", "(SSHUnreachable)", "-"],
    ]


def test_both_ways_to_list_say_the_same(host: Shell) -> None:
    host.somebody.give_shell("bob")
    host.declare("carol")
    controller(host)
    assert host("list", "-o", "json").json == host("list", "--live", "-o", "json").json
    assert host("list").out == host("list", "--live").out


def test_live_and_a_folder_look_at_the_host(host: Shell) -> None:
    controller(host)
    host.somebody.stop("bob-container")
    assert "Stopped" not in host("list").out
    assert "Stopped" in host("list", "--live").out
    assert "Stopped" in host("list", "-f", str(host.folder)).out


@pytest.mark.parametrize("daemon", [Daemon(1 << 22, NOW), replace(this_process(NOW), birth="1")], ids=["gone", "other"])
def test_what_a_dead_controller_found_is_not_believed(host: Shell, daemon: Daemon) -> None:
    controller(host, daemon)
    host.somebody.stop("bob-container")
    assert "Stopped" in host("list").out


def test_what_is_too_old_is_not_believed_and_what_is_old_says_so(host: Shell) -> None:
    controller(host)
    host.somebody.stop("bob-container")
    host.now += timedelta(seconds=88)
    assert host("list").err == ""
    host.now += timedelta(seconds=2)
    assert host("list").err == "As it was 91 s ago: --live looks at the host now.\n"
    host.now += timedelta(seconds=208)
    done = host("list")
    assert (done.code, "Stopped" in done.out) == (0, False)
    host.now += timedelta(seconds=2)
    done = host("list")
    assert ("Stopped" in done.out, done.err) == (True, "")


def test_a_status_from_the_future_is_not_believed(host: Shell) -> None:
    controller(host)
    host.somebody.stop("bob-container")
    host.now -= timedelta(hours=1)
    assert "Stopped" in host("list").out


def test_a_controller_that_has_seen_nothing_yet_does_not_stand_for_a_look(host: Shell) -> None:
    controller(host, plan=None, observed=None, error="Incus does not answer")
    assert "alice" in host("list").out


def test_broken_manifests_are_told_beside_the_list(host: Shell) -> None:
    host.write("broken.yaml", "a: [")
    controller(host)
    assert host("list").err == "1 problem in the manifests: see containarium status\n"


def test_the_quick_way_imports_nothing_heavy(host: Shell) -> None:
    """Which modules, never how long."""
    controller(host)
    script = f"""
import contextlib, io, json, sys
from datetime import datetime
from pathlib import Path
from containarium.cli.main import run_command
from containarium.cli.wiring import Wiring
from containarium.host.settings import HostSettings
settings = HostSettings(runtime=Path({str(host.settings.runtime)!r}))
wired = Wiring(settings=settings, clock=lambda: datetime.fromisoformat({NOW.isoformat()!r}))
said = io.StringIO()
with contextlib.redirect_stdout(said):
    run_command(["list"], wired)
    run_command(["status"], wired)
print(json.dumps([said.getvalue(), sorted({{name.partition(".")[0] for name in sys.modules}})]))
"""
    # The controller whose status this is has to be alive, so it is this very process.
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    said, modules = json.loads(done.stdout)
    assert "alice  Running" in said
    assert f"pid {this_process().pid}" in said
    assert HEAVY.intersection(modules) <= TYPER


# -- status


def test_status_when_all_is_well(host: Shell) -> None:
    controller(host, revision=Revision("abc1234", "abc1234"))
    done = host("status")
    assert (done.code, done.err) == (0, "")
    found = fields(done.out)
    assert found["Controller"].startswith("running (pid ")
    assert found["Last pass"] == "1 s ago (000007): 2 as declared; 1.0 s"
    assert found["Revision"] == "abc1234"
    assert found["Environments"] == "2 Ready=True"
    assert not found.keys() & {"Not ready", "Trouble", "Held back", "Problems", "Working", "Preempted"}


def test_status_names_whatever_is_not_as_it_should_be(host: Shell) -> None:
    host.somebody.give_shell("bob")
    host.write("broken.yaml", "a: [")
    controller(
        host,
        troubles={"bob": Trouble("EnsureAccount", "Locked", "the lock is held", 3, NOW, NOW + timedelta(seconds=8))},
        working={"alice": Work("update", "InstallPackages", NOW, "installing git")},
        revision=Revision("abc", "def", "alice.yaml:3:1: no such field"),
        preempted="GCE takes it away",
    )
    done = host("status")
    assert done.code == 1
    found = fields(done.out)
    assert found["Not ready"] == "bob: Locked: EnsureAccount: the lock is held"
    assert found["Trouble"] == "bob: EnsureAccount: the lock is held (attempt 3, next try in 8 s)"
    assert found["Working"] == "alice: InstallPackages installing git"
    assert found["Revision"] == "abc applied; def was refused: alice.yaml:3:1: no such field"
    assert found["Preempted"] == "GCE takes it away"
    assert "broken.yaml" in found["Problems"]


def test_status_says_how_to_approve_what_is_held_back(shell: Shell) -> None:
    shell.declare(*(f"p{number}" for number in range(6)))
    shell("apply")
    for number in range(1, 6):
        (shell.folder / f"p{number}.yaml").unlink()
    controller(shell)
    done = shell("status")
    assert done.code == 1
    held = fields(done.out)["Held back"]
    assert held.startswith("p1, p2, p3, p4, p5: Budget: ")
    assert held.count("containarium approve ") == 1


def test_a_dead_controller_is_the_first_thing_to_know(host: Shell) -> None:
    controller(host, Daemon(1 << 22, NOW))
    done = host("status")
    assert done.code == 1
    assert fields(done.out)["Controller"].startswith("NOT RUNNING")


def test_a_controller_that_is_stuck(host: Shell) -> None:
    controller(host)
    host.now += timedelta(hours=3)
    done = host("status")
    assert done.code == 1
    assert "its last pass is not recent" in fields(done.out)["Controller"]
    assert fields(done.out)["Last pass"].startswith("3 h ago")


def test_a_host_that_cannot_be_looked_at(host: Shell) -> None:
    controller(host, error="Incus does not answer", last_success=NOW - timedelta(minutes=5))
    done = host("status")
    assert done.code == 1
    assert fields(done.out)["Last whole pass"] == "5 min ago"
    assert "Incus does not answer" in fields(done.out)["Last pass"]


def test_without_any_controller(host: Shell) -> None:
    done = host("status")
    assert (done.code, done.out) == (1, "")
    assert done.err.startswith("containarium: error: no controller has run on this host since the boot; start it")


def test_status_in_json(host: Shell) -> None:
    controller(host)
    data = host("status", "-o", "json").json
    assert (data["alive"], data["age"], data["counts"]) == (True, 1.0, {"Ready=True": 2})
    assert [environment["name"] for environment in data["environments"]] == ["alice", "bob"]


def test_status_of_one(host: Shell) -> None:
    Journal(_folder(host) / "events.jsonl", lambda: NOW).record(
        [Event(Reason.CREATED, "bob"), Event(Reason.CREATED, "x")]
    )
    controller(host, probes={"bob": Probe(NOW - timedelta(minutes=3), 0.2, "refused")})
    done = host("status", "bob")
    assert done.code == 1
    found = fields(done.out)
    assert found["SSH"] == "failed: refused (3 min ago, 0.20 s)"
    assert found["Conditions"] == "Ready False since 2026-11-22 11:59:59+00:00: SSHUnreachable: refused"
    assert found["Events"] == "2026-11-22 12:00:00+00:00  Created"
    assert host("status", "alice").code == 0
    data = host("status", "bob", "-o", "json").json
    assert (data["name"], data["probe"]["error"], len(data["events"])) == ("bob", "refused", 1)


def test_status_of_nobody(host: Shell) -> None:
    controller(host)
    done = host("status", "nobody")
    assert (done.code, done.out) == (1, "")
    assert "knows no environment nobody" in done.err


# -- events


def _folder(shell: Shell) -> Path:
    shell.settings.state.mkdir(exist_ok=True)
    return shell.settings.state


def _events(shell: Shell) -> None:
    Journal(_folder(shell) / "events.jsonl", lambda: NOW).record(
        [
            Event(Reason.CREATED, "alice"),
            Event(Reason.DRIFT_FOUND, "bob", fields=("account.shell", "account.keys"), by="root"),
            Event(Reason.FAILED, "bob", "no luck\x1b[2J"),
        ]
    )


def test_events(shell: Shell) -> None:
    _events(shell)
    done = shell("events")
    assert done.code == 0
    assert [line.split("  ")[0] for line in done.out.splitlines()] == ["TIME"] + ["2026-11-22 12:00:00+00:00"] * 3
    assert [line.split()[2:] for line in done.out.splitlines()[1:]] == [
        ["alice", "Created", "-", "-"],
        ["bob", "DriftFound", "account.shell,", "account.keys", "root"],
        ["bob", "Failed", "no", "luck\ufffd[2J", "-"],
    ]


def test_events_of_one_and_the_last_ones(shell: Shell) -> None:
    _events(shell)
    assert [event["reason"] for event in shell("events", "bob", "-o", "json").json] == ["DriftFound", "Failed"]
    assert [event["reason"] for event in shell("events", "--limit", "1", "-o", "json").json] == ["Failed"]


def test_no_events(shell: Shell) -> None:
    assert shell("events").out == "Nothing is known to have happened.\n"
    assert shell("events", "bob").out == "Nothing is known to have happened to bob.\n"
    assert shell("events", "-o", "json").json == []


def test_events_of_a_disk_that_somebody_else_wrote_on(shell: Shell) -> None:
    (_folder(shell) / "events.jsonl").write_text('{"reason":"\\u001b[2J","time":5,"fields":7,"by":["x"]}\n')
    done = shell("events")
    assert done.code == 0
    assert "\x1b" not in done.out
