"""Reads rules of the kernel's firewall over netlink: no process, and tens of microseconds for a chain.

``nft`` would do as well, but takes a process per look, and a quarter of a second for the rules of 200 guests.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from types import TracebackType
from typing import Self

_NETLINK_NETFILTER = 12
_GET_RULE = 10 << 8 | 7
"""The subsystem nf_tables, its message NFT_MSG_GETRULE."""
_BRIDGE = 7
_REQUEST, _DUMP, _INTERRUPTED = 0x1, 0x300, 0x10
_ERROR, _DONE = 2, 3
_HEADER = struct.Struct("=IHHII")
_ATTRIBUTE = struct.Struct("=HH")
_TABLE, _CHAIN = 1, 2
_BUFFER = 256 * 1024
_TIMEOUT = 5.0
_ATTEMPTS = 3


class BridgeRules:
    """The rules of one table of the family bridge. A context manager; raises OSError where it may not look."""

    def __init__(self, table: str, connection: socket.socket | None = None) -> None:
        """``connection`` is to the kernel's netfilter, where there is one already; it is closed at the end."""
        self._table = table
        self._sequence = 0
        kind = socket.SOCK_RAW | socket.SOCK_CLOEXEC
        self._socket = connection or socket.socket(socket.AF_NETLINK, kind, _NETLINK_NETFILTER)
        self._socket.settimeout(_TIMEOUT)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._socket.close()

    def of(self, chain: str) -> bytes:
        """The rules of a chain as the kernel encodes them, one after the other; empty where there is none.

        Raises OSError; also when somebody kept changing the rules during the reading.
        """
        for _ in range(_ATTEMPTS):
            found = self._dump(chain)
            if found is not None:
                return found
        raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))

    def _dump(self, chain: str) -> bytes | None:
        """One reading; None where a change came in between."""
        self._sequence += 1
        body = struct.pack("=BBH", _BRIDGE, 0, 0) + _text(_TABLE, self._table) + _text(_CHAIN, chain)
        header = _HEADER.pack(_HEADER.size + len(body), _GET_RULE, _REQUEST | _DUMP, self._sequence, 0)
        self._socket.send(header + body)
        found: list[bytes] = []
        whole = True
        while True:
            data = self._socket.recv(_BUFFER)
            at = 0
            while at + _HEADER.size <= len(data):
                length, kind, flags, sequence, _port = _HEADER.unpack_from(data, at)
                if length < _HEADER.size:
                    raise OSError(errno.EBADMSG, os.strerror(errno.EBADMSG))
                payload = data[at + _HEADER.size : at + length]
                at += (length + 3) & ~3
                if sequence != self._sequence:  # the rest of a reading that was given up
                    continue
                whole = whole and not flags & _INTERRUPTED
                if kind == _ERROR and (refusal := _refused(payload)):
                    raise refusal
                if kind in (_ERROR, _DONE):
                    return b"".join(found) if whole else None
                found.append(payload)


def _text(kind: int, value: str) -> bytes:
    data = value.encode() + b"\0"
    return _ATTRIBUTE.pack(_ATTRIBUTE.size + len(data), kind) + data + bytes(-len(data) % 4)


def _refused(payload: bytes) -> OSError | None:
    """What an error message says; that there is no such table is no error."""
    code = -int(struct.unpack_from("=i", payload)[0])
    return None if code == errno.ENOENT else OSError(code, os.strerror(code))
