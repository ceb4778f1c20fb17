"""Bytes of a file to text: UTF-8 only, and without characters that a reader cannot see."""

from __future__ import annotations

import codecs
import re
from typing import Final, NamedTuple

Position = tuple[int, int]
"""Line and column, from 1. (0, 0) is the file as a whole."""


class Fault(NamedTuple):
    """Something wrong at a place of a file that is being read; ``path`` is the dotted field, where known."""

    position: Position
    path: str
    message: str
    remedy: str


class TextError(Exception):
    """The bytes are no text that a manifest can be written in."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(fault.message)
        self.fault = fault


_WIDE_BOMS: Final = (codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE, codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_HIDDEN: Final = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f"  # control characters
    "\u2028\u2029"  # line separators, which only some YAML parsers see
    "\u202a-\u202e\u2066-\u2069"  # direction overrides, which make text read differently from what it says
    "\ud800-\udfff\ufeff\ufffe\uffff]"
)


def decode(data: bytes) -> str:
    """The text of a manifest or key file; a leading UTF-8 byte order mark is dropped. Raises TextError."""
    if data.startswith(codecs.BOM_UTF8):
        data = data[len(codecs.BOM_UTF8) :]
    if data.startswith(_WIDE_BOMS) or data[:2].count(0) == 1:
        raise TextError(Fault((1, 1), "", "this is UTF-16 or UTF-32", "save the file as UTF-8"))
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        before = data[: error.start].decode("utf-8", "replace")
        message = f"byte 0x{data[error.start]:02x} is not UTF-8"
        raise TextError(Fault(place(before, len(before)), "", message, "save the file as UTF-8")) from None
    hidden = _HIDDEN.search(text)
    if hidden is not None:
        position = place(text, hidden.start())
        raise TextError(Fault(position, "", _told(hidden), "delete it, or save the file as UTF-8"))
    return text


def find_hidden(value: str) -> str:
    """What to say about a value that an escape put an invisible character into; empty where there is none."""
    hidden = _HIDDEN.search(value)
    return _told(hidden) if hidden is not None else ""


def _told(hidden: re.Match[str]) -> str:
    return f"there is an invisible character (U+{ord(hidden[0]):04X})"


def place(text: str, index: int) -> Position:
    """Line and column of a character of a text."""
    return text.count("\n", 0, index) + 1, index - text.rfind("\n", 0, index)
