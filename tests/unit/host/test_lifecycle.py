"""The connection to Incus' events is kept up whatever the other side does, and nothing in an event can do harm."""

from __future__ import annotations

import json
import queue
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.frames import Frame, Opcode
from websockets.http11 import Request
from websockets.server import ServerProtocol

from containarium.host.lifecycle import Event, Lifecycle, Recent, parse

PATIENCE = 10.0
NOON = datetime(2026, 5, 17, 12, 0, tzinfo=UTC)


def message(action: str = "instance-updated", source: str = "/1.0/instances/alice-container", **more: Any) -> str:
    """An event as Incus 6.0 writes it."""
    return json.dumps(
        {
            "type": "lifecycle",
            "timestamp": "2026-05-17T12:00:00.123456789Z",
            "metadata": {
                "action": action,
                "source": source,
                "requestor": {"username": "root", "protocol": "unix", "address": "@"},
                "name": "alice-container",
                "project": "default",
            },
            "location": "none",
            "project": "default",
            **more,
        }
    )


# What is in a message


def test_an_event_as_incus_writes_it() -> None:
    assert parse(message()) == Event(
        action="instance-updated",
        instance="alice-container",
        requestor="root via unix",
        at=NOON + timedelta(microseconds=123456),
        location="none",
        project="default",
    )


@pytest.mark.parametrize(
    ("source", "instance"),
    [
        ("/1.0/instances/alice-container", "alice-container"),
        ("/1.0/instances/alice-container?project=default", "alice-container"),
        ("/1.0/instances/alice-container/snapshots/snap0", "alice-container"),
        ("/1.0/instances/al%69ce", "alice"),
        ("/1.0/instances/..%2f..%2fetc", ""),
        ("/1.0/instances/a%0ab", ""),
        ("/1.0/instances/" + "a" * 64, ""),
        ("/1.0/profiles/default", ""),
        ("/1.0/images/alice", ""),
        ("", ""),
        (None, ""),
        (7, ""),
        (["/1.0/instances/x"], ""),
    ],
)
def test_whom_it_concerns(source: Any, instance: str) -> None:
    event = parse(message(source=source))
    assert event is not None
    assert event.instance == instance


@pytest.mark.parametrize(
    ("requestor", "words"),
    [
        ({"username": "root", "protocol": "unix", "address": "@"}, "root via unix"),
        ({"username": "alice", "protocol": "tls", "address": "10.0.0.9:52110"}, "alice via tls 10.0.0.9"),
        ({"username": "alice", "protocol": "tls", "address": "[fd00::9]:52110"}, "alice via tls fd00::9"),
        ({"username": "alice", "protocol": "tls", "address": "10.0.0.9"}, "alice via tls 10.0.0.9"),
        ({"username": "alice", "protocol": "oidc"}, "alice via oidc"),
        ({"username": "", "protocol": "unix", "address": "@"}, "somebody via unix"),
        ({"username": "ev\nil\x1b[31m", "protocol": "tls"}, "ev il [31m via tls"),
        ({"username": 5, "protocol": None}, ""),
        ({}, ""),
        (None, ""),
        ("root", ""),
    ],
)
def test_who_did_it(requestor: Any, words: str) -> None:
    event = parse(message(metadata={"action": "instance-stopped", "requestor": requestor}))
    assert event is not None
    assert event.requestor == words


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "null",
        "{",
        "[" * 100_000,
        b"\xff\xfe\x00",
        '{"type": "logging", "metadata": {"action": "x"}}',
        '{"type": "lifecycle"}',
        '{"type": "lifecycle", "metadata": []}',
        '{"type": "lifecycle", "metadata": {"action": 1}}',
        '{"type": "lifecycle", "metadata": {"action": "two words"}}',
        message(project="theirs"),
        message(project=None, metadata={"action": "instance-updated", "project": "theirs"}),
    ],
)
def test_what_is_none_of_ours(text: str | bytes) -> None:
    assert parse(text) is None


@pytest.mark.parametrize("moment", [None, 5, "", "yesterday", "2026-05-17T12:00:00", "9999-12-31T23:59:59-23:59"])
def test_a_moment_that_makes_no_sense_is_now(moment: Any) -> None:
    before = datetime.now(UTC)
    event = parse(message(timestamp=moment))
    assert event is not None
    assert before <= event.at <= datetime.now(UTC)


def test_a_moment_in_another_zone() -> None:
    event = parse(message(timestamp="2026-05-17T14:00:00+02:00"))
    assert event is not None
    assert event.at == NOON


def test_a_look_inside_is_quiet_and_a_change_is_not() -> None:
    told = {action: parse(message(action)) for action in ("instance-exec", "instance-file-retrieved")}
    assert all(event is not None and event.quiet for event in told.values())
    loud = [parse(message(action)) for action in ("instance-updated", "instance-file-pushed", "profile-updated")]
    assert not any(event is None or event.quiet for event in loud)


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=300),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["type", "metadata", "action", "source", "requestor", "username", "project", "timestamp"]),
            inner | st.sampled_from(["lifecycle", "instance-updated", "default", "/1.0/instances/x"]),
        )
    ),
    max_leaves=15,
)


@given(metadata=ANYTHING, more=st.dictionaries(st.sampled_from(["project", "timestamp", "location", "type"]), ANYTHING))
def test_no_shape_of_an_event_raises(metadata: Any, more: dict[str, Any]) -> None:
    event = parse(json.dumps({"type": "lifecycle", "metadata": metadata, **more}))
    if event is not None:
        for text in (event.action, event.instance, event.requestor, event.location):
            assert text.isprintable()
            assert len(text) <= 120
        assert event.at.utcoffset() == timedelta(0)


# What is kept of them


class Ticks:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def event(instance: str = "alice-container", action: str = "instance-updated", at: datetime = NOON) -> Event:
    return Event(action, instance, "root via unix", at)


def test_the_last_events_of_an_instance_are_kept() -> None:
    recent = Recent(Ticks())
    told = [event(at=NOON + timedelta(seconds=n)) for n in range(20)]
    for one in told:
        recent.add(one)
        recent.add(event("bob-container"))
    assert recent.of("alice-container", NOON) == tuple(told[4:])
    assert recent.of("alice-container", NOON + timedelta(seconds=18)) == tuple(told[18:])
    assert recent.of("carol-container", NOON) == ()


def test_events_are_forgotten_after_ten_minutes() -> None:
    ticks = Ticks()
    recent = Recent(ticks)
    recent.add(event("a"))
    ticks.now = 400
    recent.add(event("a"))
    recent.add(event("b"))
    ticks.now = 601
    assert len(recent.of("a", NOON)) == 1
    ticks.now = 1001
    recent.add(event("c"))
    assert recent.of("a", NOON) == recent.of("b", NOON) == ()


def test_a_flood_of_instances_is_bounded() -> None:
    ticks = Ticks()
    recent = Recent(ticks)
    for number in range(3000):
        recent.add(event(f"n{number}"))
        recent.add(event("busy"))
    assert recent.of("n0", NOON) == ()
    assert recent.of("n1000", NOON) == ()
    assert len(recent.of("n2999", NOON)) == 1
    assert len(recent.of("busy", NOON)) == 16
    assert sum(bool(recent.of(f"n{number}", NOON)) for number in range(3000)) == 1999


# The connection


class Daemon:
    """The other side: an Incus that does as it is told, on a socket of its own."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.upgrades = True
        self.pongs = 10**6
        """How many pings it answers on each connection before it stops doing anything."""
        self.requests: queue.Queue[str] = queue.Queue()
        self.joined: queue.Queue[socket.socket] = queue.Queue()
        self._listener: socket.socket | None = None
        self._connections: list[tuple[socket.socket, ServerProtocol]] = []

    def begin(self) -> None:
        self.path.unlink(missing_ok=True)
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(self.path))
        self._listener.listen()
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def end(self) -> None:
        """Die as a killed process does; the socket's file stays."""
        if self._listener is not None:
            with suppress(OSError):
                self._listener.shutdown(socket.SHUT_RDWR)
            self._listener.close()
        for connection, _ in self._connections:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        self._connections.clear()

    def tell(self, text: str | bytes) -> None:
        connection, protocol = self._connections[-1]
        protocol.send_text(text.encode() if isinstance(text, str) else text)
        self._flush(connection, protocol)

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        protocol, pongs = ServerProtocol(), self.pongs
        self._connections.append((connection, protocol))
        with suppress(OSError), connection:
            while data := connection.recv(65536):
                protocol.receive_data(data)
                for received in protocol.events_received():
                    if isinstance(received, Request):
                        self.requests.put(received.path)
                        if self.upgrades:
                            protocol.send_response(protocol.accept(received))
                    elif isinstance(received, Frame) and received.opcode is Opcode.PING:
                        self.joined.put(connection)
                        pongs -= 1
                if self.upgrades and pongs >= 0:
                    self._flush(connection, protocol)

    def _flush(self, connection: socket.socket, protocol: ServerProtocol) -> None:
        for data in protocol.data_to_send():
            if data:
                connection.sendall(data)
            else:
                connection.shutdown(socket.SHUT_WR)


class Listening:
    """A listener and what it said."""

    def __init__(self, path: Path, **options: float) -> None:
        self.events: queue.Queue[Event] = queue.Queue()
        self.gaps: queue.Queue[None] = queue.Queue()
        self.notes: queue.Queue[str] = queue.Queue()
        self.lifecycle = Lifecycle(path, self.events.put, lambda: self.gaps.put(None), self.notes.put, **options)

    def gap(self) -> None:
        self.gaps.get(timeout=PATIENCE)

    def event(self) -> Event:
        return self.events.get(timeout=PATIENCE)

    def note(self) -> str:
        return self.notes.get(timeout=PATIENCE)


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    made = Daemon(tmp_path / "unix.socket")
    yield made
    made.end()


@contextmanager
def listening(daemon: Daemon, **options: float) -> Iterator[Listening]:
    made = Listening(daemon.path, **options)
    made.lifecycle.start()
    yield made
    made.lifecycle.stop()


def test_events_arrive_after_the_gap_was_told(daemon: Daemon) -> None:
    daemon.begin()
    with listening(daemon) as heard:
        heard.gap()
        assert daemon.requests.get_nowait() == "/1.0/events?type=lifecycle"
        assert heard.note() == "listening to Incus' events"
        daemon.tell("nonsense")
        daemon.tell(message())
        daemon.tell(message("profile-updated", "/1.0/profiles/default"))
        assert [heard.event().action, heard.event().action] == ["instance-updated", "profile-updated"]
        (kept,) = heard.lifecycle.recent("alice-container", NOON)
        assert kept.requestor == "root via unix"
        assert heard.lifecycle.recent("", NOON) == ()
        assert heard.gaps.empty()


def test_a_daemon_that_is_killed_and_comes_back(daemon: Daemon) -> None:
    daemon.begin()
    with listening(daemon) as heard:
        heard.gap()
        for _ in range(2):
            daemon.end()
            assert "listening" in heard.note()
            assert "connecting again" in heard.note()
            daemon.begin()
            heard.gap()
            daemon.tell(message())
            assert heard.event().instance == "alice-container"


def test_a_daemon_that_is_not_there_yet(daemon: Daemon) -> None:
    with listening(daemon) as heard:
        assert heard.note() == (
            f"no connection to Incus' events at {daemon.path} ([Errno 2] No such file or directory): connecting again"
        )
        daemon.begin()
        heard.gap()


def test_no_gap_is_told_before_it_is_among_the_listeners(daemon: Daemon) -> None:
    daemon.pongs = 0
    daemon.begin()
    with listening(daemon, patience=0.2) as heard:
        assert "no answer within 0.2 s" in heard.note()
        assert heard.gaps.empty()
        daemon.pongs = 10**6
        heard.gap()


def test_a_daemon_that_does_not_let_it_in(daemon: Daemon) -> None:
    daemon.upgrades = False
    daemon.begin()
    with listening(daemon, patience=0.2) as heard:
        assert "timed out while waiting for handshake response" in heard.note()
        daemon.upgrades = True
        heard.gap()


def test_a_connection_that_died_silently_is_noticed(daemon: Daemon) -> None:
    daemon.pongs = 1
    daemon.begin()
    with listening(daemon, silence=0.2) as heard:
        heard.gap()
        daemon.pongs = 10**6
        heard.gap()
        assert heard.note() == "listening to Incus' events"
        assert "keepalive ping timeout" in heard.note()
        assert daemon.joined.qsize() >= 2


def test_a_quiet_connection_stays(daemon: Daemon) -> None:
    daemon.begin()
    with listening(daemon, silence=0.05) as heard:
        heard.gap()
        for _ in range(6):
            daemon.joined.get(timeout=PATIENCE)
        daemon.tell(message())
        heard.event()
        assert heard.gaps.empty()


def test_a_message_without_end_ends_the_connection_only(daemon: Daemon) -> None:
    daemon.begin()
    with listening(daemon) as heard:
        heard.gap()
        with suppress(OSError):
            daemon.tell(b" " * (2 << 20))
        heard.gap()
        daemon.tell(message())
        heard.event()


@pytest.mark.parametrize("which", ["event", "gap"])
def test_a_callback_that_raises_ends_nothing(daemon: Daemon, which: str) -> None:
    gaps: queue.Queue[None] = queue.Queue()

    def gap() -> None:
        gaps.put(None)
        if which == "gap" and gaps.qsize() == 1:
            raise RuntimeError("the loop has a bug")

    def happened(_event: Event) -> None:
        raise RuntimeError("the loop has a bug")

    daemon.begin()
    lifecycle = Lifecycle(daemon.path, happened, gap)
    lifecycle.start()
    if which == "event":
        gaps.get(timeout=PATIENCE)
        daemon.tell(message())
        gaps.get(timeout=PATIENCE)
    else:
        eventually(lambda: gaps.qsize() == 2)
    lifecycle.stop()


@pytest.mark.parametrize("state", ["listening", "connecting", "waiting", "not begun"])
def test_no_callback_comes_after_the_end(daemon: Daemon, state: str) -> None:
    before = threading.active_count()
    heard = Listening(daemon.path)
    if state != "not begun":
        daemon.upgrades = state == "listening"
        if state != "waiting":
            daemon.begin()
        heard.lifecycle.start()
        if state == "listening":
            heard.gap()
        elif state == "connecting":
            daemon.requests.get(timeout=PATIENCE)
        else:
            heard.note()
    heard.lifecycle.stop()
    daemon.end()
    assert heard.events.empty()
    assert heard.gaps.empty()
    eventually(lambda: threading.active_count() <= before)


def eventually(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.01)
