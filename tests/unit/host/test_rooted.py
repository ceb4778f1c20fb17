"""Reading below a hostile folder: no link leads out, nothing hangs, nothing grows."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from containarium.host.rooted import NotSupportedError, Tree


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A guest's root beside a secret of the host."""
    (tmp_path / "secret").write_text("host's own")
    folder = tmp_path / "rootfs"
    (folder / "etc").mkdir(parents=True)
    (folder / "etc/passwd").write_text("guest's own")
    return folder


@pytest.fixture
def tree(root: Path) -> Iterator[Tree]:
    with Tree(root) as opened:
        try:
            opened.file("/etc/passwd")
        except NotSupportedError:
            pytest.skip("no openat2 here")
        yield opened


def content(tree: Tree, path: str, limit: int = 1000) -> bytes | None:
    found = tree.file(path)
    return None if found is None else tree.read(found, limit)


def test_plain_files_are_read(tree: Tree) -> None:
    assert content(tree, "/etc/passwd") == b"guest's own"
    assert content(tree, "etc/passwd") == b"guest's own"


@pytest.mark.parametrize("target", ["../../secret", "../" * 40 + "{outside}/secret", "/proc/self/root{outside}/secret"])
def test_links_do_not_lead_out(tree: Tree, root: Path, target: str) -> None:
    (root / "etc/link").symlink_to(target.format(outside=root.parent))
    assert content(tree, "/etc/link") is None


def test_an_absolute_link_stays_inside(tree: Tree, root: Path) -> None:
    (root / "etc/absolute").symlink_to("/etc/passwd")
    (root / "etc/up").symlink_to("/../../../etc/passwd")
    assert content(tree, "/etc/absolute") == b"guest's own"
    assert content(tree, "/etc/up") == b"guest's own"
    assert tree.link_target("/etc/absolute") == "/etc/passwd"
    assert tree.link_target("/etc/passwd") is None
    assert tree.link_target("/etc/nothing") is None


def test_a_linked_folder_does_not_lead_out(tree: Tree, root: Path) -> None:
    (root / "var").symlink_to(root.parent)
    assert content(tree, "/var/secret") is None


def test_loops_end(tree: Tree, root: Path) -> None:
    (root / "a").symlink_to("b")
    (root / "b").symlink_to("a")
    assert content(tree, "/a") is None


def test_a_magic_link_is_no_door(tree: Tree, root: Path) -> None:
    (root / "fd").symlink_to("/proc/self/fd/0")
    assert content(tree, "/fd") is None


def test_a_pipe_does_not_hang(tree: Tree, root: Path) -> None:
    os.mkfifo(root / "pipe")
    assert content(tree, "/pipe") is None


def test_folders_and_absences_are_nothing(tree: Tree) -> None:
    assert content(tree, "/etc") is None
    assert content(tree, "/nothing/at/all") is None
    assert content(tree, "/etc/passwd/below") is None
    assert content(tree, "/" + "x" * 5000) is None


def test_large_files_are_refused(tree: Tree, root: Path) -> None:
    (root / "exact").write_bytes(b"x" * 1000)
    (root / "over").write_bytes(b"x" * 1001)
    with (root / "sparse").open("wb") as sparse:
        sparse.truncate(1 << 40)
    assert content(tree, "/exact") == b"x" * 1000
    assert content(tree, "/over") is None
    assert content(tree, "/sparse") is None


def test_a_file_that_grows_after_the_look_is_refused(tree: Tree, root: Path) -> None:
    found = tree.file("/etc/passwd")
    assert found is not None
    (root / "etc/passwd").write_bytes(b"y" * 5000)
    assert tree.read(found, 1000) is None


def test_a_file_swapped_after_the_look_is_not_followed(tree: Tree, root: Path) -> None:
    found = tree.file("/etc/passwd")
    assert found is not None
    (root / "etc/passwd").unlink()
    (root / "etc/passwd").symlink_to("../../secret")
    assert tree.read(found, 1000) == b"guest's own"


class TestPrivateFile:
    @pytest.fixture(autouse=True)
    def home(self, root: Path) -> Path:
        ssh = root / "home/alice/.ssh"
        ssh.mkdir(parents=True, mode=0o700)
        (ssh / "authorized_keys").write_text("key")
        (ssh / "authorized_keys").chmod(0o600)
        return root / "home/alice"

    def read(self, tree: Tree, home: str = "/home/alice") -> bytes | None:
        found = tree.private_file(home, ".ssh/authorized_keys")
        return None if found is None else tree.read(found, 100)

    def test_read(self, tree: Tree) -> None:
        assert self.read(tree) == b"key"

    def test_a_home_may_be_reached_through_a_link(self, tree: Tree, root: Path) -> None:
        (root / "link").symlink_to("/home")
        assert self.read(tree, "/link/alice") == b"key"

    def test_links_below_it_are_refused(self, tree: Tree, home: Path) -> None:
        (home / ".ssh").rename(home / "other")
        (home / ".ssh").symlink_to("other")
        assert self.read(tree) is None

    def test_a_linked_file_is_refused(self, tree: Tree, home: Path) -> None:
        (home / ".ssh/authorized_keys").rename(home / ".ssh/other")
        (home / ".ssh/authorized_keys").symlink_to("other")
        assert self.read(tree) is None

    @pytest.mark.parametrize("loose", [".ssh", ".ssh/authorized_keys"])
    def test_what_others_can_write_to_is_refused(self, tree: Tree, home: Path, loose: str) -> None:
        (home / loose).chmod(0o722)
        assert self.read(tree) is None


def test_nothing_stays_open(root: Path) -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(3):
        with Tree(root) as opened:
            content(opened, "/etc/passwd")
            content(opened, "/nothing")
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_a_root_that_is_a_link_is_refused(root: Path) -> None:
    link = root.parent / "link"
    link.symlink_to(root)
    with pytest.raises(OSError, match="directory"):
        Tree(link)
