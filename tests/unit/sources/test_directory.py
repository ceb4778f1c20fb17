"""The folder itself: what is read of it, when it counts as whole, and what hostile files cannot do."""

from __future__ import annotations

import os
import shutil
import socket
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from containarium.model.manifest import Load
from containarium.model.problem import Problem
from containarium.sources.directory import load
from containarium.sources.folder import MAX_FILE_BYTES, Tree
from tests.unit.sources.conftest import Folder, manifest, public_key


def names(read: Load) -> list[str]:
    return [m.name for m in read.manifests]


def only(read: Load) -> Problem:
    assert len(read.problems) == 1, [str(problem) for problem in read.problems]
    return read.problems[0]


def test_reads_below_in_sorted_order_and_nothing_else(folder: Folder) -> None:
    folder.write("z.yaml", manifest("alice"))
    folder.write("team/a.yml", manifest("bob"))
    folder.write("team.yaml/B.YAML", manifest("carol"))
    for name in (
        ".hidden.yaml", ".alice.yaml.swp", "alice.yaml~", "#alice.yaml#", ".#alice.yaml", "alice.yaml.tmp", "4913",
        "alice.yaml.bak", "alice.yaml.orig", "README.md", "keys/x.yaml", "team/keys/x.yaml", ".git/x.yaml",
    ):  # fmt: skip
        folder.write(name, "this: [is, not, ours")
    read = load(folder.path)
    assert (names(read), read.problems, read.complete) == (["alice", "bob", "carol"], (), True)


@pytest.mark.parametrize(
    "content",
    [None, "# nothing yet\n", "apiVersion: containarium.dev/v1\nkind: Host\nmetadata: {name: jump-1}\n", "---\n---\n"],
)
def test_a_folder_without_environments_is_unknown(folder: Folder, content: str | None) -> None:
    if content is not None:
        folder.write("x.yaml", content)
    read = load(folder.path)
    assert (read.complete, only(read).reason) == (False, "SourceEmpty")
    assert "everything stays as it is" in only(read).remedy


def test_a_truncated_file_is_a_problem(folder: Folder) -> None:
    folder.add("alice")
    file = folder.write("bob.yaml", "")
    read = load(folder.path)
    assert (names(read), str(only(read).location), only(read).reason) == (["alice"], str(file), "FileEmpty")


def test_a_missing_folder_is_unknown(tmp_path: Path) -> None:
    read = load(tmp_path / "nowhere")
    assert (read.complete, read.manifests) == (False, ())
    assert str(only(read)).startswith(f"{tmp_path}/nowhere: the folder does not exist; make it")


@pytest.mark.parametrize("name", ["a\0b", "x" * 300])
def test_an_impossible_path_is_unknown(name: str) -> None:
    assert only(load(Path(name))).reason == "SourceUnavailable"


def test_a_file_is_no_folder(folder: Folder) -> None:
    file = folder.write("alice.yaml", manifest("alice"))
    assert only(load(file)).message == "this is not a folder"


def test_links_are_followed_inside_only(folder: Folder, tmp_path: Path) -> None:
    folder.write(".store/alice", manifest("alice"))
    folder.write(".team/bob.yaml", manifest("bob"))
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "carol.yaml").write_text(manifest("carol"))
    links = {
        "alice.yaml": ".store/alice",
        "team": ".team",
        "again": ".team",
        "self": ".",
        "README": "/etc/hostname",
        "broken": "nothing",
        "carol.yaml": str(outside / "carol.yaml"),
        "out": "../outside",
        "loop.yaml": "loop.yaml",
        "gone.yaml": "nothing",
    }
    for name, target in links.items():
        (folder.path / name).symlink_to(target)
    read = load(folder.path)
    assert (names(read), read.complete) == (["alice", "bob"], True)
    assert {Path(problem.location.file).name: problem.message for problem in read.problems} == {
        "carol.yaml": "this link leads out of the folder of the manifests",
        "out": "this link leads out of the folder of the manifests",
        "loop.yaml": "this is a loop of links",
        "gone.yaml": "this is a link to nothing",
    }


def test_key_files_are_followed_inside_only(folder: Folder, tmp_path: Path) -> None:
    (tmp_path / "out.pub").write_text(public_key(8))
    folder.write(".store/keys/in.pub", public_key(9))
    (folder.path / "keys" / "alice.pub").unlink()
    (folder.path / "keys" / "alice.pub").symlink_to("../.store/keys/in.pub")
    (folder.path / "keys" / "bob.pub").unlink()
    (folder.path / "keys" / "bob.pub").symlink_to("../../out.pub")
    (folder.path / "linked").symlink_to("keys")
    folder.add("alice", "bob")
    folder.write("carol.yaml", manifest("carol", keys="{file: linked/carol.pub}"))
    read = load(folder.path)
    assert names(read) == ["alice", "carol"]
    assert only(read).environment == "bob"
    assert "leads out of the folder" in only(read).message


def test_the_way_kubernetes_mounts_a_folder(folder: Folder, tmp_path: Path) -> None:
    mount = tmp_path / "mount"
    shutil.copytree(folder.path, mount / "..2026_11_22")
    (mount / "..2026_11_22" / "alice.yaml").write_text(manifest("alice", keys="{file: alice.pub}"))
    (mount / "..2026_11_22" / "alice.pub").write_text(public_key(1))
    (mount / "..data").symlink_to("..2026_11_22")
    (mount / "alice.yaml").symlink_to("..data/alice.yaml")
    (mount / "alice.pub").symlink_to("..data/alice.pub")
    read = load(mount)
    assert (names(read), read.problems, read.complete) == (["alice"], (), True)
    assert read.manifests[0].origin.file == f"{mount}/alice.yaml"


@pytest.fixture
def swapping(folder: Folder, tmp_path: Path) -> Iterator[Path]:
    """A link that is moved between two whole trees all the time, as git-sync does it, and the old one made anew."""
    folder.add("alice", "bob", "carol")
    for name in ("one", "two"):
        shutil.copytree(folder.path, tmp_path / name)
    current = tmp_path / "current"
    current.symlink_to("one")
    stop = threading.Event()

    def swap() -> None:
        for name in iter(lambda: "two" if current.readlink().name == "one" else "one", None):
            if stop.is_set():
                return
            (tmp_path / "next").symlink_to(name)
            (tmp_path / "next").replace(current)
            old = tmp_path / ("one" if name == "two" else "two")
            shutil.rmtree(old)
            shutil.copytree(folder.path, old)

    thread = threading.Thread(target=swap)
    thread.start()
    yield current
    stop.set()
    thread.join()


def test_a_swap_is_never_taken_for_less_than_there_is(swapping: Path) -> None:
    whole = 0
    deadline = time.monotonic() + 1
    while time.monotonic() < deadline:
        read = load(swapping)
        if read.complete and not read.problems:
            whole += 1
            assert names(read) == ["alice", "bob", "carol"]
        else:
            assert read.problems
    assert whole


def test_intact_sees_swaps_and_changes(folder: Folder, tmp_path: Path) -> None:
    folder.add("alice")
    folder.write("team/bob.yaml", manifest("bob"))
    link = tmp_path / "current"
    link.symlink_to("manifests")
    with Tree(str(link), "x") as tree:
        assert len(list(tree.files())) == 2
        assert tree.intact()
        link.unlink()
        assert not tree.intact()
        link.symlink_to("manifests")
        assert tree.intact()
        time.sleep(0.02)
        folder.write("team/new.yaml", "")
        assert not tree.intact()


def test_odd_files_neither_block_nor_crash(folder: Folder) -> None:
    folder.add("alice")
    os.mkfifo(folder.path / "fifo.yaml")
    (folder.path / "null.yaml").symlink_to("/dev/zero")
    with socket.socket(socket.AF_UNIX) as listener:
        here = os.open(folder.path, os.O_RDONLY)
        listener.bind(f"/proc/self/fd/{here}/socket.yaml")
        os.close(here)
    (folder.path / "keys" / "bob.pub").unlink()
    os.mkfifo(folder.path / "keys" / "bob.pub")
    folder.add("bob")
    read = load(folder.path)
    assert names(read) == ["alice"]
    told = {Path(problem.location.file).name: problem.message for problem in read.problems}
    assert told["fifo.yaml"] == told["socket.yaml"] == "this is not a regular file"
    assert told["null.yaml"] == "this link leads out of the folder of the manifests"
    assert "this is not a regular file" in told["bob.yaml"]


def test_large_files_are_not_read(folder: Folder) -> None:
    folder.add("alice")
    with (folder.path / "sparse.yaml").open("wb") as file:
        file.truncate(100 << 20)
    folder.write("just.yaml", b"#" * MAX_FILE_BYTES)
    folder.write("over.yaml", b"#" * (MAX_FILE_BYTES + 1))
    read = load(folder.path)
    assert names(read) == ["alice"]
    assert [Path(problem.location.file).name for problem in read.problems] == ["over.yaml", "sparse.yaml"]
    assert all(problem.message == "this is larger than 1024 KiB" for problem in read.problems)


def test_too_much_in_all_is_unknown(folder: Folder) -> None:
    folder.add("alice")
    for number in range(65):
        folder.write(f"{number:03}.yaml", b"#" * MAX_FILE_BYTES)
    read = load(folder.path)
    assert not read.complete
    assert "64 MiB" in only(read).message


def test_folders_too_deep_are_unknown(folder: Folder) -> None:
    folder.add("alice")
    folder.write("/".join("d" * 40) + "/bob.yaml", manifest("bob"))
    read = load(folder.path)
    assert (names(read), read.complete) == (["alice"], False)
    assert "more than 20 deep" in only(read).message


def test_strange_names_are_shown_safely(folder: Folder) -> None:
    folder.write(os.fsdecode(b"\xff\x1b[2J\n\xe2\x80\xae.yaml"), "")
    shown = only(load(folder.path)).location.file
    assert shown.isprintable()
    assert shown.endswith("[2J??.yaml")


@contextmanager
def unprivileged() -> Iterator[None]:
    """Be nobody for a while, since nothing is unreadable for root."""
    if os.getuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


def test_what_may_not_be_read_is_told() -> None:
    with tempfile.TemporaryDirectory() as path:
        Path(path).chmod(0o755)
        folder = Folder(Path(path) / "manifests")
        folder.add("alice", "bob")
        folder.write("team/carol.yaml", manifest("carol"))
        for name in ("bob.yaml", "team"):
            (folder.path / name).chmod(0)
        with unprivileged():
            read = load(folder.path)
        folder.path.chmod(0)
        with unprivileged():
            closed = load(folder.path)
        for closed_folder in (folder.path, folder.path / "team"):
            closed_folder.chmod(0o755)
    assert (names(read), read.complete) == (["alice"], False)
    assert [Path(problem.location.file).name for problem in read.problems] == ["bob.yaml", "team"]
    assert {problem.remedy for problem in read.problems} == {"let the controller's account read it"}
    assert (closed.complete, only(closed).message) == (False, "the folder may not be read")


@pytest.mark.parametrize(
    "content",
    [
        "[" * 100_000,
        "{a: " * 100_000,
        "- " * 100_000,
        "? " * 100_000,
        "".join(" " * depth + "a:\n" for depth in range(1_000)),
        "a: &a [x, x]\n" + "".join(f"b{n}: &b{n} [*a, *a]\n" for n in range(100)),
        "*x : [" + "[" * 100_000,
        "? [a]\n" + "[" * 100_000,
        "[" + "a," * 400_000 + "]",
        "--- a\n" * 150_000,
        "a: 1\n" * 150_000,
        "a" * 900_000 + ": 1",
        ": " * 300_000,
        '"' * 500_000,
        "%" * 500_000,
        "&" * 500_000,
        "!" * 500_000,
        "a: |\n" + " x\n" * 200_000,
        "a: !!python/object/apply:os.system [ls]",
    ],
    ids=range(19),
)
def test_hostile_yaml_is_refused_quickly(folder: Folder, content: str) -> None:
    folder.add("alice")
    folder.write("hostile.yaml", content)
    start = time.perf_counter()
    read = load(folder.path)
    assert time.perf_counter() - start < 3
    assert names(read) == ["alice"]
    assert read.problems
    assert len(read.problems) < 300
    assert all(problem.remedy and len(str(problem)) < 2_000 for problem in read.problems)


def test_two_hundred_manifests_are_read_quickly(folder: Folder) -> None:
    for number in range(200):
        folder.write(f"user{number}.yaml", manifest(f"user{number}", keys=f'"{public_key(number)}"'))
    load(folder.path)
    start = time.perf_counter()
    read = load(folder.path)
    assert time.perf_counter() - start < 0.5  # 0.04 s on an idle machine
    assert (len(read.manifests), read.problems) == (200, ())
