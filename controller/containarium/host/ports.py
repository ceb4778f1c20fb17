"""The bridge's port of a container. Its name is made of the address, so one that was left behind is in the way.

Whoever kills Incus in the middle of a start leaves the pair of links that it had just made, and the next start cannot
make one of that name.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from containarium.host.command import Run
from containarium.host.incus import Incus
from containarium.model import marks
from containarium.plan.desired import NIC_DEVICE

IN_THE_WAY = "Failed to create the veth interfaces"
"""What Incus says of it, among other words."""
_TIMEOUT = 30.0


class Ports:
    """Removes ports that nobody is behind."""

    def __init__(self, incus: Incus, run: Run, links: Path = Path("/sys/class/net")) -> None:
        self._incus = incus
        self._run = run
        self._links = links

    def clear(self, there: Mapping[str, Any]) -> bool:
        """Remove the port of an instance that does not run, in Incus' own words; whether there was one to remove.

        One that any running instance has stays. Raises HostError.
        """
        devices = there.get("expanded_devices") or there.get("devices") or {}
        name = str((devices.get(NIC_DEVICE) or {}).get("host_name", ""))
        if not name.startswith(marks.PORT_PREFIX) or not (self._links / name).exists() or self._in_use(name):
            return False
        self._run(["ip", "link", "delete", "dev", name], timeout=_TIMEOUT)
        return True

    def _in_use(self, port: str) -> bool:
        listed = self._incus.get("instances", recursion="1", all_projects="true") or ()
        return any(
            key.startswith("volatile.") and key.endswith(".host_name") and value == port
            for instance in listed
            if instance.get("status") != "Stopped"
            for key, value in (instance.get("config") or {}).items()
        )
