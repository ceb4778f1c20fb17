"""Whether a guest's spoof filters stand, as nft lists them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from containarium.host.command import Completed
from containarium.host.incus import Incus
from containarium.host.nicfilters import NicFilters
from containarium.host.settings import HostSettings
from containarium.model.host import TerminalError

LISTED = """\
table bridge incus {
	chain in.alice-container.eth0 {
		type filter hook input priority filter; policy accept;
	}
	chain fwd.alice-container.eth0 {
		type filter hook forward priority filter; policy accept;
	}
	chain in.bob-container.eth0 {
		type filter hook input priority filter; policy accept;
	}
}
"""
FILTERED = {"eth0": {"type": "nic", "security.mac_filtering": "true"}}


class Firewalled(Incus):
    def __init__(self, firewall: str) -> None:
        super().__init__(HostSettings())
        self._firewall = firewall

    def server(self) -> Mapping[str, Any]:
        return {"environment": {"firewall": self._firewall}}


def nft(
    args: Sequence[str], *, timeout: float, stdin: str = "", check: bool = True, env: Mapping[str, str] | None = None
) -> Completed:
    return Completed(0, LISTED, "")


def test_filters_that_stand() -> None:
    NicFilters(Firewalled("nftables"), nft).check("alice-container", FILTERED)


def test_filters_that_are_lost() -> None:
    filters = NicFilters(Firewalled("nftables"), nft)
    with pytest.raises(TerminalError, match="bob-container runs without its spoof filters") as caught:
        filters.check("bob-container", FILTERED, "Protocol error")
    assert caught.value.reason == "NicFiltersLost"
    filters.check("bob-container", {"eth0": {"type": "nic"}})


def test_another_firewall_tells_nothing() -> None:
    NicFilters(Firewalled("xtables"), nft).check("bob-container", FILTERED)
