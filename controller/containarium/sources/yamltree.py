"""YAML to plain data with the position of every field, in one pass over the parser's events.

Nothing is composed or constructed by the YAML library: depth and size are bounded while the events arrive, aliases
and tags are refused, and plain scalars follow the core rules of YAML 1.2 (``no`` and ``2026-12-31`` are text).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from sys import intern
from typing import Any, Final, NoReturn

import yaml
from yaml.events import (
    AliasEvent,
    DocumentEndEvent,
    DocumentStartEvent,
    MappingEndEvent,
    MappingStartEvent,
    ScalarEvent,
    SequenceEndEvent,
    StreamEndEvent,
)

from containarium.sources.syntax import syntax_fault
from containarium.sources.text import Fault, Position, find_hidden

MAX_DEPTH: Final = 20
MAX_DOCUMENT_NODES: Final = 20_000
MAX_KEY: Final = 320
"""Characters in a field's name; the longest that means anything is a label's, with 317."""
MAX_DOCUMENTS: Final = 10_000
"""In one file."""
_DOCUMENT_COST: Final = 10
MAX_NODES: Final = 2_000_000
"""In one load, over all its files."""

_Parser: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class BudgetExceededError(Exception):
    """The manifests hold more nodes in all than one load reads."""


@dataclass(slots=True)
class Budget:
    """What may still be read in this load: values, names of fields, and ends of mappings and lists."""

    nodes: int = MAX_NODES

    def spend(self, nodes: int) -> None:
        """Count a document. Raises BudgetExceededError."""
        self.nodes -= nodes
        if self.nodes < 0:
            raise BudgetExceededError


@dataclass(slots=True)
class Document:
    """One document: its data, and where everything stands.

    ``positions`` has every field: of a scalar the value, of anything else the key. ``keys`` has the keys alone.
    With ``faults`` the data is incomplete and only good for finding out whose document it is.
    """

    data: Any = None
    positions: dict[str, Position] = field(default_factory=dict)
    keys: dict[str, Position] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)


def read_documents(text: str, budget: Budget) -> Iterator[Document]:
    """Every document of a text. After a syntax error, or where a limit is met, the broken one is the last.

    Raises BudgetExceededError.
    """
    builder: _Builder | None = None
    count = 0
    try:
        next_event = _Parser(text).get_event
        while True:
            event = next_event()
            kind = type(event)
            if kind is DocumentStartEvent:
                builder = _Builder()
                count += 1
                if count > MAX_DOCUMENTS:
                    builder.stop(event, f"there are more than {MAX_DOCUMENTS} documents in one file", "split the file")
            elif kind is DocumentEndEvent and builder is not None:
                budget.spend(builder.nodes)
                yield builder.document
                builder = None
            elif builder is not None:
                builder.take(event, kind)
            elif kind is StreamEndEvent:
                return
    except yaml.YAMLError as error:
        document = builder.document if builder is not None else Document()
        document.faults.append(syntax_fault(error, text))
        yield document
    except _StoppedError as stopped:
        yield stopped.document
    except (RecursionError, MemoryError):
        yield Document(faults=[Fault((0, 0), "", "this is more than can be read", "write manifests as plain data")])


@dataclass(slots=True)
class _Frame:
    """A mapping or list that is being filled. ``key`` is None while the next scalar is a key."""

    data: Any
    path: str
    mapping: bool
    key: str | None = None
    child: str = ""


class _StoppedError(Exception):
    """The rest of the file is not read: past its limits the parser's time grows with the square of the text."""

    def __init__(self, document: Document) -> None:
        super().__init__()
        self.document = document


class _Builder:
    """Builds one document from its events."""

    __slots__ = ("_stack", "document", "nodes")

    def __init__(self) -> None:
        self.document = Document()
        self.nodes = _DOCUMENT_COST
        self._stack: list[_Frame] = []

    def take(self, event: Any, kind: type) -> None:
        """One event between the start and the end of the document."""
        self.nodes += 1
        if self.nodes > MAX_DOCUMENT_NODES:
            self.stop(event, f"there are more than {MAX_DOCUMENT_NODES} values in one document", "split it")
        elif kind is ScalarEvent:
            self._scalar(event)
        elif kind is MappingEndEvent or kind is SequenceEndEvent:
            self._stack.pop()
        elif kind is AliasEvent:
            self.stop(event, f"*{event.anchor[:64]} refers to another place", "write the value out, without an alias")
        else:
            self._start(event, kind is MappingStartEvent)

    def _scalar(self, event: Any) -> None:
        mark = event.start_mark
        position = (mark.line + 1, mark.column + 1)
        frame = self._stack[-1] if self._stack else None
        if event.tag is not None or event.anchor is not None:
            self._refuse_property(event)
        if frame is not None and frame.mapping and frame.key is None:
            self._key(frame, event.value, position)
            return
        text = event.value
        if event.style == '"' and (hidden := find_hidden(text)):
            self.document.faults.append(Fault(position, self._path(), hidden, "leave it out"))
        value = resolve(text) if event.implicit[0] else text
        if frame is None:
            self.document.positions[""] = position
            self.document.data = value
        elif frame.mapping:
            frame.data[frame.key] = value
            self.document.positions[frame.child] = position
            frame.key = None
        else:
            self.document.positions[f"{frame.path}[{len(frame.data)}]"] = position
            frame.data.append(value)

    def _key(self, frame: _Frame, key: str, position: Position) -> None:
        if len(key) > MAX_KEY or not key.isprintable():
            message = "a field's name is too long, or has invisible characters"
            self.document.faults.append(Fault(position, frame.path, message, "write the name as plain text"))
            key = "?"
        path = intern(f"{frame.path}.{key}" if frame.path else key)  # the same few paths in every manifest
        if key in frame.data:
            line, _ = self.document.keys.get(path, (0, 0))
            fault = Fault(position, path, f"{key[:64]!r} is written twice, first in line {line}", "keep one of them")
            self.document.faults.append(fault)
        frame.key = key
        frame.child = path
        self.document.keys[path] = self.document.positions[path] = position

    def _start(self, event: Any, mapping: bool) -> None:
        if event.tag is not None or event.anchor is not None:
            self._refuse_property(event)
        frame = self._stack[-1] if self._stack else None
        if len(self._stack) >= MAX_DEPTH:
            self.stop(event, f"this is nested more than {MAX_DEPTH} levels deep", "write manifests as plain data")
        new: Any = {} if mapping else []
        path = ""
        if frame is None:
            self.document.data = new
            self.document.positions[""] = _position(event)
        elif not frame.mapping:
            path = f"{frame.path}[{len(frame.data)}]"
            self.document.positions[path] = _position(event)
            frame.data.append(new)
        elif frame.key is None:
            self.stop(event, "a field's name is not plain text here", "write NAME: VALUE; put braces in quotes")
        else:
            path = frame.child
            frame.data[frame.key] = new
            frame.key = None
        self._stack.append(_Frame(new, path, mapping))

    def _refuse_property(self, event: Any) -> None:
        if event.tag is not None:
            message, remedy = f"the tag {event.tag[:64]!r} is not allowed", "leave it out; manifests are plain data"
        else:
            message, remedy = f"the anchor &{event.anchor[:64]} is not allowed", "leave it out and write values out"
        self.document.faults.append(Fault(_position(event), self._path(), message, remedy))

    def stop(self, event: Any, message: str, remedy: str) -> NoReturn:
        """Note why, and give up on the file."""
        self.document.faults.append(Fault(_position(event), self._path(), message, remedy))
        raise _StoppedError(self.document)

    def _path(self) -> str:
        """The field that is being read."""
        if not self._stack:
            return ""
        frame = self._stack[-1]
        if not frame.mapping:
            return f"{frame.path}[{len(frame.data)}]"
        return frame.path if frame.key is None else frame.child


def _position(event: Any) -> Position:
    return event.start_mark.line + 1, event.start_mark.column + 1


_CONSTANTS: Final[dict[str, bool | None]] = {
    "": None,
    "~": None,
    **dict.fromkeys(("null", "Null", "NULL"), None),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
_NUMBER_START: Final = frozenset("+-.0123456789")
_INT: Final = re.compile(r"[-+]?(?:0|[1-9][0-9]{0,17})")
_OTHER_INT: Final = re.compile(r"0o[0-7]{1,20}|0x[0-9a-fA-F]{1,15}")
_FLOAT: Final = re.compile(r"[-+]?(?:\.[0-9]{1,30}|[0-9]{1,30}(?:\.[0-9]{0,30})?)(?:[eE][-+]?[0-9]{1,3})?")


def resolve(text: str) -> str | int | float | bool | None:
    """A plain scalar by the core rules of YAML 1.2.

    Numbers with a leading zero stay text, because YAML 1.1 and 1.2 read them differently; so do endless ones.
    """
    if text in _CONSTANTS:
        return _CONSTANTS[text]
    if text[0] not in _NUMBER_START:
        return text
    if _INT.fullmatch(text):
        return int(text)
    if _OTHER_INT.fullmatch(text):
        return int(text, 0)
    if _FLOAT.fullmatch(text) and not text.lstrip("+-").isdecimal():
        return float(text)
    return text
