"""What the YAML parser complains about, said so that it helps."""

from __future__ import annotations

from typing import Final

import yaml

from containarium.sources.text import Fault

_SYNTAX: Final = (
    (
        "mapping values are not allowed",
        "a ':' is not expected here",
        "check the indentation; put text that holds ': ' in quotes",
    ),
    ("did not find expected node content", "a value is missing, or a bracket is not closed", "check the brackets"),
    ("expected <document start>", "there is something after the end of the document", "begin the next one with ---"),
    ("found unexpected end of stream", "the text ends inside quotes or brackets", "close them"),
    ("could not find expected ':'", "a ':' is missing after a field's name", "write NAME: VALUE"),
    ("did not find expected ',' or", "a bracket is not closed, or a comma is missing", "check the brackets"),
    ("did not find expected key", "the indentation does not fit", "indent the fields of one mapping alike"),
    ("did not find expected '-'", "the indentation does not fit", "indent the items of one list alike"),
    ("block sequence entries are not allowed", "a '-' is not expected here", "start the list on a line of its own"),
    ("block mapping", "the indentation does not fit", "indent the fields of one mapping alike"),
    ("cannot start any token", "this character cannot begin a value", "put the value in quotes"),
    ("undefined alias", "an alias refers to nothing", "write the value out; aliases are refused"),
)
"""Part of the parser's words, what is said instead, and the remedy."""


def syntax_fault(error: yaml.YAMLError, text: str) -> Fault:
    """Where the parser gave up, and what is probably meant. ``text`` is what it was reading."""
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    if mark is None:
        return Fault((0, 0), "", "this is not YAML", "write it as plain text in UTF-8")
    position = (mark.line + 1, mark.column + 1)
    problem = str(getattr(error, "problem", None) or "it cannot be read")
    lines = text.split("\n", mark.line + 1)
    line = lines[mark.line] if mark.line < len(lines) else ""
    if line[mark.column : mark.column + 1] == "\t" or ("\t" in line[: mark.column + 1] and not line.strip(" \t-")):
        return Fault(position, "", "there is a tab where YAML wants spaces", "indent with spaces")
    for part, message, remedy in _SYNTAX:
        if part in problem:
            return Fault(position, "", message, remedy)
    return Fault(position, "", f"this is not valid YAML: {problem}", "check the indentation and the quotes here")
