"""Notices of a cloud that takes this machine away: GCE's ``preempted``, AWS' ``spot/instance-action``.

Both are told by a metadata server inside the machine's own network. A notice gives half a minute (GCE) to two minutes
(AWS). The server may be away, slow or wrong at any time; then it is asked less often, and nothing else happens.
"""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Protocol
from urllib.parse import urlencode

from containarium.host.faults import clean
from containarium.host.metadata import Answer, MetadataServer, UnfitAnswerError

ENDPOINT = "http://169.254.169.254"
"""Where both clouds have it. An address, since it must not depend on a name server."""
DMI = Path("/sys/class/dmi/id")
_DMI_LIMIT = 256
_GCE_GRACE = timedelta(seconds=30)
_TERMINATE = "TERMINATE_ON_HOST_MAINTENANCE"
_AWS_ACTIONS = {"terminate": "terminates", "stop": "stops", "hibernate": "hibernates"}
_TOKEN_TTL = 21600
"""Seconds, the longest that AWS gives."""
_HEADER_SAFE = re.compile(r"[\x21-\x7e]{1,1024}")


class Provider(StrEnum):
    """A cloud whose notices are understood."""

    GCE = "gce"
    AWS = "aws"


@dataclass(frozen=True, slots=True)
class Notice:
    """The machine is about to be taken away: at ``deadline`` (UTC), or at a time that was not said."""

    provider: Provider
    deadline: datetime | None
    text: str


@dataclass(frozen=True, slots=True)
class Pace:
    """How the metadata server is asked, in seconds."""

    answer: float = 3.0
    """How long one answer may take, from the connection to its last byte."""
    hang: float = 10.0
    """How long GCE holds a question open until there is news; so often it is asked for maintenance, too."""
    poll: float = 5.0
    """Between two questions where the server does not hold them open."""
    rest: float = 1.0
    """Between two questions where it does: it may not do so."""
    first: float = 1.0
    longest: float = 30.0
    """Between two tries while it does not answer, the first and the longest time."""


def detect(dmi: Path = DMI) -> Provider | None:
    """The cloud that this machine runs in, by what its firmware says; None for any other machine."""
    if _firmware(dmi, "product_name") == "Google Compute Engine":
        return Provider.GCE
    if "Amazon EC2" in {_firmware(dmi, name) for name in ("sys_vendor", "bios_vendor", "board_vendor")}:
        return Provider.AWS
    if _firmware(dmi, "bios_vendor") == "Xen" and "amazon" in _firmware(dmi, "bios_version").lower():
        return Provider.AWS  # of the older generation
    return None


class SpotWatch:
    """Watches for a notice in a thread of its own, from ``start`` to ``stop``. Nothing that happens ends it earlier."""

    def __init__(
        self,
        provider: Provider,
        endpoint: str,
        notice: Callable[[Notice | None], None],
        *,
        note: Callable[[str], None] = lambda _line: None,
        pace: Pace | None = None,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """``notice`` is called from the watch's thread when there is one, when it changes, and with None when it is
        withdrawn; ``note`` is told a line when the server stops answering, and when it answers (again).

        ``endpoint`` is an http URL without a path, ENDPOINT on a real machine. Raises ValueError for any other.
        """
        self._pace = pace or Pace()
        self._provider = provider
        self._server = MetadataServer(endpoint, self._pace.answer)
        self._source: _Source = (
            _Gce(self._server, self._pace, clock) if provider is Provider.GCE else _Aws(self._server, self._pace)
        )
        self._notice = notice
        self._note = note
        self._current: Notice | None = None
        self._answers: bool | None = None
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="spot", daemon=True)

    def start(self) -> None:
        """Begin to watch."""
        self._thread.start()

    def stop(self) -> None:
        """End it, a question that is held open included. It cannot be started again."""
        self._stopped.set()
        self._server.hang_up()
        if self._thread.is_alive():
            self._thread.join(self._pace.answer + 1.0)

    def _watch(self) -> None:
        delay = self._pace.first
        while not self._stopped.is_set():
            began = time.monotonic()
            try:
                self._tell(self._source.look())
            except Exception as error:  # noqa: BLE001 - whatever it is, the next notice must not be missed
                if not self._stopped.is_set():
                    self._say(False, clean(str(error) or type(error).__name__, 120))
                self._stopped.wait(delay)
                delay = min(self._pace.longest, 2 * delay)
            else:
                self._say(True)
                delay = self._pace.first
                self._stopped.wait(max(0.0, self._source.every - (time.monotonic() - began)))

    def _tell(self, found: Notice | None) -> None:
        if found != self._current:
            self._notice(found)
            self._current = found

    def _say(self, answers: bool, why: str = "") -> None:
        if answers is self._answers:
            return
        self._answers = answers
        if answers:
            self._note(f"watching the metadata server of {self._provider} for notices of preemption")
        else:
            self._note(f"no notice of preemption would be seen, the metadata server of {self._provider} fails: {why}")


class _Source(Protocol):
    """One cloud's way of telling."""

    @property
    def every(self) -> float:
        """Least seconds from one look to the next."""
        ...

    def look(self) -> Notice | None:
        """The notice that there is now; may wait for news first. Raises whatever goes wrong."""
        ...


class _Gce:
    """GCE holds the question for ``preempted`` open until its value changes, so that it is known at once."""

    def __init__(self, server: MetadataServer, pace: Pace, clock: Callable[[], datetime]) -> None:
        self._server = server
        self._pace = pace
        self._clock = clock
        self._etag = ""
        self._preempted: Notice | None = None

    @property
    def every(self) -> float:
        return self._pace.rest if self._etag else self._pace.poll

    def look(self) -> Notice | None:
        if self._is_preempted():
            if self._preempted is None:
                until = self._clock() + _GCE_GRACE
                text = f"GCE preempts this machine, about {until:%H:%M:%S} UTC"
                self._preempted = Notice(Provider.GCE, until, text)
            return self._preempted
        self._preempted = None
        answer = self._get("maintenance-event")
        if answer.status == 200 and answer.text == _TERMINATE:
            return Notice(Provider.GCE, None, "GCE is about to terminate this machine for the maintenance of its host")
        return None

    def _is_preempted(self) -> bool:
        hold = {"wait_for_change": "true", "timeout_sec": str(round(self._pace.hang)), "last_etag": self._etag}
        try:
            answer = self._get("preempted", hold) if self._etag else self._get("preempted")
            answer.require(200)
            if answer.text not in ("TRUE", "FALSE"):
                raise UnfitAnswerError("it says neither TRUE nor FALSE")
        except Exception:
            self._etag = ""  # after a fault the value is asked for at once, not only its changes
            raise
        etag = answer.header("ETag")
        self._etag = etag if _HEADER_SAFE.fullmatch(etag) else ""
        return answer.text == "TRUE"

    def _get(self, name: str, params: dict[str, str] | None = None) -> Answer:
        path = f"/computeMetadata/v1/instance/{name}" + (f"?{urlencode(params)}" if params else "")
        hang = self._pace.hang if params else 0.0
        answer = self._server.ask("GET", path, {"Metadata-Flavor": "Google"}, hang=hang)
        if answer.header("Metadata-Flavor") != "Google":
            raise UnfitAnswerError("something else answers in its place")
        return answer


class _Aws:
    """AWS answers at once, to whoever has fetched a token before (IMDSv2; the older way is never used)."""

    def __init__(self, server: MetadataServer, pace: Pace) -> None:
        self._server = server
        self._pace = pace
        self._token = ""
        self._renewal = 0.0

    @property
    def every(self) -> float:
        return self._pace.poll

    def look(self) -> Notice | None:
        answer = self._get()
        if answer.status == 401:  # it was forgotten, or the machine slept past its end
            self._token = ""
            answer = self._get()
        if answer.status == 404:
            return None
        answer.require(200)
        return _instance_action(answer.text)

    def _get(self) -> Answer:
        if not self._token or time.monotonic() >= self._renewal:
            self._renew()
        headers = {"X-aws-ec2-metadata-token": self._token}
        return self._server.ask("GET", "/latest/meta-data/spot/instance-action", headers)

    def _renew(self) -> None:
        asked = time.monotonic()
        headers = {"X-aws-ec2-metadata-token-ttl-seconds": str(_TOKEN_TTL)}
        answer = self._server.ask("PUT", "/latest/api/token", headers)
        answer.require(200)
        if not _HEADER_SAFE.fullmatch(answer.text):
            raise UnfitAnswerError("its token is none")
        given = answer.header("X-aws-ec2-metadata-token-ttl-seconds")
        lasts = int(given) if given.isascii() and given.isdigit() else _TOKEN_TTL
        self._token = answer.text
        self._renewal = asked + 0.9 * min(lasts, _TOKEN_TTL)


def _instance_action(text: str) -> Notice:
    """The notice in ``{"action": "terminate", "time": "2026-09-18T08:22:00Z"}``. Raises UnfitAnswerError."""
    try:
        said = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UnfitAnswerError("its instance action is no JSON") from error
    action = said.get("action") if isinstance(said, dict) else None
    if not isinstance(action, str) or action not in _AWS_ACTIONS:
        raise UnfitAnswerError("it names no known instance action")
    deadline = _moment(said.get("time"))
    when = "" if deadline is None else f" at {deadline:%H:%M:%S} UTC"
    return Notice(Provider.AWS, deadline, f"AWS {_AWS_ACTIONS[action]} this machine{when}")


def _moment(text: object) -> datetime | None:
    try:
        moment = datetime.fromisoformat(str(text))
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def _firmware(dmi: Path, name: str) -> str:
    try:
        with (dmi / name).open("rb") as file:
            return file.read(_DMI_LIMIT).decode("ascii", errors="replace").strip()
    except OSError:
        return ""
