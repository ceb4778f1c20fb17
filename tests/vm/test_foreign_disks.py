"""A data disk that somebody else's data is on is refused, and stays as it was to the last byte."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import pytest

from tests.lab.command import run
from tests.vm.machine import VirtualHost
from tests.vm.site import Desk, VirtualSite

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SIZE = "1G"


@pytest.fixture(scope="module")
def disks(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Give raw disks by device: an ext4 file system with a file, a pool of somebody's, and one that is partitioned."""
    folder = tmp_path_factory.mktemp("disks")
    content = folder / "content"
    content.mkdir()
    (content / "thesis").write_text("ten years of work\n")
    found = {device: folder / f"{device.rpartition('/')[2]}.raw" for device in ("/dev/vdc", "/dev/vdd", "/dev/vde")}
    for disk in found.values():
        run(["truncate", "-s", SIZE, disk], timeout=30)
    run(["mke2fs", "-q", "-t", "ext4", "-d", content, found["/dev/vdc"]], timeout=60)
    run(["sfdisk", "--quiet", found["/dev/vde"]], input="label: gpt\n,100M\n", timeout=60)
    return found


@pytest.fixture(scope="module")
def site(disks: dict[str, Path]) -> Iterator[VirtualSite]:
    """Give a machine with those disks, one with a pool that is in use nowhere, and nothing set up."""
    host = VirtualHost("foreign", disks=list(disks.values()))
    try:
        host.create()
        host.install_project()
        host.run(["zpool", "create", "tank", "/dev/vdd"])
        host.run(["sh", "-c", "echo ten years > /tank/thesis; zpool export tank; sync"])
        desk = Desk(host)
        desk.create()
        yield VirtualSite(host, desk)
    finally:
        host.delete()


@pytest.mark.parametrize("device", ["/dev/vdc", "/dev/vdd", "/dev/vde", "/dev/vda"])
def test_a_disk_with_foreign_data_is_refused_and_left_as_it_was(
    site: VirtualSite, disks: dict[str, Path], device: str
) -> None:
    """/dev/vda is the machine's own root disk, which is in use."""
    before = _digest(disks[device]) if device in disks else ""
    site.declare_host(device)
    refused = site.prepare(check=False)
    assert refused.returncode == 1
    reasons = [line for line in refused.stderr.splitlines() if line.startswith("  x ") and "waits for: " not in line]
    print(*reasons, sep="\n")
    assert len(reasons) == 1, refused.stderr
    assert device in reasons[0]
    assert ("wipefs -a" in reasons[0]) == (device in disks), "nobody is told to empty a disk that is in use"
    assert "Traceback" not in refused.stderr
    site.host.run(["sync"])
    if device in disks:
        assert _digest(disks[device]) == before
    assert site.host.run(["zpool", "list", "-H"], check=False).stdout == ""


def _digest(disk: Path) -> str:
    with disk.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
