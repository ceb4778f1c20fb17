"""Values as they are written into a manifest by a program: in one line, in quotes only where they need them."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Final, TypeAlias

from containarium.sources.yamltree import resolve

Value: TypeAlias = "str | int | bool | Mapping[str, Value]"

_PLAIN: Final = re.compile(r"[A-Za-z0-9_/][A-Za-z0-9_./@+=-]*(?: [A-Za-z0-9_./@+=-]+)*")
_SURPRISES: Final = frozenset({"y", "n", "yes", "no", "on", "off"})
"""Text here, but not for every reader of YAML."""


def rendered(value: Value, style: str | None = None) -> str:
    """A value, its text within quotes of ``style``, or without any (None) where that reads the same.

    Numbers and truth values never have quotes: with them they would be text.
    """
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{rendered(key, style)}: {rendered(item, style)}" for key, item in value.items()) + "}"
    if isinstance(value, int):
        return ("true" if value else "false") if isinstance(value, bool) else str(value)
    if style == "'" and value.isprintable():
        return "'" + value.replace("'", "''") + "'"
    if style is None and _PLAIN.fullmatch(value) and resolve(value) == value and value.lower() not in _SURPRISES:
        return value
    return json.dumps(value, ensure_ascii=False)
