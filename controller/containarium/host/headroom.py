"""Room to start for a guest that has filled its disk.

At each start Incus writes a file on the guest's own subvolume, and the guest notes its address, so that who fills a
disk would be shut out of it by the next preemption. Until it is up the kernel's limit is a little higher.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from containarium.host.quotas import Quotas
from containarium.host.settings import HostSettings
from containarium.model.quantity import parse_bytes
from containarium.plan.desired import ROOT_DEVICE

STEP = 8 << 20
"""Bytes beyond what is in use. The guest may take what Incus leaves of it, while it boots."""
MOST = 64 << 20
"""Bytes beyond the limit, however often it is started: nobody's disk grows by starting again and again."""


class Headroom:
    """Lifts the kernel's limit of one container's disk; on btrfs alone, for elsewhere nothing is in the way."""

    def __init__(self, settings: HostSettings, quotas: Quotas) -> None:
        self._pools = settings.incus_dir / "storage-pools"
        self._pool = settings.pool
        self._quotas = quotas

    def grow(self, instance: str, devices: Mapping[str, Mapping[str, str]]) -> bool:
        """Let an instance have the disk that its ``devices`` say; whether they say any, and the kernel took it.

        Incus goes by way of the folder itself, which the kernel refuses for one that is over its limit, as a start with
        headroom may leave it. Raises HostError.
        """
        root = devices.get(ROOT_DEVICE) or {}
        size = parse_bytes(str(root.get("size") or "0"))
        pool = self._pools / str(root.get("pool") or self._pool)
        folder = pool / "containers" / instance
        used = self._quotas.used(folder)
        return used is not None and size > used and self._quotas.set_btrfs(folder, pool, size)

    @contextmanager
    def given(self, there: Mapping[str, Any]) -> Iterator[bool]:
        """Give an instance, in Incus' own words, room for the time of the block; whether there was any to give.

        Raises HostError. The limit is as declared again afterwards, whatever happens in the block.
        """
        devices = there.get("expanded_devices") or there.get("devices") or {}
        root = devices.get(ROOT_DEVICE) or {}
        pool = self._pools / str(root.get("pool") or self._pool)
        folder = pool / "containers" / str(there["name"])
        size = parse_bytes(str(root.get("size") or "0"))
        used = self._quotas.used(folder)
        if not size or used is None or used + STEP > size + MOST:
            yield False
            return
        try:
            yield self._quotas.set_btrfs(folder, pool, max(size, used) + STEP)
        finally:
            self._quotas.set_btrfs(folder, pool, size)
