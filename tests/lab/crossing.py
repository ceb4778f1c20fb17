"""Packets between hosts and other hosts' containers: only the machine that the lab runs on stands in their way.

Where the kernel shows bridged packets to the machine's own rules, the outer Incus' masquerade takes these for packets
that leave the bridge, and every host would seem to be the machine itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.lab.command import run

if TYPE_CHECKING:
    from tests.lab.settings import Settings

SUBNETS = "10.97.0.0/16"
"""What the hosts of a fleet have their containers in."""


def allow(settings: Settings) -> None:
    """Let them pass as they are. Twice is fine."""
    table, bridge = _table(settings), f"{settings.network}.0/24"
    rules = f"""table ip {table}
delete table ip {table}
table ip {table} {{
    chain prerouting {{
        type filter hook prerouting priority raw; policy accept;
        ip saddr {bridge} ip daddr {SUBNETS} notrack
        ip saddr {SUBNETS} ip daddr {bridge} notrack
    }}
}}
"""
    run(["nft", "-f", "-"], timeout=30, input=rules)


def forget(settings: Settings) -> None:
    """Remove the rules; that there are none is no error."""
    run(["nft", "delete", "table", "ip", _table(settings)], timeout=30, check=False)


def _table(settings: Settings) -> str:
    return f"{settings.prefix}fleet"
