"""A whole disposable machine: systemd, sshd, accounts and an Incus of its own, with a data disk that survives it.

It is a privileged container on the outer daemon: only so are the btrfs quotas of its own guests real. Its data disk is
a volume mounted at /var/lib/incus; the rest is its boot disk, which `new_boot_disk` replaces.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from tests.lab import project, recipes
from tests.lab.command import CommandError, CommandTimeoutError, Completed, LabError, run, wait_until
from tests.lab.entry import Entry
from tests.lab.images import Image, ImageStore
from tests.lab.leftovers import owner_mark
from tests.lab.outer import OWNER_KEY, Outer

if TYPE_CHECKING:
    from pathlib import Path

    from tests.lab.recipes import Recipe

DATA = "/var/lib/incus"
INNER_BRIDGE = "incusbr0"
INNER_POOL = "default"


_OFF = 1
"""Exit code of every command on a machine that is off."""


class LabHost:
    """One disposable machine."""

    def __init__(self, outer: Outer, name: str = "host", *, recipe: Recipe | None = None, keep: bool = False) -> None:
        """Nothing happens before `create`. With `keep` it outlives this process (else a later `up` deletes it).

        Other processes' hosts of the same name are different hosts: the process id is part of the full name.
        """
        self.outer = outer
        self.name = outer.settings.prefix + name + ("" if keep else f"-{os.getpid()}")
        self.volume = f"{self.name}-data"
        self._recipe = recipe or recipes.host()
        self._owner = "keep" if keep else owner_mark()
        self._images = ImageStore(outer)
        self._entry = Entry(outer, self.name)
        self._project: Path | None = None

    # -- life and death

    def create(self) -> None:
        """Make it anew, data disk included, and wait until it has booted."""
        self.delete()
        self.outer.recount()
        self._create_data()
        self._create_instance()

    def delete(self) -> None:
        """Delete it and its data disk, if they exist."""
        self._delete_instance()
        self._delete_data()

    def preempt(self) -> None:
        """Take the machine away at once, as a cloud takes a spot instance, and start it again."""
        self.power_off()
        self.power_on()

    def power_off(self) -> None:
        """SIGKILL everything on it."""
        self.outer.incus("stop", "--force", self.name, timeout=60)

    def power_on(self) -> None:
        """Start it and wait until it has booted."""
        self.outer.incus("start", self.name, timeout=60)
        self.wait_booted()

    def new_boot_disk(self) -> None:
        """Replace everything but the data disk: no account, no configuration, no ssh host key is left."""
        self._delete_instance()
        self._create_instance()
        if self._project is not None:
            self.install_project(self._project)

    def wait_booted(self, timeout: float = 60) -> None:
        """Wait for an address and for systemd to have nothing left to start."""
        wait_until(f"address of {self.name}", lambda: self._address() is not None, timeout=timeout)
        wait_until(f"boot of {self.name}", lambda: self.system_state() in {"running", "degraded"}, timeout=timeout)

    def system_state(self) -> str:
        """Return what systemd says of the whole machine: running, degraded, starting."""
        return self.run(["systemctl", "is-system-running", "--wait"], check=False, timeout=60).stdout.strip()

    @property
    def address(self) -> str:
        """IPv4 address on the outer bridge. It stays the same over preemption and a new boot disk."""
        found = self._address()
        if found is None:
            raise LabError(f"{self.name} has no address")
        return found

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
        command = self._entry.command(["timeout", "--kill-after=2", str(timeout), *argv], env or {})
        started = time.monotonic()
        if command is None:
            result = Completed(argv, _OFF, "", f"{self.name} is off")
        else:
            result = run(command, timeout=timeout + 10, check=False, input=input)
        result.args = argv
        if result.returncode < 0:
            result.returncode = 128 - result.returncode  # killed together with the machine, as a shell says it
        if result.returncode in {124, 137} and time.monotonic() - started >= timeout:
            raise CommandTimeoutError(f"no end after {timeout:g} s on {self.name}: {argv}")
        if check and result.returncode != 0:
            raise CommandError(result)
        return result

    def push(self, path: str, content: str | bytes, mode: int = 0o644) -> None:
        """Write a file of root's; missing folders are made."""
        script = 'mkdir -p "${1%/*}"; umask 077; cat > "$1"; chown 0:0 "$1"; chmod "$2" "$1"'
        self.run(["sh", "-euc", script, "push", path, f"{mode:04o}"], input=content)

    def push_file(self, source: Path, path: str) -> None:
        """Copy a file of this machine onto it; big ones are no problem."""
        self.outer.incus("file", "push", "--create-dirs", source, f"{self.name}{path}", timeout=120)

    def pull(self, path: str) -> str:
        """Read a text file."""
        return self.run(["cat", path]).stdout

    def incus(self, *args: str, check: bool = True, timeout: float = 60, input: str | None = None) -> Completed:
        """Run the client of its own Incus on it."""
        return self.run(["incus", *args], check=check, timeout=timeout, input=input)

    # -- what tests put on it

    def install_project(self, repository: Path = recipes.REPOSITORY) -> None:
        """Install the working tree: `containarium` and /usr/local/bin/containarium then run it."""
        project.install(self, repository)
        self._project = repository

    def copy_repository(self, destination: str = "/root/containarium", repository: Path = recipes.REPOSITORY) -> None:
        """Put the whole working tree on it as a fresh clone would be, for trying what a newcomer does."""
        project.copy(self, repository, destination)

    def preseed(self, network: str = "10.97.1") -> None:
        """Set its Incus up by hand, for tests of something else than `containarium host prepare`."""
        config = {
            "networks": [
                {
                    "name": INNER_BRIDGE,
                    "type": "bridge",
                    "config": {"ipv4.address": f"{network}.1/24", "ipv4.nat": "true", "ipv6.address": "none"},
                }
            ],
            # inside INCUS_DIR this is the only path that Incus takes for a pool that is no loop file
            "storage_pools": [
                {"name": INNER_POOL, "driver": "btrfs", "config": {"source": f"{DATA}/storage-pools/{INNER_POOL}"}}
            ],
            "profiles": [
                {
                    "name": "default",
                    "devices": {
                        "root": {"type": "disk", "path": "/", "pool": INNER_POOL},
                        "eth0": {"type": "nic", "name": "eth0", "network": INNER_BRIDGE},
                    },
                }
            ],
        }
        self.wait_incus()
        self.incus("admin", "init", "--preseed", input=json.dumps(config), timeout=90)

    def import_guest_image(self, alias: str = "guest") -> Image:
        """Give its Incus the lab's guest image under `alias`; a pool must exist to launch it, not to import it."""
        image = self._images.files(recipes.GUEST)
        self.wait_incus()
        if self.incus("image", "info", alias, check=False).returncode != 0:
            for file in (image.metadata, image.rootfs):
                self.push_file(file, f"/root/{file.name}")
            files = [f"/root/{file.name}" for file in (image.metadata, image.rootfs)]
            self.incus("image", "import", *files, "--alias", alias, timeout=120)
            self.run(["rm", *files])
        return image

    def wait_incus(self, timeout: float = 60) -> None:
        """Wait until its Incus answers; on a new machine the first call starts it."""
        self.run(["incus", "admin", "waitready", f"--timeout={timeout:.0f}"], timeout=timeout + 5)

    def instances(self) -> dict[str, dict[str, Any]]:
        """Return the guests of its Incus by name, with state. One that changes just then is listed without its
        configuration: asked again.
        """
        found: dict[str, dict[str, Any]] = {}

        def whole() -> bool:
            found.clear()
            found.update((one["name"], one) for one in json.loads(self.incus("list", "--format=json").stdout))
            return all(one["config"] is not None for one in found.values())

        wait_until(f"whole guests of {self.name}", whole, timeout=60, interval=0.3)
        return found

    # -- details

    def _create_instance(self) -> None:
        image = self._images.ensure(self._recipe)
        digest = hashlib.sha256(self.name.encode()).hexdigest()
        mac = "00:16:3e:" + ":".join(digest[i : i + 2] for i in (0, 2, 4))  # the same lease for a new boot disk
        options = {
            "security.privileged": "true",
            "security.nesting": "true",
            "boot.autostart": "false",
            "volatile.eth0.hwaddr": mac,
            OWNER_KEY: self._owner,
        }
        settings = [f"--config={key}={value}" for key, value in options.items()]
        self.outer.incus("init", image.alias, self.name, *settings, timeout=120)
        self.outer.incus("config", "device", "add", self.name, "data", *self._data_device())
        self.power_on()

    def _create_data(self) -> None:
        pool = self.outer.settings.pool
        self.outer.incus("storage", "volume", "create", pool, self.volume, f"{OWNER_KEY}={self._owner}")

    def _data_device(self) -> list[str]:
        return ["disk", f"pool={self.outer.settings.pool}", f"source={self.volume}", f"path={DATA}"]

    def _delete_data(self) -> None:
        pool = self.outer.settings.pool
        if self._exists(f"/1.0/storage-pools/{pool}/volumes/custom/{self.volume}"):
            self.outer.incus("storage", "volume", "delete", pool, self.volume, timeout=120)

    def _delete_instance(self) -> None:
        if self._exists(f"/1.0/instances/{self.name}"):
            self.outer.incus("delete", "--force", self.name, timeout=120)

    def _exists(self, path: str) -> bool:
        with suppress(CommandError):
            self.outer.query(path)
            return True
        return False

    def _address(self) -> str | None:
        shown = self.run(["ip", "-4", "-brief", "address", "show", "dev", "eth0"], check=False).stdout.split()
        return shown[2].partition("/")[0] if len(shown) > 2 else None
