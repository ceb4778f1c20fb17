"""Listens to Incus' lifecycle events, in a thread of its own: what they say only wakes the loop, and names who did it.

There is no replay. Whenever the connection was made anew, ``gap`` says so, and everything has to be looked at.
"""

from __future__ import annotations

import json
import logging
import re
import socket
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote

from containarium.host.faults import clean
from containarium.host.reader import CONNECT_TIMEOUT

_ADDRESS: Final = "ws://incus/1.0/events?type=lifecycle"
_SOURCE = re.compile(r"/1\.0/instances/([^/?]+)(?:[/?]|$)")
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9-]{0,62}")
_PORT = re.compile(r"^\[?([^\]]*?)\]?:[0-9]{1,5}$")
_ACTION = re.compile(r"[a-z][a-z0-9-]{0,63}")
_LARGEST: Final = 1 << 20
"""Bytes of a message; one that is larger ends the connection."""
_FIRST_WAIT, _LONGEST_WAIT = 0.2, 5.0
_HELD: Final = 10.0
"""Seconds after which a connection counts as one that works."""
_KEPT_SECONDS: Final = 600.0
_KEPT_EACH, _KEPT_INSTANCES = 16, 2000
_LONGEST_REQUESTOR: Final = 120
_QUIET: Final = frozenset(
    {
        "instance-console",
        "instance-console-reset",
        "instance-console-retrieved",
        "instance-exec",
        "instance-file-retrieved",
        "instance-log-deleted",
        "instance-log-retrieved",
        "instance-metadata-retrieved",
        "instance-metadata-template-retrieved",
    }
)


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened in Incus.

    ``action`` is Incus' word for it (``instance-updated``). ``instance`` is empty where it concerns something else.
    ``requestor`` is in words (``root via unix``, ``alice via tls 10.0.0.9``), empty where Incus names nobody.
    ``location`` is the member of a cluster.
    """

    action: str
    instance: str
    requestor: str
    at: datetime
    location: str = ""
    project: str = "default"

    @property
    def quiet(self) -> bool:
        """Whether somebody only read, or ran a command inside: no setting and no state is another one for it."""
        return self.action in _QUIET


class Recent:
    """The last events of each instance. Safe to share between threads."""

    def __init__(self, ticks: Callable[[], float] = time.monotonic) -> None:
        """``ticks`` counts seconds."""
        self._ticks = ticks
        self._lock = threading.Lock()
        self._kept: OrderedDict[str, deque[tuple[float, Event]]] = OrderedDict()

    def add(self, event: Event) -> None:
        """Keep an event of an instance; what is too old or too much goes."""
        now = self._ticks()
        with self._lock:
            self._kept.setdefault(event.instance, deque(maxlen=_KEPT_EACH)).append((now, event))
            self._kept.move_to_end(event.instance)
            while len(self._kept) > _KEPT_INSTANCES or next(iter(self._kept.values()))[-1][0] < now - _KEPT_SECONDS:
                self._kept.popitem(last=False)

    def of(self, instance: str, since: datetime) -> tuple[Event, ...]:
        """What happened to an instance since a moment, oldest first; nothing older than ten minutes."""
        oldest = self._ticks() - _KEPT_SECONDS
        with self._lock:
            kept = tuple(self._kept.get(instance, ()))
        return tuple(event for received, event in kept if received >= oldest and event.at >= since)


class Lifecycle:
    """A connection to Incus' events that is kept up. The callbacks come from its own thread."""

    def __init__(
        self,
        path: Path,
        happened: Callable[[Event], None],
        gap: Callable[[], None],
        note: Callable[[str], None] = lambda _line: None,
        *,
        silence: float = 20.0,
        patience: float = CONNECT_TIMEOUT,
    ) -> None:
        """Nothing happens before ``start``. ``path`` is Incus' socket.

        ``gap`` is called whenever events may have been missed, as soon as no further one can be. ``note`` gets a line
        for the log when the connection comes or goes. After ``silence`` seconds without a word the other side is asked
        whether it is there, and has half of that to answer; ``patience`` is how long it may take to let us in.
        """
        self._path = path
        self._happened = happened
        self._gap = gap
        self._note = note
        self._silence = silence
        self._patience = patience
        self._recent = Recent()
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._socket: socket.socket | None = None
        self._thread = threading.Thread(target=self._run, name="lifecycle", daemon=True)
        self._listened = 0.0
        self._said = ""

    def start(self) -> None:
        """Begin to connect."""
        self._thread.start()

    def stop(self) -> None:
        """End; returns when no callback will come any more."""
        self._stop.set()
        with self._lock:
            if self._socket is not None:
                with suppress(OSError):
                    self._socket.shutdown(socket.SHUT_RDWR)
        if self._thread.is_alive() and self._thread is not threading.current_thread():
            self._thread.join()

    def recent(self, instance: str, since: datetime) -> tuple[Event, ...]:
        """What happened to an instance since a moment, oldest first: at most 16 events of the last ten minutes."""
        return self._recent.of(instance, since)

    # Its thread

    def _run(self) -> None:
        wait = _FIRST_WAIT
        while not self._stop.is_set():
            self._listened = 0.0
            try:
                self._listen()
                why = "it ended"
            except Exception as error:  # noqa: BLE001 - whatever it is, it is tried again
                why = clean(str(error), 200) or type(error).__name__
            if self._stop.is_set():
                return
            if self._listened and time.monotonic() - self._listened > _HELD:
                wait = _FIRST_WAIT
            self._say(f"no connection to Incus' events at {self._path} ({why}): connecting again")
            self._stop.wait(wait)
            wait = min(_LONGEST_WAIT, 2 * wait)

    def _listen(self) -> None:
        """Connect and receive until the connection ends. Raises whatever ends it."""
        from websockets.exceptions import ConnectionClosed
        from websockets.sync.client import connect  # with what it imports it takes longer than a whole look

        logging.getLogger("websockets").setLevel(logging.CRITICAL)  # what ends a connection reaches us as an exception
        with (
            self._connected() as connected,
            connect(
                _ADDRESS,
                sock=connected,
                compression=None,
                open_timeout=self._patience,
                close_timeout=1,
                ping_interval=self._silence,
                ping_timeout=self._silence / 2,
                max_size=_LARGEST,
            ) as connection,
        ):
            # Incus answers once it has put us among its listeners: from here on nothing is missed.
            if not connection.ping().wait(self._patience):
                raise TimeoutError(f"no answer within {self._patience:g} s")
            self._listened = time.monotonic()
            self._say("listening to Incus' events")
            self._gap()
            try:
                while not self._stop.is_set():
                    event = parse(connection.recv())
                    if event is not None:
                        if event.instance:
                            self._recent.add(event)
                        self._happened(event)
            except ConnectionClosed as closed:
                raise ConnectionError(_why(closed)) from closed

    def _connected(self) -> socket.socket:
        connecting = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            connecting.settimeout(self._patience)
            connecting.connect(str(self._path))
            connecting.settimeout(None)
        except BaseException:
            connecting.close()
            raise
        with self._lock:
            self._socket = connecting
            if self._stop.is_set():  # it was asked to end before there was anything to shut down
                connecting.shutdown(socket.SHUT_RDWR)
        return connecting

    def _say(self, line: str) -> None:
        if line != self._said:
            self._said = line
            self._note(line)


def parse(message: str | bytes) -> Event | None:
    """The event in a message of Incus; None for another project's, and for whatever is no lifecycle event."""
    try:
        data = json.loads(message)
    except (ValueError, RecursionError):
        return None
    if not isinstance(data, dict) or data.get("type") != "lifecycle":
        return None
    metadata = data.get("metadata")
    if not isinstance(metadata, dict):
        return None
    action = metadata.get("action")
    project = _text(data.get("project") or metadata.get("project") or "default")
    if not isinstance(action, str) or not _ACTION.fullmatch(action) or project != "default":
        return None
    return Event(
        action=action,
        instance=_instance(metadata.get("source")),
        requestor=_requestor(metadata.get("requestor")),
        at=_moment(data.get("timestamp")),
        location=_text(data.get("location")),
        project=project,
    )


def _instance(source: Any) -> str:
    found = _SOURCE.match(source) if isinstance(source, str) else None
    name = unquote(found[1]) if found is not None else ""
    return name if _NAME.fullmatch(name) else ""


def _requestor(data: Any) -> str:
    """Who asked for it, over which protocol and from where; of a unix socket the address says nothing."""
    if not isinstance(data, dict):
        return ""
    who, protocol, address = (_text(data.get(key)) for key in ("username", "protocol", "address"))
    if not who and not protocol:
        return ""
    words = who or "somebody"
    if protocol:
        words += f" via {protocol}"
    if address and protocol != "unix":
        words += " " + _PORT.sub(r"\1", address)
    return clean(words, _LONGEST_REQUESTOR)


def _moment(text: Any) -> datetime:
    """Incus' time of the event, or now where it makes no sense."""
    if isinstance(text, str):
        with suppress(ValueError, OverflowError):
            moment = datetime.fromisoformat(text)
            if moment.tzinfo is not None:
                return moment.astimezone(UTC)
    return datetime.now(UTC)


def _text(value: Any) -> str:
    return clean(value[:_LONGEST_REQUESTOR], _LONGEST_REQUESTOR) if isinstance(value, str) else ""


def _why(closed: Exception) -> str:
    cause = closed.__cause__
    return f"{closed}" if cause is None else f"{closed}: {cause}"
