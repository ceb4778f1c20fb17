"""Changes in the text of a manifest file: only the characters that have to change do, whatever the file looks like.

ruamel.yaml says where every value stands. It does not write the file anew: that would move comments and blanks about.
Whether a change came out as it was meant is found out by reading the new text as every load does.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import yaml
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from containarium.model.problem import Location
from containarium.sources.editlist import added, removed
from containarium.sources.editplaces import (
    BLOCK_SCALARS,
    EditRefusedError,
    after_colon,
    entry_end,
    is_empty,
    line_end,
    newline,
    spliced,
    unsure,
)
from containarium.sources.editplaces import end as end_of
from containarium.sources.editvalue import Value, rendered
from containarium.sources.yamltree import Budget, read_documents

__all__ = [
    "AddItem",
    "Change",
    "EditRefusedError",
    "FieldPath",
    "RemoveItem",
    "SetField",
    "appended",
    "changed",
    "plain",
    "without",
]

FieldPath = tuple[str, ...]
"""Names of fields from the document's edge inwards: ``("spec", "resources", "cpu")``."""

_BROKEN: Final = (YAMLError, ValueError, AttributeError, AssertionError, LookupError, RecursionError, TypeError)
"""What ruamel.yaml raises for texts that another reader takes."""


@dataclass(frozen=True, slots=True)
class SetField:
    """Give a field a value. Missing mappings on the way are made."""

    path: FieldPath
    value: Value


@dataclass(frozen=True, slots=True)
class AddItem:
    """Add an item to the end of a list that is there."""

    path: FieldPath
    value: Value


@dataclass(frozen=True, slots=True)
class RemoveItem:
    """Take the item with this index out of a list. A comment in its own line goes with it."""

    path: FieldPath
    index: int


Change = SetField | AddItem | RemoveItem


def changed(text: str, document: int, changes: Sequence[Change]) -> str:
    """The text with changes made in one of its documents, in their order; all else is as it was, to the character.

    Raises EditRefusedError where it is not certain that exactly that would come of it.
    """
    before = plain(text)
    for change in changes:
        text = _checked(_changed, text, document, change)
        after = _read_back(text)
        if len(after) != len(before):
            raise unsure()
        wanted = [
            *before[:document],
            _wanted(before[document], change, after[document]),
            *before[document + 1 :],
        ]
        if not _same(after, wanted):
            raise unsure()
        before = after
    return text


def without(text: str, document: int) -> str:
    """The text without one of its documents; the comments before it and behind it stay. Raises EditRefusedError."""
    expected = plain(text)
    text = _checked(_without, text, document)
    del expected[document]
    if not _same(_read_back(text), expected):
        raise unsure()
    return text


def appended(text: str, more: str) -> str:
    """The text with further documents at its end. ``more`` begins with none of ``---``. Raises EditRefusedError."""
    expected = [*plain(text), *plain(more)]
    gap = "" if text.endswith("\n") else newline(text)
    text = f"{text}{gap}---{newline(text)}" + more.replace("\n", newline(text))
    if not _same(_read_back(text), expected):
        raise unsure()
    return text


def plain(text: str, shown: str = "") -> list[Any]:
    """The data of every document, as loads read it. ``shown`` is the file that errors name.

    Raises EditRefusedError where the text is broken.
    """
    documents = list(read_documents(text, Budget()))
    for document in documents:
        for fault in document.faults:
            line, column = fault.position
            place = str(Location(shown, line, column)) if shown else f"line {line}"
            where = f"{place}: {fault.path}" if fault.path else place
            raise EditRefusedError(f"{where}: {fault.message}", fault.remedy)
    return [document.data for document in documents]


def _read_back(text: str) -> list[Any]:
    """The data of a text that an edit has made. A mistake in it is none of the file's."""
    try:
        return plain(text)
    except EditRefusedError:
        raise unsure() from None


def _checked(edit: Callable[..., str], *arguments: Any) -> str:
    try:
        return edit(*arguments)
    except _BROKEN:
        raise unsure() from None


def _same(one: Any, other: Any) -> bool:
    """Equal, and of the same types: 1 is not True, and not 1.0."""
    return repr(one) == repr(other)


def _wanted(data: Any, change: Change, found: Any) -> Any:
    """What a document is to become, in plain data. ``found`` is what it has become."""
    data = copy.deepcopy(data)
    *parents, name = change.path
    at = data
    for parent in parents:
        if at.get(parent) is None:
            at[parent] = {}
        at = at[parent]
    match change:
        case SetField(value=value):
            # A number that was in quotes stays in quotes: it was text before, and is again.
            word = rendered(value)
            quoted = isinstance(at.get(name), str) and isinstance(value, int) and _reads(found, change.path) == word
            at[name] = word if quoted else value
        case AddItem(value=value):
            at[name].append(value)
        case RemoveItem(index=index):
            del at[name][index]
    return data


def _reads(data: Any, path: FieldPath) -> Any:
    for name in path:
        data = data.get(name) if isinstance(data, dict) else None
    return data


# -- surgery


def _changed(text: str, document: int, change: Change) -> str:
    start, end, _ = _place(text, document)
    part = text[start:end]
    root = YAML().compose(part)
    if not isinstance(root, MappingNode):
        raise unsure()
    match change:
        case SetField(path=path, value=value):
            part = _set(part, root, path, value)
        case AddItem(path=path, value=value):
            part = added(part, _list(root, path), value)
        case RemoveItem(path=path, index=index):
            part = removed(part, _list(root, path), index)
    return text[:start] + part + text[end:]


def _place(text: str, document: int) -> tuple[int, int, int | None]:
    """Where a document begins, with the comments of its file if it is the first, where the next one does, and where
    its ``---`` is. The fast parser finds that: ruamel.yaml is for the one document that is changed.
    """
    loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    begins = [
        (event.start_mark.index, bool(event.explicit))
        for event in yaml.parse(text, Loader=loader)
        if isinstance(event, yaml.DocumentStartEvent) and event.start_mark is not None
    ]
    index, explicit = begins[document]
    end = begins[document + 1][0] if document + 1 < len(begins) else len(text)
    return (index if document else 0), end, index if explicit else None


def _find(mapping: MappingNode, name: str) -> tuple[Node, Node] | None:
    return next(((key, value) for key, value in mapping.value if key.value == name), None)


def _list(root: MappingNode, path: FieldPath) -> SequenceNode:
    node: Node = root
    for name in path:
        found = _find(node, name) if isinstance(node, MappingNode) else None
        if found is None:
            raise unsure()
        node = found[1]
    if not isinstance(node, SequenceNode):
        raise unsure()
    return node


def _set(text: str, mapping: MappingNode, path: FieldPath, value: Value) -> str:
    name, *rest = path
    found = _find(mapping, name)
    if found is not None and rest and isinstance(found[1], MappingNode):
        return _set(text, found[1], tuple(rest), value)
    for parent in reversed(rest):
        value = {parent: value}
    if found is None:
        return _insert(text, mapping, name, value)
    key, old = found
    if is_empty(old):
        return spliced(text, after_colon(text, key), 0, f" {rendered(value)}")
    if not isinstance(old, ScalarNode) or old.style in BLOCK_SCALARS:
        raise unsure()
    start, end = old.start_mark.index, old.end_mark.index
    word = rendered(value) if isinstance(value, int) and old.style is not None else value
    return spliced(text, start, end - start, rendered(word, old.style))


def _insert(text: str, mapping: MappingNode, name: str, value: Value) -> str:
    """A new last entry of a mapping."""
    style = mapping.value[0][0].style if mapping.value else None  # of names and of text; numbers stand without quotes
    entry = f"{rendered(name, style)}: {rendered(value, style)}"
    if not mapping.value:
        return spliced(text, mapping.start_mark.index + 1, 0, entry)
    end = entry_end(text, *mapping.value[-1])
    if mapping.flow_style:
        return spliced(text, end, 0, f", {entry}")
    indent = " " * mapping.value[0][0].start_mark.column
    return spliced(text, line_end(text, end), 0, f"{newline(text)}{indent}{entry}")


def _without(text: str, document: int) -> str:
    first, last, dashes = _place(text, document)
    part = text[first:last]
    root = YAML().compose(part)
    # Comments above the first document are the file's.
    start = root.start_mark.index + first if dashes is None else dashes
    end = part.find("\n", end_of(part, root)) + 1 or len(part)
    return text[:start] + text[first + end :]
