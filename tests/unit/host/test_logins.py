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

from containarium.host.bounded import Limits, Output
from containarium.host.logins import LoginCounter, Logs, ssh_logins
from containarium.host.settings import HostSettings
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
    failure: Output | None = None
    asked: list[list[str]] = field(default_factory=list)

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

    def __call__(self, args: Sequence[str], limits: Limits, *, env: Mapping[str, str]) -> Output:
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
        return Output(0 if found else 1, "".join(json.dumps(entry) + "\n" for entry in found).encode(), "")


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
    (login,) = ssh_logins(read, settings, "alice")
    assert (login.name, login.source, login.key, login.accepted) == ("alice", "10.0.0.5", KEY, True)
    assert read.source == "the journal"
    (asked,) = journal.asked
    assert f"--since=@{int(SINCE.timestamp())}" in asked
    assert "--grep=alice" in asked


def test_nothing_found_is_no_error_and_a_refusal_is_one(journal: FakeJournal, logs: Logs) -> None:
    assert logs.ssh(SINCE, UNTIL).lines == ()
    journal.failure = Output(1, b"", "No journal files were opened due to insufficient permissions.\n")
    with pytest.raises(TerminalError, match="insufficient permissions"):
        logs.ssh(SINCE, UNTIL)


def test_too_much_is_told_with_a_way_out(tmp_path: Path) -> None:
    def endless(args: Sequence[str], limits: Limits, *, env: Mapping[str, str]) -> Output:
        raise TerminalError("journalctl printed more", reason="OutputTooLarge")

    with pytest.raises(TerminalError) as caught:
        Logs(tmp_path, endless, lambda _name: "/usr/bin/journalctl").ssh(SINCE, UNTIL)
    assert caught.value.reason == "LogTooLarge"
    assert "--since" in caught.value.remedy


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
