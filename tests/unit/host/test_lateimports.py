"""A module that was put off costs nothing until it is touched, and then it is the real one."""

from __future__ import annotations

import subprocess
import sys

_SCRIPT = """
import sys
from containarium.host.lateimports import put_off
put_off({names})
{then}
"""


def _run(names: str, then: str) -> str:
    script = _SCRIPT.format(names=names, then=then)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    return done.stdout.strip()


def test_it_is_not_loaded_by_an_import() -> None:
    then = "from json import tool; print('argparse' in sys.modules)"
    assert _run("'json.tool'", then) == "False"


def test_it_is_the_real_one_when_it_is_touched() -> None:
    then = "from json import tool; print(tool.main.__name__)"
    assert _run("'json.tool'", then) == "main"


def test_what_is_loaded_already_or_missing_is_left_alone() -> None:
    then = "import json; print(json.loads('1'), 'no.such.thing' in sys.modules)"
    assert _run("'json', 'sys', 'no.such.thing', 'nosuchthing'", then) == "1 False"


def test_changing_something_in_incus_does_without_certificates() -> None:
    then = "import pylxd; print('cryptography.hazmat.bindings._rust' in sys.modules)"
    assert _run("'cryptography.x509', 'cryptography.hazmat.primitives.hashes'", then) == "False"
