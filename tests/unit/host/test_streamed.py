"""Output without end is taken line by line, and nothing of it is kept."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from containarium.host.bounded import Limits
from containarium.host.streamed import Streamed, stream
from containarium.model.host import RetryableError

ENV = {"PATH": "/usr/bin:/bin"}


def said(script: str, limits: Limits | None = None, most: int = 1 << 40) -> tuple[Streamed, list[bytes]]:
    lines: list[bytes] = []

    def each(line: bytes) -> bool:
        lines.append(line)
        return len(lines) < most

    return stream(["sh", "-c", script], limits or Limits(20), each, env=ENV), lines


def test_lines_and_how_it_ended() -> None:
    done, lines = said("printf 'one\\ntwo\\n\\nno end'; echo why >&2; exit 3")
    assert (done, lines) == (Streamed(True, 3, "why\n"), [b"one", b"two", b""])


def test_nothing_of_the_callers_environment_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", "x")
    assert b"SECRET=x" not in said("env")[1]


def test_whoever_has_enough_ends_it() -> None:
    done, lines = said("yes", most=1000)
    assert (done.whole, len(lines)) == (False, 1000)


def test_when_time_is_over_what_was_said_stands(tmp_path: Path) -> None:
    began = time.monotonic()
    done, lines = said(f"echo one; sleep 1000 & echo $! > {tmp_path}/pid; wait", Limits(1))
    assert (done.whole, lines) == (False, [b"one"])
    assert time.monotonic() - began < 15
    status = Path(f"/proc/{(tmp_path / 'pid').read_text().strip()}/stat")
    while status.exists() and status.read_text().rpartition(")")[2].split()[0] != "Z":
        assert time.monotonic() - began < 20, "no grandchild is left"
        time.sleep(0.05)


def test_a_line_that_is_too_long_is_none() -> None:
    script = "echo before; head -c 1000000 /dev/zero | tr '\\0' x; echo; echo after; head -c 1000000 /dev/zero"
    assert said(script, Limits(20, output=1000))[1] == [b"before", b"after"]


def test_endless_errors_are_dropped() -> None:
    done, lines = said("head -c 5000000 /dev/zero >&2; echo end")
    assert (lines, len(done.err)) == ([b"end"], 1 << 16)


def test_one_that_shuts_its_mouth_and_does_not_end_is_ended() -> None:
    with pytest.raises(RetryableError, match="did not end within 1 s"):
        said("exec >&- 2>&-; sleep 1000", Limits(1))


def test_who_fails_on_a_line_leaves_nothing_running() -> None:
    def each(line: bytes) -> bool:
        raise ValueError(line)

    with pytest.raises(ValueError, match="y"):
        stream(["yes"], Limits(20), each, env=ENV)
