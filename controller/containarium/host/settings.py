"""Where things are on a host, and what they are called. One frozen value, handed to everything in host/."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path


def _incus_dir() -> Path:
    return Path(os.environ.get("INCUS_DIR", "/var/lib/incus"))


def _incus_socket() -> Path:
    return Path(os.environ.get("INCUS_SOCKET") or _incus_dir() / "unix.socket")


@dataclass(frozen=True, slots=True)
class HostSettings:
    """Paths and names; the defaults are those of a host made by ``containarium host prepare``.

    INCUS_DIR and INCUS_SOCKET are honoured as Incus' own client does.
    """

    incus_dir: Path = field(default_factory=_incus_dir)
    incus_socket: Path = field(default_factory=_incus_socket)
    bridge: str = "incusbr0"
    subnet: str = "10.0.3.1/24"
    """Only used when the bridge is made."""
    pool: str = "default"
    acl: str = "containarium"
    etc: Path = Path("/etc")
    """Holds passwd, group, shadow, subuid and ssh/."""
    jump_keys: Path = Path("/etc/ssh/containarium/keys")
    """Root-owned folder with one file of authorised keys per jump account."""
    sshd_drop_in: Path = Path("/etc/ssh/sshd_config.d/50-containarium.conf")
    manifests: Path = Path("/etc/containarium/environments")
    state: Path = Path("/var/lib/containarium")
    runtime: Path = Path("/run/containarium")

    @property
    def backups(self) -> Path:
        """Exports of environments that were deleted, and their checksums."""
        return self.state / "backups"

    @property
    def probe_key(self) -> Path:
        """Private half of the SSH probe's key; the public one stands beside it with ``.pub``."""
        return self.state / "probe" / "id_ed25519"

    @property
    def peer_key(self) -> Path:
        """Private half of the key with which this host asks the others; the public one stands beside it."""
        return self.state / "peer" / "id_ed25519"

    @property
    def data_disk(self) -> Path:
        """What is known of the data disk, for the boot to mount it by; written once it was mounted."""
        return self.state / "disk.json"

    @property
    def host_manifest(self) -> Path:
        """This machine's Host manifest, where the folder of manifests has none for it."""
        return self.etc / "containarium" / "host.yaml"

    @property
    def declared(self) -> Path:
        """There while this host is kept as a Host manifest says, so that the next boot sees to it before all else."""
        return self.state / "declared"

    @property
    def conditions(self) -> Path:
        """How each step of the last preparation ended."""
        return self.runtime / "host.json"

    @property
    def wanted(self) -> Path:
        """The controller writes it when the Host manifests have changed; systemd then prepares the host anew."""
        return self.runtime / "host-wanted"

    @property
    def peer_keys(self) -> Path:
        """Root-owned folder with the file of the keys with which others ask this host."""
        return self.jump_keys.parent / "peers"

    @property
    def peer_socket(self) -> Path:
        """Where the controller answers them."""
        return self.runtime / "peer.sock"

    @property
    def sync(self) -> Path:
        """Checkouts of the manifests' repository, and what was tried last."""
        return self.state / "sync"

    @property
    def events(self) -> Path:
        """What happened, a line of JSON each."""
        return self.state / "events.jsonl"

    @property
    def status(self) -> Path:
        """What the controller found in its last pass."""
        return self.runtime / "status.json"

    @property
    def control(self) -> Path:
        """The controller's local socket."""
        return self.runtime / "control.sock"

    @property
    def vault(self) -> Path:
        """What has to survive a new boot disk: it is where Incus keeps its database, for the one needs the other."""
        return self.incus_dir / "containarium"
