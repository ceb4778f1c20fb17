"""Whether a guest's spoof filters are really there. A NIC update that fails can drop them, while the guest's
configuration goes on claiming them until it is restarted."""

from __future__ import annotations

import re
from collections.abc import Mapping

from containarium.host.command import Run
from containarium.host.incus import Incus
from containarium.model.host import HostError, TerminalError

_TIMEOUT = 15.0
_FILTERS = ("security.mac_filtering", "security.ipv4_filtering", "security.ipv6_filtering")
_CHAIN = re.compile(r"^\s*chain ((?:in|fwd)\.\S+) \{", re.MULTILINE)


class NicFilters:
    """Reads Incus' nftables rules. Where Incus uses another firewall nothing can be told, and nothing is claimed."""

    def __init__(self, incus: Incus, run: Run) -> None:
        self._incus = incus
        self._run = run

    def chains(self) -> frozenset[str]:
        """Names of the filter chains that stand, such as ``in.alice-container.eth0``."""
        listed = self._run(["nft", "list", "chains", "bridge"], timeout=_TIMEOUT)
        return frozenset(_CHAIN.findall(listed.out))

    def check(self, instance: str, nics: Mapping[str, Mapping[str, str]], cause: str = "") -> None:
        """Raise TerminalError (NicFiltersLost) when a running instance's NIC lacks filters it is configured to have."""
        filtered = [name for name, device in nics.items() if any(device.get(key) == "true" for key in _FILTERS)]
        if not filtered or self._firewall() != "nftables":
            return
        wanted = {f"{direction}.{instance}.{name}" for name in filtered for direction in ("in", "fwd")}
        missing = wanted - self.chains()
        if missing:
            because = f" ({cause})" if cause else ""
            raise TerminalError(
                f"{instance} runs without its spoof filters{because}",
                remedy=f"restart it to get them back: incus restart {instance}",
                reason="NicFiltersLost",
            )

    def _firewall(self) -> str:
        try:
            return str(self._incus.server().get("environment", {}).get("firewall", ""))
        except HostError:
            return ""
