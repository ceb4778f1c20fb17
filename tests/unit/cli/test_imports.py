"""Commands start quickly because they import what they need and no more. Which modules, never how long."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

HEAVY = {
    "pylxd",
    "requests",
    "urllib3",
    "pydantic",
    "cryptography",
    "yaml",
    "rich",
    "structlog",
    "tenacity",
    "pygments",
    "ruamel",
}

TYPER = {"pydantic"}
"""Newer versions of typer parse options with it."""

_SCRIPT = """
import contextlib, io, json, sys
from containarium.cli.main import run_command
with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
    arguments = json.loads(sys.argv[1])
    if arguments is not None:
        run_command(arguments)
print(json.dumps(sorted({name.partition(".")[0] for name in sys.modules})))
"""


@pytest.mark.parametrize(
    ("arguments", "allowed"),
    [
        (None, set()),
        (["--version"], TYPER),
        (["version"], TYPER),
        (["--help"], {*TYPER, "rich", "pygments"}),
        (["plan", "--help"], {*TYPER, "rich", "pygments"}),
        (["schema"], {"pydantic"}),
        (["validate", "/nowhere"], {"pydantic", "yaml"}),
        (["list", "-f", "/nowhere"], TYPER),
    ],
)
def test_nothing_heavy_is_imported_without_need(arguments: list[str] | None, allowed: set[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _SCRIPT, json.dumps(arguments)], capture_output=True, text=True, timeout=60, check=True
    )
    assert HEAVY.intersection(json.loads(done.stdout)) <= allowed
