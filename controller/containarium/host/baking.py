"""Bakes one recipe: in a container of its own, without anything of a person, until it is published as an image.

A bake that was interrupted is gone on with: packages are looked at before they are installed, what was done twice does
no harm, and a builder that was stripped already is only published.
"""

from __future__ import annotations

import contextlib
import shutil
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from containarium.host import firstboot
from containarium.host.fragments import Fragments, unpacking
from containarium.host.guestlife import await_address
from containarium.host.guestpackages import Packages
from containarium.host.idmaps import Idmaps
from containarium.host.incus import Incus
from containarium.host.instances import half_born, refuse_if_busy, runs
from containarium.host.settings import HostSettings
from containarium.host.stripping import Stripper, exists, run
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
_BOOT_PATIENCE = 120.0
_PAUSE = 0.25
_RELEASE = ("os", "release", "architecture", "variant", "serial", "description")
"""Properties of the base image that its recipes keep."""
_LIMITS = {"limits.memory": "50%", "limits.processes": "4096"}
_DISK = "64GiB"

_NO_STARTS = "/usr/sbin/policy-rc.d"
_REFUSE = b"""\
#!/bin/sh
# Nothing starts while an image is baked: what it makes of itself would be in every clone.
exit 101
"""


class Baker:
    """Bakes recipes. Two at the same time must not bake the same one: whoever asks holds its lock."""

    def __init__(self, incus: Incus, settings: HostSettings, idmaps: Idmaps | None = None) -> None:
        """``idmaps`` is shared with whoever else makes instances in this process."""
        self._incus = incus
        self._bridge = settings.bridge
        self._pool = settings.pool
        self._fragments = Fragments(incus, settings)
        self._packages = Packages(incus)
        self._stripper = Stripper(incus)
        self._idmaps = idmaps or Idmaps(incus)

    def bake(self, recipe: Recipe, base: str, progress: Progress) -> str:
        """Bake a recipe from the image ``base`` (a fingerprint); the new image's fingerprint.

        A failure takes the builder away, a cancellation leaves it to be gone on with. Raises HostError: of installing
        packages with apt's own last lines.
        """
        digest = recipe.digest(base)
        name = PREFIX + short(digest)
        try:
            properties = self._properties(base)
            if not self._stripped(name, digest):
                resumed = self._make(name, digest, base, progress)
                self._await_boot(name)
                self._fill(name, recipe, progress, resumed=resumed)
                progress("taking out what identifies a machine")
                self._stripper.strip(name)
                # By force: an orderly stop would write new ones.
                self._stop(name)
                self._stripper.check(name)
                self._incus.patch("instances", name, body={"config": {marks.BUILDER_STRIPPED: "true"}})
            fingerprint = self._publish(name, recipe, base, properties, progress)
        except HostError as error:
            if error.reason not in ("Cancelled", "Busy", "IncusUnreachable"):
                self._discard_if_possible(digest)
            raise
        self._discard_if_possible(digest)
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
        if half_born(there):
            refuse_if_busy(self._incus, name)
            self._fragments.doubt(there)
        self._stop(name)
        self._incus.delete("instances", name, timeout=_POWER_TIMEOUT)

    def _discard_if_possible(self, digest: str) -> None:
        """What stays is tidied away later; how the bake itself ended is what counts."""
        with contextlib.suppress(HostError):
            self.discard(digest)

    # Its steps

    def _properties(self, base: str) -> Mapping[str, str]:
        found = self._incus.find("images", base)
        if found is None:  # Incus has just replaced it by a newer one
            raise RetryableError(
                f"the base image {short(base)} is gone", remedy="it is looked for anew", reason="Changed"
            )
        properties: Mapping[str, str] = found.get("properties") or {}
        return {key: properties[key] for key in _RELEASE if key in properties}

    def _stripped(self, name: str, digest: str) -> bool:
        """Whether an interrupted bake came as far as to have nothing left but to be published."""
        there = self._incus.find("instances", name)
        config = (there or {}).get("config") or {}
        return config.get(marks.BUILDER) == digest and marks.BUILDER_STRIPPED in config and not runs(there)

    def _make(self, name: str, digest: str, base: str, progress: Progress) -> bool:
        """A running builder; whether it is one that an interrupted bake left."""
        there = self._incus.find("instances", name)
        if there is not None and (there.get("config") or {}).get(marks.BUILDER) != digest:
            raise TerminalError(
                f"there is an instance {name} that containarium did not make", remedy="rename it", reason="Conflict"
            )
        if there is not None and (half_born(there) or marks.BUILDER_STRIPPED in there["config"]):
            refuse_if_busy(self._incus, name)
            self.discard(digest)  # one that was started after it was stripped is no better than a half one
            there = None
        if there is None:
            progress("making a container to build the image in")
            body = self._body(name, digest, base)
            unpacking(
                self._incus,
                self._pool,
                lambda: self._incus.wait(self._idmaps.begin(body), _CREATE_TIMEOUT, progress),
            )
            if other := self._idmaps.shared_with(name):
                raise RetryableError(f"Incus gave {name} the ids of {other}", remedy="again", reason="SharedIds")
        if there is None or not runs(there):
            self._start(name)
        return there is not None

    def _start(self, name: str) -> None:
        body = {"action": "start", "timeout": round(_POWER_TIMEOUT)}
        try:
            self._incus.put("instances", name, "state", body=body, timeout=_POWER_TIMEOUT)
        except HostError as error:
            self._fragments.give_up(self._incus.get("instances", name), error)
            raise

    def _body(self, name: str, digest: str, base: str) -> dict[str, Any]:
        return {
            "name": name,
            "type": "container",
            "profiles": [],
            "config": {
                **_LIMITS,
                marks.BUILDER: digest,
                "security.idmap.isolated": "true",
                "boot.autostart": "false",
            },
            "devices": {
                "root": {"type": "disk", "path": "/", "pool": self._pool, "size": _DISK},
                "eth0": {
                    "type": "nic",
                    "name": "eth0",
                    "network": self._bridge,
                    "security.ipv4_filtering": "true",
                    "security.mac_filtering": "true",
                    "security.port_isolation": "true",
                },
            },
            "source": {"type": "image", "fingerprint": base},
        }

    def _await_boot(self, name: str) -> None:
        """Wait until all is over which a boot does by itself: what it makes afterwards would be in every clone."""
        deadline = time.monotonic() + _BOOT_PATIENCE
        while time.monotonic() < deadline:
            left = max(1, round(deadline - time.monotonic()))
            asked = ["timeout", str(left), "systemctl", "is-system-running", "--wait"]
            said = self._incus.execute(name, asked, timeout=left + 10.0).out.strip()
            if said in ("running", "degraded", "maintenance"):
                break
            self._incus.cancellation.sleep(_PAUSE)  # its manager does not answer yet
        if exists(self._incus, name, "/usr/bin/cloud-init"):
            asked = ["timeout", str(round(_BOOT_PATIENCE)), "cloud-init", "status", "--wait"]
            self._incus.execute(name, asked, timeout=_BOOT_PATIENCE + 10.0)

    def _fill(self, name: str, recipe: Recipe, progress: Progress, *, resumed: bool) -> None:
        """Packages, services, root's password: what is the same for everybody."""
        known = self._stripper.secrets_of_base(name)
        missing = self._packages.missing(name, recipe.packages)
        if missing or resumed:
            if not exists(self._incus, name, _NO_STARTS):
                self._incus.write_file(name, _NO_STARTS, _REFUSE, uid=0, gid=0, mode=0o755)
            if missing:
                await_address(self._incus, self._incus.get("instances", name))
            self._run(name, ["dpkg", "--configure", "-a"])
            self._packages.install(name, recipe.packages, progress)
        policy = self._incus.read_file(name, _NO_STARTS, len(_REFUSE))
        if policy is not None and policy.data == _REFUSE:
            self._incus.remove_file(name, _NO_STARTS)
        progress("finishing the image")
        for unit, text in firstboot.UNITS.items():
            path = f"/etc/systemd/system/{unit}"
            self._incus.remove_file(name, path)
            self._incus.write_file(name, path, text.encode(), uid=0, gid=0, mode=0o644)
        # Told by its root folder, systemctl needs no manager that answers.
        self._run(name, ["systemctl", "--root=/", "unmask", "--", *recipe.services])
        self._run(name, ["systemctl", "--root=/", "enable", "--", *firstboot.UNITS, *recipe.services])
        self._run(name, ["usermod", "-p", "*", "--", "root"])
        self._stripper.refuse_secrets(name, known)

    def _publish(self, name: str, recipe: Recipe, base: str, properties: Mapping[str, str], progress: Progress) -> str:
        progress("publishing the image")
        digest = recipe.digest(base)
        alias = ALIAS + short(digest)
        if self._incus.find("images", "aliases", alias) is not None:
            self._incus.delete("images", "aliases", alias)
        body: dict[str, Any] = {
            "source": {"type": "instance", "name": name},
            "aliases": [{"name": alias, "description": str(recipe)[:200]}],
            "properties": {
                **properties,
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

    def _stop(self, name: str) -> None:
        body = {"action": "stop", "force": True, "timeout": 30}
        try:
            self._incus.put("instances", name, "state", body=body, timeout=_POWER_TIMEOUT)
        except HostError as error:
            if "already stopped" not in error.message:
                raise

    def _run(self, name: str, args: Sequence[str]) -> None:
        run(self._incus, name, args)
