"""The other hosts of the fleet, asked now or all the time."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from typing import Any, Protocol

from containarium.host.peering.wire import KEYS, LIST, OFFER, Offer, Told, parse_keys, parse_offer, parse_told
from containarium.model.fleet import Peer, Presence
from containarium.model.host import HostError, TerminalError
from containarium.model.hostmanifest import HostManifest
from containarium.model.manifest import DeclaredHost

ANSWERS_WITHIN = 6.0
"""Seconds for a question that needs no more than a look."""
_OFFERS_WITHIN = 180.0
"""Seconds: the guest is stopped in order first."""
_RESTING, _AWAITING = 30.0, 3.0
"""Seconds between two questions: in ordinary times, and while something is about to come of it."""
_AT_MOST = 300.0
"""Seconds for which something is awaited. Whatever does not come in that time is no reason to ask so often."""
_MOST_AT_ONCE = 32
HAVING = (Presence.HERE, Presence.RETIRED, Presence.LEAVING)
"""How an environment is on a host that has all of its data, and nobody newer ones."""


class OpenLine(Protocol):
    """A line that is held open. ``check`` raises HostError where the other side has closed it."""

    @property
    def answer(self) -> bytes: ...

    def check(self) -> None: ...


class Line(Protocol):
    """Opens lines to other hosts, see ``containarium.host.peering.channel``."""

    def ask(self, host: HostManifest, request: Mapping[str, Any], seconds: float) -> bytes: ...

    def opened(
        self, host: HostManifest, request: Mapping[str, Any], seconds: float
    ) -> AbstractContextManager[OpenLine]: ...


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of asking a host: ``told``, or ``error``. ``skew`` are the seconds by which its clock is ahead."""

    name: str
    told: Told | None = None
    error: HostError | None = None
    skew: float = 0.0

    @property
    def peer(self) -> Peer:
        """As the plan knows it."""
        return Peer(self.name, self.told.boxes if self.told else None, str(self.error) if self.error else "")


@dataclass(frozen=True, slots=True)
class Held:
    """An offer, and how to see whether the other host still keeps to it."""

    offer: Offer
    check: Callable[[], None]


class Neighbours:
    """The other declared hosts, asked when somebody wants to know. Safe to share between threads."""

    def __init__(self, name: str, line: Line, clock: Callable[[], float] = time.time) -> None:
        """``name`` is this host's own: its host name up to the first dot."""
        self.name = name
        self._line = line
        self._clock = clock
        self._hosts: Mapping[str, HostManifest] = {}

    def peers(self, hosts: Sequence[DeclaredHost]) -> Mapping[str, Peer]:
        """Ask all of them at once. Never raises; takes a few seconds at most."""
        return {name: answer.peer for name, answer in self.answers(hosts).items()}

    def answers(self, hosts: Sequence[DeclaredHost]) -> Mapping[str, Answer]:
        """As ``peers``, with all that was told."""
        self.learn(hosts)
        return self._now()

    def _now(self) -> Mapping[str, Answer]:
        others = self._hosts
        if not others:
            return {}
        with ThreadPoolExecutor(max_workers=min(_MOST_AT_ONCE, len(others)), thread_name_prefix="ask-peer") as pool:
            return dict(zip(others, pool.map(self.ask, others.values()), strict=True))

    def holders(self, environment: str, having: Collection[Presence] = HAVING) -> tuple[str, ...]:
        """Who of the others says now that it has an environment, sorted. Never raises; asks nobody without a fleet."""
        found = {name: answer.told.boxes.get(environment) for name, answer in self._now().items() if answer.told}
        return tuple(sorted(name for name, box in found.items() if box is not None and box.presence in having))

    def learn(self, hosts: Sequence[DeclaredHost]) -> Mapping[str, HostManifest]:
        """Take these for the declared hosts; returns the others."""
        self._hosts = {host.name: host.manifest for host in hosts if host.name != self.name}
        return self._hosts

    def ask(self, host: HostManifest) -> Answer:
        """Ask one for its list. Never raises."""
        began = self._clock()
        try:
            told = parse_told(self._line.ask(host, {"ask": LIST}, ANSWERS_WITHIN), host)
        except HostError as error:
            return Answer(host.name, error=error)
        ended = self._clock()
        early, late = told.clock - began, told.clock - ended  # it was told at some moment between the two
        return Answer(host.name, told, skew=late if late > 0 else early if early < 0 else 0.0)

    def keys(self, host: str, environment: str) -> tuple[str, ...]:
        """The SSH host keys of a guest on another host. Raises HostError."""
        manifest = self.declared(host)
        return parse_keys(self._line.ask(manifest, {"ask": KEYS, "name": environment}, ANSWERS_WITHIN), manifest)

    @contextmanager
    def offered(self, host: str, environment: str, disk: int) -> Iterator[Held]:
        """Have another host stop an environment and hold it ready, while the block runs. Raises HostError."""
        manifest = self.declared(host)
        request = {"ask": OFFER, "name": environment, "disk": disk}
        with self._line.opened(manifest, request, _OFFERS_WITHIN) as line:
            yield Held(parse_offer(line.answer, manifest), line.check)

    def declared(self, host: str) -> HostManifest:
        """A host's manifest. Raises TerminalError (HostUnknown)."""
        found = self._hosts.get(host)
        if found is None:
            raise TerminalError(
                f"no Host manifest declares {host}", remedy="correct placement.host", reason="HostUnknown"
            )
        return found


class Watched:
    """Keeps asking, in threads of its own, and answers at once with what was heard last."""

    def __init__(self, neighbours: Neighbours, changed: Callable[[], None]) -> None:
        """``changed`` is called whenever an answer says something else than the one before."""
        self._neighbours = neighbours
        self._changed = changed
        self._lock = threading.Lock()
        self._asking: dict[str, _Asker] = {}
        self._stopped = False

    def peers(self, hosts: Sequence[DeclaredHost]) -> Mapping[str, Peer]:
        """What each told last. Whoever is new, or declared anew, is asked at once, and whoever left no more."""
        others = self._neighbours.learn(hosts)
        with self._lock:
            for name in [name for name, asker in self._asking.items() if others.get(name) != asker.host]:
                self._asking.pop(name).stop()
            if not self._stopped:
                for name in others.keys() - self._asking.keys():
                    self._asking[name] = _Asker(others[name], self._neighbours, self._changed)
            return {name: asker.peer for name, asker in self._asking.items()}

    def refresh(self, host: str) -> None:
        """Ask one now, and return when it has answered or not: something has just changed there. Never raises."""
        with self._lock:
            asker = self._asking.get(host)
        if asker is not None:
            asker.ask()

    def awaken(self, host: str) -> None:
        """Have one asked at once, and do not wait for it: something changes there at this moment."""
        with self._lock:
            asker = self._asking.get(host)
        if asker is not None:
            asker.awaken()

    def start(self) -> None:
        """Nothing: the first ``peers`` begins it."""

    def stop(self) -> None:
        """Ask nobody any more."""
        with self._lock:
            self._stopped = True
            for asker in self._asking.values():
                asker.stop()
            self._asking.clear()


class _Asker:
    """Asks one host, over and over."""

    def __init__(self, host: HostManifest, neighbours: Neighbours, changed: Callable[[], None]) -> None:
        self.host = host
        self.peer = Peer(host.name)  # no error yet: whoever waits for it waits for a moment only
        self._neighbours = neighbours
        self._changed = changed
        self._ended = False
        self._now = threading.Event()
        self._turn = threading.Lock()
        self._awaiting_until = time.monotonic() + _AT_MOST
        threading.Thread(target=self._run, name=f"peer-{host.name}", daemon=True).start()

    def stop(self) -> None:
        self._ended = True
        self._now.set()

    def awaken(self) -> None:
        """What is to come of it is awaited from now on."""
        self._awaiting_until = time.monotonic() + _AT_MOST
        self._now.set()

    def _run(self) -> None:
        while not self._ended:
            self._now.clear()
            self.ask()
            self._now.wait(self._pause())

    def ask(self) -> None:
        """Ask it once, and remember what it says. One who asks later never leaves an older answer behind."""
        with self._turn:
            answer = self._neighbours.ask(self.host)
            before, self.peer = self.peer, _remembered(answer.peer, self.peer)
        if self.peer != before and not self._ended:
            if self.peer.boxes != before.boxes:
                self._awaiting_until = time.monotonic() + _AT_MOST
            self._changed()

    def _pause(self) -> float:
        if time.monotonic() > self._awaiting_until:
            return _RESTING
        moving = (Presence.LEAVING, Presence.ARRIVING)
        awaits = self.peer.error or any(box.presence in moving for box in (self.peer.boxes or {}).values())
        return _AWAITING if awaits else _RESTING


def _remembered(now: Peer, before: Peer) -> Peer:
    """Who does not answer is known by what it told last."""
    return now if now.boxes is not None else replace(now, boxes=before.boxes)
