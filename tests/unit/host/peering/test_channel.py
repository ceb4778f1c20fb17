"""A line to another host, with programs of a few lines in the place of ssh."""

from __future__ import annotations

import os
import stat
import sys
import threading
from pathlib import Path

import pytest

from containarium.host.cancel import Cancellation, CancelledError
from containarium.host.peering.channel import Channel
from containarium.host.settings import HostSettings
from containarium.model.host import HostError, RetryableError, TerminalError
from tests.builders import public_key
from tests.unit.host.etcfiles import settings
from tests.unit.host.peering.hosts import host

OTHER = host(2)
ECHO = "import sys; sys.stdout.write(sys.stdin.readline()); sys.stdout.flush(); sys.stdin.read()"


@pytest.fixture
def here(tmp_path: Path) -> HostSettings:
    """Give a host that has a key."""
    found = settings(tmp_path)
    found.peer_key.parent.mkdir(parents=True, mode=0o700)
    found.peer_key.write_text("a key")
    return found


def channel(here: HostSettings, script: str, cancellation: Cancellation | None = None) -> Channel:
    return Channel(here, (sys.executable, "-c", script), cancellation or Cancellation())


def test_a_question_and_its_answer(here: HostSettings) -> None:
    assert channel(here, ECHO).ask(OTHER, {"ask": "list"}, 10) == b'{"ask": "list"}\n'


def test_what_ssh_is_told(here: HostSettings) -> None:
    script = "import sys, json; print(json.dumps(sys.argv[1:]))"
    told = channel(here, script).ask(OTHER, {"ask": "list"}, 10).decode()
    for option in (
        '"-F", "none"',
        "BatchMode=yes",
        "StrictHostKeyChecking=yes",
        "GlobalKnownHostsFile=none",
        "IdentitiesOnly=yes",
        "IdentityAgent=none",
        "UpdateHostKeys=no",
        "PreferredAuthentications=publickey",
        "ClearAllForwardings=yes",
        "ProxyCommand=none",
        '"-l", "containarium-peer", "--", "10.128.0.2"',
    ):
        assert option in told
    known = here.peer_key.parent / "known" / "jump-2"
    assert known.read_text() == f"10.128.0.2 {public_key('host-2').rpartition(' ')[0]}\n"
    assert stat.S_IMODE(known.stat().st_mode) == 0o600


def test_nothing_of_the_environment_reaches_it(here: HostSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSH_AUTH_SOCK", "/tmp/agent")
    script = "import os; print(sorted(k for k in os.environ if k.startswith('SSH')))"
    assert channel(here, script).ask(OTHER, {}, 10) == b"[]\n"


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("import sys; sys.exit('Host key verification failed.')", "PeerHostKey"),
        ("import sys; sys.exit('No ED25519 host key is known for 10.128.0.2')", "PeerHostKey"),
        ("import sys; sys.exit('containarium-peer@10.128.0.2: Permission denied (publickey).')", "PeerKeyRefused"),
        ("import sys; sys.exit('ssh: connect to host 10.128.0.2 port 22: Connection refused')", "PeerSilent"),
        ("pass", "PeerSilent"),
        ("print('no end', end='')", "PeerSilent"),
        ("import time; time.sleep(60)", "PeerSilent"),
        ("import sys\nwhile True: sys.stdout.write('x' * 65536)", "PeerUnclear"),
        ("import sys\nwhile True: sys.stderr.write('x' * 65536)", "PeerSilent"),
    ],
)
def test_whoever_does_not_answer_harms_nobody(here: HostSettings, script: str, reason: str) -> None:
    with pytest.raises(RetryableError) as raised:
        channel(here, script).ask(OTHER, {"ask": "list"}, 1.0)
    assert raised.value.reason == reason
    assert str(raised.value).isprintable()
    assert "jump-2" in raised.value.message


def test_a_line_that_is_held_is_seen_to_break(here: HostSettings) -> None:
    script = "import sys, time; sys.stdin.readline(); print('{}', flush=True); time.sleep(0.3)"
    with channel(here, script).opened(OTHER, {}, 10) as line:
        line.check()
        os.waitid(os.P_PID, line.process.pid, os.WEXITED | os.WNOWAIT)
        with pytest.raises(RetryableError, match="broke"):
            line.check()


def test_a_cancellation_ends_the_wait_for_an_offer(here: HostSettings) -> None:
    cancellation = Cancellation()
    threading.Timer(0.2, cancellation.cancel).start()
    opened = channel(here, "import time; time.sleep(60)", cancellation).opened(OTHER, {}, 60)
    with pytest.raises(CancelledError), opened:
        pass


@pytest.mark.parametrize("missing", ["identity", "network"])
def test_who_is_not_declared_to_be_a_peer_is_not_asked(here: HostSettings, missing: str) -> None:
    with pytest.raises(TerminalError, match="Host manifest of jump-2 has no"):
        channel(here, ECHO).ask(host(2, **{missing: None}), {}, 10)


def test_without_a_key_nobody_is_asked(tmp_path: Path) -> None:
    with pytest.raises(HostError, match="no key to ask others with"):
        channel(settings(tmp_path), ECHO).ask(OTHER, {}, 10)
