"""What sshd and our audit trail have written down: read from the journal, or from auth.log and what was rotated of it.

Strangers fill these logs at will, so everything is bounded: the time that a look takes, each line, and what is kept of
them. The newest count; whoever is told of them is told as well that there were more.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Generic, Protocol, TypeVar

from containarium.host import probekey
from containarium.host.audittrail import IDENTIFIER
from containarium.host.authlog import Asked, AuthLog, files
from containarium.host.bounded import Limits
from containarium.host.loglines import Kind, Line, Login, Said, changes, logins, said
from containarium.host.newest import Newest, Sift
from containarium.host.settings import HostSettings
from containarium.host.streamed import Each, Streamed, stream
from containarium.model.host import TerminalError
from containarium.model.sshkey import SSHKey

SSHD = ("sshd", "sshd-session", "sshd-auth")
"""What sshd calls itself; its parts have had names of their own since OpenSSH 9.8."""
MOST_LOGINS = 20_000
"""Logins that one look keeps of those let in, and as many of those refused. An answer of the API has room for them."""
_CLOSED = 5
"""Ends that are kept for each login: sshd tells one in several lines, and those of the probe are told, too."""
_MOST_CHANGES = 5000
_ENVIRONMENT = {"LC_ALL": "C.UTF-8", "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
_SECONDS = 25.0
"""For one look; whoever waits for logins and changes at the other end of the API waits for 60."""
_LONGEST_LINE = 256 << 10
_ADDRESS_SPACE = 64 << 30
"""journalctl maps every file of the journal."""
_NEWEST = 5000
"""Lines that one look of the counter takes in; of a flood the newest count."""

T = TypeVar("T")
Wanted = Callable[[Said], bool]


class Stream(Protocol):
    """Runs a command as ``streamed.stream`` does; tests hand in their own."""

    def __call__(self, args: Sequence[str], limits: Limits, each: Each, *, env: Mapping[str, str]) -> Streamed: ...


@dataclass(frozen=True, slots=True)
class Read(Generic[T]):
    """What lines of a log come to, in their order, and where they are from, in words.

    ``whole``: nothing was left out; else the earlier ones were, for there were too many.
    """

    lines: tuple[T, ...]
    source: str
    whole: bool = True


def anybody(_one: Said) -> bool:
    """Wants every line."""
    return True


class Logs:
    """The logs of one host. Reading them needs root, or the groups that may."""

    def __init__(
        self,
        log: Path = Path("/var/log"),
        run: Stream = stream,
        which: Callable[[str], str | None] = shutil.which,
        most: int = MOST_LOGINS,
    ) -> None:
        self._log = log
        self._run = run
        self._which = which
        self._most = most

    def ssh(self, since: datetime, until: datetime, name: str = "", wanted: Wanted = anybody) -> Read[Said]:
        """What sshd said of logins; with ``name`` only of that one's. What is not ``wanted`` counts for nothing.

        Raises HostError: NoLog where there is no log, JournalUnreadable.
        """

        def sift(line: Line) -> tuple[str, Said] | None:
            one = said(line)
            return (one.kind, one) if one and (not name or one.name == name) and wanted(one) else None

        most = {Kind.ACCEPTED: self._most, Kind.REFUSED: self._most, Kind.CLOSED: _CLOSED * self._most}
        kept = Newest(sift, {str(kind): number for kind, number in most.items()})
        return self._read(Asked(SSHD, since, until, name), kept)

    def trail(self, since: datetime, until: datetime) -> Read[Line]:
        """What our audit trail holds. Raises as ``ssh`` does."""
        sift: Sift[Line] = lambda line: ("", line) if changes(line) is not None else None  # noqa: E731
        # --all: without it, long lines of the trail come as null
        return self._read(Asked((IDENTIFIER,), since, until), Newest(sift, {"": _MOST_CHANGES}), "--all")

    def _read(self, asked: Asked, kept: Newest[T], *options: str) -> Read[T]:
        journal, found = self._which("journalctl") is not None, files(self._log, asked.since)
        if journal:
            whole = self._journal(asked, kept, options)
            lines = kept.oldest_first()
            if lines or not found:
                return Read(lines, "the journal", whole and kept.whole)
        if not found:
            raise TerminalError(
                f"there is neither a journal nor {self._log / 'auth.log'} on this host",
                remedy="see that systemd-journald or rsyslog runs",
                reason="NoLog",
            )
        text = AuthLog(asked)
        for path in found:
            kept.put_block(text.lines(path))
        return Read(kept.oldest_first(), str(self._log / "auth.log"), text.whole and kept.whole)

    def _journal(self, asked: Asked, kept: Newest[T], options: Sequence[str]) -> bool:
        """Whether all of it was looked through: the newest come first, and time may end before they do."""
        # whole seconds: one more at the end, and what is too much of it is left out below
        begin, end = max(0, int(asked.since.timestamp())), max(0, int(asked.until.timestamp()) + 1)
        span = [f"--since=@{begin}", f"--until=@{end}", "--reverse"]
        grep = [f"--grep={re.escape(asked.word)}", "--case-sensitive=yes"] if asked.word else []

        def each(raw: bytes) -> bool:
            line = _line(_entry(raw))
            return line is None or not asked.since <= line.at <= asked.until or kept.put(line)

        return self._ask(asked.identifiers, [*span, *grep, *options], each)

    def _ask(self, identifiers: Iterable[str], options: Sequence[str], each: Each, fields: str = "") -> bool:
        command = ["journalctl", "--quiet", "--no-pager", "--output=json"]
        fields = f"--output-fields={fields or 'MESSAGE,_PID,_UID,SYSLOG_IDENTIFIER'}"
        matches = [f"SYSLOG_IDENTIFIER={identifier}" for identifier in identifiers]
        limits = Limits(seconds=_SECONDS, output=_LONGEST_LINE, memory=_ADDRESS_SPACE)
        done = self._run([*command, fields, *options, *matches], limits, each, env=_ENVIRONMENT)
        if done.code not in (0, 1) or (done.code == 1 and done.err.strip()):  # 1: nothing was found
            first = next(iter(done.err.strip().splitlines()), f"exit code {done.code}")
            raise TerminalError(
                f"journalctl cannot read the journal: {first[:200]}",
                remedy="run it as root",
                reason="JournalUnreadable",
            )
        return done.whole

    def since_cursor(self, cursor: str) -> tuple[list[Line], str]:
        """The newest lines of sshd after a cursor, and the next cursor; with an empty one, only where the journal
        ends now.
        """
        lines: list[Line] = []
        last = cursor

        def each(raw: bytes) -> bool:
            nonlocal last
            entry = _entry(raw)
            if isinstance(entry.get("__CURSOR"), str):
                last = str(entry["__CURSOR"])
            line = _line(entry) if cursor else None
            lines.extend([line] if line is not None else [])
            return True

        if cursor:
            self._ask(SSHD, [f"--after-cursor={cursor}", f"--lines={_NEWEST}"], each)
        else:
            self._ask((), ["--lines=1"], each, fields="_PID")
        return lines, last


class LoginCounter:
    """Counts logins as they come: each look reads what was written since the one before, and nothing else."""

    def __init__(self, settings: HostSettings, logs: Logs | None = None) -> None:
        self._settings = settings
        self._logs = logs or Logs()
        self._cursor = ""
        self._off = shutil.which("journalctl") is None if logs is None else False

    def look(self) -> Mapping[str, tuple[int, int]] | None:
        """How often each name was let in and refused since the last look; nothing at the first one.

        The controller's own probe is nobody's login. None on a host without a journal. Raises TerminalError where
        that cannot be read.
        """
        if self._off:
            return None
        lines, self._cursor = self._logs.since_cursor(self._cursor)
        counts: dict[str, tuple[int, int]] = {}
        for login in people_only(logins(found for line in lines if (found := said(line))), self._settings):
            accepted, refused = counts.get(login.name, (0, 0))
            counts[login.name] = (accepted + 1, refused) if login.accepted else (accepted, refused + 1)
        return counts


def people(settings: HostSettings, names: Collection[str] | None = None) -> Wanted:
    """Wants what is said of these (None: of everybody), and not what the controller's own probe does all the time."""
    own = _probe_fingerprint(settings)
    return lambda one: (names is None or one.name in names) and not (own and one.key == own)


def ssh_logins(read: Read[Said], settings: HostSettings) -> list[Login]:
    """The logins that were told of, oldest first."""
    return people_only(logins(iter(read.lines)), settings)


def people_only(found: Sequence[Login], settings: HostSettings) -> list[Login]:
    """Without those of the controller's own probe, which it makes all the time."""
    own = _probe_fingerprint(settings)
    return [login for login in found if not (own and login.key == own)]


def _probe_fingerprint(settings: HostSettings) -> str:
    public = probekey.public_half(settings)
    try:
        return SSHKey.parse(public).fingerprint if public else ""
    except ValueError:
        return ""


def _entry(raw: bytes) -> Mapping[str, object]:
    try:
        entry = json.loads(raw) if raw else None
    except (ValueError, RecursionError):
        return {}
    return entry if isinstance(entry, dict) else {}


def _line(entry: Mapping[str, object]) -> Line | None:
    message, stamp, pid = entry.get("MESSAGE"), entry.get("__REALTIME_TIMESTAMP"), entry.get("_PID")
    if not (isinstance(message, str) and isinstance(stamp, str) and stamp.isdecimal()):  # bytes come as a list
        return None
    number = int(pid) if isinstance(pid, str) and pid.isdecimal() else 0
    at = datetime.fromtimestamp(int(stamp) / 1e6, UTC)
    return Line(at, number, message, entry.get("_UID") == "0", str(entry.get("SYSLOG_IDENTIFIER", "")))
