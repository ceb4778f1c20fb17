"""What every manifest type shares: how it is validated, and how a refusal speaks."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel

_SHOWN = 48


class InvalidValueError(ValueError):
    """A value that is refused: what is wrong with it, and what to write instead. Its text is one sentence."""

    def __init__(self, message: str, remedy: str) -> None:
        super().__init__(message, remedy)
        self.message = message
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.message}; {self.remedy}"


class ManifestModel(BaseModel):
    """Strict, frozen, and without unknown fields. YAML spells the fields in camelCase, Python in snake_case."""

    model_config = ConfigDict(
        strict=True,
        frozen=True,
        extra="forbid",
        alias_generator=to_camel,
        populate_by_name=True,
    )


def shown(value: Any) -> str:
    """A value as a message quotes it: short, on one line, and never with control characters in it."""
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return repr(value) if isinstance(value, float) or abs(value) < 10**_SHOWN else "a very long number"
    if isinstance(value, str):
        cut = value if len(value) <= _SHOWN else value[:_SHOWN] + "..."
        return f"'{cut}'" if cut.isprintable() else ascii(cut)
    if isinstance(value, list | tuple):
        return "a list"
    return "a mapping" if isinstance(value, dict) else "something else"
