"""What a killed Incus leaves of an image that it was unpacking: a volume with a part of its files, or its name alone.

Incus takes that volume for whole at its next start and copies it, so that nothing made from it can ever start. Where it
has noted the volume and made no files, it wants to make it, and cannot, because it is noted already.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from containarium.host.files import read_small
from containarium.host.incus import Incus
from containarium.host.settings import HostSettings
from containarium.model.host import RetryableError
from containarium.plan.desired import ROOT_DEVICE

_TEMPLATE, _POWER, _BASE = "volatile.apply_template", "volatile.last_state.power", "volatile.base_image"
_NEVER = ("0001-", "1970-")
"""How Incus writes the time of a start that never was."""
_TEMPLATES = re.compile(r"^templates:\s*$", re.MULTILINE)
_NOTED = re.compile(r'inserting volume "([0-9a-f]{64})" .*of type "images".*UNIQUE constraint', re.DOTALL)


class Fragments:
    """Gives up containers that were never whole, and the volumes that they were copied from."""

    def __init__(self, incus: Incus, settings: HostSettings) -> None:
        self._incus = incus
        self._pools = settings.incus_dir / "storage-pools"
        self._pool = settings.pool

    def clear(self, there: Mapping[str, Any]) -> bool:
        """Mark an instance of ours, in Incus' own words, as the half-born one that it is; whether it is one.

        It was never started, so nothing of anybody's is in it. Raises HostError.
        """
        config = there.get("config") or {}
        if config.get(_TEMPLATE) != "create" or not str(there.get("last_used_at", "")).startswith(_NEVER):
            return False
        devices = there.get("expanded_devices") or there.get("devices") or {}
        pool = str((devices.get(ROOT_DEVICE) or {}).get("pool") or self._pool)
        if not _partial(self._pools / pool / "containers" / str(there["name"])):
            return False
        base = str(config.get(_BASE, ""))
        if base and _partial(self._pools / pool / "images" / base):
            self._incus.delete("storage-pools", pool, "volumes", "image", base)
        self._incus.patch("instances", str(there["name"]), body={"config": {_TEMPLATE: "", _POWER: ""}})
        return True


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
        incus.delete("storage-pools", pool, "volumes", "image", noted[1])
        make()


def _partial(folder: Path) -> bool:
    """Whether the templates are missing that an image says it has: they are the last that is unpacked."""
    said = read_small(folder / "metadata.yaml")
    return said is not None and bool(_TEMPLATES.search(said)) and not (folder / "templates").is_dir()
