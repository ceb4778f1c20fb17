"""README's reference of commands says what their --help says, no more and no less."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from containarium.cli.main import app, run_command

README = Path(__file__).parents[3] / "README.md"


def commands() -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every command that is not hidden, by its words."""

    def below(command: Any, words: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
        for name, each in getattr(command, "commands", {}).items():
            if each.hidden:
                continue
            if hasattr(each, "commands"):
                yield from below(each, (*words, name))
            else:
                yield (*words, name), each

    return below(typer.main.get_command(app), ())


def row(words: tuple[str, ...], command: Any) -> str:
    """The line of the reference for a command, made of what it takes and says of itself."""
    arguments = [p for p in command.params if p.param_type_name == "argument"]
    options = [p for p in command.params if p.param_type_name == "option" and not p.hidden and "--help" not in p.opts]
    taken = [_argument(argument) for argument in arguments]
    summary = command.help.strip().splitlines()[0].split(". ")[0].rstrip(".").replace("|", "\\|")
    named = " ".join(f"`{'/'.join((*option.opts, *option.secondary_opts))}`" for option in options)
    return f"| `{' '.join((*words, *taken))}` | {summary} | {named or '-'} |"


def _argument(argument: Any) -> str:
    name = (argument.metavar or argument.name.upper()).replace("|", "\\|")
    return name if argument.required or name.startswith("[") else f"[{name}]"


def reference() -> list[str]:
    """The rows that README has."""
    section = README.read_text(encoding="utf-8").partition("\n## Commands\n")[2].partition("\n## ")[0]
    return [line for line in section.splitlines() if line.startswith("| `")]


def test_the_reference_is_that_of_the_commands() -> None:
    assert reference() == [row(words, command) for words, command in commands()]


@pytest.mark.parametrize(
    ("words", "line"),
    [pytest.param(words, line, id=" ".join(words)) for (words, _), line in zip(commands(), reference(), strict=False)],
)
def test_help_shows_every_option_of_the_reference(
    words: tuple[str, ...], line: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("NO_COLOR", "1")
    assert run_command([*words, "--help"]) == 0
    shown = capsys.readouterr().out
    for named in re.findall(r"`(--?[a-z/-]+)`", line.split(" | ")[-1]):
        for option in named.split("/"):
            assert re.search(rf"(?<![\w-]){re.escape(option)}(?![\w-])", shown), (option, shown)
