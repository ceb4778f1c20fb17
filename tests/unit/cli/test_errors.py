"""Whatever goes wrong is one line and an exit code; a bug leaves its traceback in a private file."""

from __future__ import annotations

import os
import re
import stat
import subprocess
import sys
from pathlib import Path
from typing import NoReturn

import pytest

from containarium import __version__
from containarium.cli import errors
from containarium.cli.output import printable
from containarium.simulate.faults import Boundary
from tests.unit.cli.conftest import Shell


def _bug(_boundary: Boundary) -> NoReturn:
    raise ZeroDivisionError("a bug")


@pytest.mark.parametrize("command", [("plan",), ("apply",), ("list",), ("info", "alice"), ("export", "alice")])
def test_a_bug_is_one_line_and_a_private_file(shell: Shell, command: tuple[str, ...]) -> None:
    shell.declare("alice")
    shell.faults = _bug
    done = shell(*command)
    assert done.code == 1
    assert "Traceback" not in done.out + done.err
    match = re.fullmatch(
        r"containarium: error: internal error \(ZeroDivisionError\), please report it; details: (\S+)\n", done.err
    )
    assert match
    file = Path(match[1])
    assert file.parent == shell.settings.state / "crash"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
    text = file.read_text()
    assert "ZeroDivisionError: a bug" in text
    assert __version__ in text


def test_where_the_state_folder_cannot_be_written_the_details_go_elsewhere(
    shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    shell.settings.state.write_text("in the way")
    shell.faults = _bug
    shell.declare("alice")
    done = shell("plan")
    assert done.code == 1
    (file,) = tmp_path.glob("containarium-crash-*.txt")
    assert str(file) in done.err
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_two_bugs_at_once_do_not_get_in_each_others_way(shell: Shell) -> None:
    shell.declare("alice")
    shell.faults = _bug
    assert [shell("plan").code, shell("plan").code] == [1, 1]
    assert len(list((shell.settings.state / "crash").iterdir())) == 2


def test_debug_shows_the_traceback(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(errors.DEBUG, "1")
    shell.declare("alice")
    shell.faults = _bug
    assert "Traceback (most recent call last)" in shell("plan").err


def test_ctrl_c(shell: Shell) -> None:
    def pressed(_boundary: Boundary) -> NoReturn:
        raise KeyboardInterrupt

    shell.declare("alice")
    shell.faults = pressed
    done = shell("apply")
    assert done.code == 130
    assert done.err == "containarium: interrupted; what was begun is finished by the next containarium apply\n"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("lst",), "No such command 'lst'"),
        (("plan", "--detailed"), "--detailed"),
        (("info",), "Missing argument"),
        (("list", "-o", "xml"), "'xml'"),
        (("schema", "pod"), "'pod'"),
    ],
)
def test_a_wrong_command_line_is_an_error_and_never_taken_for_changes(
    shell: Shell, arguments: tuple[str, ...], words: str
) -> None:
    done = shell(*arguments)
    assert (done.code, done.out) == (1, "")
    assert done.err.startswith("containarium: error: ")
    assert words in done.err
    assert done.err.count("\n") == 1


def test_a_denied_file_names_the_way_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    denied = PermissionError(13, "Permission denied", "/etc/shadow")
    assert errors.explain(denied, tmp_path, root=False) == 1
    assert capsys.readouterr().err == (
        "containarium: error: no permission for /etc/shadow; run it as root: sudo containarium ...\n"
    )
    assert errors.explain(denied, tmp_path, root=True) == 1
    assert capsys.readouterr().err == "containarium: error: /etc/shadow: Permission denied\n"


@pytest.mark.parametrize("arguments", [("version",), ("--version",)])
def test_version(shell: Shell, arguments: tuple[str, ...]) -> None:
    assert shell(*arguments).out == f"containarium {__version__}\n"


@pytest.mark.parametrize("arguments", [(), ("--help",), ("-h",)])
def test_help_names_every_command(shell: Shell, arguments: tuple[str, ...]) -> None:
    done = shell(*arguments)
    assert done.code == 0
    for command in ("plan", "apply", "list", "info", "export", "validate", "schema", "host", "doctor", "version"):
        assert re.search(rf"\b{command}\b", done.out)


@pytest.mark.parametrize(
    "command",
    ["plan", "apply", "list", "info", "export", "validate", "schema", "doctor", "version", "host", "host prepare"],
)
def test_every_command_has_help(shell: Shell, command: str) -> None:
    done = shell(*command.split(), "--help")
    assert done.code == 0
    assert f"Usage: containarium {command}" in done.out


def test_the_host_group_alone_shows_its_help(shell: Shell) -> None:
    done = shell("host")
    assert done.code == 0
    assert "prepare" in done.out


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("alice: ✓ done", "alice: ✓ done"),
        ("two\nlines", "two\nlines"),
        ("\x1b[31m", "\\x1b[31m"),
        ("a\r\tb", "a\\r\\tb"),
        ("\u202eevil", "\\u202eevil"),
        ("\x9b1m", "\\x9b1m"),
    ],
)
def test_printable(text: str, shown: str) -> None:
    assert printable(text) == shown


def _process(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "containarium", *arguments],
        capture_output=True,
        text=True,
        env=os.environ | environment,
        timeout=60,
        check=False,
    )


def test_the_command_itself(tmp_path: Path) -> None:
    (tmp_path / "alice.yaml").write_text("kind: Environment\n")
    done = _process("validate", str(tmp_path))
    assert done.returncode == 1
    assert str(tmp_path / "alice.yaml") in done.stdout
    assert "\x1b" not in done.stdout + done.stderr


def test_without_incus_it_says_so_in_one_line(tmp_path: Path) -> None:
    done = _process("list", INCUS_SOCKET=str(tmp_path / "nobody.socket"))
    assert done.returncode == 1
    assert done.stderr.startswith("containarium: error: ")
    assert "Traceback" not in done.stderr


def test_a_reader_that_goes_away_is_no_error() -> None:
    read, write = os.pipe()
    os.close(read)
    try:
        done = subprocess.run(
            [sys.executable, "-m", "containarium", "schema"],
            stdout=write,
            stderr=subprocess.PIPE,
            timeout=60,
            check=False,
        )
    finally:
        os.close(write)
    assert done.stderr == b""


def test_an_output_that_knows_no_unicode_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "alice.yaml").write_text("kind: \u00c4ther\n", encoding="utf-8")
    done = _process("validate", str(tmp_path), PYTHONIOENCODING="ascii")
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "\\xc4ther" in done.stdout
