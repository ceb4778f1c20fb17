"""A user's computer: a network namespace on the outer bridge. It reaches hosts, but no network behind them."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

from tests.lab.command import Completed, LabError, run
from tests.lab.leftovers import lives, owner_mark

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType
    from typing import Self

    from tests.lab.outer import Outer

FIRST_ADDRESS, LAST_ADDRESS = 200, 250  # DHCP on the bridge ends at .199
_CONFIG = """Host *
    BatchMode yes
    ConnectTimeout 5
    IdentitiesOnly yes
    IdentityFile {home}/id
    StrictHostKeyChecking accept-new
    UserKnownHostsFile {home}/known_hosts
    GlobalKnownHostsFile none
    LogLevel ERROR
"""


class Laptop:
    """A namespace with a veth into the bridge, an address, and no default route."""

    name: str
    address: str
    home: Path

    def __init__(self, outer: Outer) -> None:
        """Nothing happens before `create`."""
        self._outer = outer

    def create(self) -> None:
        """Make it, with the first number that no living process uses."""
        with self._outer.locked("laptops", timeout=60):
            self._take_number()
            self.delete()
            self.home.mkdir(parents=True, mode=0o700)
            (self.home / "owner").write_text(owner_mark())
        _ip("netns", "add", self.name)
        _ip("link", "add", self._link, "type", "veth", "peer", "name", "eth0", "netns", self.name)
        _ip("link", "set", self._link, "master", self._outer.settings.bridge, "up")
        _ip("-n", self.name, "address", "add", f"{self.address}/24", "dev", "eth0")
        for link in ("lo", "eth0"):
            _ip("-n", self.name, "link", "set", link, "up")

    def _take_number(self) -> None:
        settings = self._outer.settings
        for number in range(LAST_ADDRESS - FIRST_ADDRESS + 1):
            self.name = f"{settings.prefix}laptop{number}"
            self.address = f"{settings.network}.{FIRST_ADDRESS + number}"
            self.home = settings.cache / "laptops" / self.name
            self._link = f"ct{settings.slot}l{number}"
            owner = self.home / "owner"
            if not owner.exists() or not lives(owner.read_text()):
                return
        raise LabError("no address is left for another laptop")

    def delete(self) -> None:
        """Remove namespace, link, keys and known hosts, if they exist."""
        names = [line.split()[0] for line in _ip("netns", "list").stdout.splitlines() if line.strip()]
        if self.name in names:
            _ip("netns", "delete", self.name)
        run(["ip", "link", "delete", self._link], timeout=30, check=False)  # gone with the namespace, but not at once
        if self.home.exists():
            shutil.rmtree(self.home)

    def __enter__(self) -> Self:
        """Create it."""
        self.create()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        """Delete it."""
        self.delete()

    def run(
        self,
        argv: list[str],
        *,
        check: bool = True,
        timeout: float = 30,
        input: str | bytes | None = None,
        env: dict[str, str] | None = None,
    ) -> Completed:
        """Run a command in the namespace, with the laptop's own HOME."""
        environment = {"HOME": str(self.home), "SSH_AUTH_SOCK": "", **(env or {})}
        command = ["ip", "netns", "exec", self.name, *argv]
        return run(command, check=check, timeout=timeout, input=input, env=environment)

    def identity(self, name: str = "user") -> Identity:
        """Return a person at this laptop, with an ed25519 key of their own (made at the first call)."""
        home = self.home / name
        if not home.exists():
            home.mkdir(mode=0o700)
            run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", f"{name}@laptop", "-f", home / "id"], timeout=30)
            (home / "config").write_text(_CONFIG.format(home=home))
        return Identity(self, home)


class Identity:
    """One person at a laptop: key, ssh client configuration and known hosts."""

    def __init__(self, laptop: Laptop, home: Path) -> None:
        """Use `Laptop.identity`."""
        self.laptop = laptop
        self.home = home

    @property
    def public_key(self) -> str:
        """The line for authorized_keys or a manifest."""
        return (self.home / "id.pub").read_text().strip()

    def configure(self, text: str) -> None:
        """Put client configuration before the defaults (ssh takes the first value it finds)."""
        (self.home / "config").write_text(f"{text.rstrip()}\n\n{_CONFIG.format(home=self.home)}")

    def forget_hosts(self) -> None:
        """Empty known_hosts."""
        (self.home / "known_hosts").unlink(missing_ok=True)

    def ssh(self, *args: str, check: bool = True, timeout: float = 30, input: str | bytes | None = None) -> Completed:
        """Run `ssh ARGS`; a jump host named with -J sees the same configuration and key."""
        return self._client("ssh", args, check=check, timeout=timeout, input=input)

    def scp(self, *args: str, check: bool = True, timeout: float = 60) -> Completed:
        """Run `scp ARGS`."""
        return self._client("scp", args, check=check, timeout=timeout)

    def sftp(
        self, destination: str, commands: str, *options: str, check: bool = True, timeout: float = 60
    ) -> Completed:
        """Run `sftp OPTIONS DESTINATION` with a batch of commands."""
        return self._client("sftp", (*options, "-b", "-", destination), check=check, timeout=timeout, input=commands)

    def _client(
        self,
        program: str,
        args: tuple[str, ...],
        *,
        check: bool,
        timeout: float,
        input: str | bytes | None = None,
    ) -> Completed:
        command = [program, "-F", str(self.home / "config"), *args]
        return self.laptop.run(command, check=check, timeout=timeout, input=input, env={"HOME": str(self.home)})


def _ip(*args: str) -> Completed:
    return run(["ip", *args], timeout=30)
