"""Where processor time goes: what the kernel writes down of every process that ends (acct(2)), and what all used."""

from __future__ import annotations

import ctypes
import os
import struct
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.lab.command import LabError

_RECORD = struct.Struct("<BBH6IfHH12x16s")
"""struct acct_v3: flags, version, terminal, exit code, ids, begin, elapsed, user and system time, the name."""
_TICKS = 100.0
"""AHZ: a second, as acct(2) counts."""
_IDLE = (3, 4)
"""Columns of /proc/stat: nothing to do, and waiting for a disk."""


@dataclass
class Spent:
    """Seconds of processor time: of all there is, and of processes that ended, by the name of their program."""

    whole: float = 0.0
    ended: Counter[str] = field(default_factory=Counter)


@contextmanager
def accounted(file: Path) -> Iterator[Spent]:
    """Count while the block runs. Whatever else the machine does is counted as well. Raises LabError."""
    spent = Spent()
    file.write_bytes(b"")
    before = _used()
    _acct(os.fsencode(file))
    try:
        yield spent
    finally:
        _acct(None)
    spent.whole = _used() - before
    spent.ended = by_program(file.read_bytes())


def by_program(records: bytes) -> Counter[str]:
    """Seconds by program of what acct(2) wrote."""
    found: Counter[str] = Counter()
    whole = len(records) // _RECORD.size * _RECORD.size
    for _flags, version, *_ids, _elapsed, user, system, name in _RECORD.iter_unpack(records[:whole]):
        if version & 0x0F != 3:
            raise LabError(f"the kernel accounts in format {version}, not 3")
        program = name.split(b"\0")[0].decode(errors="replace")
        found[program] += (_expanded(user) + _expanded(system)) / _TICKS  # type: ignore[assignment]  # seconds
    return found


def _expanded(number: int) -> int:
    """comp_t: 13 bits, and an exponent of base 8."""
    return int(number & 0x1FFF) << (3 * (number >> 13))


def _acct(path: bytes | None) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.acct(path) != 0:
        raise LabError(f"acct(2): {os.strerror(ctypes.get_errno())}")


def _used() -> float:
    columns = [int(word) for word in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
    return sum(ticks for number, ticks in enumerate(columns) if number not in _IDLE) / os.sysconf("SC_CLK_TCK")


def table(by_hand: Mapping[str, float], declared: Mapping[str, float], count: int, most: int) -> list[tuple[str, ...]]:
    """Rows of seconds for each of ``count``: the programs that differ most first."""
    names = sorted({*by_hand, *declared}, key=lambda name: -abs(declared.get(name, 0.0) - by_hand.get(name, 0.0)))
    return [
        (
            name,
            *(f"{found.get(name, 0.0) / count:.2f}" for found in (by_hand, declared)),
            _more(name, by_hand, declared, count),
        )
        for name in names[:most]
    ]


def _more(name: str, by_hand: Mapping[str, float], declared: Mapping[str, float], count: int) -> str:
    return f"{(declared.get(name, 0.0) - by_hand.get(name, 0.0)) / count:+.2f}"
