"""Items of lists, put into the text of a manifest file and taken out of it, each with the comment in its own line."""

from __future__ import annotations

import re
from typing import Final

from ruamel.yaml.nodes import ScalarNode, SequenceNode

from containarium.sources.editplaces import EditRefusedError, end, line_end, newline, spliced
from containarium.sources.editvalue import Value, rendered

_COMMA: Final = re.compile(r"[ \t]*,")
_REST: Final = re.compile(r"[ \t]*,?[ \t]*(?:#[^\r\n]*)?(?=\r?\n)")
"""What may stand behind the last item of a line in brackets."""


def added(text: str, items: SequenceNode, value: Value) -> str:
    """The text with a new last item."""
    if not items.value:
        return spliced(text, items.start_mark.index + 1, 0, rendered(value))
    first, last = items.value[0], items.value[-1]
    style = first.style if isinstance(first, ScalarNode) and first.style == '"' else None
    if items.flow_style:
        return _added_in_brackets(text, items, rendered(value, style))
    dash = items.start_mark
    gap = text[dash.index + 1 : first.start_mark.index]
    gap = gap if gap and not gap.strip(" ") else " "
    entry = f"{newline(text)}{' ' * dash.column}-{gap}{rendered(value, style)}"
    return spliced(text, line_end(text, end(text, last)), 0, entry)


def removed(text: str, items: SequenceNode, index: int) -> str:
    """The text without an item. Raises EditRefusedError where a comment could be left to another one."""
    item = items.value[index]
    start, stop = item.start_mark.index, end(text, item)
    if items.flow_style:
        return _removed_in_brackets(text, items, index)
    start = text.rindex("-", 0, start)
    start = text.rfind("\n", 0, start) + 1
    stop = text.find("\n", stop) + 1 or len(text)
    return spliced(text, start, stop - start, "")


def _added_in_brackets(text: str, items: SequenceNode, entry: str) -> str:
    last = items.value[-1]
    stop, close = end(text, last), items.end_mark.index - 1
    if "#" not in text[stop:close]:
        return spliced(text, stop, 0, f", {entry}")
    # A line of its own: the comment behind the last item is not about this one.
    comma = _COMMA.match(text, stop)
    below = f"{newline(text)}{' ' * _column(text, items)}{entry}{',' if comma else ''}"
    text = spliced(text, line_end(text, stop), 0, below)
    return text if comma else spliced(text, stop, 0, ",")


def _column(text: str, items: SequenceNode) -> int:
    """Of the first item that begins a line, or of the first one."""
    for item in items.value:
        start = item.start_mark.index
        if not text[text.rfind("\n", 0, start) + 1 : start].strip():
            return int(item.start_mark.column)
    return int(items.value[0].start_mark.column)


def _removed_in_brackets(text: str, items: SequenceNode, index: int) -> str:
    item = items.value[index]
    start, stop = item.start_mark.index, end(text, item)
    before = end(text, items.value[index - 1]) if index else items.start_mark.index + 1
    is_last = index + 1 == len(items.value)
    after = items.end_mark.index - 1 if is_last else items.value[index + 1].start_mark.index
    if "#" in text[before:start] + text[stop:after] + _behind(text, items, index):
        return _without_lines(text, items, index, before)
    if not is_last:
        return spliced(text, start, after - start, "")
    if index:
        return spliced(text, before, stop - before, "")
    comma = text.find(",", stop, after) + 1  # behind the only item there may be one, which cannot stand alone
    return spliced(text, start, max(stop, comma) - start, "")


def _behind(text: str, items: SequenceNode, index: int) -> str:
    """What stands behind the bracket, where that may be about the item: it has the bracket in its own line."""
    first, close = items.start_mark.index, items.end_mark.index
    stop = end(text, items.value[index])
    one_line = "\n" not in text[first:close]
    return "" if one_line or "\n" in text[stop:close] else text[close : line_end(text, close)]


def _without_lines(text: str, items: SequenceNode, index: int, before: int) -> str:
    """Take the item's lines out, with the comment behind it. ``before`` is where the item before it ends."""
    item = items.value[index]
    start, stop = item.start_mark.index, end(text, item)
    rest = _REST.match(text, stop)
    begin = text.rfind("\n", 0, start) + 1
    opens = not index and begin <= items.start_mark.index and not text[before:start].strip()
    if rest is None or not (opens or not text[begin:start].strip()):
        raise EditRefusedError("a comment stands between the items of this list", "edit it by hand")
    if opens:
        return spliced(text, start, rest.end() - start, "")
    text = spliced(text, begin, text.index("\n", rest.end()) + 1 - begin, "")
    comma = _COMMA.match(text, before)
    if index + 1 == len(items.value) and "," not in rest.group().partition("#")[0] and index and comma:
        # The last one had no comma, so its successor gets none: JSON knows none there.
        return spliced(text, comma.end() - 1, 1, "")
    return text
