"""A manifest as the YAML that a person would have written: the fields in the order of the schema, lists indented."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml

_WIDE = 1 << 14
"""A key is one line, however long."""


class _Dumper(yaml.SafeDumper):
    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:  # noqa: ARG002 - PyYAML's
        super().increase_indent(flow, False)


def as_text(data: Mapping[str, Any], comment: str) -> str:
    """YAML of plain data below one line of comment. Empty mappings and lists are left out."""
    first = " ".join(comment.split())
    body = yaml.dump(_without_nothing(data), Dumper=_Dumper, sort_keys=False, width=_WIDE, allow_unicode=True)
    return f"# {first}\n{body}"


def _without_nothing(data: Mapping[str, Any]) -> dict[str, Any]:
    found = {key: _without_nothing(value) if isinstance(value, Mapping) else value for key, value in data.items()}
    return {key: value for key, value in found.items() if value not in ({}, [])}
