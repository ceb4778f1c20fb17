"""Bakes one recipe: in a container of its own, without anything of a person, until it is published as an image.

Every step looks before it acts, so that a bake that was interrupted is gone on with where it stopped.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from containarium.host.command import Completed
from containarium.host.faults import clean
from containarium.host.guestpackages import Packages
from containarium.host.idmaps import Idmaps
from containarium.host.incus import Incus
from containarium.host.instances import half_born, runs
from containarium.host.power import has_address
from containarium.host.settings import HostSettings
from containarium.model import marks
from containarium.model.host import HostError, Progress, RetryableError, TerminalError
from containarium.model.recipe import VERSION, Recipe, short

ALIAS = "containarium/recipe/"
"""What a baked image is called by, with the first digits of its recipe's digest."""
PREFIX = "containarium-build-"
"""What a builder's name begins with; whether it is ours is said by its mark."""

_CREATE_TIMEOUT = 600.0
_POWER_TIMEOUT = 60.0
_PUBLISH_TIMEOUT = 900.0
_ADDRESS_PATIENCE = 60
_PAUSE = 0.25
_COMMAND_TIMEOUT = 120.0
_RELEASE = ("os", "release", "architecture", "variant", "serial", "description")
"""Properties of the base image that its recipes keep."""

_NO_STARTS = "/usr/sbin/policy-rc.d"
_REFUSE = (
    b"#!/bin/sh\n# Nothing starts while an image is baked: what it made of itself would be in every clone.\nexit 101\n"
)
_FIRST_BOOT = "ssh-host-keys.service"
_FIRST_BOOT_UNIT = b"""\
[Unit]
Description=Make what each machine has to have of its own
Before=ssh.service ssh.socket
ConditionPathExists=!/etc/ssh/ssh_host_ed25519_key

[Service]
Type=oneshot
ExecStart=/usr/bin/ssh-keygen -A
ExecStart=-/usr/sbin/make-ssl-cert generate-default-snakeoil

[Install]
WantedBy=multi-user.target
"""
_IDENTITY = (
    "/var/lib/dbus/machine-id",
    "/var/lib/systemd/random-seed",
    "/var/lib/systemd/credential.secret",
    "/etc/ssl/private/ssl-cert-snakeoil.key",
    "/etc/ssl/certs/ssl-cert-snakeoil.pem",
    "/root/.bash_history",
)
"""Files that a machine makes of itself, or with which it can be told from others."""
_EMPTIED = (
    "/var/lib/dhcp",
    "/var/lib/NetworkManager",
    "/var/lib/cloud",
    "/var/lib/docker",
    "/var/lib/containerd",
    "/var/log/journal",
    "/var/lib/apt/lists",
    "/var/cache/apt",
    "/tmp",  # noqa: S108 - the guest's, emptied and never written to
    "/var/tmp",  # noqa: S108
)
_SECRETS = ("/etc", "/var/lib", "/opt", "/srv", "/root")
"""Where a package's installation may have left a private key."""


class Baker:
    """Bakes recipes. Two at the same time must not bake the same one: whoever asks holds its lock."""

    def __init__(self, incus: Incus, settings: HostSettings, idmaps: Idmaps | None = None) -> None:
        """``idmaps`` is shared with whoever else makes instances in this process."""
        self._incus = incus
        self._bridge = settings.bridge
        self._pool = settings.pool
        self._packages = Packages(incus)
        self._idmaps = idmaps or Idmaps(incus)

    def bake(self, recipe: Recipe, base: str, progress: Progress) -> str:
        """Bake a recipe from the image ``base`` (a fingerprint); the new image's fingerprint.

        A failure takes the builder away, a cancellation leaves it to be gone on with. Raises HostError: of installing
        packages with apt's own last lines.
        """
        digest = recipe.digest(base)
        name = PREFIX + short(digest)
        try:
            self._make(name, digest, base, progress)
            self._fill(name, recipe, progress)
            self._strip(name)
            fingerprint = self._publish(name, recipe, base, progress)
        except HostError as error:
            if error.reason not in ("Cancelled", "IncusUnreachable"):
                self.discard(digest)
            raise
        self.discard(digest)
        return fingerprint

    def builders(self) -> Mapping[str, str]:
        """The builders that are there: name and digest of the recipe."""
        found = self._incus.get("instances", recursion="1")
        marked = {str(raw["name"]): str((raw.get("config") or {}).get(marks.BUILDER, "")) for raw in found}
        return {name: digest for name, digest in marked.items() if digest and name == PREFIX + short(digest)}

    def discard(self, digest: str) -> None:
        """Remove the builder of a recipe, whatever state it is in; none, or somebody else's, is left alone."""
        name = PREFIX + short(digest)
        there = self._incus.find("instances", name)
        if there is None or (there.get("config") or {}).get(marks.BUILDER) != digest:
            return
        self._stop(name)
        self._incus.delete("instances", name, timeout=_POWER_TIMEOUT)

    # Its steps

    def _make(self, name: str, digest: str, base: str, progress: Progress) -> None:
        """A running builder: the one that an interrupted bake left, or a new one."""
        there = self._incus.find("instances", name)
        if there is not None and (there.get("config") or {}).get(marks.BUILDER) != digest:
            raise TerminalError(
                f"there is an instance {name} that containarium did not make", remedy="rename it", reason="Conflict"
            )
        if there is not None and half_born(there):
            self.discard(digest)
            there = None
        if there is None:
            progress("making a container to build the image in")
            self._incus.wait(self._idmaps.begin(self._body(name, digest, base)), _CREATE_TIMEOUT, progress)
        if there is None or not runs(there):
            body = {"action": "start", "timeout": round(_POWER_TIMEOUT)}
            self._incus.put("instances", name, "state", body=body, timeout=_POWER_TIMEOUT)

    def _body(self, name: str, digest: str, base: str) -> dict[str, Any]:
        return {
            "name": name,
            "type": "container",
            "profiles": [],
            "config": {
                marks.BUILDER: digest,
                "security.idmap.isolated": "true",
                "boot.autostart": "false",
            },
            "devices": {
                "root": {"type": "disk", "path": "/", "pool": self._pool},
                "eth0": {
                    "type": "nic",
                    "name": "eth0",
                    "network": self._bridge,
                    "security.mac_filtering": "true",
                    "security.port_isolation": "true",
                },
            },
            "source": {"type": "image", "fingerprint": base},
        }

    def _fill(self, name: str, recipe: Recipe, progress: Progress) -> None:
        """Packages, services, root's password: what is the same for everybody."""
        if self._packages.missing(name, recipe.packages):
            self._await_address(name)
            own = self._incus.read_file(name, _NO_STARTS, len(_REFUSE))
            if own is None:
                self._incus.write_file(name, _NO_STARTS, _REFUSE, uid=0, gid=0, mode=0o755)
            self._packages.install(name, recipe.packages, progress)
            if own is None or own.data == _REFUSE:
                self._incus.remove_file(name, _NO_STARTS)
        progress("finishing the image")
        self._incus.remove_file(name, f"/etc/systemd/system/{_FIRST_BOOT}")
        self._incus.write_file(name, f"/etc/systemd/system/{_FIRST_BOOT}", _FIRST_BOOT_UNIT, uid=0, gid=0, mode=0o644)
        services = ("docker", "ssh") if recipe.docker else ("ssh",)
        # Told by its root folder, systemctl needs no manager that has come up already.
        self._run(name, ["systemctl", "--root=/", "enable", "--", _FIRST_BOOT, *services])
        self._run(name, ["usermod", "-p", "*", "--", "root"])

    def _strip(self, name: str) -> None:
        """Take everything out that would be the same in each clone, and must not be. Ends with the builder stopped."""
        if self._incus.read_file(name, "/usr/bin/cloud-init", 0) is not None:
            self._run(name, ["cloud-init", "clean", "--logs"])
        self._run(name, ["find", "/etc/ssh", "-maxdepth", "1", "-name", "ssh_host_*", "-delete"])
        self._run(name, ["rm", "-rf", "--", *_IDENTITY])
        self._refuse_secrets(name)
        emptied = [path for path in _EMPTIED if self._incus.read_file(name, path, 0) is not None]
        self._run(name, ["find", *emptied, "-mindepth", "1", "-xdev", "-delete"])
        self._run(name, ["mkdir", "-p", "--", "/var/lib/apt/lists/partial", "/var/cache/apt/archives/partial"])
        self._run(name, ["find", "/var/log", "-type", "f", "-size", "+0", "-exec", "truncate", "-s", "0", "{}", "+"])
        self._run(name, ["truncate", "-s", "0", "/etc/machine-id"])
        # By force: an orderly stop would write new ones.
        self._stop(name)

    def _refuse_secrets(self, name: str) -> None:
        """A private key that was made at an installation would be everybody's."""
        command = ["grep", "-rlsIE", "--", "-----BEGIN [A-Z ]*PRIVATE KEY-----", *_SECRETS]
        done = self._incus.execute(name, command, timeout=_COMMAND_TIMEOUT)
        found = [line for line in done.out.splitlines() if line.startswith("/")]
        if not found:
            return
        owned = self._incus.execute(name, ["dpkg", "-S", "--", *found], timeout=_COMMAND_TIMEOUT)
        shipped = {line.partition(": ")[2] for line in owned.out.splitlines()}
        made = [path for path in found if path not in shipped]
        if made:
            raise TerminalError(
                f"a package makes a private key when it is installed, which everybody would share: {clean(made[0])}",
                remedy="leave that package out of spec.packages, and install it in the environment",
                reason="SecretInImage",
            )

    def _publish(self, name: str, recipe: Recipe, base: str, progress: Progress) -> str:
        progress("publishing the image")
        digest = recipe.digest(base)
        properties = self._incus.get("images", base).get("properties") or {}
        alias = ALIAS + short(digest)
        if self._incus.find("images", "aliases", alias) is not None:
            self._incus.delete("images", "aliases", alias)
        body: dict[str, Any] = {
            "source": {"type": "instance", "name": name},
            "aliases": [{"name": alias, "description": str(recipe)[:200]}],
            "properties": {
                **{key: properties[key] for key in _RELEASE if key in properties},
                marks.IMAGE_RECIPE: digest,
                marks.RECIPE_IMAGE: recipe.image,
                marks.RECIPE_BASE: base,
                marks.RECIPE_PACKAGES: " ".join(recipe.packages),
                marks.RECIPE_DOCKER: "true" if recipe.docker else "false",
                marks.RECIPE_BUILT: datetime.now(UTC).isoformat(timespec="seconds"),
                marks.RECIPE_VERSION: str(VERSION),
            },
        }
        if shutil.which("zstd"):  # several times as quick as gzip, which is what Incus takes otherwise
            body["compression_algorithm"] = "zstd"
        return str(self._incus.post("images", body=body, timeout=_PUBLISH_TIMEOUT, progress=progress)["fingerprint"])

    def _await_address(self, name: str) -> None:
        for _ in range(round(_ADDRESS_PATIENCE / _PAUSE)):
            if has_address(self._incus.get("instances", name, "state")):
                return
            self._incus.cancellation.sleep(_PAUSE)
        raise RetryableError(
            f"{name} got no IPv4 address within {_ADDRESS_PATIENCE} s",
            remedy=f"see that {self._bridge} hands out addresses: containarium doctor",
            reason="NoAddress",
        )

    def _stop(self, name: str) -> None:
        body = {"action": "stop", "force": True, "timeout": 30}
        try:
            self._incus.put("instances", name, "state", body=body, timeout=_POWER_TIMEOUT)
        except HostError as error:
            if "already stopped" not in error.message:
                raise

    def _run(self, name: str, args: Sequence[str]) -> Completed:
        done = self._incus.execute(name, args, timeout=_COMMAND_TIMEOUT)
        if done.code == 0:
            return done
        words = clean(done.tail)
        if re.search(r"does not exist|No such file", words) and args[0] == "systemctl":
            raise TerminalError(
                f"the image lacks a service: {words}", remedy="use a Debian or Ubuntu image", reason="ServiceMissing"
            )
        raise RetryableError(f"{args[0]} failed with exit code {done.code}: {words}", reason="GuestCommandFailed")
