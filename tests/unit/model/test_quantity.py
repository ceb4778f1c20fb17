"""Quantities: what is accepted, what Incus is handed, and what somebody who wrote something else is told."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from containarium.model.base import InvalidValueError
from containarium.model.quantity import Cpu, Duration, Size, parse_bytes


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("8GiB", 8 * 1024**3),
        ("8GB", 8 * 1000**3),
        ("4096MB", 4096 * 1000**2),
        ("4096MiB", 4096 * 1024**2),
        ("1kB", 1000),
        ("1KiB", 1024),
        ("512B", 512),
        ("2TiB", 2 * 1024**4),
        ("1PB", 1000**5),
        ("7EiB", 7 * 1024**6),
    ],
)
def test_size(text: str, expected: int) -> None:
    size = Size.parse(text)
    assert (str(size), size.bytes, parse_bytes(text)) == (text, expected, expected)


@pytest.mark.parametrize(
    ("value", "remedy"),
    [
        ("8G", "write 8GiB (1024-based) or 8GB (1000-based)"),
        ("8k", "write 8KiB (1024-based) or 8kB (1000-based)"),
        ("8 GB", "write 8GB"),
        ("8gib", "write 8GiB"),
        ("8KB", "write 8kB"),
        ("08GiB", "write 8GiB"),
        ("1.5GiB", "(1536MiB is the same)"),
        ("-1GiB", "write a size above zero"),
        ("0GiB", "write a size above zero"),
        ("8", "write a unit: 8GiB or 8MiB"),
        (8, "write a unit: 8GiB or 8MiB"),
        (1.5, "write a whole number and a unit"),
        (True, "write a whole number and a unit"),
        (None, "write a whole number and a unit"),
        ("50%", "write a whole number and a unit"),
        ("8XB", "the units are B, kB, MB"),
        ("9000000000EiB", "write at most 7EiB"),
        ("8GiB\n", "write 8GiB"),
        ("\u0668GiB", "write a whole number and a unit"),
        ("1" * 1_000 + "GiB", "write a whole number and a unit"),
    ],
)
def test_refused_size(value: Any, remedy: str) -> None:
    with pytest.raises(InvalidValueError) as caught:
        Size.parse(value)
    assert remedy in caught.value.remedy
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize(("text", "expected"), [("", 0), ("10", 10), ("10 bytes", 10), ("1MB", 1000000)])
def test_parse_bytes_reads_what_incus_returns(text: str, expected: int) -> None:
    assert parse_bytes(text) == expected


@pytest.mark.parametrize("text", ["50%", "8G", "x", "-1", "1.5GiB", " 1GB"])
def test_parse_bytes_refuses(text: str) -> None:
    with pytest.raises(ValueError, match="not a size"):
        parse_bytes(text)


@pytest.mark.parametrize(
    ("value", "text", "count", "ids"),
    [
        (4, "4", 4, ()),
        ("4", "4", 4, ()),
        (4096, "4096", 4096, ()),
        ("0-3", "0-3", 4, (0, 1, 2, 3)),
        ("2-4", "2-4", 3, (2, 3, 4)),
        ("3,1", "1,3", 2, (1, 3)),
        ("2,0,1", "0-2", 3, (0, 1, 2)),
        ("0-1,4,5,7", "0-1,4-5,7", 5, (0, 1, 4, 5, 7)),
        ("3-3", "3-3", 1, (3,)),
    ],
)
def test_cpu(value: Any, text: str, count: int, ids: tuple[int, ...]) -> None:
    cpu = Cpu.parse(value)
    assert (str(cpu), cpu.count, cpu.ids) == (text, count, ids)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (0, "cannot run on 0 CPUs"),
        ("00", "cannot run on 0 CPUs"),
        ("04", "has a leading zero"),
        ("3-1", 'runs backwards; write "1-3"'),
        ("1,1", "names a CPU twice"),
        ("0-3,2", "names a CPU twice"),
        (5000, "more than 4096"),
        (10**40, "more than 4096"),
        ("0-4096", "is beyond 4095"),
        ("0-99999", "is beyond 4095"),
        (-1, "neither a number of CPUs nor a set"),
        (1.5, "neither a number of CPUs nor a set"),
        (True, "neither a number of CPUs nor a set"),
        ("", "neither a number of CPUs nor a set"),
        ("1,", "neither a number of CPUs nor a set"),
        ("4 ", "neither a number of CPUs nor a set"),
        ("50%", "neither a number of CPUs nor a set"),
    ],
)
def test_refused_cpu(value: Any, message: str) -> None:
    with pytest.raises(InvalidValueError) as caught:
        Cpu.parse(value)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("text", "delta", "incus"),
    [
        ("30s", timedelta(seconds=30), "30S"),
        ("90m", timedelta(minutes=90), "90M"),
        ("12h", timedelta(hours=12), "12H"),
        ("7d", timedelta(days=7), "7d"),
        ("30d", timedelta(days=30), "30d"),
        ("1w", timedelta(weeks=1), "1w"),
    ],
)
def test_duration(text: str, delta: timedelta, incus: str) -> None:
    duration = Duration.parse(text)
    assert (str(duration), duration.delta, duration.incus) == (text, delta, incus)


@pytest.mark.parametrize(
    ("value", "remedy"),
    [
        ("0d", "write a whole number and a unit"),
        ("7 days", "write a whole number and a unit"),
        ("1M", "write a whole number and a unit"),
        ("-7d", "write a whole number and a unit"),
        ("1:30", "write a whole number and a unit"),
        (7, "write a unit: 7d or 7h"),
        (None, "write a whole number and a unit"),
        ("999999999w", "write at most 36500d"),
    ],
)
def test_refused_duration(value: Any, remedy: str) -> None:
    with pytest.raises(InvalidValueError) as caught:
        Duration.parse(value)
    assert remedy in caught.value.remedy
