"""Edits of manifests in every way that people write them: what was meant happens, and nothing else moves."""

from __future__ import annotations

import copy
import difflib
import re
from typing import Any

import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from containarium.sources.edittext import (
    AddItem,
    Change,
    EditRefusedError,
    RemoveItem,
    SetField,
    changed,
    plain,
    without,
)
from containarium.sources.editvalue import rendered

INDENTS = st.integers(1, 6)
BLANKS = st.sampled_from(["", "", "\n", "\n\n"])
COMMENTS = st.sampled_from(["", "", "  # why", " # team: [ml, {x: 1}]", "   # - not an item", " # it's 4GiB"])
PHRASES = (
    "# why",
    "# team: [ml, {x: 1}]",
    "# - not an item",
    "# it's 4GiB",
    "# about ",
    "# far left",
    "# head",
    "# tail",
)
"""What comments say here, and no value does."""
WORDS = st.text(st.sampled_from("abcXYZ019 _-:#'\"[]{},|>%@&*!?/=+ü"), min_size=1, max_size=14).filter(
    lambda text: text.strip() == text
)
HEADS = st.sampled_from(["", "# head\n"])
STYLES = st.sampled_from([None, "'", '"'])


@st.composite
def scalars(draw: st.DrawFn) -> str:
    """A value as somebody writes it."""
    value: Any = draw(st.one_of(WORDS, st.integers(0, 99), st.booleans()))
    style = draw(STYLES)
    # A number within quotes is text to us; people write them nonetheless.
    return rendered(value if style is None or isinstance(value, str) else rendered(value), style)


@st.composite
def flows(draw: st.DrawFn, depth: int = 2) -> str:
    """A mapping or list in brackets."""
    inner = scalars() if depth == 0 else st.one_of(scalars(), flows(depth - 1))
    gap = draw(st.sampled_from(["", " ", "  "]))
    if draw(st.booleans()):
        items = [draw(inner) for _ in range(draw(st.integers(0, 3)))]
        return "[" + gap + f",{gap or ' '}".join(items) + gap + "]"
    entries = [f"k{number}: {draw(inner)}" for number in range(draw(st.integers(0, 3)))]
    return "{" + gap + f",{gap or ' '}".join(entries) + gap + "}"


@st.composite
def blocks(draw: st.DrawFn, indent: int) -> str:
    """A mapping below its name, with comments and blank lines; every name begins with k, limits and keys are among."""
    lines = []
    for name in draw(st.permutations(["k0", "k1", "limits", "keys"])):
        before = draw(st.sampled_from(["", "", f"{' ' * indent}# about {name}\n", "# far left\n"]))
        comment = draw(COMMENTS)
        lines.append(f"{before}{' ' * indent}{name}:{draw(_below(name, indent, comment))}{draw(BLANKS)}")
    return "".join(lines)


@st.composite
def _below(draw: st.DrawFn, name: str, indent: int, comment: str) -> str:
    more = indent + draw(INDENTS)
    if name == "limits":
        entries = [f"cpu: {draw(scalars())}", f"memory: {draw(scalars())}"][: draw(st.integers(1, 2))]
        if draw(st.booleans()):
            return f" {{{', '.join(entries)}}}{comment}\n"
        return f"{comment}\n" + "".join(f"{' ' * more}{entry}{draw(COMMENTS)}\n" for entry in entries)
    if name == "keys":
        items = [draw(scalars()) for _ in range(draw(st.integers(1, 3)))]
        if draw(st.booleans()):
            return f" [{', '.join(items)}]{comment}\n"
        dash = draw(st.sampled_from([indent, more])) if indent else more
        gap = " " * draw(st.integers(1, 3))
        return f"{comment}\n" + "".join(f"{' ' * dash}-{gap}{item}{draw(COMMENTS)}\n" for item in items)
    text: str = draw(
        st.one_of(
            st.builds(lambda value: f" {value}{comment}\n", scalars()),
            st.builds(lambda value: f" {value}{comment}\n", flows()),
            st.just(f"{comment}\n"),
            st.just(f" |{comment}\n{' ' * more}text: [\n{' ' * more}more\n"),
            st.just(f" >-\n{' ' * more}folded\n\n{' ' * more}text\n"),
            st.just(f' "two\n{" " * more}lines"{comment}\n'),
        )
    )
    return text


@st.composite
def files(draw: st.DrawFn) -> str:
    """A file of one to three documents."""
    documents = [
        f"{draw(HEADS)}kind: x{draw(COMMENTS)}\nspec:\n{draw(blocks(draw(INDENTS)))}"
        for _ in range(draw(st.integers(1, 3)))
    ]
    first = draw(st.sampled_from(["", "---\n", "# file\n---\n"]))
    text = first + "---\n".join(documents) + draw(st.sampled_from(["", "# tail\n", "\n"]))
    if draw(st.booleans()) and not text.rstrip("\n").endswith(("more", "text")):
        text = text.rstrip("\n")  # a last line of block text would become another text with a newline behind it
    return text.replace("\n", "\r\n") if draw(st.integers(0, 4)) == 0 else text


VALUES = st.one_of(WORDS, st.integers(0, 99), st.booleans())
CHANGES = st.one_of(
    st.builds(SetField, st.just(("spec", "limits", "memory")), VALUES),
    st.builds(SetField, st.just(("spec", "limits", "disk")), VALUES),
    st.builds(SetField, st.just(("spec", "running")), st.booleans()),
    st.builds(SetField, st.just(("spec", "deletion", "grace")), WORDS),
    st.builds(AddItem, st.just(("spec", "keys")), st.one_of(WORDS, st.builds(lambda w: {"file": w}, WORDS))),
    st.builds(RemoveItem, st.just(("spec", "keys")), st.integers(0, 2)),
)


def wanted(data: Any, change: Change) -> Any:
    """The same change of plain data."""
    data = copy.deepcopy(data)
    *parents, name = change.path
    at = data
    for parent in parents:
        at = at.setdefault(parent, {})
    if isinstance(change, SetField):
        at[name] = change.value
    elif isinstance(change, AddItem):
        at[name].append(change.value)
    else:
        del at[name][change.index]
    return data


def alike(value: Any) -> Any:
    """Numbers and words that were within quotes before are so afterwards: both count as the same here."""
    if isinstance(value, dict):
        return {key: alike(item) for key, item in value.items()}
    if isinstance(value, list):
        return [alike(item) for item in value]
    return str(value).lower() if isinstance(value, bool) else str(value)


@given(files(), st.integers(0, 2), st.lists(CHANGES, min_size=1, max_size=4))
def test_what_was_meant_happens_and_nothing_else_moves(text: str, document: int, changes: list[Change]) -> None:
    before = plain(text)
    document %= len(before)
    possible, data = [], before[document]
    for change in changes:
        if isinstance(change, RemoveItem) and not change.index < len(data["spec"]["keys"]) > 1:
            continue  # the last item is nothing to be taken away
        possible.append(change)
        data = wanted(data, change)
    after = changed(text, document, possible)
    found = plain(after)
    assert alike(found[document]) == alike(data)
    assert [*found[:document], *found[document + 1 :]] == [*before[:document], *before[document + 1 :]]
    assert list(yaml.safe_load_all(after)) is not None, "others can read it too"
    _only_so_much(text, after, possible)


def _only_so_much(before: str, after: str, changes: list[Change]) -> None:
    """No more lines differ than there were changes, and comments go with removed items alone."""
    removed = [line for line in difflib.ndiff(before.split("\n"), after.split("\n")) if line.startswith("- ")]
    added = [line for line in difflib.ndiff(before.split("\n"), after.split("\n")) if line.startswith("+ ")]
    assert len(removed) <= len(changes) + (not before.endswith("\n"))
    assert len(added) <= len(changes) + (not before.endswith("\n"))
    if not any(isinstance(change, RemoveItem) for change in changes):
        assert [after.count(comment) for comment in PHRASES] == [before.count(comment) for comment in PHRASES]
    assert ("\r\n" in before) == ("\r\n" in after)
    assert after.replace("\r\n", "").count("\n") == before.replace("\r\n", "").count("\n") or "\r\n" not in before


@st.composite
def rings(draw: st.DrawFn) -> tuple[str, int]:
    """A list in brackets, over several lines, and how many items it has. A comment names the item that it is about."""
    count, quote = draw(st.integers(1, 4)), draw(st.sampled_from(["", '"', "'"]))
    text = f"a: [{draw(st.sampled_from(['', ' ', f'{chr(10)}  ']))}"
    for number in range(count):
        comma = "," if number + 1 < count or draw(st.booleans()) else ""
        comment = draw(st.sampled_from(["", f" # about i{number}"]))
        gap = "\n  " if comment else draw(st.sampled_from(["", " ", "\n  "]))
        text += f"{quote}i{number}{quote}{comma}{comment}{gap}"
    text = f"{text}]{draw(st.sampled_from(['', f' # about i{count - 1}']))}\nb: 1\n"
    return text.replace("\n", "\r\n") if draw(st.booleans()) else text, count


@example(("a: [i0,]\nb: 1\n", 1), 0, False)
@given(rings(), st.integers(0, 3), st.booleans())
def test_no_comment_is_left_to_another_item(ring: tuple[str, int], index: int, add: bool) -> None:
    text, count = ring
    index %= count
    try:
        after = changed(text, 0, [AddItem(("a",), "new") if add else RemoveItem(("a",), index)])
    except EditRefusedError:
        assert "#" in text, "only comments stand in the way"
        return
    lines = [line.partition("#") for line in after.splitlines()]
    for before, _, comment in lines:
        found = set(re.findall(r"i\d|new", before))
        about = set(re.findall(r"i\d", comment))
        one_line = "[" in before and "]" in before
        assert not found or not about or about & found or one_line, f"{text!r} -> {after!r}"
    if "\n" not in text[: text.index("]")]:
        return
    if not add:
        assert f"about i{index}" not in after or f"about i{index}" in text[text.index("]") :]


@given(files(), st.integers(0, 2))
def test_a_document_goes_and_the_others_stay(text: str, document: int) -> None:
    before = plain(text)
    document %= len(before)
    if len(before) == 1:
        return
    after = without(text, document)
    assert plain(after) == [*before[:document], *before[document + 1 :]]
    lines = text.split("\n")
    assert all(line in lines for line in after.split("\n") if line), "whole lines go, and none is made"


@given(VALUES, STYLES)
def test_a_value_is_read_as_it_was_written(value: Any, style: str | None) -> None:
    found = plain(f"a: {rendered(value, style)}\nb: [{rendered(value, style)}]\n")[0]
    assert alike(found) == alike({"a": value, "b": [value]})
