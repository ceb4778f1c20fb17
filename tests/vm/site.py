"""An admin at the virtual machine, and users at this one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import yaml

from tests.e2e.living import LivingSite
from tests.lab.command import CommandTimeoutError, Completed, run, wait_until
from tests.lab.laptop import Laptop

if TYPE_CHECKING:
    from pathlib import Path

    from tests.vm.machine import VirtualHost

HOST_MANIFEST = "/etc/containarium/host.yaml"
GATEWAY = "10.0.2.2"
"""Where all connections come from, as the virtual machine sees them."""
PATIENCE = 1800.0
"""Seconds for whatever takes minutes on an idle machine; a busy one takes several times as long."""
DISK = "/dev/vdb"
ADMIN = "ops"


class Desk(Laptop):
    """This machine itself, as a user's computer: it reaches the virtual one's sshd and nothing behind it."""

    def __init__(self, machine: VirtualHost) -> None:
        """Live in a folder beside the machine's disks, and be deleted with them."""
        super().__init__(machine.outer)
        self.name, self.address = "desk", GATEWAY
        self.home = machine.folder / "desk"

    def create(self) -> None:
        """Make the home folder."""
        self.home.mkdir(mode=0o700, exist_ok=True)

    def run(
        self,
        argv: list[str],
        *,
        check: bool = True,
        timeout: float = 30,
        input: str | bytes | None = None,
        env: dict[str, str] | None = None,
    ) -> Completed:
        """Run a command here; it is given as long as an emulated machine may take."""
        environment = {"HOME": str(self.home), "SSH_AUTH_SOCK": "", **(env or {})}
        return run(argv, check=check, timeout=max(timeout, 180), input=input, env=environment)


class VirtualSite(LivingSite):
    """A virtual machine that runs the controller as a service."""

    host: VirtualHost

    def declare_host(self, disk: str = DISK) -> None:
        """Write the machine's own manifest, as its start-up script does."""
        document = {
            "apiVersion": "containarium.dev/v1",
            "kind": "Host",
            "metadata": {"name": "vm"},
            "spec": {
                "storage": {"driver": "zfs", "disk": disk},
                "login": {"address": self.host.address, "port": self.host.port},
                "admins": [{"name": ADMIN, "sshKeys": [self.person(ADMIN).public()]}],
            },
        }
        self.host.push(HOST_MANIFEST, yaml.safe_dump(document, sort_keys=False))

    def prepare(self, *, check: bool = True) -> Completed:
        """Do what the start-up script ends with."""
        return self.containarium("host", "prepare", "--service", check=check, timeout=PATIENCE)

    def containarium(self, *args: str, check: bool = True, timeout: float = 180) -> Completed:
        """Run the command on the host, as root."""
        return super().containarium(*args, check=check, timeout=timeout)

    def zfs(self, *properties: str, of: str) -> dict[str, str]:
        """Return properties of a dataset, with what they were set to."""
        listing = self.host.run(["zfs", "get", "-Hp", "-o", "property,value", ",".join(properties), of]).stdout
        return dict(line.split("\t") for line in listing.splitlines())

    def wait_login(self, name: str, config: Path, timeout: float = PATIENCE) -> None:
        """Wait until a person gets in, with nobody's help."""
        person = self.person(name)

        def gets_in() -> bool:
            try:
                return person.ssh(config, name, "true", check=False).returncode == 0
            except CommandTimeoutError:
                return False

        wait_until(f"login of {name}", gets_in, timeout=timeout, interval=3)

    def _way_in(self) -> list[str]:
        """Tell `export` where users reach the machine: at a port of this one's loopback address."""
        return ["--jump-host", self.host.address, "--jump-port", str(self.host.port)]
