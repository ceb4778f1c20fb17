"""Logs read from a journal of a test's own, from auth.log, and counted as they come."""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from containarium.host.authlog import Asked, AuthLog
from containarium.host.bounded import Limits
from containarium.host.logins import LoginCounter, Logs, people, ssh_logins
from containarium.host.settings import HostSettings
from containarium.host.streamed import Each, Streamed
from containarium.model.host import TerminalError
from containarium.model.sshkey import SSHKey
from tests.builders import public_key

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
KEY = "SHA256:" + "a" * 43
SINCE, UNTIL = NOW - timedelta(days=1), NOW


def accepted(name: str, port: int = 4711, key: str = KEY) -> str:
    return f"Accepted publickey for {name} from 10.0.0.5 port {port} ssh2: ED25519 {key}"


@dataclass
class FakeJournal:
    """Entries of a journal, and journalctl as far as it is asked."""

    entries: list[dict[str, Any]] = field(default_factory=list)
    failure: Streamed | None = None
    asked: list[list[str]] = field(default_factory=list)
    patience: int = 1 << 40
    """After so many lines time is over."""
    read: int = 0

    def write(self, message: Any, *, at: datetime = NOW - timedelta(hours=1), uid: int = 0, by: str = "sshd") -> None:
        stamp = str(int(at.timestamp() * 1e6))
        self.entries.append(
            {
                "__CURSOR": f"s=1;i={len(self.entries):x}",
                "__REALTIME_TIMESTAMP": stamp,
                "MESSAGE": message,
                "_PID": "7",
                "_UID": str(uid),
                "SYSLOG_IDENTIFIER": by,
            }
        )

    def __call__(self, args: Sequence[str], limits: Limits, each: Each, *, env: Mapping[str, str]) -> Streamed:
        self.asked.append(list(args))
        if self.failure is not None:
            return self.failure
        assert args[0] == "journalctl"
        options = dict(arg.removeprefix("--").partition("=")[::2] for arg in args if arg.startswith("--"))
        names = {arg.partition("=")[2] for arg in args if arg.startswith("SYSLOG_IDENTIFIER=")}
        found = [entry for entry in self.entries if not names or entry["SYSLOG_IDENTIFIER"] in names]
        if cursor := options.get("after-cursor"):
            places = [number for number, entry in enumerate(self.entries) if entry["__CURSOR"] == cursor]
            found = [entry for entry in found if entry in self.entries[places[0] + 1 :]]
        if word := options.get("grep"):
            found = [entry for entry in found if word in str(entry["MESSAGE"])]
        if lines := options.get("lines"):
            found = found[-int(lines) :]
        if "reverse" in options:
            found.reverse()
        for number, entry in enumerate(found):
            if number == self.patience or not each(json.dumps(entry).encode()):
                return Streamed(False)
            self.read += 1
        return Streamed(True, 0 if found else 1)


@pytest.fixture
def journal() -> FakeJournal:
    return FakeJournal()


@pytest.fixture
def logs(journal: FakeJournal, tmp_path: Path) -> Logs:
    return Logs(tmp_path, journal, lambda _name: "/usr/bin/journalctl")


@pytest.fixture
def settings(tmp_path: Path) -> HostSettings:
    return HostSettings(state=tmp_path / "state")


def test_the_journal_is_asked_for_the_time_and_the_name(
    journal: FakeJournal, logs: Logs, settings: HostSettings
) -> None:
    journal.write(accepted("alice"))
    journal.write(accepted("bob"))
    journal.write(accepted("alice"), at=SINCE - timedelta(seconds=0.5))
    journal.write(accepted("alice"), uid=1000)
    journal.write(accepted("alice"), by="somebody")
    journal.write([65, 255])
    journal.write(None)
    read = logs.ssh(SINCE, UNTIL, "alice")
    (login,) = ssh_logins(read, settings)
    assert (login.name, login.source, login.key, login.accepted) == ("alice", "10.0.0.5", KEY, True)
    assert read.source == "the journal"
    (asked,) = journal.asked
    assert f"--since=@{int(SINCE.timestamp())}" in asked
    assert "--grep=alice" in asked


def test_nothing_found_is_no_error_and_a_refusal_is_one(journal: FakeJournal, logs: Logs) -> None:
    assert logs.ssh(SINCE, UNTIL).lines == ()
    journal.failure = Streamed(True, 1, "No journal files were opened due to insufficient permissions.\n")
    with pytest.raises(TerminalError, match="insufficient permissions"):
        logs.ssh(SINCE, UNTIL)


def flood(journal: FakeJournal, number: int) -> None:
    """Strangers come, and leave what they always leave."""
    for port in range(1, number + 1):
        journal.write(f"Invalid user alice from 10.6.6.6 port {port}")


def test_a_flood_of_refusals_hides_nobody_and_no_more_than_so_many_are_kept(
    journal: FakeJournal, tmp_path: Path, settings: HostSettings
) -> None:
    logs = Logs(tmp_path, journal, lambda _name: "/usr/bin/journalctl", most=3)
    journal.write("Invalid user alice from 10.6.6.6 port 9999")
    journal.write(accepted("alice"))
    journal.write("pam_unix(sshd:session): session closed for user alice")
    flood(journal, 10)
    read = logs.ssh(SINCE, UNTIL)
    found = ssh_logins(read, settings)
    assert [(login.accepted, login.port) for login in found] == [(True, 4711), (False, 8), (False, 9), (False, 10)]
    assert found[0].seconds == 0
    assert not read.whole
    assert logs.ssh(SINCE, UNTIL, "bob").whole


def test_what_nobody_wants_takes_no_room(journal: FakeJournal, tmp_path: Path, settings: HostSettings) -> None:
    logs = Logs(tmp_path, journal, lambda _name: "/usr/bin/journalctl", most=2)
    journal.write("Invalid user bob from 10.0.0.5 port 1")
    flood(journal, 10)
    read = logs.ssh(SINCE, UNTIL, wanted=people(settings, {"bob"}))
    assert [one.name for one in read.lines] == ["bob"]
    assert read.whole


def test_when_time_is_over_the_newest_are_there(journal: FakeJournal, logs: Logs) -> None:
    flood(journal, 10)
    journal.patience = 4
    read = logs.ssh(SINCE, UNTIL)
    assert [one.port for one in read.lines] == [7, 8, 9, 10]
    assert not read.whole
    journal.patience = 0
    assert logs.ssh(SINCE, UNTIL) == type(read)((), "the journal", False)


def test_times_that_nobody_can_have_meant_are_none_to_the_journal(journal: FakeJournal, logs: Logs) -> None:
    logs.ssh(datetime(1, 1, 2, tzinfo=UTC), UNTIL)
    assert "--since=@0" in journal.asked[-1]


def test_changes_are_kept_however_long_their_lines_are(journal: FakeJournal, logs: Logs) -> None:
    journal.write('{"event": "audit", "action": "apply"}', by="containarium-audit")
    journal.write('{"event": "audit", "action": "apply"}', by="containarium-audit", uid=1000)
    journal.write("nonsense", by="containarium-audit")
    assert len(logs.trail(SINCE, UNTIL).lines) == 1
    assert "--all" in journal.asked[-1]


def test_auth_log_and_what_was_rotated_of_it(tmp_path: Path, settings: HostSettings) -> None:
    local = NOW.astimezone()
    old = f"{local - timedelta(hours=3):%b %d %H:%M:%S} host sshd[1]: {accepted('alice', 1)}\n"
    older = f"{local - timedelta(hours=5):%b %d %H:%M:%S} host sshd[1]: {accepted('alice', 2)}\n"
    text = (
        f"{(NOW - timedelta(hours=1)).isoformat()} host sshd[7]: {accepted('alice', 3)}\n"
        f"{(NOW - timedelta(hours=1)).isoformat()} host sudo[7]: {accepted('alice', 4)}\n"
        "nonsense\n" + "x" * 100_000 + "\n"
    )
    (tmp_path / "auth.log").write_text(text)
    (tmp_path / "auth.log.1").write_text(old)
    (tmp_path / "auth.log.2.gz").write_bytes(gzip.compress(older.encode()))
    (tmp_path / "auth.log.3.gz").write_bytes(b"never read")
    for number, name in enumerate(("auth.log", "auth.log.1", "auth.log.2.gz")):
        stamp = (NOW - timedelta(hours=2 * number)).timestamp()
        os.utime(tmp_path / name, (stamp, stamp))
    long_ago = (NOW - timedelta(days=30)).timestamp()
    os.utime(tmp_path / "auth.log.3.gz", (long_ago, long_ago))
    read = Logs(tmp_path, which=lambda _name: None).ssh(SINCE, UNTIL)
    assert [login.port for login in ssh_logins(read, settings)] == [2, 1, 3]
    assert read.source.endswith("auth.log")


def test_of_more_than_can_be_read_the_newest_are(tmp_path: Path) -> None:
    def write(name: str, hours: int) -> Path:
        path = tmp_path / name
        at = NOW - timedelta(hours=hours)
        text = "".join(f"{at.isoformat()} host sshd[7]: {accepted('alice', port)}\n" for port in range(100, 110))
        path.write_bytes(gzip.compress(text.encode()) if name.endswith("gz") else text.encode())
        return path

    length = len(write("auth.log", 1).read_text()) // 10
    paths = [write("auth.log", 1), write("auth.log.1.gz", 3), write("auth.log.2.gz", 5)]
    for most, ports in ((100 * length, [10, 10, 10]), (14 * length + 5, [10, 4, 0]), (3 * length + 5, [3, 0, 0])):
        log = AuthLog(Asked(("sshd",), SINCE, UNTIL), most)
        found = [[int(line.message.split()[7]) for line in log.lines(path)] for path in paths]
        assert [len(one) for one in found] == ports
        assert all(one == list(range(110 - len(one), 110)) for one in found), "the newest of each"
        assert log.whole is (ports == [10, 10, 10])


def test_in_auth_log_too_a_flood_hides_nobody(tmp_path: Path, settings: HostSettings) -> None:
    stamp = (NOW - timedelta(hours=1)).isoformat()
    messages = [accepted("alice"), *(f"Invalid user bob from 10.0.0.5 port {port}" for port in range(1, 20))]
    (tmp_path / "auth.log").write_text("".join(f"{stamp} host sshd[1]: {text}\n" for text in messages))
    (tmp_path / "auth.log.1").write_text(f"{stamp} host sshd[1]: {accepted('carol')}\n")
    os.utime(tmp_path / "auth.log.1", ((NOW - timedelta(minutes=30)).timestamp(),) * 2)
    read = Logs(tmp_path, which=lambda _name: None, most=2).ssh(SINCE, UNTIL)
    assert [login.name for login in ssh_logins(read, settings)] == ["carol", "alice", "bob", "bob"]
    assert not read.whole


def test_the_rest_of_a_line_that_is_too_long_is_no_line(tmp_path: Path) -> None:
    stamp = (NOW - timedelta(hours=1)).isoformat()
    inner = f"{stamp} host sshd[1]: {accepted('alice')}"
    (tmp_path / "auth.log").write_text(f"{stamp} host sshd[1]: ".ljust(8192, "x") + inner + "\n")
    assert Logs(tmp_path, which=lambda _name: None).ssh(SINCE, UNTIL).lines == ()


def test_the_turn_of_a_year_is_no_riddle(tmp_path: Path, settings: HostSettings) -> None:
    now = datetime(2027, 1, 1, 1, 0, tzinfo=UTC)
    moment = (now - timedelta(hours=5)).astimezone()
    (tmp_path / "auth.log").write_text(f"{moment:%b %d %H:%M:%S} host sshd[1]: {accepted('alice')}\n")
    os.utime(tmp_path / "auth.log", (now.timestamp(), now.timestamp()))
    read = Logs(tmp_path, which=lambda _name: None).ssh(now - timedelta(days=1), now)
    (login,) = ssh_logins(read, settings)
    assert login.at == now - timedelta(hours=5)


def test_a_host_without_any_log_says_so(tmp_path: Path) -> None:
    with pytest.raises(TerminalError) as caught:
        Logs(tmp_path, which=lambda _name: None).ssh(SINCE, UNTIL)
    assert caught.value.reason == "NoLog"


def test_each_login_is_counted_once(journal: FakeJournal, logs: Logs, settings: HostSettings) -> None:
    counter = LoginCounter(settings, logs)
    journal.write(accepted("alice"))
    assert counter.look() == {}, "what was before nobody counted"
    journal.write("Server listening on 0.0.0.0 port 22.")
    journal.write(accepted("alice", 1))
    journal.write(accepted("alice", 2))
    journal.write("Invalid user bob from 10.0.0.5 port 3")
    journal.write("pam_unix(sshd:session): session closed for user alice")
    assert counter.look() == {"alice": (2, 0), "bob": (0, 1)}
    assert counter.look() == {}
    assert counter.look() == {}
    journal.write(accepted("alice", 4))
    assert counter.look() == {"alice": (1, 0)}


def test_the_controllers_own_probe_is_nobody(journal: FakeJournal, logs: Logs, settings: HostSettings) -> None:
    own = public_key("probe")
    settings.probe_key.parent.mkdir(parents=True, mode=0o700)
    settings.probe_key.write_text("private")
    settings.probe_key.chmod(0o600)
    settings.probe_key.with_name("id_ed25519.pub").write_text(own + "\n")
    journal.write("start")
    counter = LoginCounter(settings, logs)
    counter.look()
    journal.write(accepted("alice", key=SSHKey.parse(own).fingerprint))
    journal.write(accepted("alice", 2))
    assert counter.look() == {"alice": (1, 0)}
