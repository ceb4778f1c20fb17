"""The kernel's accounting of processes, as the bench reads it."""

from __future__ import annotations

import struct

import pytest

from tests.bench.accounting import by_program, table
from tests.lab.command import LabError


def record(name: str, user: int, system: int, version: int = 3) -> bytes:
    """A struct acct_v3, field by field as acct(5) lists them."""
    head = struct.pack("<BBHIIIIIIf", 0, version, 0, 0, 0, 0, 1, 1, 0, 1.0)
    return head + struct.pack("<HHHHHHHH", user, system, 0, 0, 0, 0, 0, 0) + name.encode().ljust(16, b"\0")


def test_a_record_is_what_the_kernel_writes() -> None:
    assert len(record("sh", 0, 0)) == 64


def test_times_are_added_up_by_program() -> None:
    large = (1 << 13) | 100  # 100 << 3
    found = by_program(record("sh", 10, 5) + record("ssh", large, 0) + record("sh", 0, 85) + b"half of one")
    assert found == {"sh": 1.0, "ssh": 8.0}


def test_another_format_is_refused() -> None:
    with pytest.raises(LabError, match="format 2"):
        by_program(record("sh", 1, 1, version=2))


def test_what_differs_most_comes_first() -> None:
    rows = table({"a": 2.0, "b": 1.0}, {"a": 2.0, "b": 5.0, "c": 1.0}, 2, 2)
    assert rows == [("b", "0.50", "2.50", "+2.00"), ("c", "0.00", "0.50", "+0.50")]
