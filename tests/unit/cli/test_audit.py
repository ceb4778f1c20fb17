"""audit, sessions and report: what the host wrote down, shown to people and programs."""

from __future__ import annotations

import csv
import io
import json
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from containarium.cli import audit
from containarium.cli.wiring import Wiring
from containarium.host.bans import Ban, Bans
from containarium.host.connections import Connection
from containarium.host.logins import Read, Wanted, anybody
from containarium.host.loglines import Line, Said, said
from containarium.host.usage import Disk, Disks
from containarium.model.host import RetryableError, TerminalError
from containarium.report.events import Event, Reason
from containarium.report.journal import Journal
from tests.builders import NOW
from tests.unit.cli.conftest import Shell

KEY = "SHA256:" + "a" * 43


@dataclass
class FakeLogs:
    """Logs that a test wrote."""

    ssh_lines: list[Line] = field(default_factory=list)
    trail_lines: list[Line] = field(default_factory=list)
    asked: list[tuple[datetime, datetime, str]] = field(default_factory=list)
    broken: bool = False
    trail_broken: bool = False
    whole: bool = True
    gate: threading.Event | None = None

    def ssh(self, since: datetime, until: datetime, name: str = "", wanted: Wanted = anybody) -> Read[Said]:
        """What sshd wrote."""
        self.asked.append((since, until, name))
        if self.gate is not None:
            assert self.gate.wait(30)
        if self.broken:
            raise TerminalError("journalctl cannot read the journal", remedy="run it as root", reason="NoLog")
        found = [one for line in self.ssh_lines if since <= line.at <= until and (one := said(line))]
        lines = tuple(one for one in found if wanted(one) and name in ("", one.name))
        return Read(lines, "the journal", self.whole)

    def trail(self, since: datetime, until: datetime) -> Read[Line]:
        """What was changed."""
        if self.trail_broken:
            raise TerminalError("journalctl cannot read the journal", remedy="run it as root", reason="NoLog")
        return Read(tuple(line for line in self.trail_lines if since <= line.at <= until), "the journal", self.whole)

    def login(self, name: str, *, hours: float, port: int = 4711, refused: bool = False) -> None:
        """Somebody came, so many hours ago, for 90 seconds."""
        at = NOW - timedelta(hours=hours)
        if refused:
            self.ssh_lines.append(Line(at, 7, f"Invalid user {name} from 10.0.0.9 port {port}"))
            return
        text = f"Accepted publickey for {name} from 10.0.0.5 port {port} ssh2: ED25519 {KEY}"
        self.ssh_lines.append(Line(at, port, text))
        closed = f"pam_unix(sshd:session): session closed for user {name}"
        self.ssh_lines.append(Line(at + timedelta(seconds=90), port, closed))

    def change(self, action: str, *, hours: float, **more: Any) -> None:
        """An admin did something."""
        text = json.dumps({"event": "audit", "v": 1, "who": "anna", "via": "cli", "action": action, **more})
        self.trail_lines.append(Line(NOW - timedelta(hours=hours), 9, text))


@pytest.fixture
def logs(shell: Shell) -> FakeLogs:
    """Give logs in which somebody came and something was changed; alice and bob have environments."""
    shell.declare("alice", "bob")
    assert shell("apply").code == 0
    found = FakeLogs()
    found.login("alice", hours=5)
    found.login("bob", hours=4, refused=True)
    found.login("stranger", hours=3, refused=True)
    found.change("resize", hours=2, environments=["alice"], result="ok", before="aa", after="bb", details={"cpu": 2})
    found.change("apply", hours=1, result="failed")
    bans = Bans((Ban("10.0.0.9", "sshd", NOW, NOW + timedelta(hours=1)), Ban("10.9.9.9", "sshd")))
    shell.more |= {"logs": lambda: found, "bans": lambda: bans}
    return found


def test_who_came_and_who_changed_what(shell: Shell, logs: FakeLogs) -> None:
    ended = shell("audit")
    assert ended.code == 0, ended.err
    header, *lines = ended.out.splitlines()
    assert header.split() == ["TIME", "EVENT", "ENVIRONMENT", "FROM", "KEY", "FOR", "WHO", "WHAT"]
    assert [line.split()[1:3] for line in lines[:-1]] == [
        ["login", "alice"],
        ["refused", "bob"],
        ["change", "alice"],
        ["change", "-"],
    ]
    assert "10.0.0.5" in lines[0]
    assert f"{KEY}  90 s" in lines[0]
    assert "anna by cli  resize cpu=2 (manifests aa -> bb)" in lines[2]
    assert lines[3].endswith("apply (failed)")
    assert lines[-1].startswith("Banned now (2 addresses): 10.0.0.9 until")
    assert "stranger" not in ended.out, "the bots of the internet are nobody here"


def test_one_person(shell: Shell, logs: FakeLogs) -> None:
    found = shell("audit", "alice", "-o", "json").json
    assert [(entry["event"], entry["environment"]) for entry in found["entries"]] == [
        ("login", "alice"),
        ("change", "alice"),
    ]
    assert found["entries"][0]["seconds"] == 90
    assert len(found["bans"]) == 2
    assert logs.asked[-1] == (NOW - timedelta(days=7), NOW, "alice")
    assert "Banned now (1 address): 10.0.0.9" in shell("audit", "bob").out
    assert "Banned" not in shell("audit", "alice").out


def test_a_time(shell: Shell, logs: FakeLogs) -> None:
    assert len(shell("audit", "--since", "150m", "-o", "json").json["entries"]) == 2
    shell("audit", "--since", "2026-11-21T08:30:00+00:00", "--until", "2h")
    assert logs.asked[-1][:2] == (datetime.fromisoformat("2026-11-21T08:30:00+00:00"), NOW - timedelta(hours=2))
    assert "Nothing since" in shell("audit", "--since", "1m").out


@pytest.mark.parametrize(
    "arguments",
    [
        ("--since", "soon"),
        ("--since", "0001-01-01"),
        ("--until", "9999-12-31T23:59:59.999999", "--since", "0000-01-01"),
        ("--since", "1h", "--until", "2h"),
        ("../alice",),
    ],
)
def test_what_makes_no_sense_is_refused_in_one_line(shell: Shell, logs: FakeLogs, arguments: tuple[str, ...]) -> None:
    ended = shell("audit", *arguments)
    assert (ended.code, ended.out, ended.err.count("\n")) == (1, "", 1)


def test_a_table_calculation_takes_nothing_for_a_formula(shell: Shell, logs: FakeLogs) -> None:
    evil = '=HYPERLINK("http://x")'
    logs.change("+1", hours=0.5, who=evil, result="@x", details={"-1": '\x1b[31m",\n=1'}, environments=["\t=1"])
    text = shell("audit", "-o", "csv").out
    rows = list(csv.DictReader(io.StringIO(text)))
    assert len(rows) == 5
    assert rows[0]["seconds"] == "90.0"
    last = rows[-1]
    assert (last["who"], last["what"][:3], last["result"]) == ("'" + evil, "'+1", "'@x")
    assert not any(cell.startswith(("=", "+", "-", "@", "\t")) for row in rows for cell in row.values())
    assert "\x1b" not in text


def test_where_nobody_knows_of_bans_that_is_said(shell: Shell, logs: FakeLogs) -> None:
    shell.more["bans"] = lambda: Bans(unknown="fail2ban is not installed")
    assert "fail2ban is not installed" in shell("audit").err
    assert shell("audit", "-o", "json").json["bans_unknown"] == "fail2ban is not installed"


def test_changes_are_told_whatever_becomes_of_the_logins(shell: Shell, logs: FakeLogs) -> None:
    logs.broken = True
    ended = shell("audit")
    assert ended.code == 0
    assert "anna by cli  resize" in ended.out
    assert ended.err == ("The logins are not known: journalctl cannot read the journal; run it as root.\n")
    found = shell("audit", "-o", "json").json
    assert [entry["event"] for entry in found["entries"]] == ["change", "change"]
    assert "logins are not known" in found["source"]
    logs.broken, logs.trail_broken = False, True
    ended = shell("audit", "alice", "-o", "csv")
    assert (ended.code, len(ended.out.splitlines())) == (0, 2)
    assert "The changes are not known" in ended.err
    logs.broken = True
    ended = shell("audit")
    assert (ended.code, ended.out, ended.err.count("\n")) == (1, "", 1)


def test_what_is_left_out_is_told(shell: Shell, logs: FakeLogs) -> None:
    logs.whole = False
    assert "too many logins: earlier ones are left out" in shell("audit").err
    found = shell("audit", "-o", "json")
    assert "earlier ones are left out" in found.json["source"]
    assert len(found.json["remarks"]) == 2
    assert found.err == ""
    assert "Logins: 1 by 1 account; 2 refused (there are too many: earlier ones are left out)" in shell("report").out


def test_one_look_at_a_time(shell: Shell, logs: FakeLogs) -> None:
    wired = Wiring(settings=shell.settings, clock=lambda: NOW, **shell.more)
    logs.gate = threading.Event()
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(audit.told, wired, "alice", "7d", None)
        while not logs.asked:
            assert not first.done()
        with pytest.raises(RetryableError) as busy:
            audit.told(wired, "alice", "7d", None, patience=0.05)
        assert (busy.value.reason, len(logs.asked)) == ("Busy", 1)
        logs.gate.set()
        assert first.result()["entries"]
    assert audit.told(wired, "alice", "7d", None)["remarks"] == []


# -- sessions


def test_who_is_connected(shell: Shell) -> None:
    shell.declare("alice", "bob")
    shell("apply")
    asked: list[dict[str, int]] = []
    there: tuple[Connection, ...] = (
        Connection("alice", 17, NOW - timedelta(hours=3), "10.0.0.5", 4711, 1),
        Connection("bob", 18, NOW, "fe80::1", 22),
    )

    def connections(accounts: dict[str, int]) -> tuple[Connection, ...]:
        asked.append(dict(accounts))
        return there

    shell.somebody.add_account("mallory")
    shell.more["connections"] = connections
    lines = shell("sessions").out.splitlines()
    assert sorted(asked[0]) == ["alice", "bob"], "and nobody who is not ours"
    assert lines[1].split() == ["alice", "10.0.0.5:4711", "2026-11-22", "09:00:00", "3", "h", "1", "17"]
    assert "[fe80::1]:22" in lines[2]
    (one,) = shell("sessions", "bob", "-o", "json").json
    assert (one["name"], one["from"], one["forwards"]) == ("bob", "fe80::1", 0)
    there = ()
    assert shell("sessions").out == "Nobody is connected.\n"
    assert shell("sessions", "bob").out == "bob is not connected.\n"


# -- report


def test_the_day_on_a_page(shell: Shell, logs: FakeLogs) -> None:
    shell.declare("bob", expires="2026-11-30")
    shell("apply")
    shell.settings.state.mkdir(exist_ok=True)
    written = [
        Event(Reason.DRIFT_REPAIRED, "alice", fields=("spec.resources.memory",), by="unix/root"),
        Event(Reason.FAILED, "bob", "InstallPackages: no such package"),
    ]
    Journal(shell.settings.events, lambda: NOW - timedelta(hours=2)).record(written)
    Journal(shell.settings.events, lambda: NOW - timedelta(days=2)).record([Event(Reason.FAILED, "alice", "long ago")])
    shell.more["disks"] = lambda _settings: Disks(
        Disk(95, 100), {"alice": Disk(5 << 30, 50 << 30), "bob": Disk(49, 50)}
    )
    ended = shell("report")
    assert ended.code == 0, ended.err
    assert "2 environments, 2 ready" in ended.out
    assert "Drift: 1 change by" in ended.out
    assert "alice spec.resources.memory (by unix/root)" in ended.out
    assert "bob Failed: InstallPackages" in ended.out
    assert "long ago" not in ended.out
    assert "Logins: 1 by 1 account; 2 refused" in ended.out
    assert "refused from 10.0.0.9: 2" in ended.out
    assert "Bans: 2 now" in ended.out
    assert "bob expires after 2026-11-30" in ended.out
    assert "bob: 98% of" in ended.out
    assert "alice:" not in ended.out
    assert "the pool itself" in ended.out
    data = shell("report", "-o", "json").json
    assert data["disks"] == {"pool": 0.95, "full": {"bob": 0.98}}
    assert data["logins"]["refused_from"] == {"10.0.0.9": 2}


def test_what_cannot_be_found_out_keeps_nobody_from_the_rest(shell: Shell, logs: FakeLogs, tmp_path: Path) -> None:
    logs.broken = True

    def nothing(_settings: object) -> Disks:
        raise TerminalError("Incus does not answer", remedy="systemctl start incus", reason="IncusDown")

    shell.more["disks"] = nothing
    ended = shell("report")
    assert ended.code == 0
    assert "Logins: not known: journalctl cannot read the journal; run it as root" in ended.out
    assert "Disks: not known: Incus does not answer" in ended.out
    assert "Bans: 2 now" in ended.out
