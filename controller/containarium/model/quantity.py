"""Quantities as Incus spells them: sizes, CPUs and durations. Each keeps the spelling of the manifest."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any, ClassVar, Self

from pydantic_core import CoreSchema, core_schema

from containarium.model.base import InvalidValueError, shown

if TYPE_CHECKING:
    from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler

_DECIMAL = ("kB", "MB", "GB", "TB", "PB", "EB")
_BINARY = ("KiB", "MiB", "GiB", "TiB", "PiB", "EiB")
_UNITS: dict[str, int] = {
    "B": 1,
    **{unit: 1000**power for power, unit in enumerate(_DECIMAL, 1)},
    **{unit: 1024**power for power, unit in enumerate(_BINARY, 1)},
}
_UNIT_PATTERN = "(?:B|kB|KiB|[MGTPE]i?B)"
_LOWERCASE_UNITS = {unit.lower(): unit for unit in _UNITS}
_MAX_BYTES = 2**63 - 1

_SIZE = re.compile(rf"([1-9][0-9]{{0,18}})({_UNIT_PATTERN})")
_LOOSE_SIZE = re.compile(r"\s*([-+]?)([0-9]+)(?:[.,]([0-9]+))?\s*([A-Za-z]*)\s*")
_INCUS_SIZE = re.compile(rf"([0-9]{{1,19}})({_UNIT_PATTERN}| bytes)?")


class _Quantity(ABC):
    """What a pydantic field of these types does: parse text, write text, and show a pattern in the JSON schema."""

    __slots__ = ()
    _json_schema: ClassVar[dict[str, Any]] = {}

    @classmethod
    @abstractmethod
    def parse(cls, value: Any) -> Self:
        """Parse a value of a manifest. Raises InvalidValueError."""

    @classmethod
    def __get_pydantic_core_schema__(cls, _source: Any, _handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(cls.parse, serialization=core_schema.to_string_ser_schema())

    @classmethod
    def __get_pydantic_json_schema__(cls, _schema: CoreSchema, _handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return dict(cls._json_schema)


@dataclass(frozen=True, slots=True)
class Size(_Quantity):
    """An amount of memory or disk: ``8GiB`` (binary) or ``8GB`` (decimal), which differ. ``str()`` is the spelling."""

    text: str
    bytes: int = field(compare=False)

    _json_schema: ClassVar[dict[str, Any]] = {"type": "string", "pattern": f"^[1-9][0-9]{{0,18}}{_UNIT_PATTERN}$"}

    @classmethod
    def parse(cls, value: Any) -> Self:
        """Parse ``"8GiB"``. Raises InvalidValueError, which names the spelling that was probably meant."""
        if isinstance(value, cls):
            return value
        if isinstance(value, str) and (match := _SIZE.fullmatch(value)):
            number, unit = match.groups()
            size = int(number) * _UNITS[unit]
            if size <= _MAX_BYTES:
                return cls(value, size)
            raise InvalidValueError(f"{shown(value)} is more than Incus can count", "write at most 7EiB")
        raise InvalidValueError(f"{shown(value)} is not a size", _size_remedy(value))

    def __str__(self) -> str:
        return self.text


def _size_remedy(value: Any) -> str:
    usual = "write a whole number and a unit, such as 8GiB"
    if isinstance(value, int | float) and not isinstance(value, bool):
        return f"write a unit: {value}GiB or {value}MiB" if isinstance(value, int) and 0 < value < 2**20 else usual
    match = _LOOSE_SIZE.fullmatch(value) if isinstance(value, str) and len(value) < 40 else None
    if match is None:
        return usual
    sign, whole, fraction, unit = match.groups()
    number = whole.lstrip("0")
    if sign == "-" or not (number or fraction):
        return "write a size above zero, such as 8GiB"
    if fraction is not None:
        return f"{usual} ({_whole(whole, fraction, unit)} is the same)" if _whole(whole, fraction, unit) else usual
    if not unit:
        return f"write a unit: {number}GiB or {number}MiB"
    if known := _LOWERCASE_UNITS.get(unit.lower()):
        return f"write {number}{known}"
    if unit.upper() in ("K", "KI", "M", "MI", "G", "GI", "T", "TI", "P", "PI", "E", "EI"):
        letter = unit[0].upper()
        decimal = "kB" if letter == "K" else f"{letter}B"
        return f"write {number}{letter}iB (1024-based) or {number}{decimal} (1000-based)"
    return f"{usual}; the units are B, {', '.join((*_DECIMAL, *_BINARY))}"


def _whole(whole: str, fraction: str, unit: str) -> str:
    """The same size without a fraction, in the next smaller unit: 1.5GiB is 1536MiB. Empty where there is none."""
    known = _LOWERCASE_UNITS.get(unit.lower(), "")
    for family in (_DECIMAL, _BINARY):
        if known in family[1:]:
            smaller = family[family.index(known) - 1]
            amount, rest = divmod(int(whole + fraction) * _UNITS[known], 10 ** len(fraction) * _UNITS[smaller])
            return f"{amount}{smaller}" if amount and not rest else ""
    return ""


def parse_bytes(text: str) -> int:
    """Bytes in a size as Incus itself accepts or returns it: ``8GiB``, ``4096MB``, plain bytes, or nothing (0).

    Raises ValueError for anything else, percentages included.
    """
    if not text:
        return 0
    match = _INCUS_SIZE.fullmatch(text)
    if match is None:
        raise ValueError(f"{shown(text)} is not a size in bytes")
    return int(match[1]) * _UNITS.get(match[2] or "B", 1)


_MAX_CPUS = 4096
_CPU_COUNT = re.compile(r"[1-9][0-9]{0,3}")
_CPU_ID = "(?:0|[1-9][0-9]{0,4})"
_CPU_RANGE = f"{_CPU_ID}(?:-{_CPU_ID})?"
_CPU_SET = re.compile(f"{_CPU_RANGE}(?:,{_CPU_RANGE})*")


@dataclass(frozen=True, slots=True)
class Cpu(_Quantity):
    """A number of CPUs (``4``), or a set of CPU ids to be pinned to (``0-3``, ``1,3``).

    ``str()`` is what Incus is given: sets sorted, with neighbours joined. A set of one CPU stays ``3-3``,
    because ``3`` alone is a count. ``ids`` is empty for a count.
    """

    text: str
    count: int
    ids: tuple[int, ...] = ()

    _json_schema: ClassVar[dict[str, Any]] = {
        "anyOf": [
            {"type": "integer", "minimum": 1, "maximum": _MAX_CPUS},
            {"type": "string", "pattern": r"^([1-9][0-9]{0,3}|[0-9]+(-[0-9]+)?(,[0-9]+(-[0-9]+)?)*)$"},
        ]
    }

    @classmethod
    def parse(cls, value: Any) -> Self:
        """Parse ``4``, ``"4"`` or ``"0-3"``. Raises InvalidValueError."""
        if isinstance(value, cls):
            return value
        if isinstance(value, int) and not isinstance(value, bool):
            value = str(value) if abs(value) < 10**9 else "9" * 10
        if isinstance(value, str):
            if _CPU_COUNT.fullmatch(value) and int(value) <= _MAX_CPUS:
                return cls(value, int(value))
            if _CPU_SET.fullmatch(value) and not value.isdecimal():
                return cls._parse_set(value)
            if value.isascii() and value.isdecimal():
                number = value.lstrip("0")
                if not number:
                    raise InvalidValueError("an environment cannot run on 0 CPUs", "write 1 or more")
                if len(number) < len(value):
                    raise InvalidValueError(f"{shown(value)} has a leading zero", f"write {number[:4]}")
                raise InvalidValueError(f"{number[:12]} CPUs are more than {_MAX_CPUS}", "write what the host has")
        raise InvalidValueError(
            f"{shown(value)} is neither a number of CPUs nor a set of CPU ids",
            'write a whole number such as 4, or ids such as "0-3" or "1,3"',
        )

    @classmethod
    def _parse_set(cls, text: str) -> Self:
        ids: set[int] = set()
        for part in text.split(","):
            low, _, high = part.partition("-")
            first, last = int(low), int(high or low)
            if first > last:
                raise InvalidValueError(f"the range {part} runs backwards", f'write "{last}-{first}"')
            if last >= _MAX_CPUS:
                raise InvalidValueError(f"CPU {last} is beyond {_MAX_CPUS - 1}", "write ids that the host has")
            new = range(first, last + 1)
            if not ids.isdisjoint(new):
                raise InvalidValueError(f"{shown(text)} names a CPU twice", "write each id once")
            ids.update(new)
        ordered = tuple(sorted(ids))
        return cls(_join(ordered), len(ordered), ordered)

    def __str__(self) -> str:
        return self.text


def _join(ids: tuple[int, ...]) -> str:
    runs: list[list[int]] = []
    for cpu in ids:
        if runs and cpu == runs[-1][1] + 1:
            runs[-1][1] = cpu
        else:
            runs.append([cpu, cpu])
    if len(ids) == 1:
        return f"{ids[0]}-{ids[0]}"
    return ",".join(str(low) if low == high else f"{low}-{high}" for low, high in runs)


_DURATION = re.compile(r"([1-9][0-9]{0,8})([smhdw])")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
_INCUS_UNITS = {"s": "S", "m": "M", "h": "H", "d": "d", "w": "w"}
_MAX_SECONDS = 36500 * 86400


@dataclass(frozen=True, slots=True)
class Duration(_Quantity):
    """A length of time: ``90m``, ``12h``, ``7d``, ``1w`` (also ``30s``). ``str()`` is the spelling of the manifest."""

    text: str
    delta: timedelta = field(compare=False)

    _json_schema: ClassVar[dict[str, Any]] = {"type": "string", "pattern": "^[1-9][0-9]{0,8}[smhdw]$"}

    @classmethod
    def parse(cls, value: Any) -> Self:
        """Parse ``"7d"``. Raises InvalidValueError."""
        if isinstance(value, cls):
            return value
        if isinstance(value, str) and (match := _DURATION.fullmatch(value)):
            seconds = int(match[1]) * _SECONDS[match[2]]
            if seconds <= _MAX_SECONDS:
                return cls(value, timedelta(seconds=seconds))
            raise InvalidValueError(f"{shown(value)} is more than a hundred years", "write at most 36500d")
        remedy = "write a whole number and a unit: 90m, 12h, 7d or 4w"
        if isinstance(value, int) and 0 < value < 36500 and not isinstance(value, bool):
            remedy = f"write a unit: {value}d or {value}h"
        raise InvalidValueError(f"{shown(value)} is not a length of time above zero", remedy)

    @property
    def incus(self) -> str:
        """As Incus spells expiry, where hours and minutes are capitals and a small m is a month."""
        return self.text[:-1] + _INCUS_UNITS[self.text[-1]]

    def __str__(self) -> str:
        return self.text
