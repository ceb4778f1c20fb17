"""What a killed Incus leaves of an image that it was unpacking: a volume with a part of its files, none, or its name.

Incus takes that volume for whole at its next start and copies it, so that what is made from it cannot start, or lacks
files. Where it has noted the volume and made no files, it wants to make it, and cannot, because it is noted already.
Nobody's data is in such a volume, and Incus unpacks its image again when it is gone.
"""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from containarium.host.files import read_small
from containarium.host.incus import Incus
from containarium.host.settings import HostSettings
from containarium.model.host import HostError, RetryableError
from containarium.plan.desired import ROOT_DEVICE

_TEMPLATE, _POWER, _BASE = "volatile.apply_template", "volatile.last_state.power", "volatile.base_image"
_NEVER = ("0001-", "1970-")
"""How Incus writes the time of a start that never was."""
_TEMPLATES = re.compile(r"^templates:\s*$", re.MULTILINE)
_INITS = ("sbin/init", "usr/sbin/init", "usr/lib/systemd/systemd")
_ROOTLESS = re.compile(r'No such file or directory: "[^"]*/containers/[^"/]*/rootfs"')
"""That there is no root, in the words of Incus. Its folder alone tells nothing: of ZFS, it is empty until a start."""
_NOTED = re.compile(r'inserting volume "([0-9a-f]{64})" .*of type "images".*UNIQUE constraint', re.DOTALL)


class Fragments:
    """Gives up containers that were never whole, and the volumes that they were copied from."""

    def __init__(self, incus: Incus, settings: HostSettings) -> None:
        self._incus = incus
        self._pools = settings.incus_dir / "storage-pools"
        self._pool = settings.pool
        self._lock = threading.Lock()
        self._doubted: set[tuple[object, ...]] = set()

    def doubt(self, there: Mapping[str, Any]) -> None:
        """Have the image unpacked again from which the creation of an instance, in Incus' own words, was interrupted:
        perhaps while it unpacked. Nothing may be under way with it.

        Of many who were interrupted together the first does it, lest the others take it from under those who are made.
        Raises HostError.
        """
        image = str((there.get("config") or {}).get(_BASE, ""))
        if not image:
            return
        volume = _volume(self._pool_of(there), image)
        this = (self._incus.get().get("environment") or {}).get("server_pid")
        with self._lock:
            if (*volume, this) in self._doubted:
                return
            if self._incus.exists(*volume):
                self._incus.delete(*volume)
            self._doubted.add((*volume, this))

    def give_up(self, there: Mapping[str, Any], error: HostError) -> None:
        """Mark an instance of ours, in Incus' own words, as the half-born one that it is; nothing where it is whole.

        ``error`` is what its start failed with. It was never started, so nothing of anybody's is in it. Raises
        RetryableError where it was given up: made anew it can start. Raises HostError where that failed.
        """
        config = there.get("config") or {}
        if config.get(_TEMPLATE) != "create" or not str(there.get("last_used_at", "")).startswith(_NEVER):
            return
        pool = self._pools / self._pool_of(there)
        name, rootless = str(there["name"]), bool(_ROOTLESS.search(error.message))
        if not rootless and not _partial(pool / "containers" / name):
            return
        base = str(config.get(_BASE, ""))
        image = pool / "images" / base
        if base and (_partial(image) or (rootless and not (image / "rootfs").is_dir())):
            self._incus.delete(*_volume(pool.name, base))
        self._incus.patch("instances", name, body={"config": {_TEMPLATE: "", _POWER: ""}})
        raise RetryableError(
            f"{name} was never whole: Incus was killed while it unpacked its image, or nothing in the image can start",
            remedy="it is made anew",
            reason="HalfBorn",
        ) from error

    def _pool_of(self, there: Mapping[str, Any]) -> str:
        devices = there.get("expanded_devices") or there.get("devices") or {}
        return str((devices.get(ROOT_DEVICE) or {}).get("pool") or self._pool)


def unpacking(incus: Incus, pool: str, make: Callable[[], object]) -> None:
    """Make an instance from an image in a pool; once more where the image's volume is there in name only.

    Incus then forgets the volume in between, and nothing is lost with it. Raises HostError.
    """
    try:
        make()
    except RetryableError as error:
        noted = _NOTED.search(error.message)
        if noted is None:
            raise
        incus.delete(*_volume(pool, noted[1]))
        make()


def _volume(pool: str, image: str) -> tuple[str, ...]:
    """Where Incus' API has what an image was unpacked into."""
    return ("storage-pools", pool, "volumes", "image", image)


def _partial(folder: Path) -> bool:
    """Whether a volume lacks what comes late of an image: the templates that it says it has, or what starts first."""
    said = read_small(folder / "metadata.yaml")
    if said is None:
        return False
    if _TEMPLATES.search(said) and not (folder / "templates").is_dir():
        return True
    return not any(os.path.lexists(folder / "rootfs" / init) for init in _INITS)
