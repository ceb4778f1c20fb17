"""The log, as the journal and as a person gets it. Each case runs in a process of its own: the log is the process'."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

_HEAD = "from containarium.report import log\nimport logging, sys\n"


def lines(script: str, **environment: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", _HEAD + script],
        capture_output=True, text=True, timeout=60, check=True, env={**os.environ, **environment},
    )  # fmt: skip
    assert done.stdout == ""
    return done.stderr.splitlines()


def records(script: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in lines(script)]


def test_one_line_of_json_each_with_the_pass_on_it() -> None:
    found = records(
        """
logger = log.configure()
with log.bound(pass_id="000007"):
    logger.info("pass", sentence="2 as declared", fields=["a", "b"])
    logger.debug("not asked for")
logger.warning("failed", environment="alice")
"""
    )
    assert [(r["event"], r["level"], r.get("pass_id")) for r in found] == [
        ("pass", "info", "000007"),
        ("failed", "warning", None),
    ]
    assert found[0]["fields"] == ["a", "b"]
    assert found[0]["timestamp"].endswith("Z")


def test_nobody_can_forge_a_line_or_write_to_a_terminal() -> None:
    (found,) = records(
        r"""
logger = log.configure()
logger.info("failed", error='x\n{"event": "forged"}\x1b[2J', more={"a\nb": ["\r\x07", object]}, long="x" * 99999)
"""
    )
    text = json.dumps(found, ensure_ascii=False)
    assert text.isprintable()
    assert "\x1b" not in text
    assert len(text) < 3000


def test_pretty_is_no_way_round() -> None:
    (line,) = lines(
        r"""
import os
log.configure(pretty=True).info("failed", error="x\nforged", b="\x1b]0;title\x07")
""",
        NO_COLOR="1",
    )
    assert "failed" in line
    assert "\x1b" not in line


def test_a_value_may_be_as_deep_as_it_likes() -> None:
    (found,) = records(
        """
value = []
for _ in range(2000):
    value = [value]
log.configure().info("deep", value=value, wide=list(range(1000)))
"""
    )
    assert len(json.dumps(found)) < 3000


def test_a_value_that_cannot_even_be_told() -> None:
    (found,) = records(
        """
class Odd:
    def __str__(self):
        raise RuntimeError
log.configure().info("odd", value=Odd())
"""
    )
    assert found["value"] == "Odd (RuntimeError)"


def test_an_exception_is_one_line() -> None:
    (found,) = records(
        """
logger = log.configure()
try:
    raise ValueError("bad\\nworse")
except ValueError as error:
    logger.error("internal error", exc_info=error)
"""
    )
    assert found["exception"].startswith("ValueError: bad worse at <string>:")


def test_libraries_are_heard_when_they_warn() -> None:
    found = records(
        """
log.configure()
log.configure()
logging.getLogger("urllib3").info("chatter")
logging.getLogger("urllib3").warning("retrying %s", "x\\ny")
logging.getLogger("urllib3").error("%d", "no number")
import warnings
warnings.warn("old")
"""
    )
    assert [(r["event"], r["logger"]) for r in found] == [
        ("library", "urllib3"),
        ("library", "urllib3"),
        ("library", "py.warnings"),
    ]
    assert found[0]["text"] == "retrying x y"
    assert found[1]["level"] == "error"


def test_the_journal_is_told_the_priority(tmp_path: Path) -> None:
    """systemd names the stream that leads to the journal by device and inode."""
    file = tmp_path / "journal"
    script = _HEAD + 'logger = log.configure(); logger.error("failed"); logger.info("pass")'
    with file.open("w") as stream:
        there = os.fstat(stream.fileno())
        environment = {**os.environ, "JOURNAL_STREAM": f"{there.st_dev}:{there.st_ino}"}
        subprocess.run([sys.executable, "-c", script], stderr=stream, timeout=60, check=True, env=environment)
    assert [line[:3] for line in file.read_text().splitlines()] == ["<3>", "<6>"]
    assert lines('log.configure().info("pass")', JOURNAL_STREAM="1:1")[0].startswith("{")


def test_json_needs_no_renderer_for_terminals() -> None:
    (line,) = lines('log.configure(); print("rich" in sys.modules, file=sys.stderr)')
    assert line == "False"
    (line,) = lines("log.configure(); import rich; print(rich.__name__, file=sys.stderr)")
    assert line == "rich"


@pytest.mark.parametrize("level", ["debug", "warning"])
def test_the_level(level: str) -> None:
    found = records(
        f'logger = log.configure(level="{level}"); logger.debug("a"); logger.info("b"); logger.warning("c")'
    )
    assert [r["event"] for r in found] == (["a", "b", "c"] if level == "debug" else ["c"])


def test_lines_of_several_threads_stay_apart() -> None:
    found = records(
        """
import threading
logger = log.configure()
def talk(name):
    with log.bound(pass_id=name):
        for number in range(200):
            logger.info("line", number=number, text="x" * 500)
threads = [threading.Thread(target=talk, args=(name,)) for name in "abcd"]
for t in threads: t.start()
for t in threads: t.join()
"""
    )
    assert {name: [r["number"] for r in found if r["pass_id"] == name] for name in "abcd"} == {
        name: list(range(200)) for name in "abcd"
    }
