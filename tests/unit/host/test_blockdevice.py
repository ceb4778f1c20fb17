"""What is on a disk: told by the machine's own tools, tried on files in place of disks."""

from __future__ import annotations

from pathlib import Path

import pytest

from containarium.host import command
from containarium.host.command import Completed
from containarium.host.prepare import blockdevice
from containarium.model.host import TerminalError
from tests.unit.host.etcfiles import FakeRun

SIZE = 8 << 20


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """Give a file of zeros."""
    file = tmp_path / "disk"
    with file.open("wb") as opened:
        opened.truncate(SIZE)
    return file


def _look(image: Path, sysfs: Path | None = None) -> blockdevice.Contents:
    return blockdevice.contents(command.run, str(image), sysfs or image.parent)


def test_zeros_are_blank(image: Path) -> None:
    assert _look(image) == blockdevice.Contents(str(image))


@pytest.mark.parametrize("place", [0, 500_000, SIZE - 1])
def test_a_single_byte_at_either_end_is_somebody_s(image: Path, place: int) -> None:
    with image.open("r+b") as opened:
        opened.seek(place)
        opened.write(b"x")
    assert _look(image).kind == "data without a signature"


@pytest.mark.parametrize(
    ("make", "kind", "label"),
    [
        (["mkfs.ext4", "-q", "-F", "-L", "photos"], "ext4", "photos"),
        (["mkfs.ext4", "-q", "-F", "-L", "containarium"], "ext4", "containarium"),
        (["mkswap", "-q"], "swap", ""),
    ],
)
def test_a_file_system_is_told(image: Path, make: list[str], kind: str, label: str) -> None:
    command.run([*make, str(image)], timeout=60)
    found = _look(image)
    assert (found.kind, found.label) == (kind, label)
    assert found.uuid
    command.run(["wipefs", "-q", "-a", str(image)], timeout=60)
    assert _look(image).kind == "data without a signature", "only its signature is gone"


def test_signatures_that_contradict_one_another_are_refused(image: Path) -> None:
    run = FakeRun(lambda _args: Completed(8, "", "ambivalent result detected"))
    with pytest.raises(TerminalError, match="left as it is") as refused:
        blockdevice.contents(run, str(image), image.parent)
    assert refused.value.reason == "DiskForeign"


def _node(sysfs: Path) -> Path:
    node = sysfs / "0:0"
    node.mkdir()
    return node


def test_a_partition_is_no_whole_disk(image: Path) -> None:
    (_node(image.parent) / "partition").write_text("1\n")
    with pytest.raises(TerminalError, match="name the whole disk"):
        _look(image)


def test_a_disk_with_partitions_is_not_blank(image: Path) -> None:
    part = _node(image.parent) / "disk1"
    part.mkdir()
    (part / "partition").write_text("1\n")
    found = _look(image)
    assert (found.kind, found.partitions) == ("a partition table (unknown)", ("/dev/disk1",))


def test_a_held_disk_is_in_use(image: Path) -> None:
    (_node(image.parent) / "holders" / "md0").mkdir(parents=True)
    with pytest.raises(TerminalError, match="md0") as refused:
        blockdevice.require_unused(str(image), image.parent)
    assert refused.value.reason == "DiskInUse"


def test_nobody_is_told_how_to_empty_a_disk_that_is_in_use() -> None:
    found = blockdevice.Contents("/dev/vda", "ext4", "root")
    idle, held = blockdevice.foreign("/dev/vda", found, []), blockdevice.foreign("/dev/vda", found, ["md0"])
    assert (idle.reason, held.reason) == ("DiskForeign", "DiskForeign")
    assert "wipefs -a" in idle.remedy
    assert "wipefs" not in held.remedy
    assert "in use (md0)" in held.remedy


def test_a_disk_that_does_not_appear_is_waited_for_and_given_up(tmp_path: Path) -> None:
    naps: list[float] = []
    with pytest.raises(TerminalError, match="is not there") as refused:
        blockdevice.find(str(tmp_path / "late"), 0.0, naps.append)
    assert (refused.value.reason, naps) == ("DiskMissing", [])


def test_a_disk_that_appears_late_is_looked_at(tmp_path: Path) -> None:
    late = tmp_path / "late"

    def appear(_seconds: float) -> None:
        late.write_text("")

    with pytest.raises(TerminalError, match="is no disk"):
        blockdevice.find(str(late), 60.0, appear)
