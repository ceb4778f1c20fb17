"""Guests kept from the host's services and from one another: nftables tables of containarium's own, beside all others.

A packet must pass every table, so these can only refuse, never let in what the admin's rules refuse; and the admin's
and Docker's rules stay as they are. They name no address of the host: those of tomorrow are covered too.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

from containarium.host.command import Run, run
from containarium.host.files import read_small
from containarium.host.settings import HostSettings
from containarium.model import marks

TABLE = "containarium"
FLEET = "containarium-fleet"
"""The table that follows the list of the declared hosts."""
METADATA = ("169.254.0.0/16", "168.63.129.16/32", "100.100.100.200/32", "fd00:ec2::254/128", "fd20:ce::254/128")
"""Where clouds answer questions about the machine and hand out its credentials."""
UNIT = "containarium-firewall.service"
INCUS_PORT = 8443
"""Where Incus listens for the other hosts of a fleet."""
_NFT = "/usr/sbin/nft"
_TIMEOUT = 20.0
_DIGEST = "@digest@"
_CHAINS = re.compile(rf"table inet {FLEET} \{{\s*chain ")
_MARK = re.compile(r'comment "containarium [0-9a-f]{32}"')
"""Stands on a rule of the fleet's table: which list of hosts it was made of."""


def firewall_file(settings: HostSettings) -> Path:
    """Where the rules are kept for the next boot."""
    return settings.etc / "containarium" / "firewall.nft"


def fleet_file(settings: HostSettings) -> Path:
    """Where the rules are kept that follow the list of the declared hosts; there is none where this host is alone."""
    return settings.etc / "containarium" / "fleet.nft"


def rules(settings: HostSettings, subnet: IPv4Network) -> str:
    """The tables, as a file for ``nft -f`` that replaces them in one go, those of ``fleet_file`` included."""
    four = ", ".join(target for target in METADATA if ":" not in target)
    six = ", ".join(target for target in METADATA if ":" in target)
    refuse = "reject with icmpx admin-prohibited"
    return f"""#!{_NFT} -f
# Written by containarium: guests on {settings.bridge} reach the host for addresses, names and pings alone.
table inet {TABLE}
delete table inet {TABLE}
table inet {TABLE} {{
    chain input {{
        type filter hook input priority filter - 5; policy accept;
        iifname != "{settings.bridge}" accept
        ct state established,related accept
        udp dport {{ 67, 547 }} accept
        meta l4proto {{ tcp, udp }} th dport 53 accept
        icmp type {{ echo-request, destination-unreachable, time-exceeded, parameter-problem }} accept
        icmpv6 type {{ echo-request, destination-unreachable, packet-too-big, time-exceeded, parameter-problem, \
nd-router-solicit, nd-neighbor-solicit, nd-neighbor-advert, mld2-listener-report }} accept
        meta l4proto tcp reject with tcp reset
        {refuse}
    }}
    chain forward {{
        type filter hook forward priority filter - 5; policy accept;
        # a bridge's isolated ports reach the host, and the host would route from one to the other
        iifname "{settings.bridge}" oifname "{settings.bridge}" {refuse}
        iifname != "{settings.bridge}" accept
        ip daddr {{ {four} }} {refuse}
        ip6 daddr {{ {six} }} {refuse}
        # a port that the host publishes for something else (Docker) is a service of the host as well
        ct status dnat ct state new {refuse}
    }}
}}
{_ports(subnet)}
table inet {FLEET}
delete table inet {FLEET}
include "{fleet_file(settings).with_name("fleet*.nft")}"
"""


def fleet_rules(
    settings: HostSettings, own: IPv4Address, addresses: Sequence[IPv4Address], subnets: Sequence[IPv4Network]
) -> str:
    """The fleet's table: what other hosts need of this one, and nobody else of theirs.

    ``addresses`` are the other hosts', ``subnets`` those of their guests. Incus answers them alone. From outside of the
    bridge, they alone reach guests, for logins; what an admin publishes (a forward of Incus, Docker) stays so. Guests
    reach no host of the fleet and no other host's guests: on its way out such a packet would get this host's address,
    and be taken for it.
    """
    peers = ", ".join(map(str, addresses))
    kept = ", ".join(map(str, (*subnets, *sorted({own, *addresses}))))
    nobody = "# there is no other host yet"
    incus = f"ip saddr {{ {peers} }} tcp dport {INCUS_PORT} accept" if peers else nobody
    logins = f"ip saddr {{ {peers} }} tcp dport 22 accept" if peers else nobody
    refuse = "reject with icmpx admin-prohibited"
    lines = f"""table inet {FLEET} {{
    chain input {{
        type filter hook input priority filter - 5; policy accept;
        iifname "lo" accept{_DIGEST}
        {incus}
        tcp dport {INCUS_PORT} reject with tcp reset
    }}
    chain forward {{
        type filter hook forward priority filter - 5; policy accept;
        ct state established,related accept
        iifname "{settings.bridge}" ip daddr {{ {kept} }} {refuse}
        oifname != "{settings.bridge}" accept
        ct status dnat accept
        {logins}
        {refuse}
    }}
}}
"""
    digest = hashlib.sha256(lines.encode()).hexdigest()[:32]
    return "# Written by containarium: it follows the Host manifests.\n" + lines.replace(
        _DIGEST, f' comment "containarium {digest}"'
    )


def _ports(subnet: IPv4Network) -> str:
    """Each port may only speak under its own hardware address.

    Incus drops a frame with a stolen one too, but after the bridge has learned from it where to send the answers.
    """
    pairs = (f'"{marks.port_name(a)}" . {marks.hardware_address(a)}' for a in map(str, subnet.hosts()))
    return f"""table bridge {TABLE}
delete table bridge {TABLE}
table bridge {TABLE} {{
    set ports {{
        type ifname . ether_addr
        elements = {{ {", ".join(pairs)} }}
    }}
    chain prerouting {{
        type filter hook prerouting priority filter - 5; policy accept;
        iifname "{marks.PORT_PREFIX}*" iifname . ether saddr != @ports drop
    }}
}}
"""


def units(settings: HostSettings) -> dict[str, str]:
    """Files below systemd's folder: a unit that loads the rules before Incus starts, and a part of nftables.service,
    which flushes everything whenever it is started or reloaded.
    """
    load = f"{_NFT} -f {firewall_file(settings)}"
    return {
        UNIT: f"""# Written by containarium.
[Unit]
Description=Keep containarium's guests away from the host's own services
DefaultDependencies=no
After=local-fs.target nftables.service
Before=incus.service incus-startup.service shutdown.target
Conflicts=shutdown.target

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart={load}
ExecReload={load}

[Install]
WantedBy=multi-user.target
""",
        "nftables.service.d/containarium.conf": f"""# Written by containarium.
[Service]
ExecStartPost=-{load}
ExecReload=-{load}
""",
    }


class Firewall:
    """Puts the tables in force and looks whether they are."""

    def __init__(self, settings: HostSettings, run: Run = run) -> None:
        self._settings = settings
        self._run = run

    def in_force(self) -> bool:
        """Whether the tables stand and name our bridge. About 10 ms."""
        found = self._run([_NFT, "list", "table", "inet", TABLE], timeout=_TIMEOUT, check=False)
        guard = f'iifname != "{self._settings.bridge}" accept'
        if found.code != 0 or found.out.count(guard) != 2 or found.out.count("reject with") < 6:
            return False
        ports = self._run([_NFT, "list", "chain", "bridge", TABLE, "prerouting"], timeout=_TIMEOUT, check=False)
        return ports.code == 0 and "!= @ports drop" in ports.out and self.fleet_in_force()

    def fleet_in_force(self) -> bool:
        """Whether the fleet's table is the one of the file, and has no rule where there is no file."""
        wanted = read_small(fleet_file(self._settings))
        found = self._run([_NFT, "list", "table", "inet", FLEET], timeout=_TIMEOUT, check=False)
        if not wanted:
            return found.code != 0 or not _CHAINS.search(found.out)
        mark = _MARK.search(wanted)
        same = found.out.count("reject with") == wanted.count("reject with")
        return found.code == 0 and same and mark is not None and mark[0] in found.out

    def apply(self) -> None:
        """Put in force what stands in the file, in one go; open connections go on. Raises HostError."""
        self._run([_NFT, "-f", str(firewall_file(self._settings))], timeout=_TIMEOUT)

    def restore(self) -> bool:
        """Put it in force again where somebody flushed it. Returns whether that was needed."""
        if self.in_force():
            return False
        self.apply()
        return True

    def remove(self) -> None:
        """Take the tables away; that there is none is no error."""
        for family, table in (("inet", TABLE), ("bridge", TABLE), ("inet", FLEET)):
            self._run([_NFT, "delete", "table", family, table], timeout=_TIMEOUT, check=False)
