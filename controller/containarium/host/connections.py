"""Who is connected now: the processes of sshd that run as a jump account, and where their connections come from.

Read from /proc, not from logs: what is there is there, whatever was written down.
"""

from __future__ import annotations

import os
import re
import socket
import struct
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

_ESTABLISHED, _LISTEN = "01", "0A"
_INODE = re.compile(r"socket:\[(\d+)\]")
_UID = re.compile(r"^Uid:\t(\d+)\t", re.MULTILINE)
_MOST_DESCRIPTORS = 4096


@dataclass(frozen=True, slots=True)
class Connection:
    """A login that is open. ``forwards`` counts the ways that are open through it at this moment."""

    name: str
    pid: int
    since: datetime
    source: str = ""
    port: int = 0
    forwards: int = 0


@dataclass(frozen=True, slots=True)
class _Socket:
    local_port: int
    remote: str
    remote_port: int
    state: str


def connections(accounts: Mapping[str, int], proc: Path = Path("/proc")) -> tuple[Connection, ...]:
    """The open logins of these accounts (name to user id), oldest first."""
    sockets = _sockets(proc)
    listening = {found.local_port for found in sockets.values() if found.state == _LISTEN}
    booted = _boot_time(proc)
    found = []
    names = {uid: name for name, uid in accounts.items() if uid > 0}
    for pid, uid in _processes(frozenset(names), proc):
        connection = _connection(names[uid], pid, sockets, listening, booted, proc)
        if connection is not None:
            found.append(connection)
    return tuple(sorted(found, key=lambda one: (one.since, one.name, one.pid)))


def _connection(
    name: str, pid: int, sockets: Mapping[int, _Socket], listening: Iterable[int], booted: float, proc: Path
) -> Connection | None:
    """None where the process has ended meanwhile, or holds no connection that came to us."""
    try:
        since = booted + _started(proc / str(pid) / "stat")
        inodes = _inodes(proc / str(pid) / "fd")
    except (OSError, ValueError, IndexError):
        return None
    mine = [sockets[inode] for inode in inodes if inode in sockets and sockets[inode].state == _ESTABLISHED]
    came = [one for one in mine if one.local_port in listening]
    if not came:
        return None
    moment = datetime.fromtimestamp(since, UTC)
    return Connection(name, pid, moment, came[0].remote, came[0].remote_port, len(mine) - len(came))


def _processes(uids: frozenset[int], proc: Path) -> Iterator[tuple[int, int]]:
    """Processes of these real user ids in our own PID namespace; guests' have others, and may have the same numbers."""
    own = (proc / "self" / "ns" / "pid").stat().st_ino
    for entry in os.scandir(proc):
        if not entry.name.isdecimal():
            continue
        try:
            match = _UID.search((proc / entry.name / "status").read_text(errors="replace"))
            if match and int(match[1]) in uids and (proc / entry.name / "ns" / "pid").stat().st_ino == own:
                yield int(entry.name), int(match[1])
        except OSError:
            continue


def _inodes(folder: Path) -> set[int]:
    found = set()
    for number, entry in enumerate(os.scandir(folder)):
        if number >= _MOST_DESCRIPTORS:
            break
        try:
            match = _INODE.fullmatch(os.readlink(entry.path))  # noqa: PTH115 - what it says is no path
        except OSError:
            continue
        if match:
            found.add(int(match[1]))
    return found


def _started(stat: Path) -> float:
    """Seconds after the boot at which a process began. Its name may hold blanks and parentheses."""
    fields = stat.read_text(errors="replace").rpartition(")")[2].split()
    return int(fields[19]) / os.sysconf("SC_CLK_TCK")


def _boot_time(proc: Path) -> float:
    for line in (proc / "stat").read_text().splitlines():
        if line.startswith("btime "):
            return float(line.split()[1])
    return 0.0


def _sockets(proc: Path) -> dict[int, _Socket]:
    """The TCP sockets of our own network namespace, by inode."""
    found: dict[int, _Socket] = {}
    for table in ("tcp", "tcp6"):
        try:
            lines = (proc / "net" / table).read_text().splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            fields = line.split()
            try:
                _, local_port = fields[1].split(":")
                remote, remote_port = fields[2].split(":")
                inode = int(fields[9])
                found[inode] = _Socket(int(local_port, 16), _address(remote), int(remote_port, 16), fields[3])
            except (ValueError, IndexError):
                continue
    return found


def _address(text: str) -> str:
    """An address as the kernel writes it: words of four bytes in the machine's own order, in hexadecimal."""
    words = [struct.pack("=I", int(text[start : start + 8], 16)) for start in range(0, len(text), 8)]
    raw = b"".join(words)
    if len(raw) == 4:
        return socket.inet_ntop(socket.AF_INET, raw)
    if raw.startswith(b"\0" * 10 + b"\xff\xff"):  # an IPv4 address on a socket for both
        return socket.inet_ntop(socket.AF_INET, raw[12:])
    return socket.inet_ntop(socket.AF_INET6, raw)
