"""What sshd and our audit trail have written down: read from the journal, or from auth.log and what was rotated of it.

Strangers fill these logs at will, so everything is bounded: the time that is asked for, what is read, and each line.
"""

from __future__ import annotations

import gzip
import json
import re
import shutil
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import IO, cast

from containarium.host import probekey
from containarium.host.audittrail import IDENTIFIER
from containarium.host.bounded import Limits, Output, run_bounded
from containarium.host.loglines import Line, Login, logins, said
from containarium.host.settings import HostSettings
from containarium.model.host import TerminalError
from containarium.model.sshkey import SSHKey

SSHD = ("sshd", "sshd-session", "sshd-auth")
"""What sshd calls itself; its parts have had names of their own since OpenSSH 9.8."""
_ENVIRONMENT = {"LC_ALL": "C.UTF-8", "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
_SECONDS = 120.0
_MOST_OUTPUT = 128 << 20
_ADDRESS_SPACE = 64 << 30
"""journalctl maps every file of the journal."""
_MOST_TEXT = 1 << 30
"""Bytes of auth.log and its rotated files, unpacked, that are read at most."""
_LONGEST_LINE = 8192
_NEWEST = 5000
"""Lines that one look of the counter takes in; of a flood the newest count."""
_STAMPED = re.compile(r"(\d{4}-\d\d-\d\dT[0-9:.]{8,15}(?:Z|[+-]\d\d:\d\d)) \S+ ([A-Za-z-]+)(?:\[(\d{1,10})\])?: (.*)")
_OLD_STYLE = re.compile(r"([A-Z][a-z]{2} [ 0-9]\d \d\d:\d\d:\d\d) \S+ ([A-Za-z-]+)(?:\[(\d{1,10})\])?: (.*)")

Bounded = Callable[..., Output]


@dataclass(frozen=True, slots=True)
class Read:
    """Lines of a log in their order, and where they came from, in words."""

    lines: tuple[Line, ...]
    source: str


class Logs:
    """The logs of one host. Reading them needs root, or the groups that may."""

    def __init__(
        self,
        log: Path = Path("/var/log"),
        run: Bounded = run_bounded,
        which: Callable[[str], str | None] = shutil.which,
    ) -> None:
        self._log = log
        self._run = run
        self._which = which

    def ssh(self, since: datetime, until: datetime, name: str = "") -> Read:
        """What sshd wrote; with ``name`` only lines in which that stands.

        Raises TerminalError: NoLog where there is none, LogTooLarge where it is more than can be looked through.
        """
        return self._read(SSHD, since, until, name)

    def trail(self, since: datetime, until: datetime) -> Read:
        """What our audit trail holds. Raises as ``ssh`` does."""
        return self._read((IDENTIFIER,), since, until, "")

    def _read(self, identifiers: Sequence[str], since: datetime, until: datetime, word: str) -> Read:
        journal, files = self._which("journalctl") is not None, _files(self._log, since)
        found: tuple[Line, ...] = ()
        if journal:
            found = tuple(self._journal(identifiers, since, until, word))
        if found or (journal and not files):
            return Read(found, "the journal")
        if not files:
            raise TerminalError(
                f"there is neither a journal nor {self._log / 'auth.log'} on this host",
                remedy="see that systemd-journald or rsyslog runs",
                reason="NoLog",
            )
        return Read(tuple(_from_files(files, frozenset(identifiers), since, until, word)), str(self._log / "auth.log"))

    def _journal(self, identifiers: Sequence[str], since: datetime, until: datetime, word: str) -> Iterator[Line]:
        # whole seconds: one more at the end, and what is too much of it is left out below
        span = [f"--since=@{int(since.timestamp())}", f"--until=@{int(until.timestamp()) + 1}"]
        grep = [f"--grep={re.escape(word)}", "--case-sensitive=yes"] if word else []
        for line in self._asked(identifiers, [*span, *grep])[0]:
            if since <= line.at <= until:
                yield line

    def _asked(self, identifiers: Sequence[str], options: Sequence[str]) -> tuple[list[Line], str]:
        """Lines of the journal, and the cursor of the last one."""
        command = ["journalctl", "--quiet", "--no-pager", "--output=json"]
        fields = "--output-fields=MESSAGE,_PID,_UID,SYSLOG_IDENTIFIER"
        matches = [f"SYSLOG_IDENTIFIER={identifier}" for identifier in identifiers]
        limits = Limits(seconds=_SECONDS, output=_MOST_OUTPUT, memory=_ADDRESS_SPACE)
        try:
            done = self._run([*command, fields, *options, *matches], limits, env=_ENVIRONMENT)
        except TerminalError as error:
            if error.reason != "OutputTooLarge":
                raise
            raise TerminalError(
                "the journal holds more of that than can be looked through at once",
                remedy="ask for a shorter time (--since, --until)",
                reason="LogTooLarge",
            ) from error
        if done.code not in (0, 1) or (done.code == 1 and done.err.strip()):  # 1: nothing was found
            first = next(iter(done.err.strip().splitlines()), f"exit code {done.code}")
            raise TerminalError(
                f"journalctl cannot read the journal: {first[:200]}",
                remedy="run it as root",
                reason="JournalUnreadable",
            )
        return _parsed(done.out)

    def since_cursor(self, cursor: str) -> tuple[list[Line], str]:
        """The newest lines of sshd after a cursor, and the next cursor; with an empty one, only where the journal
        ends now.
        """
        if not cursor:
            limits = Limits(seconds=_SECONDS, memory=_ADDRESS_SPACE)
            command = ["journalctl", "--quiet", "--no-pager", "--output=json", "--output-fields=_PID", "--lines=1"]
            return [], _parsed(self._run(command, limits, env=_ENVIRONMENT).out)[1]
        lines, last = self._asked(SSHD, [f"--after-cursor={cursor}", f"--lines={_NEWEST}"])
        return lines, last or cursor


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


def ssh_logins(read: Read, settings: HostSettings, name: str = "") -> list[Login]:
    """The logins that lines of sshd's tell of, oldest first; with ``name`` only that one's."""
    found = (one for line in read.lines if (one := said(line)) and (not name or one.name == name))
    return people_only(logins(found), settings)


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


def _parsed(out: bytes) -> tuple[list[Line], str]:
    found: list[Line] = []
    cursor = ""
    for raw in out.split(b"\n"):
        try:
            entry = json.loads(raw) if raw else None
        except (ValueError, RecursionError):
            continue
        if not isinstance(entry, dict):
            continue
        if isinstance(entry.get("__CURSOR"), str):
            cursor = entry["__CURSOR"]
        line = _journal_line(entry)
        if line is not None:
            found.append(line)
    return found, cursor


def _journal_line(entry: Mapping[str, object]) -> Line | None:
    message, stamp, pid = entry.get("MESSAGE"), entry.get("__REALTIME_TIMESTAMP"), entry.get("_PID")
    if not (isinstance(message, str) and isinstance(stamp, str) and stamp.isdecimal()):  # bytes come as a list
        return None
    number = int(pid) if isinstance(pid, str) and pid.isdecimal() else 0
    at = datetime.fromtimestamp(int(stamp) / 1e6, UTC)
    return Line(at, number, message, entry.get("_UID") == "0", str(entry.get("SYSLOG_IDENTIFIER", "")))


def _files(folder: Path, since: datetime) -> list[Path]:
    """auth.log and what was rotated of it, oldest first, without those that ended before."""
    found = []
    for path in folder.glob("auth.log*"):
        try:
            facts = path.stat()
        except OSError:
            continue
        if path.is_file() and re.fullmatch(r"auth\.log(?:[.-]\d+)?(?:\.gz)?", path.name):
            found.append((facts.st_mtime, path))
    return [path for changed, path in sorted(found) if changed >= since.timestamp()]


def _from_files(
    files: Sequence[Path], identifiers: frozenset[str], since: datetime, until: datetime, word: str
) -> Iterator[Line]:
    left = _MOST_TEXT
    for path in files:
        ended = datetime.fromtimestamp(path.stat().st_mtime, UTC)
        try:
            with _opened(path) as stream:
                while raw := stream.readline(_LONGEST_LINE):
                    left -= len(raw)
                    if left < 0:
                        raise TerminalError(
                            f"{path.parent / 'auth.log'} is more than can be looked through at once",
                            remedy="ask for a shorter time (--since)",
                            reason="LogTooLarge",
                        )
                    line = _text_line(raw.decode(errors="replace").rstrip("\n"), ended)
                    if line and line.identifier in identifiers and since <= line.at <= until and word in line.message:
                        yield line
        except (OSError, EOFError, zlib.error) as error:
            raise TerminalError(f"{path} cannot be read: {error}", remedy="run it as root", reason="NoLog") from error


def _opened(path: Path) -> IO[bytes]:
    return cast(IO[bytes], gzip.open(path, "rb")) if path.suffix == ".gz" else path.open("rb")


def _text_line(text: str, ended: datetime) -> Line | None:
    """A line of auth.log. Old ones name no year: it is the last one before the file's own end."""
    match = _STAMPED.fullmatch(text)
    if match:
        try:
            at = datetime.fromisoformat(match[1])
        except ValueError:
            return None
    elif match := _OLD_STYLE.fullmatch(text):
        moment = _without_year(match[1], ended)
        if moment is None:
            return None
        at = moment
    else:
        return None
    return Line(at.astimezone(UTC), int(match[3] or 0), match[4], True, match[2])


def _without_year(text: str, ended: datetime) -> datetime | None:
    for year in (ended.year + 1, ended.year, ended.year - 1):
        try:
            at = datetime.strptime(f"{year} {text}", "%Y %b %d %H:%M:%S").astimezone()
        except ValueError:
            continue
        if at <= ended + timedelta(days=1):
            return at
    return None
