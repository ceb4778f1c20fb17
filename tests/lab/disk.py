"""A disposable machine with a whole data disk, blank and mounted by nobody: a loop device on a sparse file."""

from __future__ import annotations

from pathlib import Path

from tests.lab.command import run
from tests.lab.host import LabHost

DISK = "/dev/containarium-data"
"""Where the machine finds its disk."""
SIZE = 16 << 30
"""Bytes; the file is sparse."""


class DiskHost(LabHost):
    """One disposable machine whose data disk is a block device. Nothing is mounted at /var/lib/incus."""

    @property
    def _file(self) -> Path:
        return self.outer.settings.cache / "disks" / f"{self.name}.img"

    def _loop(self) -> str | None:
        """The loop device that the file is behind, if it is."""
        list_it = ["losetup", "--list", "--noheadings", "--output=NAME", "--associated", str(self._file)]
        return run(list_it, timeout=30).stdout.strip() or None

    def _create_data(self) -> None:
        self._file.parent.mkdir(parents=True, exist_ok=True)
        with self._file.open("wb") as file:
            file.truncate(SIZE)
        run(["losetup", "--find", self._file], timeout=30)

    def _data_device(self) -> list[str]:
        return ["unix-block", f"source={self._loop()}", f"path={DISK}", "required=true"]

    def _delete_data(self) -> None:
        if self._file.exists():
            if (loop := self._loop()) is not None:
                run(["losetup", "--detach", loop], timeout=30)
            self._file.unlink()
