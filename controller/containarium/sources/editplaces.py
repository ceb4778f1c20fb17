"""Where values stand in the text of a manifest file, by what ruamel.yaml says of them, and how text is cut there."""

from __future__ import annotations

from typing import Final

from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

BLOCK_SCALARS: Final = ("|", ">")


class EditRefusedError(Exception):
    """Nothing was changed: what stands in the way, and what a person can do instead."""

    def __init__(self, message: str, remedy: str = "") -> None:
        super().__init__(f"{message}; {remedy}" if remedy else message)
        self.message = message
        self.remedy = remedy


def unsure() -> EditRefusedError:
    """What is raised where it is not certain that an edit would do what it should, and no more."""
    return EditRefusedError("the file is written in a way that cannot be edited safely", "edit it by hand")


def spliced(text: str, start: int, length: int, new: str) -> str:
    """The text with ``new`` in the place of ``length`` characters."""
    return text[:start] + new + text[start + length :]


def is_empty(node: Node) -> bool:
    """Whether it is the value of a field that is written without any."""
    return isinstance(node, ScalarNode) and node.style is None and not node.value


def end(text: str, node: Node) -> int:
    """Behind the last character of a value; what comes after it in its line is not part of it."""
    if isinstance(node, ScalarNode):
        found: int = node.end_mark.index
        return len(text[:found].rstrip()) if node.style in BLOCK_SCALARS else found
    if not isinstance(node, MappingNode | SequenceNode):
        raise unsure()
    if node.flow_style or not node.value:
        return int(node.end_mark.index)
    return entry_end(text, *node.value[-1]) if isinstance(node, MappingNode) else end(text, node.value[-1])


def entry_end(text: str, key: Node, value: Node) -> int:
    """Behind the last character of a mapping's entry."""
    return after_colon(text, key) if is_empty(value) else end(text, value)


def after_colon(text: str, key: Node) -> int:
    """Behind the colon that follows a key. Raises ValueError where there is none."""
    return text.index(":", key.end_mark.index) + 1


def line_end(text: str, index: int) -> int:
    """Before the line break, or the end of the text."""
    found = text.find("\n", index)
    found = len(text) if found < 0 else found
    return found - 1 if found and text[found - 1] == "\r" else found


def newline(text: str) -> str:
    """The line break that the text has."""
    return "\r\n" if "\r\n" in text else "\n"
