"""auth.log and what was rotated of it: lines of some programs, read file by file, within a bound on what is read."""

from __future__ import annotations

import gzip
import re
import zlib
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import IO, cast

from containarium.host.loglines import Line
from containarium.model.host import TerminalError

MOST_TEXT = 1 << 30
"""Bytes of all files, unpacked, that are read at most; of more, the newest."""
_LONGEST_LINE = 8192
_SIZE = 4
"""The last bytes of a packed file say how large it was."""
_STAMPED = re.compile(r"(\d{4}-\d\d-\d\dT[0-9:.]{8,15}(?:Z|[+-]\d\d:\d\d)) \S+ ([A-Za-z-]+)(?:\[(\d{1,10})\])?: (.*)")
_OLD_STYLE = re.compile(r"([A-Z][a-z]{2} [ 0-9]\d \d\d:\d\d:\d\d) \S+ ([A-Za-z-]+)(?:\[(\d{1,10})\])?: (.*)")


@dataclass(frozen=True, slots=True)
class Asked:
    """What is looked for: lines of these programs, from then to then, with this word in them."""

    identifiers: Collection[str]
    since: datetime
    until: datetime
    word: str = ""


def files(folder: Path, since: datetime) -> list[Path]:
    """The newest first, without those that ended before."""
    found = []
    for path in folder.glob("auth.log*"):
        try:
            facts = path.stat()
        except OSError:
            continue
        if path.is_file() and re.fullmatch(r"auth\.log(?:[.-]\d+)?(?:\.gz)?", path.name):
            found.append((facts.st_mtime, path))
    return [path for changed, path in sorted(found, reverse=True) if changed >= since.timestamp()]


class AuthLog:
    """Reads files for one question; the newest are to come first. ``whole`` says whether nothing was left out."""

    def __init__(self, asked: Asked, most: int = MOST_TEXT) -> None:
        self._asked = asked
        self._left = most
        self._tags = tuple(f" {identifier}".encode() for identifier in asked.identifiers)
        self.whole = True

    def lines(self, path: Path) -> Iterator[Line]:
        """Of one file, oldest first. Raises TerminalError (NoLog) where it cannot be read."""
        try:
            ended = datetime.fromtimestamp(path.stat().st_mtime, UTC)
            before = max(0, _size(path) - self._left)
            with _opened(path) as stream:
                if before:
                    self.whole = False
                    stream.seek(before)
                    stream.readline(_LONGEST_LINE)
                for raw in self._raw(stream):
                    line = _line(raw.decode(errors="replace"), ended)
                    if line is not None and self._wanted(line):
                        yield line
        except (OSError, EOFError, zlib.error) as error:
            raise TerminalError(f"{path} cannot be read: {error}", remedy="run it as root", reason="NoLog") from error

    def _raw(self, stream: IO[bytes]) -> Iterator[bytes]:
        """Lines that may be of somebody who is asked for. The rest of a line that is too long is no line."""
        begun = False
        while raw := stream.readline(_LONGEST_LINE):
            self._left -= len(raw)
            if self._left < 0:
                self.whole = False
                return
            rest, begun = begun, not raw.endswith(b"\n")
            if not rest and any(tag in raw for tag in self._tags):
                yield raw.rstrip(b"\n")

    def _wanted(self, line: Line) -> bool:
        asked = self._asked
        return (
            line.identifier in asked.identifiers
            and asked.since <= line.at <= asked.until
            and asked.word in line.message
        )


def _size(path: Path) -> int:
    """Bytes, unpacked."""
    if path.suffix != ".gz":
        return path.stat().st_size
    with path.open("rb") as file:
        file.seek(-_SIZE, 2)
        return int.from_bytes(file.read(_SIZE), "little")


def _opened(path: Path) -> IO[bytes]:
    return cast("IO[bytes]", gzip.open(path, "rb")) if path.suffix == ".gz" else path.open("rb")


def _line(text: str, ended: datetime) -> Line | None:
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
