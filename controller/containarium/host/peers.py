"""Who is at the other end of a unix socket, as the kernel says, and which group may use this controller's own."""

from __future__ import annotations

import contextlib
import grp
import os
import pwd
import socket
import struct
from dataclasses import dataclass
from pathlib import Path

from containarium.model.marks import ADMIN_GROUP

_SO_PEERGROUPS = 59
_MOST = 1024
"""Bytes that Python reads of a socket option: 256 groups."""


@dataclass(frozen=True, slots=True)
class Peer:
    """The process that connected, as it was at that moment."""

    pid: int
    uid: int
    gid: int
    groups: frozenset[int]


def peer(connection: socket.socket) -> Peer:
    """The other end of a connected unix socket (SO_PEERCRED, SO_PEERGROUPS). Raises OSError."""
    size = struct.calcsize("=iII")
    pid, uid, gid = struct.unpack("=iII", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size))
    return Peer(pid, uid, gid, frozenset({gid, *_groups(connection)}))


def admin_group() -> int | None:
    """The number of the admins' group, None where this host has none."""
    try:
        return grp.getgrnam(ADMIN_GROUP).gr_gid
    except KeyError:
        return None


def may_administer(found: Peer) -> bool:
    """Whether this is root, or somebody of the admins' group."""
    if found.uid == 0:
        return True
    group = admin_group()
    return group is not None and group in found.groups


def name_of(uid: int) -> str:
    """The account's name, or its number where it has none."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def hand_to_admins(path: Path) -> None:
    """Let the admins' group use a socket of root's, where there is such a group. Raises OSError."""
    group = admin_group()
    os.chown(path, -1, group if group is not None else -1)
    path.chmod(0o660 if group is not None else 0o600)


def _groups(connection: socket.socket) -> tuple[int, ...]:
    with contextlib.suppress(OSError):  # an older kernel, or somebody in more groups than fit
        raw = connection.getsockopt(socket.SOL_SOCKET, _SO_PEERGROUPS, _MOST)
        return struct.unpack(f"={len(raw) // 4}I", raw)
    return ()
