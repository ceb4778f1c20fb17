"""A disposable machine with a whole data disk, blank and mounted by nobody: a loop device on a sparse file."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.lab.command import run
from tests.lab.host import LabHost

if TYPE_CHECKING:
    from pathlib import Path

DISK = "/dev/disk/by-id/containarium-data"
"""Where the machine finds its disk."""
SIZE = 16 << 30
"""Bytes; the file is sparse."""


class DiskHost(LabHost):
    """One disposable machine whose data disk is a block device. Nothing is mounted at /var/lib/incus."""

    def on_disk(self, command: str) -> str:
        """Run a shell command of this computer on the disk, ``$DISK``, while the machine leaves it alone."""
        return run(["env", f"DISK={self._device}", "sh", "-euc", command], timeout=60).stdout

    def unplug(self) -> None:
        """Take its disk away, while it is off."""
        self.outer.incus("config", "device", "remove", self.name, "data")

    def plug(self) -> None:
        """Give it back, while it is off."""
        self.outer.incus("config", "device", "add", self.name, "data", *self._data_device())

    @property
    def _file(self) -> Path:
        return self.outer.settings.cache / "disks" / f"{self.name}.img"

    @property
    def _device(self) -> str:
        """The loop device that the file is behind; empty where it is behind none."""
        list_it = ["losetup", "--list", "--noheadings", "--output=NAME", "--associated", str(self._file)]
        return run(list_it, timeout=30).stdout.strip()

    def _create_data(self) -> None:
        self._file.parent.mkdir(parents=True, exist_ok=True)
        with self._file.open("wb") as file:
            file.truncate(SIZE)
        run(["losetup", "--find", self._file], timeout=30)

    def _data_device(self) -> list[str]:
        return ["unix-block", f"source={self._device}", f"path={DISK}", "required=true"]

    def _delete_data(self) -> None:
        if self._file.exists():
            if loop := self._device:
                run(["losetup", "--detach", loop], timeout=30)
            self._file.unlink()
