"""People at the laptop: their keys, and what they do with the ssh configuration that an admin exported for them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.lab.command import run

if TYPE_CHECKING:
    from pathlib import Path

    from tests.lab.command import Completed
    from tests.lab.laptop import Laptop

KEY_TYPES = {"ed25519": ("ed25519", ""), "ecdsa": ("ecdsa", "256"), "rsa": ("rsa", "3072")}
"""Names of the kinds of key, with type and bits for ssh-keygen."""

_STRICT = """
Host *
    BatchMode yes
    ConnectTimeout 10
    StrictHostKeyChecking yes
    UpdateHostKeys no
    GlobalKnownHostsFile none
    LogLevel INFO
"""


class Person:
    """Somebody at the laptop with keys of their own and the configuration that they were given."""

    def __init__(self, laptop: Laptop, name: str) -> None:
        """Make a home on the laptop; keys are made when they are asked for."""
        self.laptop = laptop
        self.name = name
        self.home: Path = laptop.home / f"person-{name}"
        self.home.mkdir(mode=0o700, exist_ok=True)

    def key(self, kind: str = "ed25519", label: str = "") -> Path:
        """The file of a private key: one per kind (see KEY_TYPES) and label."""
        path = self.home / f"id_{kind}{label and '_' + label}"
        if not path.exists():
            algorithm, bits = KEY_TYPES[kind]
            size = ["-b", bits] if bits else []
            comment = f"{self.name}@laptop"
            run(["ssh-keygen", "-q", "-t", algorithm, *size, "-N", "", "-C", comment, "-f", path], timeout=60)
        return path

    def public(self, kind: str = "ed25519", label: str = "") -> str:
        """The line of a public key, as a manifest has it."""
        return self.key(kind, label).with_suffix(".pub").read_text().strip()

    def configure(self, exported: str, known_hosts: str, path: Path) -> Path:
        """Save what `containarium export` made, and return a configuration that includes it and trusts nothing else."""
        path.write_text(exported)
        path.with_name(f"{path.name}.known_hosts").write_text(known_hosts)
        strict = path.with_name(f"{path.name}.strict")
        strict.write_text(f"Include {path}\n{_STRICT}")
        return strict

    def ssh(
        self, config: Path, *args: str, check: bool = True, timeout: float = 30, input: str | bytes | None = None
    ) -> Completed:
        """Run `ssh -F config ARGS` on the laptop."""
        return self._run(["ssh", "-F", str(config), *args], check=check, timeout=timeout, input=input)

    def scp(self, config: Path, *args: str, check: bool = True, timeout: float = 60) -> Completed:
        """Run `scp -F config ARGS` on the laptop."""
        return self._run(["scp", "-F", str(config), *args], check=check, timeout=timeout)

    def sftp(self, config: Path, destination: str, batch: str, *, check: bool = True, timeout: float = 60) -> Completed:
        """Run `sftp -F config -b - DESTINATION` on the laptop, fed with a batch of commands."""
        return self._run(["sftp", "-F", str(config), "-b", "-", destination], check=check, timeout=timeout, input=batch)

    def _run(self, argv: list[str], *, check: bool, timeout: float, input: str | bytes | None = None) -> Completed:
        return self.laptop.run(argv, check=check, timeout=timeout, input=input, env={"HOME": str(self.home)})
