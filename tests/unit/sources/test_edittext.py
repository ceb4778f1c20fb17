"""Changes in the text of a manifest file: what is written by hand stays as it is written."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

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

MEMORY = ("spec", "resources", "memory")
KEYS = ("spec", "sshKeys")

ALICE = """\
# yaml-language-server: $schema=x
apiVersion: containarium.dev/v1
kind:   Environment   # by hand

metadata: {name: alice}
spec:
    resources: {cpu: 2,  memory: "1GiB", }   # limits
    sshKeys:
    # laptop
    -   ssh-ed25519 AAAA alice@laptop  # old one
    -   {file: keys/alice.pub}

    # what she works with
    packages: [git,
      tmux]
"""


KEYRING = """\
keys: ["A",  # office laptop
  "B",  # STOLEN phone
  {file: x}, # [a, file
]  # end
"""


@pytest.mark.parametrize(
    ("text", "change", "expected"),
    [
        pytest.param(
            ALICE, SetField(MEMORY, "8GiB"), ALICE.replace('"1GiB"', '"8GiB"'), id="a value in quotes keeps them"
        ),
        pytest.param(
            ALICE,
            SetField(("spec", "resources", "disk"), "60GiB"),
            ALICE.replace('"1GiB", }', '"1GiB", disk: 60GiB, }'),
            id="a new field on one line, before a last comma",
        ),
        pytest.param(
            ALICE,
            SetField(("spec", "running"), False),
            ALICE + "    running: false\n",
            id="a new field, as deep as the others, below what goes over two lines",
        ),
        pytest.param(
            ALICE,
            SetField(("spec", "deletion", "grace"), "1s"),
            ALICE + "    deletion: {grace: 1s}\n",
            id="a new mapping",
        ),
        pytest.param(
            ALICE,
            AddItem(KEYS, "ssh-ed25519 BBBB alice@work"),
            ALICE.replace("{file: keys/alice.pub}\n", "{file: keys/alice.pub}\n    -   ssh-ed25519 BBBB alice@work\n"),
            id="an item, before the blank line and the comment that follow",
        ),
        pytest.param(
            ALICE,
            RemoveItem(KEYS, 0),
            ALICE.replace("    -   ssh-ed25519 AAAA alice@laptop  # old one\n", ""),
            id="an item with the comment in its line, and no other",
        ),
        pytest.param(
            ALICE,
            RemoveItem(KEYS, 1),
            ALICE.replace("    -   {file: keys/alice.pub}\n", ""),
            id="the last item, and not the comment of what follows",
        ),
        pytest.param(
            "spec:\n  a: 1\n  b:\n# end",
            SetField(("spec", "b"), "x"),
            "spec:\n  a: 1\n  b: x\n# end",
            id="an empty field",
        ),
        pytest.param(
            "spec:\n  b:   # nothing\n  c: 1\n",
            SetField(("spec", "b"), "x"),
            "spec:\n  b: x   # nothing\n  c: 1\n",
            id="an empty field with a comment",
        ),
        pytest.param(
            "spec:\n  a: 1\n  b:", SetField(("spec", "c"), 2), "spec:\n  a: 1\n  b:\n  c: 2", id="below an empty field"
        ),
        pytest.param(
            "spec: {a: 1}", SetField(("spec", "c"), True), "spec: {a: 1, c: true}", id="without a newline at the end"
        ),
        pytest.param("spec: {}\n", SetField(("spec", "a", "b"), "x"), "spec: {a: {b: x}}\n", id="into nothing"),
        pytest.param(
            '{"spec": {"a": "1"}}\n',
            SetField(("spec", "b"), "x y"),
            '{"spec": {"a": "1", "b": "x y"}}\n',
            id="JSON stays JSON",
        ),
        pytest.param(
            "spec:\r\n  a: 1  # x\r\n", SetField(("spec", "b"), 2), "spec:\r\n  a: 1  # x\r\n  b: 2\r\n", id="CRLF"
        ),
        pytest.param(
            "spec:\n  a: 1\nother: 2\n", SetField(("spec", "b"), 2), "spec:\n  a: 1\n  b: 2\nother: 2\n", id="inside"
        ),
        pytest.param(
            "spec:\n  text: |\n    a\n    b\n\n# end\n",
            SetField(("spec", "b"), 2),
            "spec:\n  text: |\n    a\n    b\n  b: 2\n\n# end\n",
            id="below text of several lines",
        ),
        pytest.param("a: [x]\n", AddItem(("a",), "y, z"), 'a: [x, "y, z"]\n', id="an item that needs quotes"),
        pytest.param("a: [x, y, z]\n", RemoveItem(("a",), 0), "a: [y, z]\n", id="the first of one line"),
        pytest.param("a: [x, y, z]\n", RemoveItem(("a",), 1), "a: [x, z]\n", id="the middle of one line"),
        pytest.param("a: [x, y, z]\n", RemoveItem(("a",), 2), "a: [x, y]\n", id="the last of one line"),
        pytest.param(
            KEYRING, RemoveItem(("keys",), 0), KEYRING.replace('"A",  # office laptop', ""), id="the first of its line"
        ),
        pytest.param(
            KEYRING,
            RemoveItem(("keys",), 1),
            KEYRING.replace('  "B",  # STOLEN phone\n', ""),
            id="a line in brackets, with its comment",
        ),
        pytest.param(
            KEYRING,
            RemoveItem(("keys",), 2),
            KEYRING.replace("  {file: x}, # [a, file\n", ""),
            id="the last line in brackets",
        ),
        pytest.param(
            KEYRING.replace("x}, #", "x} #"),
            RemoveItem(("keys",), 2),
            KEYRING.replace("  {file: x}, # [a, file\n", "").replace('"B",', '"B"'),
            id="the last line in brackets, without a comma",
        ),
        pytest.param(
            KEYRING.replace("\n", "\r\n"),
            RemoveItem(("keys",), 1),
            KEYRING.replace('  "B",  # STOLEN phone\n', "").replace("\n", "\r\n"),
            id="a line in brackets, CRLF",
        ),
        pytest.param("a: [x,\n  y,\n  z]  # all\n", RemoveItem(("a",), 0), "a: [y,\n  z]  # all\n", id="no comments"),
        pytest.param(
            "a: [x, y, # why\n  z]\n", RemoveItem(("a",), 0), "a: [y, # why\n  z]\n", id="a neighbour's comment"
        ),
        pytest.param("a: [x, y]  # all\n", RemoveItem(("a",), 1), "a: [x]  # all\n", id="a comment on the list"),
        pytest.param(
            KEYRING,
            AddItem(("keys",), "C D"),
            KEYRING.replace("file\n]", 'file\n  "C D",\n]'),
            id="an item below the last one's comment",
        ),
        pytest.param(
            'a: ["x",\n  "y" # why\n]',
            AddItem(("a",), "z"),
            'a: ["x",\n  "y", # why\n  "z"\n]',
            id="an item below the last one's comment, without a comma",
        ),
        pytest.param(
            '{"spec": {"a": "1"}}\n',
            SetField(("spec", "running"), False),
            '{"spec": {"a": "1", "running": false}}\n',
            id="JSON's false",
        ),
        pytest.param(
            '{"spec": {"a": "1"}}\n',
            SetField(("spec", "resources", "cpu"), 4),
            '{"spec": {"a": "1", "resources": {"cpu": 4}}}\n',
            id="JSON's numbers",
        ),
        pytest.param(
            "'spec':\n  'a': x\n", SetField(("spec", "b"), 2), "'spec':\n  'a': x\n  'b': 2\n", id="names in quotes"
        ),
        pytest.param("a:\n- x\n- y\n", AddItem(("a",), "z"), "a:\n- x\n- y\n- z\n", id="a list that is not indented"),
        pytest.param("cpu: '2'\n", SetField(("cpu",), 4), "cpu: '4'\n", id="a number in quotes"),
        pytest.param("cpu: 0-3\n", SetField(("cpu",), 4), "cpu: 4\n", id="a set becomes a number"),
        pytest.param("a: x\n", SetField(("a",), "yes"), 'a: "yes"\n', id="a word that is no word to others"),
    ],
)
def test_only_what_has_to_change_does(text: str, change: Change, expected: str) -> None:
    assert changed(text, 0, [change]) == expected


def test_other_documents_of_the_file_stay_to_the_character() -> None:
    text = f"# head\n---\n{ALICE}---   # bob's\n{{a:   1}}\n...\n---\nspec: {{resources: {{memory: 1GiB}}}}\n# tail\n"
    after = changed(text, 2, [SetField(MEMORY, "2GiB"), SetField(("spec", "running"), False)])
    assert after == text.replace("{memory: 1GiB}}\n# tail", "{memory: 2GiB}, running: false}\n# tail")


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        (0, "# head\n# between\n---\nb: 2\n---\nc: 3\n# tail\n"),
        (1, "# head\na: 1\n# between\n---\nc: 3\n# tail\n"),
        (2, "# head\na: 1\n# between\n---\nb: 2\n# tail\n"),
    ],
)
def test_a_document_goes_and_comments_stay(document: int, expected: str) -> None:
    text = "# head\na: 1\n# between\n---\nb: 2\n---\nc: 3\n# tail\n"
    assert without(text, document) == expected


@pytest.mark.parametrize(
    ("text", "change"),
    [
        ("spec: {a: |\n x}\n", SetField(("spec", "a"), "y")),
        ("a: |\n  x\n", SetField(("a",), "y")),
        ("a:\n  - x\n", SetField(("a",), "y")),
        ("a: x\n", AddItem(("a",), "y")),
        ("a: x\n", AddItem(("b",), "y")),
        ("a: [x]\n", RemoveItem(("a",), 1)),
        ("- x\n", SetField(("a",), "y")),
        ("a: 'x\n", SetField(("a",), "y")),
        ("a: &b x\n", SetField(("a",), "y")),
        ('a:\n- "x\n  - y"\n-\n  # - z\n  - q\n', RemoveItem(("a",), 1)),
    ],
)
def test_what_is_not_certain_is_refused(text: str, change: Change) -> None:
    with pytest.raises(EditRefusedError):
        changed(text, 0, [change])


@pytest.mark.parametrize(
    ("text", "index"),
    [
        ("a: [x, # one\n  y]\n", 1),
        ("a: [x, y, # which?\n  z]\n", 1),
        ("a: [x,\n  y]  # y's, or all?\n", 1),
        ("a: [x # one\n  , y # two\n]\n", 1),
        ("a: [ # all\n  x, y]\n", 0),
    ],
)
def test_a_comment_is_never_left_to_another_item(text: str, index: int) -> None:
    with pytest.raises(EditRefusedError, match="a comment stands between the items of this list"):
        changed(text, 0, [RemoveItem(("a",), index)])


def test_a_new_text_that_cannot_be_read_is_no_mistake_of_the_file() -> None:
    with pytest.raises(EditRefusedError, match="cannot be edited safely"):
        changed("a: {b: 1, c}\nd: 2\n", 0, [SetField(("a", "e"), "x")])


@pytest.mark.parametrize(
    "value",
    ["x", "a b", "ssh-ed25519 A+/= me@h", "", " x", "null", "1", "0-3", "a: b", "x #y", "[", "it's", 'a"b', "-", "ü"],
)
@pytest.mark.parametrize("style", [None, "'", '"'])
def test_a_value_reads_as_it_was_meant(value: str, style: str | None) -> None:
    for text in (f"a: {rendered(value, style)}\n", f"a: [{rendered(value, style)}]\n"):
        found: Any = plain(text)[0]["a"]
        assert found in (value, [value])
        assert yaml.safe_load(text)["a"] in (value, [value])
