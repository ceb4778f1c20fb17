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

from containarium.sources.editvalue import Value, rendered
from containarium.sources.yamltree import Budget, read_documents

FieldPath = tuple[str, ...]
"""Names of fields from the document's edge inwards: ``("spec", "resources", "cpu")``."""

_BLOCK_SCALARS: Final = ("|", ">")
_BROKEN: Final = (YAMLError, ValueError, AttributeError, AssertionError, LookupError, RecursionError, TypeError)
"""What ruamel.yaml raises for texts that another reader takes."""


class EditRefusedError(Exception):
    """Nothing was changed: what stands in the way, and what a person can do instead."""

    def __init__(self, message: str, remedy: str = "") -> None:
        super().__init__(f"{message}; {remedy}" if remedy else message)
        self.message = message
        self.remedy = remedy


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
        after = plain(text)
        if len(after) != len(before):
            raise _unsure()
        wanted = [
            *before[:document],
            _wanted(before[document], change, after[document]),
            *before[document + 1 :],
        ]
        if not _same(after, wanted):
            raise _unsure()
        before = after
    return text


def without(text: str, document: int) -> str:
    """The text without one of its documents; the comments before it and behind it stay. Raises EditRefusedError."""
    expected = plain(text)
    text = _checked(_without, text, document)
    del expected[document]
    if not _same(plain(text), expected):
        raise _unsure()
    return text


def plain(text: str) -> list[Any]:
    """The data of every document, as loads read it. Raises EditRefusedError where the text is broken."""
    documents = list(read_documents(text, Budget()))
    for document in documents:
        for fault in document.faults:
            raise EditRefusedError(f"line {fault.position[0]}: {fault.message}", fault.remedy)
    return [document.data for document in documents]


def _unsure() -> EditRefusedError:
    return EditRefusedError("the file is written in a way that cannot be edited safely", "edit it by hand")


def _checked(edit: Callable[..., str], *arguments: Any) -> str:
    try:
        return edit(*arguments)
    except _BROKEN:
        raise _unsure() from None


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
        raise _unsure()
    match change:
        case SetField(path=path, value=value):
            part = _set(part, root, path, value)
        case AddItem(path=path, value=value):
            part = _add(part, _list(root, path), value)
        case RemoveItem(path=path, index=index):
            part = _remove(part, _list(root, path), index)
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
            raise _unsure()
        node = found[1]
    if not isinstance(node, SequenceNode):
        raise _unsure()
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
    if _is_empty(old):
        return _spliced(text, _after_colon(text, key), 0, f" {rendered(value)}")
    if not isinstance(old, ScalarNode) or old.style in _BLOCK_SCALARS:
        raise _unsure()
    start, end = old.start_mark.index, old.end_mark.index
    return _spliced(text, start, end - start, rendered(value, old.style))


def _insert(text: str, mapping: MappingNode, name: str, value: Value) -> str:
    """A new last entry of a mapping."""
    style = mapping.value[0][0].style if mapping.value else None
    entry = f"{rendered(name, style)}: {rendered(value, style)}"
    if not mapping.value:
        return _spliced(text, mapping.start_mark.index + 1, 0, entry)
    end = _entry_end(text, *mapping.value[-1])
    if mapping.flow_style:
        return _spliced(text, end, 0, f", {entry}")
    indent = " " * mapping.value[0][0].start_mark.column
    return _spliced(text, _line_end(text, end), 0, f"{_newline(text)}{indent}{entry}")


def _add(text: str, items: SequenceNode, value: Value) -> str:
    if not items.value:
        return _spliced(text, items.start_mark.index + 1, 0, rendered(value))
    first, last = items.value[0], items.value[-1]
    style = first.style if isinstance(first, ScalarNode) and first.style == '"' else None
    if items.flow_style:
        return _spliced(text, _end(text, last), 0, f", {rendered(value, style)}")
    dash = items.start_mark
    gap = text[dash.index + 1 : first.start_mark.index]
    gap = gap if gap and not gap.strip(" ") else " "
    entry = f"{_newline(text)}{' ' * dash.column}-{gap}{rendered(value, style)}"
    return _spliced(text, _line_end(text, _end(text, last)), 0, entry)


def _remove(text: str, items: SequenceNode, index: int) -> str:
    item = items.value[index]
    start, end = item.start_mark.index, _end(text, item)
    if items.flow_style:
        if index + 1 < len(items.value):
            end = items.value[index + 1].start_mark.index
        elif index:
            start = _end(text, items.value[index - 1])
        return _spliced(text, start, end - start, "")
    start = text.rindex("-", 0, start)
    start = text.rfind("\n", 0, start) + 1
    end = text.find("\n", end) + 1 or len(text)
    return _spliced(text, start, end - start, "")


def _without(text: str, document: int) -> str:
    first, last, dashes = _place(text, document)
    part = text[first:last]
    root = YAML().compose(part)
    # Comments above the first document are the file's.
    start = root.start_mark.index + first if dashes is None else dashes
    end = part.find("\n", _end(part, root)) + 1 or len(part)
    return text[:start] + text[first + end :]


def _spliced(text: str, start: int, length: int, new: str) -> str:
    return text[:start] + new + text[start + length :]


def _is_empty(node: Node) -> bool:
    return isinstance(node, ScalarNode) and node.style is None and not node.value


def _end(text: str, node: Node) -> int:
    """Behind the last character of a value; what comes after it in its line is not part of it."""
    if isinstance(node, ScalarNode):
        end: int = node.end_mark.index
        return len(text[:end].rstrip()) if node.style in _BLOCK_SCALARS else end
    if not isinstance(node, MappingNode | SequenceNode):
        raise _unsure()
    if node.flow_style or not node.value:
        return int(node.end_mark.index)
    return _entry_end(text, *node.value[-1]) if isinstance(node, MappingNode) else _end(text, node.value[-1])


def _entry_end(text: str, key: Node, value: Node) -> int:
    return _after_colon(text, key) if _is_empty(value) else _end(text, value)


def _after_colon(text: str, key: Node) -> int:
    return text.index(":", key.end_mark.index) + 1


def _line_end(text: str, index: int) -> int:
    """Before the line break, or the end of the text."""
    found = text.find("\n", index)
    found = len(text) if found < 0 else found
    return found - 1 if found and text[found - 1] == "\r" else found


def _newline(text: str) -> str:
    return "\r\n" if "\r\n" in text else "\n"
