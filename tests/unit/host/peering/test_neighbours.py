"""The others: asked all at once, or watched; who does not answer is known by what it told last."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

import pytest

from containarium.host.peering.channel import OpenLine
from containarium.host.peering.neighbours import Neighbours, Watched
from containarium.model.fleet import Peer, Presence
from containarium.model.host import RetryableError, TerminalError
from containarium.model.hostmanifest import HostManifest
from tests.unit.host.peering.hosts import declared, host

HOSTS = declared(host(1), host(2), host(3))
CLOCK = 1795358879.0


@dataclass
class FakeLine:
    """Hosts that say what a test wants: a presence of alice's, or nothing."""

    said: dict[str, str] = field(default_factory=lambda: {"jump-2": "here", "jump-3": "here"})
    clock: float = CLOCK
    asked: list[str] = field(default_factory=list)
    wait: threading.Event | None = None

    def ask(self, host: HostManifest, request: Mapping[str, Any], seconds: float) -> bytes:
        self.asked.append(host.name)
        if self.wait is not None:
            self.wait.wait(20)
        if host.name not in self.said:
            raise RetryableError(f"{host.name} does not answer", remedy="see", reason="PeerSilent")
        box = {"name": "alice", "presence": self.said[host.name], "address": "", "other": ""}
        return json.dumps({"version": "1", "clock": self.clock, "boxes": [box]}).encode()

    def opened(
        self, host: HostManifest, request: Mapping[str, Any], seconds: float
    ) -> AbstractContextManager[OpenLine]:
        raise NotImplementedError


def neighbours(line: FakeLine) -> Neighbours:
    return Neighbours("jump-1", line, lambda: CLOCK)


def test_all_others_are_asked_and_never_oneself() -> None:
    line = FakeLine({"jump-2": "retired"})
    peers = neighbours(line).peers(HOSTS)
    assert sorted(line.asked) == sorted(peers) == ["jump-2", "jump-3"]
    assert peers["jump-2"].answers
    assert peers["jump-2"].boxes is not None
    assert peers["jump-2"].boxes["alice"].presence is Presence.RETIRED
    assert not peers["jump-3"].answers
    assert peers["jump-3"].error == "jump-3 does not answer; see"


def test_one_host_alone_asks_nobody() -> None:
    line = FakeLine()
    assert neighbours(line).peers(HOSTS[:1]) == {}
    assert line.asked == []


@pytest.mark.parametrize(("ahead", "skew"), [(0.0, 0.0), (90.0, 90.0), (-90.0, -90.0)])
def test_how_far_the_clocks_differ(ahead: float, skew: float) -> None:
    assert neighbours(FakeLine(clock=CLOCK + ahead)).answers(HOSTS)["jump-2"].skew == skew


def test_only_declared_hosts_are_fetched_from() -> None:
    others = neighbours(FakeLine())
    others.peers(HOSTS[:2])
    assert others.declared("jump-2").name == "jump-2"
    with pytest.raises(TerminalError, match="no Host manifest declares jump-3"):
        others.declared("jump-3")


def test_a_watched_host_answers_at_once_and_wakes_when_it_says_something_new() -> None:
    line, woken = FakeLine(), threading.Semaphore(0)
    watched = Watched(neighbours(line), woken.release)
    first = watched.peers(HOSTS[:2])
    assert list(first) == ["jump-2"]
    assert woken.acquire(timeout=20)
    assert watched.peers(HOSTS[:2])["jump-2"].answers
    line.said["jump-2"] = "leaving"
    watched.refresh("jump-2")
    assert woken.acquire(timeout=20)
    boxes = watched.peers(HOSTS[:2])["jump-2"].boxes
    assert boxes is not None
    assert boxes["alice"].presence is Presence.LEAVING
    watched.refresh("jump-2")
    assert not woken.acquire(blocking=False)
    watched.stop()


def test_who_was_never_asked_is_not_silent_with_a_reason() -> None:
    line, answers = FakeLine(), threading.Event()
    line.wait = answers
    watched = Watched(neighbours(line), lambda: None)
    assert watched.peers(HOSTS[:2]) == {"jump-2": Peer("jump-2")}
    answers.set()
    watched.stop()


def test_one_is_asked_at_once_where_something_passes() -> None:
    line, woken = FakeLine(), threading.Semaphore(0)
    watched = Watched(neighbours(line), woken.release)
    watched.peers(HOSTS[:2])
    assert woken.acquire(timeout=20)
    for presence in ("leaving", "moved"):
        line.said["jump-2"] = presence
        watched.awaken("jump-2")
        assert woken.acquire(timeout=20)
    watched.awaken("jump-9")
    watched.stop()


def test_who_falls_silent_is_known_by_what_it_told_last() -> None:
    line, woken = FakeLine(), threading.Semaphore(0)
    watched = Watched(neighbours(line), woken.release)
    watched.peers(HOSTS[:2])
    assert woken.acquire(timeout=20)
    del line.said["jump-2"]
    watched.refresh("jump-2")
    peer = watched.peers(HOSTS[:2])["jump-2"]
    assert not peer.answers
    assert peer.boxes is not None
    assert peer.boxes["alice"].presence is Presence.HERE
    watched.stop()


def test_who_leaves_the_list_is_asked_no_more_and_who_is_declared_anew_starts_anew() -> None:
    line, woken = FakeLine(), threading.Semaphore(0)
    watched = Watched(neighbours(line), woken.release)
    watched.peers(HOSTS)
    assert woken.acquire(timeout=20)
    assert woken.acquire(timeout=20)
    assert list(watched.peers(HOSTS[:2])) == ["jump-2"]
    watched.refresh("jump-3")
    assert line.asked.count("jump-3") == 1
    moved = declared(host(1), host(2, network={"subnet": "10.0.99.1/24", "address": "10.128.0.99"}))
    del line.said["jump-2"]
    watched.peers(moved)
    assert woken.acquire(timeout=20)
    assert watched.peers(moved)["jump-2"].boxes is None
    watched.stop()
    assert watched.peers(HOSTS) == {}
