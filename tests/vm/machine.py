"""A true machine in QEMU: its own kernel with ZFS, AppArmor and cgroup v2, killed as a cloud kills a spot instance.

It is a LabHost in all that tests do with one; only its life and the way in are different. Every instruction is
emulated, so that everything takes ten times as long.
"""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import socket
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from tests.lab import leftovers, packages
from tests.lab.command import CommandError, CommandTimeoutError, Completed, LabError, run, wait_until
from tests.lab.host import LabHost
from tests.lab.outer import Outer
from tests.vm.disk import Boot, boot_disk
from tests.vm.recipe import CONTROL_PORT

if TYPE_CHECKING:
    from collections.abc import Sequence

QEMU = "qemu-system-x86_64"
PACKAGES = {QEMU: "qemu-system-x86", "qemu-img": "qemu-utils", "mke2fs": "e2fsprogs", "sfdisk": "fdisk"}
MEMORY = "3072"  # MiB
KERNEL_LINE = "root=/dev/vda rw console=ttyS0 net.ifnames=0 apparmor=1 security=apparmor mitigations=off quiet"
DATA_SIZE = "12G"  # sparse
BOOT_TIMEOUT = 900.0
SLOWER = 8
"""By how much longer than on the lab's containers a command may take."""


class VirtualHost(LabHost):
    """One machine: a root disk (/dev/vda), a data disk (/dev/vdb), and further disks where a test gives them."""

    def __init__(self, name: str, *, disks: Sequence[Path] = ()) -> None:
        """Nothing happens before `create`. ``disks`` are raw files that become /dev/vdc and so on."""
        super().__init__(Outer(), name)
        self.folder = self.outer.settings.cache / "vm" / "machines" / self.name
        self.data = self.folder / "data.raw"
        self.port = _free_port()
        """Port of this machine, on its loopback address, behind which the virtual one's sshd answers."""
        self._control = _free_port()
        self._disks = list(disks)
        self._boot: Boot | None = None
        self._qemu: subprocess.Popen[bytes] | None = None
        self._master: subprocess.Popen[bytes] | None = None

    # -- life and death

    def create(self) -> None:
        """Make it anew, with an empty data disk unless there is one already, and wait until it has booted."""
        ensure_installed()
        packages.ensure_installed()
        sweep(self.folder.parent)
        self.folder.mkdir(parents=True, mode=0o700, exist_ok=True)
        (self.folder / "owner").write_text(leftovers.owner_mark())
        self._boot = boot_disk(self.outer)
        self._overlay()
        if not self.data.exists():
            run(["qemu-img", "create", "-q", "-f", "raw", self.data, DATA_SIZE], timeout=60)
        self.power_on()

    def delete(self) -> None:
        """End it and delete its disks."""
        self.power_off()
        shutil.rmtree(self.folder, ignore_errors=True)

    def power_off(self) -> None:
        """SIGKILL: what the guest's kernel had not written is lost."""
        for process in (self._master, self._qemu):
            if process is not None:
                process.kill()
                process.wait(timeout=30)
        self._master = self._qemu = None

    def power_on(self) -> None:
        """Start it and wait until it has booted."""
        started = time.monotonic()
        with (self.folder / "qemu.log").open("ab") as log:
            self._qemu = subprocess.Popen(
                self._command(), stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        pid = self._qemu.pid
        (self.folder / "qemu").write_text(f"{pid}:{leftovers.start_time(pid)}")
        self.wait_booted()
        print(f"vm: {self.name} booted in {time.monotonic() - started:.0f} s", flush=True)

    def new_boot_disk(self) -> None:
        """Replace everything but the data disk: no account, no configuration, no ssh host key and no pool is known."""
        self.power_off()
        self._overlay()
        self.power_on()
        if self._project is not None:
            self.install_project(self._project)

    def wait_booted(self, timeout: float = BOOT_TIMEOUT) -> None:
        """Wait until it can be reached, and until systemd has nothing left to start."""
        wait_until(f"a way into {self.name}", self._reachable, timeout=timeout, interval=1)
        self._master = subprocess.Popen(
            [*self._ssh(), "-o", "ControlMaster=yes", "-N", "root@127.0.0.1"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        wait_until(f"boot of {self.name}", lambda: self.system_state() in {"running", "degraded"}, timeout=timeout)

    def system_state(self) -> str:
        """Return what systemd says of the whole machine: running, degraded, starting."""
        return self.run(["systemctl", "is-system-running", "--wait"], check=False).stdout.strip()

    @property
    def address(self) -> str:
        """Where its sshd is reached, at `port`."""
        return "127.0.0.1"

    # -- inside

    def run(
        self,
        argv: list[str],
        *,
        check: bool = True,
        timeout: float = 60,
        input: str | bytes | None = None,
        env: dict[str, str] | None = None,
    ) -> Completed:
        """Run a command as root on it. On timeout it is killed there too."""
        timeout *= SLOWER
        settings = [f"{key}={value}" for key, value in (env or {}).items()]
        inside = ["env", *settings, "timeout", "--kill-after=5", str(timeout), *argv]
        started = time.monotonic()
        result = run(
            [*self._ssh(), "root@127.0.0.1", "--", shlex.join(inside)], timeout=timeout + 30, check=False, input=input
        )
        result.args = argv
        if result.returncode in {124, 137} and time.monotonic() - started >= timeout:
            raise CommandTimeoutError(f"no end after {timeout:g} s on {self.name}: {argv}")
        if check and result.returncode != 0:
            raise CommandError(result)
        return result

    def push(self, path: str, content: str | bytes, mode: int = 0o644) -> None:
        """Write a file of root's; missing folders are made."""
        script = 'mkdir -p "${1%/*}" && umask 077 && cat > "$1" && chmod "$2" "$1"'
        self.run(["sh", "-euc", script, "push", path, f"{mode:04o}"], input=content)

    def push_file(self, source: Path, path: str) -> None:
        """Copy a file of this machine onto it."""
        self.push(path, source.read_bytes())

    def pull(self, path: str) -> str:
        """Read a text file."""
        return self.run(["cat", path]).stdout

    def console(self) -> str:
        """Return the end of what the machine wrote on its serial line."""
        with suppress(FileNotFoundError):
            return (self.folder / "serial.log").read_text(errors="replace")[-3000:]
        return ""

    # -- details

    def _overlay(self) -> None:
        """Make a root disk as it comes out of the factory."""
        if self._boot is None:
            raise LabError(f"{self.name} was not created")
        file = self.folder / "root.qcow2"
        file.unlink(missing_ok=True)
        backing = ["-b", str(self._boot.root), "-F", "raw"]
        run(["qemu-img", "create", "-q", "-f", "qcow2", *backing, file], timeout=60)

    def _command(self) -> list[str]:
        if self._boot is None:
            raise LabError(f"{self.name} was not created")
        drives = [f"file={self.folder}/root.qcow2,format=qcow2"]
        drives += [f"file={disk},format=raw,discard=unmap" for disk in (self.data, *self._disks)]
        forwards = [
            f"hostfwd=tcp:127.0.0.1:{here}-:{there}" for here, there in ((self._control, CONTROL_PORT), (self.port, 22))
        ]
        return [
            *("nice", "-n", "10", QEMU, "-nodefaults", "-display", "none"),
            # emulated everywhere, so that it is the same everywhere: a KVM that is there need not work
            *("-accel", "tcg,thread=multi,tb-size=512", "-cpu", "max", "-smp", "2", "-m", MEMORY),
            *("-kernel", str(self._boot.kernel), "-initrd", str(self._boot.initrd), "-append", KERNEL_LINE),
            *(part for drive in drives for part in ("-drive", f"{drive},if=virtio,cache=writeback")),
            *("-netdev", ",".join(["user,id=n", *forwards]), "-device", "virtio-net-pci,netdev=n"),
            *("-object", "rng-random,id=r,filename=/dev/urandom", "-device", "virtio-rng-pci,rng=r"),
            *("-serial", f"file:{self.folder}/serial.log"),
        ]

    def _ssh(self) -> list[str]:
        if self._boot is None:
            raise LabError(f"{self.name} was not created")
        options = {
            "BatchMode": "yes",
            "IdentitiesOnly": "yes",
            "IdentityFile": str(self._boot.key),
            # the key of a way that no one but this machine can take, and that each root disk makes anew
            "StrictHostKeyChecking": "no",
            "UserKnownHostsFile": "/dev/null",
            "LogLevel": "ERROR",
            "ConnectTimeout": "20",
            "ServerAliveInterval": "15",
            "ServerAliveCountMax": "8",
            "ControlPath": str(self.folder / "control"),
            "Port": str(self._control),
        }
        return ["ssh", "-F", "none", *(part for key, value in options.items() for part in ("-o", f"{key}={value}"))]

    def _reachable(self) -> bool:
        if self._qemu is None or self._qemu.poll() is not None:
            said = (self.folder / "qemu.log").read_text(errors="replace")[-2000:]
            raise LabError(f"the virtual machine {self.name} has ended: {said}\n{self.console()}")
        done = run([*self._ssh(), "root@127.0.0.1", "--", "true"], timeout=60, check=False)
        return done.returncode == 0


def ensure_installed() -> None:
    """Install QEMU from the machine's own package sources, where it is missing."""
    packages.ensure_commands(PACKAGES)


def sweep(machines: Path) -> None:
    """End and delete machines whose owner was killed."""
    for folder in machines.iterdir() if machines.exists() else ():
        with suppress(FileNotFoundError):
            if leftovers.lives((folder / "owner").read_text()):
                continue
        with suppress(FileNotFoundError):
            qemu = (folder / "qemu").read_text()
            if leftovers.lives(qemu):
                os.kill(int(qemu.partition(":")[0]), signal.SIGKILL)
        shutil.rmtree(folder, ignore_errors=True)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
