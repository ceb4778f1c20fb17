"""key add, remove and list."""

from __future__ import annotations

import pytest
import yaml

from containarium.model.sshkey import SSHKey
from containarium.sources.editkeys import NOBODYS
from tests.builders import public_key
from tests.unit.cli.conftest import Shell

ALICE = f"""\
apiVersion: containarium.dev/v1
kind: Environment
metadata: {{name: alice}}
spec:
  image: bootstrap:debian/12
  sshKeys:
    # her own
    - {public_key("alice")}  # laptop
    - {{file: keys/alice.pub}}
  docker: false  # not yet
"""
FILE = f"# work\n{public_key('work')}\n\n# home\n{public_key('home')}\n"


@pytest.fixture
def alice(shell: Shell) -> Shell:
    """Alice has three keys, two of them in a file; bob has one."""
    (shell.folder / "keys").mkdir()
    shell.write("keys/alice.pub", FILE)
    shell.write("alice.yaml", ALICE)
    shell.declare("bob")
    assert shell("apply").code == 0
    return shell


def fingerprint(seed: str) -> str:
    return SSHKey.parse(public_key(seed)).fingerprint


def accepted(shell: Shell, name: str = "alice") -> set[str]:
    """Comments of the keys that the jump account lets in, apart from the controller's own."""
    return {line.rpartition(" ")[2] for line in shell.world.accounts[name].keys or ()} - {"containarium-probe"}


def text(shell: Shell) -> str:
    return (shell.folder / "alice.yaml").read_text()


def test_the_fixture_is_what_it_says(alice: Shell) -> None:
    assert accepted(alice) == {"alice@laptop", "work@laptop", "home@laptop"}


def test_a_key_is_added_in_the_file_and_on_the_host(alice: Shell) -> None:
    ended = alice("key", "add", "alice", public_key("new"))
    assert ended.code == 0, ended.err
    assert f"alice: added {fingerprint('new')} (new@laptop)" in ended.out
    added = f"    - {{file: keys/alice.pub}}\n    - {public_key('new')}\n"
    assert text(alice) == ALICE.replace("    - {file: keys/alice.pub}\n", added)
    assert "new@laptop" in accepted(alice)


def test_several_from_a_file_and_those_there_already_only_once(alice: Shell) -> None:
    path = alice.folder.parent / "new.pub"
    path.write_text(f"{public_key('one')}\n{public_key('alice')}\n{public_key('two')}\n")
    assert alice("key", "add", "alice", str(path), public_key("one")).code == 0
    assert accepted(alice) == {f"{name}@laptop" for name in ("alice", "work", "home", "one", "two")}
    ended = alice("key", "add", "alice", str(path))
    assert (ended.code, ended.out) == (0, "alice has these keys already.\n")


@pytest.mark.parametrize(
    ("key", "told"),
    [
        (public_key("bob"), "is another person's: bob at"),
        ("ssh-ed25519 AAAA", "KEY: "),
        ("ssh-dss AAAAB3 x", "KEY: DSA keys are broken"),
        ("/nowhere.pub", "KEY: /nowhere.pub: No such file"),
    ],
)
def test_a_key_that_cannot_be_is_refused(alice: Shell, key: str, told: str) -> None:
    ended = alice("key", "add", "alice", key)
    assert ended.code == 1
    assert told in ended.err
    assert ended.err.count("\n") == 1
    assert text(alice) == ALICE


def test_the_one_whose_key_it_is_is_named_whoever_comes_first(alice: Shell) -> None:
    alice.declare("carol")
    ended = alice("key", "add", "carol", public_key("bob"))
    assert ended.code == 1
    assert ended.err.startswith(f"containarium: error: carol: the key {fingerprint('bob')} is another person's: bob at")


def test_the_comment_of_a_stolen_key_goes_with_it(alice: Shell) -> None:
    ring = f'  sshKeys: ["{public_key("alice")}",  # office\n    "{public_key("phone")}",  # STOLEN\n  ]\n'
    before, after = ALICE.split("  sshKeys:")[0], "  docker: false\n"
    alice.write("alice.yaml", before + ring + after)
    assert alice("apply").code == 0
    ended = alice("key", "remove", "alice", "phone@laptop")
    assert ended.code == 0, ended.err
    assert text(alice) == f'{before}  sshKeys: ["{public_key("alice")}",  # office\n  ]\n{after}'
    assert accepted(alice) == {"alice@laptop"}


@pytest.mark.parametrize("how", ["fingerprint", "beginning", "comment", "line", "file"])
def test_a_key_is_withdrawn_however_it_is_named(alice: Shell, how: str) -> None:
    path = alice.folder.parent / "old.pub"
    path.write_text(public_key("alice"))
    words = {
        "fingerprint": fingerprint("alice"),
        "beginning": fingerprint("alice")[:16],
        "comment": "alice@laptop",
        "line": public_key("alice"),
        "file": str(path),
    }
    ended = alice("key", "remove", "alice", words[how])
    assert ended.code == 0, ended.err
    assert "2 keys left" in ended.out
    assert accepted(alice) == {"work@laptop", "home@laptop"}
    assert text(alice) == ALICE.replace(f"    - {public_key('alice')}  # laptop\n", "")


def test_one_of_several_keys_of_a_file_is_withdrawn_there(alice: Shell) -> None:
    assert alice("key", "remove", "alice", "work@laptop").code == 0
    assert text(alice) == ALICE
    assert (alice.folder / "keys" / "alice.pub").read_text() == FILE.replace(f"{public_key('work')}\n", "")
    assert accepted(alice) == {"alice@laptop", "home@laptop"}


def test_a_file_of_which_all_are_withdrawn_is_no_longer_named(alice: Shell) -> None:
    ended = alice("key", "remove", "alice", "work@laptop", fingerprint("home"))
    assert ended.code == 0, ended.err
    assert "keys/alice.pub is used no more, and stays where it is" in ended.out
    assert (alice.folder / "keys" / "alice.pub").read_text() == FILE
    assert text(alice) == ALICE.replace("    - {file: keys/alice.pub}\n", "")
    assert accepted(alice) == {"alice@laptop"}


@pytest.mark.parametrize("key", ["SHA256:nothing", "SHA256:", "nobody@nowhere", public_key("bob")])
def test_a_key_that_is_not_there_is_told(alice: Shell, key: str) -> None:
    ended = alice("key", "remove", "alice", key)
    assert ended.code == 1
    assert "alice has no such key" in ended.err
    assert "containarium key list alice" in ended.err


def test_the_last_key_stays_without_force(alice: Shell) -> None:
    ended = alice("key", "remove", "bob", "bob@laptop")
    assert ended.code == 1
    assert "these are the last keys of bob" in ended.err
    assert accepted(alice, "bob") == {"bob@laptop"}


def test_with_force_nobody_gets_in_until_another_key_is_there(alice: Shell) -> None:
    ended = alice("key", "remove", "bob", "bob@laptop", "--force")
    assert ended.code == 0, ended.err
    assert accepted(alice, "bob") == {NOBODYS}
    assert "bob-container" in alice.world.instances
    assert alice("key", "add", "bob", public_key("new")).code == 0
    assert accepted(alice, "bob") == {"new@laptop"}
    assert yaml.safe_load((alice.folder / "bob.yaml").read_text())["spec"]["sshKeys"] == [public_key("new")]


def test_the_list_says_where_each_key_is_written(alice: Shell) -> None:
    ended = alice("key", "list", "alice")
    assert ended.code == 0
    lines = ended.out.splitlines()
    assert lines[0].split() == ["FINGERPRINT", "TYPE", "COMMENT", "WHERE"]
    assert lines[1].split() == [fingerprint("alice"), "ssh-ed25519", "alice@laptop", f"{alice.folder}/alice.yaml:8:7"]
    assert lines[2].split()[2:] == ["work@laptop", "keys/alice.pub"]
    assert len(lines) == 4
    rows = alice("key", "list", "alice", "-o", "json").json
    assert [row["fingerprint"] for row in rows] == [fingerprint(seed) for seed in ("alice", "work", "home")]
    assert yaml.safe_load(alice("key", "list", "alice", "-o", "yaml").out) == rows
    assert "names nobody" in alice("key", "list", "nobody").err
