"""Commands that print, write or run without end are ended, with all that they started."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from containarium.host.bounded import Limits, run_bounded
from containarium.model.host import HostError

ENV = {"PATH": "/usr/bin:/bin"}


def test_output_is_bytes_and_the_environment_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", "x")
    done = run_bounded(["env", "-0"], Limits(20), env={**ENV, "ONE": "two"})
    assert sorted(done.out.split(b"\0")) == [b"", b"ONE=two", b"PATH=/usr/bin:/bin"]
    assert run_bounded(["cat"], Limits(20), env=ENV, stdin=b"\xff\x00\r\n").out == b"\xff\x00\r\n"


def test_the_exit_code_counts() -> None:
    done = run_bounded(["sh", "-c", "echo why >&2; exit 3"], Limits(20), env=ENV)
    assert (done.code, done.err) == (3, "why\n")


def test_endless_output_ends_it() -> None:
    with pytest.raises(HostError, match="yes printed more than 100000 bytes") as refused:
        run_bounded(["yes"], Limits(20, output=100_000), env=ENV)
    assert refused.value.reason == "OutputTooLarge"


def test_endless_errors_are_dropped() -> None:
    done = run_bounded(["sh", "-c", "head -c 5000000 /dev/zero >&2; echo end"], Limits(20), env=ENV)
    assert done.out == b"end\n"
    assert len(done.err) == 1 << 16


def test_no_grandchild_is_left(tmp_path: Path) -> None:
    script = 'sleep 1000 & echo $! > "$0"; wait'
    with pytest.raises(HostError, match="did not end within 1 s") as refused:
        run_bounded(["sh", "-c", script, str(tmp_path / "pid")], Limits(1), env=ENV)
    assert refused.value.reason == "CommandTimeout"
    status = Path(f"/proc/{(tmp_path / 'pid').read_text().strip()}/stat")
    deadline = time.monotonic() + 20
    while status.exists() and status.read_text().rpartition(")")[2].split()[0] != "Z":
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_files_are_bound(tmp_path: Path) -> None:
    big = tmp_path / "big"
    done = run_bounded(["cp", "/dev/zero", str(big)], Limits(20, file=100_000), env=ENV)
    assert done.code == -signal.SIGXFSZ
    assert big.stat().st_size == 100_000


def test_memory_is_bound() -> None:
    greedy = "dd if=/dev/zero of=/dev/null bs=400M count=1"
    assert run_bounded(["sh", "-c", greedy], Limits(20, memory=200 << 20), env=ENV).code != 0
    assert run_bounded(["sh", "-c", greedy], Limits(20, memory=800 << 20), env=ENV).code == 0


def test_a_command_that_is_not_there() -> None:
    done = run_bounded(["/nowhere/at-all"], Limits(20), env=ENV)
    assert done.code != 0
    assert os.strerror(2) in done.err
