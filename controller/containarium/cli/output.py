"""How things are shown: plain text that no terminal can be tricked by, colour where it is wanted, JSON and YAML."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Sequence
from enum import StrEnum
from typing import IO, Any

import typer


class Format(StrEnum):
    """What plan, apply, info and doctor can print."""

    TEXT = "text"
    JSON = "json"


class ListFormat(StrEnum):
    """What list can print."""

    TABLE = "table"
    JSON = "json"
    YAML = "yaml"


def printable(text: str) -> str:
    """The text without anything that a terminal obeys: guests and other people write some of what is shown."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() or char == "\n" else _escaped(char) for char in text)


def _escaped(char: str) -> str:
    return char.encode("unicode_escape").decode("ascii")


def colourful(stream: IO[str]) -> bool:
    """Whether colours are welcome on this stream."""
    return not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb" and stream.isatty()


def say(text: str, colour: str | None = None, *, bold: bool = False) -> None:
    """Print to standard output."""
    _print(text, sys.stdout, colour, bold=bold)


def complain(text: str, colour: str | None = None) -> None:
    """Print to standard error."""
    _print(text, sys.stderr, colour)


def _print(text: str, stream: IO[str], colour: str | None, *, bold: bool = False) -> None:
    shown = printable(text)
    if (colour or bold) and colourful(stream):
        shown = typer.style(shown, fg=colour, bold=bold or None)
    typer.echo(shown, file=stream)


_SIGNS = {"+": "green", "~": "yellow", "-": "red", "!": "magenta"}


def say_plan(lines: str) -> None:
    """Print what ``plan.render.text`` made, its signs in colour, its titles in bold."""
    for line in lines.splitlines():
        sign = line.lstrip()[:1] if line.startswith("  ") else ""
        if line.startswith(("Refused: ", "Held back: ")):
            say(line, "red")
        else:
            say(line, _SIGNS.get(sign), bold=bool(sign) and not line.startswith("   "))


def say_json(data: Any) -> None:
    """Print JSON with a stable layout."""
    typer.echo(json.dumps(data, indent=2))


def say_yaml(data: Any) -> None:
    """Print YAML with a stable layout."""
    import yaml

    typer.echo(yaml.safe_dump(data, sort_keys=False), nl=False)


def say_table(headers: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print columns, as wide as they must be and the last one as it comes."""
    cells = [[printable(cell).replace("\n", " ") for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(headers, *cells, strict=True)]
    for number, row in enumerate([list(headers), *cells]):
        padded = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
        say("  ".join(padded).rstrip(), bold=number == 0)


def say_fields(fields: Iterable[tuple[str, str]]) -> None:
    """Print ``name: value`` lines with the values in one column; a value of several lines goes on below itself."""
    listed = list(fields)
    width = max((len(name) for name, _ in listed), default=0) + 1
    for name, value in listed:
        first, *rest = value.split("\n")
        say(f"{name + ':':<{width}} {first}".rstrip())
        for line in rest:
            say(" " * (width + 1) + line)


def count(number: int, noun: str) -> str:
    """``1 environment``, ``2 environments``."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
