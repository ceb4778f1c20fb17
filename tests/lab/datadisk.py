"""A data disk for a disposable machine: a true block device, in place of the volume at /var/lib/incus."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.lab.command import run

if TYPE_CHECKING:
    from pathlib import Path

    from tests.lab.host import LabHost

NAME = "/dev/disk/by-id/containarium-data"
"""What it is called on the machine."""
_SIZE = "6G"


class DataDisk:
    """A loop device of this machine that can be attached to lab hosts, one after the other."""

    def __init__(self, file: Path) -> None:
        """``file`` is where its bytes are; nothing may be there."""
        self._file = file
        run(["truncate", "-s", _SIZE, file], timeout=30)
        self.device = run(["losetup", "--find", "--show", file], timeout=30).stdout.strip()

    def attach(self, host: LabHost) -> None:
        """Give it to a host that is off, instead of its volume. The host's own name for it is ``NAME``."""
        host.outer.incus("config", "device", "remove", host.name, "data")
        device = ["disk0", "unix-block", f"source={self.device}", f"path={NAME}"]
        host.outer.incus("config", "device", "add", host.name, *device)

    def detach(self, host: LabHost) -> None:
        """Take it away from a host that is off."""
        host.outer.incus("config", "device", "remove", host.name, "disk0")

    def shell(self, command: str) -> str:
        """Run a command of this machine on it, ``$DISK``, while no host has it."""
        return run(["env", f"DISK={self.device}", "sh", "-euc", command], timeout=60).stdout

    def remove(self) -> None:
        """Let go of the device. Whoever still has it mounted keeps it until then."""
        run(["losetup", "-d", self.device], timeout=30, check=False)
        self._file.unlink(missing_ok=True)
