"""What must not be in an image that several are made from: whatever identifies a machine, and secrets."""

from __future__ import annotations

import json
from collections.abc import Sequence

from containarium.host.faults import clean
from containarium.host.incus import Incus
from containarium.model import marks
from containarium.model.host import RetryableError, TerminalError

TIMEOUT = 120.0
"""Seconds for one command in a builder."""
_HOST_KEYS = tuple(f"/etc/ssh/ssh_host_{kind}_key" for kind in ("rsa", "ecdsa", "ed25519", "dsa"))
_MACHINE_ID = "/etc/machine-id"
_IDENTITY = (
    "/var/lib/dbus/machine-id",
    "/var/lib/systemd/random-seed",
    "/var/lib/systemd/credential.secret",
    "/var/lib/docker/engine-id",
    "/var/lib/dhcpcd/duid",
    "/var/lib/dhcpcd/secret",
    "/etc/ssl/private/ssl-cert-snakeoil.key",
    "/etc/ssl/certs/ssl-cert-snakeoil.pem",
    "/root/.bash_history",
)
"""Files that a machine makes of itself, or by which it can be told from others; what is missing is made anew."""
_EMPTIED = (
    "/var/lib/dhcp",
    "/var/lib/NetworkManager",
    "/var/lib/cloud",
    "/var/log/journal",
    "/var/lib/apt/lists",
    "/var/cache/apt",
    "/tmp",  # noqa: S108 - the guest's, emptied and never written to
    "/var/tmp",  # noqa: S108
)
_PRIVATE_KEY = "-----BEGIN ([A-Z ]+ )?PRIVATE KEY( BLOCK)?-----"
_SEARCHED = ("/etc", "/var/lib", "/opt", "/srv", "/root")
"""Where a package's installation may have left a private key."""
_SECRETS = (
    "/etc/bind/rndc.key",
    "/etc/munge/munge.key",
    "/etc/xrdp/rsakeys.ini",
    "/etc/iscsi/initiatorname.iscsi",
    "/etc/nvme/hostnqn",
)
"""Secrets and identities of other forms that packages make when they are installed, and never again."""


class Stripper:
    """Works in builders, before they are published."""

    def __init__(self, incus: Incus) -> None:
        self._incus = incus

    def strip(self, name: str) -> None:
        """Take everything out of a running builder that would be the same in each clone, and must not be."""
        if exists(self._incus, name, "/usr/bin/cloud-init"):
            run(self._incus, name, ["cloud-init", "clean", "--logs"])
        run(self._incus, name, ["find", "/etc/ssh", "-maxdepth", "1", "-name", "ssh_host_*", "-delete"])
        run(self._incus, name, ["rm", "-rf", "--", *_IDENTITY])
        emptied = [path for path in _EMPTIED if exists(self._incus, name, path)]
        # Somebody at work in there may take a file away first; what counts is looked at afterwards.
        self._incus.execute(name, ["find", *emptied, "-mindepth", "1", "-xdev", "-delete"], timeout=TIMEOUT)
        run(self._incus, name, ["mkdir", "-p", "--", "/var/lib/apt/lists/partial", "/var/cache/apt/archives/partial"])
        self._incus.execute(
            name,
            ["find", "/var/log", "-type", "f", "-size", "+0", "-exec", "truncate", "-s", "0", "{}", "+"],
            timeout=TIMEOUT,
        )
        run(self._incus, name, ["truncate", "-s", "0", _MACHINE_ID])

    def check(self, name: str) -> None:
        """Look whether nothing of it came back before the builder was stopped. Raises RetryableError."""
        left = [path for path in (*_HOST_KEYS, *_IDENTITY) if exists(self._incus, name, path)]
        machine_id = self._incus.read_file(name, _MACHINE_ID, 64)
        if left or (machine_id is not None and machine_id.data):
            raise RetryableError(
                f"{name} made {left[0] if left else _MACHINE_ID} again while it was taken out",
                remedy="it is baked anew",
                reason="NotStripped",
            )

    def secrets_of_base(self, name: str) -> frozenset[str]:
        """Secrets that the base image brings: its maker wants them in there. Noted before anything is installed."""
        noted = (self._incus.get("instances", name).get("config") or {}).get(marks.BUILDER_SECRETS)
        if noted is not None:
            return frozenset(json.loads(noted))
        found = self._secrets(name)
        self._incus.patch("instances", name, body={"config": {marks.BUILDER_SECRETS: json.dumps(sorted(found))}})
        return found

    def _secrets(self, name: str) -> frozenset[str]:
        command = ["grep", "-rlsaE", "--devices=skip", "--", _PRIVATE_KEY, *_SEARCHED]
        done = self._incus.execute(name, command, timeout=TIMEOUT)
        if done.code not in (0, 1, 2):  # 2: a file went away, or a folder is not there
            raise RetryableError(f"grep failed in {name} with exit code {done.code}", reason="GuestCommandFailed")
        found = {line for line in done.out.splitlines() if line.startswith("/")} - {*_HOST_KEYS, *_IDENTITY}
        return frozenset(found | {path for path in _SECRETS if exists(self._incus, name, path)})

    def refuse_secrets(self, name: str, known: frozenset[str]) -> None:
        """A secret that was made at an installation would be everybody's."""
        new = sorted(self._secrets(name) - known)
        if not new:
            return
        owned = self._incus.execute(name, ["dpkg", "-S", "--", *new], timeout=TIMEOUT)
        shipped = {line.partition(": ")[2] for line in owned.out.splitlines()}
        made = [path for path in new if path not in shipped]
        if made:
            raise TerminalError(
                f"a package makes a secret when it is installed, which everybody would share: {clean(made[0])}",
                remedy="leave that package out of spec.packages, and install it in the environment",
                reason="SecretInImage",
            )


def exists(incus: Incus, name: str, path: str) -> bool:
    """Whether there is something of that path in a builder, running or not."""
    return incus.read_file(name, path, 0) is not None


def run(incus: Incus, name: str, args: Sequence[str]) -> None:
    """Run a command in a builder that has to succeed."""
    done = incus.execute(name, args, timeout=TIMEOUT)
    if done.code == 0:
        return
    words = clean(done.tail)
    if args[0] == "systemctl" and ("does not exist" in words or "No such file" in words):
        raise TerminalError(
            f"the image lacks a service: {words}", remedy="use a Debian or Ubuntu image", reason="ServiceMissing"
        )
    raise RetryableError(f"{args[0]} failed with exit code {done.code}: {words}", reason="GuestCommandFailed")
