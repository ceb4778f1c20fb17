"""The watch wakes after every kind of change, and goes on whatever happens to the folders or to itself."""

from __future__ import annotations

import os
import queue
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from containarium.sources.route import MAX_FOLDERS, trace
from containarium.sources.watch import BEGAN, Listen, Stop, Watch, inotify

PATIENCE = 10.0
QUIET = 0.15
"""Seconds without a call after which everything has been told."""


class Wakes:
    """A running watch and what it said."""

    def __init__(self, paths: Iterable[Path], listen: Listen = inotify, look: float = 60.0) -> None:
        self.reasons: queue.Queue[str] = queue.Queue()
        self.notes: queue.Queue[str] = queue.Queue()
        self.watch = Watch(tuple(paths), self.reasons.put, self.notes.put, listen=listen, look=look)

    def next(self) -> str:
        return self.reasons.get(timeout=PATIENCE)

    def all(self, *, at_least: int = 1) -> set[str]:
        """Reasons given from now on, until it keeps quiet."""
        found = [self.reasons.get(timeout=PATIENCE) for _ in range(at_least)]
        while True:
            try:
                found.append(self.reasons.get(timeout=QUIET))
            except queue.Empty:
                return set(found)

    def note(self) -> str:
        return self.notes.get(timeout=PATIENCE)


@contextmanager
def watching(*paths: Path, listen: Listen = inotify, look: float = 60.0) -> Iterator[Wakes]:
    """A watch that has begun. By default it looks at nothing by itself: what wakes it is what it listens to."""
    wakes = Wakes(paths, listen, look)
    wakes.watch.start()
    try:
        assert wakes.next() == BEGAN
        yield wakes
    finally:
        wakes.watch.stop()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Stands alone in its parent, with one file."""
    path = tmp_path / "etc" / "environments"
    path.mkdir(parents=True)
    (path / "alice.yaml").write_text("a")
    return path


def write(folder: Path) -> None:
    (folder / "bob.yaml").write_text("b")


def rename_into_place(folder: Path) -> None:
    fresh = folder.parent / "fresh"
    fresh.write_text("b")
    fresh.replace(folder / "alice.yaml")


def write_in_parts(folder: Path) -> None:
    with (folder / "alice.yaml").open("a") as file:
        file.write("more")
        file.flush()
        os.fsync(file.fileno())


def write_below(folder: Path) -> None:
    (folder / "team" / "deep").mkdir(parents=True)
    (folder / "team" / "deep" / "x.yaml").write_text("x")


CHANGES: list[Callable[[Path], object]] = [
    write,
    rename_into_place,
    write_in_parts,
    write_below,
    lambda folder: (folder / "alice.yaml").unlink(),
    lambda folder: (folder / "alice.yaml").chmod(0o600),
    lambda folder: (folder / "link.yaml").symlink_to("alice.yaml"),
    lambda folder: folder.chmod(0),
    lambda folder: folder.rename(folder.with_name("gone")),
    shutil.rmtree,
]


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("way", ["itself", "link", "linked parent"])
def test_every_change_wakes(folder: Path, tmp_path: Path, way: str, change: Callable[[Path], object]) -> None:
    given = folder
    if way == "link":
        given = tmp_path / "current"
        given.symlink_to("etc/environments")
    elif way == "linked parent":
        (tmp_path / "host").symlink_to(folder.parent)
        given = tmp_path / "host" / "environments"
    with watching(given) as wakes:
        change(folder)
        assert wakes.next() == str(given)


def test_nothing_wakes_without_a_change(folder: Path) -> None:
    with watching(folder) as wakes:
        (folder / "alice.yaml").read_text()
        os.listdir(folder)  # noqa: PTH208
        (folder.parent / "other").write_text("not in it")
        time.sleep(QUIET)
        write(folder)  # and this one does, so it was awake
        assert wakes.reasons.get(timeout=PATIENCE) == str(folder)
        assert wakes.notes.empty()


def test_a_new_folder_is_watched_too(folder: Path) -> None:
    with watching(folder) as wakes:
        (folder / "team").mkdir()
        wakes.all()
        (folder / "team" / "x.yaml").write_text("x")
        assert wakes.all() == {str(folder)}
        (folder / "team").rename(folder / "group")
        wakes.all()
        (folder / "group" / "x.yaml").write_text("y")
        assert wakes.all() == {str(folder)}


def test_a_swapped_link_is_followed(folder: Path, tmp_path: Path) -> None:
    """As a git sync does it: two links on the way, the second one swapped by a rename."""
    for commit in ("one", "two"):
        (tmp_path / "sync" / commit / "environments").mkdir(parents=True)
    current = tmp_path / "sync" / "current"
    current.symlink_to("one")
    given = tmp_path / "manifests"
    given.symlink_to(current / "environments")
    with watching(given) as wakes:
        fresh = tmp_path / "sync" / "fresh"
        fresh.symlink_to("two")
        fresh.replace(current)
        assert wakes.all() == {str(given)}
        (tmp_path / "sync" / "two" / "environments" / "x.yaml").write_text("x")
        assert wakes.all() == {str(given)}
        (tmp_path / "sync" / "one" / "environments" / "x.yaml").write_text("nobody's any more")
        given.unlink()
        given.symlink_to(folder)
        wakes.all()
        write(folder)
        assert wakes.all() == {str(given)}


@pytest.mark.parametrize("missing", ["folder", "parents"])
def test_a_folder_that_is_missing_is_noticed_when_it_comes(tmp_path: Path, missing: str) -> None:
    given = tmp_path / "a" / "b" / "c"
    if missing == "folder":
        given.parent.mkdir(parents=True)
    with watching(given) as wakes:
        for _ in range(2):
            given.mkdir(parents=True)
            assert wakes.all() == {str(given)}
            write(given)
            assert wakes.all() == {str(given)}
            shutil.rmtree(given.parent)
            assert wakes.all() == {str(given)}


def test_a_single_file_replaced_by_a_rename(tmp_path: Path) -> None:
    passwd, shadow, group = (tmp_path / name for name in ("passwd", "shadow", "group"))
    passwd.write_text("root")
    with watching(passwd, shadow, group) as wakes:
        (tmp_path / "motd").write_text("nobody asked")
        (tmp_path / "passwd.lock").write_text("nobody asked")
        for file in (passwd, shadow, passwd):
            fresh = tmp_path / "nscd"
            fresh.write_text("root")
            fresh.replace(file)
            assert wakes.all() == {str(file)}
        with group.open("w") as opened:
            opened.write("x")
        assert wakes.all() == {str(group)}


def test_links_do_not_lead_it_out(folder: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside" / "deep"
    outside.mkdir(parents=True)
    (folder / "out").symlink_to(outside.parent)
    (folder / "loop").symlink_to(".")
    (folder / ".git" / "objects").mkdir(parents=True)
    route = trace(str(folder))
    assert route.folders == {str(folder)}
    assert route.watched == {str(folder), str(folder.parent)}


def test_a_loop_of_links_is_missing_and_mended(folder: Path, tmp_path: Path) -> None:
    given = tmp_path / "one"
    given.symlink_to("two")
    (tmp_path / "two").symlink_to("one")
    with watching(given) as wakes:
        given.unlink()
        given.symlink_to(folder)
        wakes.all()
        write(folder)
        assert wakes.all() == {str(given)}


def test_too_many_folders_are_said(tmp_path: Path) -> None:
    for number in range(MAX_FOLDERS + 1):
        (tmp_path / str(number)).mkdir()

    def listen(folders: Iterable[str], stop: Stop) -> Generator[set[tuple[Any, str]], None, None]:
        while not stop.is_set():
            time.sleep(0.01)
        yield from ()

    with watching(tmp_path, listen=listen) as wakes:
        assert wakes.note() == (
            f"{tmp_path} holds more than {MAX_FOLDERS} folders: changes in the others are found later"
        )


class Failing:
    """Listens so often in vain, as when a limit of inotify is used up or its thread dies; then it works."""

    def __init__(self, times: int, error: Exception, *, begins: bool) -> None:
        self.left = times
        self.error = error
        self.begins = begins
        self.works = threading.Event()

    def __call__(self, folders: Iterable[str], stop: Stop) -> Generator[set[tuple[Any, str]], None, None]:
        if self.left:
            self.left -= 1
            if self.begins:
                stop.is_set()
            raise self.error
        self.works.set()
        yield from inotify(folders, stop)


def test_without_inotify_it_looks_by_itself(folder: Path, tmp_path: Path) -> None:
    missing = tmp_path / "later"
    limit = OSError("OS file watch limit reached.\nabout [x]")
    with watching(folder, missing, listen=Failing(10**6, limit, begins=False), look=0.05) as wakes:
        assert wakes.note() == (
            "cannot watch the files (OS file watch limit reached. about [x]): looking every 0.05 s instead; "
            "if a limit is used up, raise fs.inotify.max_user_watches and fs.inotify.max_user_instances"
        )
        for change in (write, rename_into_place, write_below, shutil.rmtree, Path.mkdir, write):
            change(folder)
            assert str(folder) in wakes.all()
        write_and_move = missing.with_name("draft")
        write_and_move.write_text("x")
        write_and_move.replace(missing)
        assert str(missing) in wakes.all()
        assert wakes.notes.empty()  # once, not at every attempt


def test_a_watch_that_died_listens_again(folder: Path) -> None:
    listen = Failing(2, RuntimeError("the thread behind it is gone"), begins=True)
    with watching(folder, listen=listen) as wakes:
        assert "the thread behind it is gone" in wakes.note()
        assert wakes.next() == BEGAN  # what changed meanwhile is not known
        assert listen.works.wait(PATIENCE)
        wakes.all(at_least=0)
        write(folder)
        assert wakes.next() == str(folder)


def test_a_callback_that_raises_does_not_end_it(folder: Path) -> None:
    calls: queue.Queue[str] = queue.Queue()

    def changed(reason: str) -> None:
        calls.put(reason)
        if calls.qsize() == 1:
            raise RuntimeError("the loop has a bug")

    watch = Watch([folder], changed)
    watch.start()
    deadline = time.monotonic() + PATIENCE
    while calls.qsize() < 2 and time.monotonic() < deadline:
        time.sleep(0.02)
    watch.stop()
    assert set(calls.queue) == {BEGAN}


def test_a_file_system_that_tells_nothing_is_looked_at(folder: Path) -> None:
    """Names that are no text cannot be listened to either."""
    given = folder / os.fsdecode(b"\xff")
    given.mkdir()
    with watching(folder, look=0.05) as wakes:
        write(given)
        assert str(folder) in wakes.all()


def test_no_call_comes_after_the_end(folder: Path) -> None:
    wakes = Wakes([folder])
    wakes.watch.stop()
    wakes = Wakes([folder])
    wakes.watch.start()
    wakes.all()
    threads = threading.active_count()
    wakes.watch.stop()
    assert threading.active_count() == threads - 1
    write(folder)
    assert wakes.reasons.empty()


_UNREADABLE = """
import os, queue, sys
import watchfiles  # while it may still be read
from pathlib import Path
from containarium.sources.watch import Watch
folder, calls = Path(sys.argv[1]), queue.Queue()
if os.geteuid() == 0:
    os.setgid(65534); os.setuid(65534)
watch = Watch([folder], calls.put, look=0.1)
watch.start()
print(calls.get(timeout=10), flush=True)
input()
print(calls.get(timeout=10), flush=True)
input()
while not calls.empty():
    calls.get()
input()
print(calls.get(timeout=10), flush=True)
watch.stop()
"""


@pytest.fixture
def open_to_all() -> Iterator[Path]:
    """A folder on a way that everybody may go, which pytest's own are not."""
    with tempfile.TemporaryDirectory() as path:
        Path(path).chmod(0o755)
        yield Path(path)


@pytest.mark.parametrize("closed", ["folder", "parent"])
def test_a_folder_that_may_not_be_read(open_to_all: Path, closed: str) -> None:
    """As somebody who is not root, for nothing is closed to root."""
    folder = open_to_all / "containarium" / "environments"
    folder.mkdir(parents=True)
    folder.chmod(0o000)
    if closed == "parent":
        folder.parent.chmod(0o711)  # what is in it can be reached, but nobody tells of it
    with subprocess.Popen(
        [sys.executable, "-c", _UNREADABLE, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdin is not None
        assert child.stdout is not None

        def tell() -> None:
            assert child.stdin is not None
            child.stdin.write("\n")
            child.stdin.flush()

        assert child.stdout.readline() == f"{BEGAN}\n"
        tell()
        folder.chmod(0o755)
        assert child.stdout.readline() == f"{folder}\n"
        tell()
        time.sleep(QUIET)
        tell()
        write(folder)
        assert child.stdout.readline() == f"{folder}\n"
    assert child.returncode == 0
