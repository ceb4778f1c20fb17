"""Whatever happened to the folder, the cached source says what a plain load says, and reads only what is new."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from containarium.model.sshkey import SSHKey
from containarium.sources.cached import CachedSource, Memory
from containarium.sources.directory import Reader, load
from containarium.sources.documents import Candidate, read_candidates
from containarium.sources.folder import Tree
from containarium.sources.keyfiles import KeyFiles
from containarium.sources.yamltree import MAX_NODES, Budget, BudgetExceededError
from tests.unit.sources.conftest import Folder, manifest, public_key

_FILES = ("a.yaml", "b.yaml", "team/a.yml", "team/c.yaml", ".store/d.yaml", "keys/alice.pub")
_PLACES = (*_FILES, "keys/bob.pub", "team", "keys", ".store", "link.yaml", "other")
FILES, PLACES = st.sampled_from(_FILES), st.sampled_from(_PLACES)
NAMES = st.sampled_from(["alice", "bob", "carol"])
TEXTS = st.one_of(
    st.builds(manifest, NAMES),
    st.builds(manifest, NAMES, st.integers(1, 3).map(lambda n: f'"{public_key(n)}"')),
    st.builds(
        manifest, NAMES, more=st.sampled_from(["  docker: true\n", "  dockr: 1\n", "  network: {ipv4: 10.0.3.7}\n"])
    ),
    st.builds(lambda one, two: f"{manifest(one)}---\n{manifest(two)}", NAMES, NAMES),
    st.sampled_from(["", "# nothing\n", "kind: Host\n", "a: [", "\t", "\x00", public_key(1), public_key(2), "no key"]),
)


class Edited(RuleBasedStateMachine):
    """A folder in the hands of somebody who does anything with it. All time stamps may be lies."""

    def __init__(self) -> None:
        super().__init__()
        self.base = Path(tempfile.mkdtemp())
        self.folder = self.base / "manifests"
        self.source = CachedSource(self.folder)
        self.last: tuple[object, int] | None = None

    def teardown(self) -> None:
        shutil.rmtree(self.base)

    @initialize()
    def begin(self) -> None:
        Folder(self.folder).add("alice")

    def attempt(self, act: Callable[[], object]) -> None:
        try:
            act()
        except OSError:
            return  # not possible as things are

    @rule(place=FILES, text=TEXTS, keep_times=st.booleans())
    def write(self, place: str, text: str, keep_times: bool) -> None:
        def act() -> None:
            path = self.folder / place
            path.parent.mkdir(parents=True, exist_ok=True)
            before = path.stat() if path.exists() else None
            path.write_text(text)
            if keep_times and before is not None:
                os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))

        self.attempt(act)

    @rule(place=FILES, text=TEXTS)
    def rename_into_place(self, place: str, text: str) -> None:
        def act() -> None:
            path = self.folder / place
            path.parent.mkdir(parents=True, exist_ok=True)
            fresh = path.with_name(".new~")
            fresh.write_text(text)
            fresh.replace(path)

        self.attempt(act)

    @rule(place=PLACES, to=PLACES)
    def move(self, place: str, to: str) -> None:
        self.attempt(lambda: (self.folder / place).rename(self.folder / to))

    @rule(place=PLACES)
    def remove(self, place: str) -> None:
        path = self.folder / place
        self.attempt(lambda: shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink())

    @rule(place=PLACES, to=st.sampled_from((*_PLACES, "..", "/etc", "nowhere")))
    def link(self, place: str, to: str) -> None:
        self.attempt(lambda: (self.folder / place).symlink_to(to))

    @rule()
    def swap_the_whole_folder(self) -> None:
        def act() -> None:
            aside = Path(tempfile.mkdtemp(dir=self.base))
            shutil.copytree(self.folder, aside / "copy", symlinks=True)
            if self.folder.is_symlink():
                self.folder.unlink()
            else:
                self.folder.rename(aside / "old")
            self.folder.symlink_to(aside / "copy")

        self.attempt(act)

    @rule()
    def nothing(self) -> None:
        pass

    @invariant()
    def says_what_a_plain_load_says(self) -> None:
        result, expected = self.source.load(), load(self.folder)
        assert result == expected
        generation = self.source.generation
        if self.last is not None:
            assert (generation > self.last[1]) == (result != self.last[0])
        self.last = (result, generation)
        assert all(self.source.revision(m.name) for m in result.manifests)


TestEdited = Edited.TestCase
TestEdited.settings = settings(max_examples=40, stateful_step_count=25, deadline=None)


class Parsed:
    """Reads files, and notes which."""

    def __init__(self) -> None:
        self.paths: list[str] = []

    def __call__(self, path: str, data: bytes, keys: KeyFiles, budget: Budget) -> Iterator[Candidate]:
        self.paths.append(Path(path).name)
        return read_candidates(path, data, keys, budget)


def test_only_what_is_new_is_parsed(folder: Folder) -> None:
    folder.add("alice", "bob", "carol")
    parsed = Parsed()
    source = CachedSource(folder.path, parsed)
    source.load()
    source.load()
    assert parsed.paths == ["alice.yaml", "bob.yaml", "carol.yaml"]
    folder.write("bob.yaml", manifest("bob", more="  docker: true\n"))
    folder.write("team/dora.yaml", "a: [")
    for _ in range(2):
        assert [m.name for m in source.load().manifests] == ["alice", "bob", "carol"]
    assert parsed.paths[3:] == ["bob.yaml", "dora.yaml"]


def test_a_changed_key_file_is_seen_and_nothing_else_is_parsed(folder: Folder) -> None:
    folder.add("alice", "bob")
    parsed = Parsed()
    source = CachedSource(folder.path, parsed)
    before = source.load()
    revisions = source.revision("alice"), source.revision("bob")
    folder.write("keys/bob.pub", public_key(9) + "\n")
    after = source.load()
    assert parsed.paths[2:] == ["bob.yaml"]
    assert after.manifests[0] is before.manifests[0]
    assert after.manifests[1].keys != before.manifests[1].keys
    assert source.revision("alice") == revisions[0]
    assert source.revision("bob") not in ("", revisions[1])
    assert source.revision("carol") == ""


def test_a_swap_to_a_copy_parses_nothing(folder: Folder) -> None:
    folder.add("alice", "bob")
    current = folder.path.with_name("current")
    current.symlink_to(folder.path)
    parsed = Parsed()
    source = CachedSource(current, parsed)
    source.load()
    copy = shutil.copytree(folder.path, folder.path.with_name("next"))
    current.unlink()
    current.symlink_to(copy)
    source.load()
    assert (len(parsed.paths), source.generation) == (2, 1)


def test_a_file_that_goes_away_for_a_moment_is_not_mistaken_for_its_successor(folder: Folder) -> None:
    folder.add("alice", "bob")
    source = CachedSource(folder.path)
    source.load()
    (folder.path / "alice.yaml").unlink()
    assert [m.name for m in source.load().manifests] == ["bob"]
    folder.write("alice.yaml", manifest("carol"))
    assert [m.name for m in source.load().manifests] == ["bob", "carol"]


def test_a_change_that_leaves_size_and_time_as_they_were_is_seen(folder: Folder) -> None:
    folder.write("alice.yaml", manifest("alice", f'"{public_key(4)}"'))
    file = folder.path / "alice.yaml"
    source = CachedSource(folder.path)
    source.load()
    before = file.stat()
    with file.open("r+") as opened:
        opened.write(manifest("alice", f'"{public_key(5)}"'))
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    (now,) = source.load().manifests
    assert (file.stat().st_size, now.keys[0]) == (before.st_size, SSHKey.parse(public_key(5)))


def test_where_it_stands_does_not_change_a_revision(folder: Folder) -> None:
    folder.add("alice")
    source = CachedSource(folder.path)
    source.load()
    first = (source.generation, source.revision("alice"))
    folder.write("alice.yaml", "# moved down\n" + manifest("alice"))
    source.load()
    assert (source.generation, source.revision("alice")) == (first[0] + 1, first[1])
    folder.write("alice.yaml", manifest("alice", more="  autostart: false\n"))
    source.load()
    assert source.revision("alice") != first[1]


def test_the_generation_counts_differences(folder: Folder) -> None:
    folder.add("alice")
    source = CachedSource(folder.path)
    assert source.generation == 0
    seen = []
    for change in (None, None, "a: [", "a: [", "a: {", None):
        if change is None:
            (folder.path / "bob.yaml").unlink(missing_ok=True)
        else:
            folder.write("bob.yaml", change)
        source.load()
        seen.append(source.generation)
    assert seen == [1, 1, 2, 2, 2, 3]  # "a: [" and "a: {" are refused at the same place in the same words
    shutil.rmtree(folder.path)
    assert not source.load().complete
    assert source.generation == 4


@pytest.mark.parametrize("lacking", [0, 1])
def test_what_is_remembered_spends_the_same_budget(folder: Folder, lacking: int) -> None:
    data = f"{manifest('alice')}---\n{manifest('bob')}".encode()
    first = Budget()
    with Tree(str(folder.path), str(folder.path)) as tree:
        keys = KeyFiles(tree)
        memory = Memory()
        list(memory.read("x.yaml", data, keys, first))
        spent = MAX_NODES - first.nodes
        left = [Budget(spent - lacking), Budget(spent - lacking)]
        ends = [names(memory.read, data, keys, left[0]), names(read_candidates, data, keys, left[1])]
    assert ends[0] == ends[1] == (["alice", "the end"] if lacking else ["alice", "bob"])
    assert left[0] == left[1]


def names(read: Reader, data: bytes, keys: KeyFiles, budget: Budget) -> list[str]:
    """Names of the candidates of a file until the budget ends."""
    found: list[str] = []
    try:
        found.extend(candidate.name for candidate in read("x.yaml", data, keys, budget))
    except BudgetExceededError:
        found.append("the end")
    return found
