"""What the quickstart takes back: what it made, unless somebody has changed it, and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from examples.quickstart.receipt import Receipt
from examples.quickstart.steps import QuickstartError


@pytest.fixture
def receipt(tmp_path: Path) -> Receipt:
    """Give an empty receipt."""
    return Receipt.read(tmp_path / "state" / "receipt.json")


def again(receipt: Receipt) -> Receipt:
    """Return what the next process reads."""
    return Receipt.read(receipt.path)


def test_what_was_made_is_removed(receipt: Receipt, tmp_path: Path) -> None:
    receipt.write(tmp_path / "etc" / "keys" / "alice.pub", b"key")
    receipt.link(tmp_path / "etc" / "link", Path("/nowhere"))
    assert again(receipt).remove_files() == []
    again(receipt).remove_folders()
    assert [path.name for path in tmp_path.iterdir()] == ["state"]


def test_what_somebody_changed_or_added_stays(receipt: Receipt, tmp_path: Path) -> None:
    mine, theirs = tmp_path / "etc" / "alice.yaml", tmp_path / "etc" / "dave.yaml"
    receipt.write(mine, b"one")
    mine.write_bytes(b"two")
    theirs.write_bytes(b"theirs")
    assert again(receipt).remove_files() == [mine]
    again(receipt).remove_folders()
    assert mine.read_bytes() == b"two"
    assert theirs.exists()


def test_a_file_is_written_once(receipt: Receipt, tmp_path: Path) -> None:
    file = tmp_path / "alice.yaml"
    assert receipt.write(file, b"one")
    file.unlink()
    assert not again(receipt).write(file, b"one"), "its owner removed it on purpose"
    assert not file.exists()


def test_a_file_that_is_there_is_refused(receipt: Receipt, tmp_path: Path) -> None:
    (tmp_path / "alice.yaml").write_bytes(b"theirs")
    with pytest.raises(QuickstartError, match="move it away"):
        receipt.write(tmp_path / "alice.yaml", b"mine")
    assert not again(receipt).files


def test_a_link_that_now_points_elsewhere_stays(receipt: Receipt, tmp_path: Path) -> None:
    link = tmp_path / "containarium"
    receipt.link(link, Path("/mine"))
    link.unlink()
    link.symlink_to("/theirs")
    again(receipt).remove_files()
    assert link.readlink() == Path("/theirs")


@pytest.mark.parametrize(
    ("inside", "ours"), [((), True), (("quickstart",), True), (("quickstart", "prepared.json"), False)]
)
def test_a_folder_is_claimed_only_when_nobody_else_uses_it(
    receipt: Receipt, tmp_path: Path, inside: tuple[str, ...], ours: bool
) -> None:
    folder = tmp_path / "var"
    folder.mkdir()
    for name in inside:
        (folder / name).touch()
    receipt.claim(folder, besides={"quickstart"})
    assert (str(folder) in receipt.folders) is ours
