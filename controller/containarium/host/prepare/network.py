"""The guests' bridge, and the ACL on it that Incus itself keeps in force."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from ipaddress import IPv4Interface, IPv4Network
from typing import Any

from containarium.host.firewall import METADATA
from containarium.host.prepare.steps import MANAGED, Context, Step
from containarium.model.host import HostError, TerminalError
from containarium.model.hostmanifest import HostSpec

_TIMEOUT = 60.0
_WIDEST = 16


def bridge(context: Context) -> Step:
    """Make the bridge with NAT, DHCP and DNS. One that exists stays as it is, whoever made it.

    Raises TerminalError (SubnetDiffers) where that has another subnet than a Host manifest says, (SubnetTaken) where
    the subnet overlaps what the host can already reach, (BridgeForeign) where a bridge of that name is not Incus'.
    """
    name = context.settings.bridge
    found = context.find("networks", name)
    if found:
        if not found["managed"] or found["type"] != "bridge":
            raise TerminalError(
                f"{name} exists and is no bridge that Incus manages",
                remedy="choose another name for the bridge",
                reason="BridgeForeign",
            )
        _refuse_other(context, found["config"].get("ipv4.address", "none"))
        return Step("bridge", False, f"{name} ({found['config'].get('ipv4.address', 'no IPv4')}) exists")
    wanted = IPv4Interface(declared_subnet(context))
    taken = networks_in_use(context)
    refuse_overlap(wanted, taken)
    context.progress(f"making bridge {name}")
    config = {
        "ipv4.address": str(wanted),
        "ipv4.nat": "true",
        "ipv6.address": "none",
        "ipv4.dhcp.ranges": strangers(wanted.network),
        # nobody learns from the bridge's DNS who else is there, neither by name nor by address
        "dns.mode": "none",
        "raw.dnsmasq": "dhcp-ignore-names",
        MANAGED: "true",
    }
    context.incus.post("networks", body={"name": name, "type": "bridge", "config": config}, timeout=_TIMEOUT)
    context.receipt.add("bridge", name)
    return Step("bridge", True, f"{name} with {wanted}")


def declared_subnet(context: Context) -> str:
    """The bridge's own address with its length, as a Host manifest says it, else as the settings do."""
    if context.spec is None or not is_declared(context.spec):
        return context.settings.subnet
    return str(context.spec.network.subnet)


def is_declared(spec: HostSpec) -> bool:
    """Whether the subnet is said, or counted on as it is by default: the other hosts of a fleet are told it."""
    return "subnet" in spec.network.model_fields_set or spec.network.address is not None


def _refuse_other(context: Context, there: str) -> None:
    """Addresses of environments, their jump accounts and the other hosts' routes all hang on it: it stays."""
    if context.spec is not None and is_declared(context.spec) and there != declared_subnet(context):
        raise TerminalError(
            f"the bridge {context.settings.bridge} has {there}, and {context.origin} says {declared_subnet(context)}",
            remedy=f"write spec.network.subnet: {there}; another one needs another host, to which environments move",
            reason="SubnetDiffers",
        )


def subnet_of(context: Context) -> IPv4Network:
    """The subnet of the bridge as it is, which need not be the one in the settings."""
    config = context.incus.get("networks", context.settings.bridge)["config"]
    try:
        subnet = IPv4Interface(config.get("ipv4.address", "")).network
    except ValueError as error:
        raise TerminalError(
            f"the bridge {context.settings.bridge} has no IPv4 address of its own",
            remedy=f"give it one: incus network set {context.settings.bridge} ipv4.address=10.0.3.1/24",
            reason="BridgeForeign",
        ) from error
    if subnet.prefixlen < _WIDEST:
        raise TerminalError(
            f"the bridge's subnet {subnet} is larger than a /{_WIDEST}, and the firewall names each of its addresses",
            remedy=f"give the bridge a /{_WIDEST} or smaller",
            reason="SubnetTooLarge",
        )
    return subnet


def strangers(subnet: IPv4Network) -> str:
    """The last eighth of a subnet, for whoever has no address of its own: a guest that asks for leases under invented
    hardware addresses, which no spoof filter looks at, gets these alone and leaves the others free.
    """
    last = subnet.broadcast_address - 1
    return f"{subnet.broadcast_address - max(1, subnet.num_addresses // 8)}-{last}"


def networks_in_use(context: Context) -> dict[IPv4Network, str]:
    """Every IPv4 network that the host has an address in or a route to, and through which device."""
    found: dict[IPv4Network, str] = {}
    for command in (["ip", "-j", "-4", "addr", "show"], ["ip", "-j", "-4", "route", "show", "table", "all"]):
        for network, device in _networks(json.loads(context.run(command, timeout=30).out or "[]")):
            if network.prefixlen > 0 and not network.is_loopback and not network.is_multicast:
                found.setdefault(network, device)
    return found


def refuse_overlap(wanted: IPv4Interface, taken: dict[IPv4Network, str]) -> None:
    """Raise TerminalError (SubnetTaken), naming a free subnet, when ``wanted`` overlaps a network in use."""
    for network, device in taken.items():
        if network.overlaps(wanted.network):
            raise TerminalError(
                f"subnet {wanted.network} overlaps {network}, which this host reaches through {device}",
                remedy=f"choose another, for example --subnet {free_subnet(taken, wanted.network.prefixlen)}",
                reason="SubnetTaken",
            )


def free_subnet(taken: Iterable[IPv4Network], prefix: int) -> str:
    """A private subnet, with the bridge's own address in it, that overlaps none of ``taken``."""
    used = list(taken)
    prefix = max(16, prefix)
    for pool in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"):
        for network in IPv4Network(pool).subnets(new_prefix=prefix):
            if not any(network.overlaps(other) for other in used) and network.network_address.packed[2] != 0:
                return f"{network.network_address + 1}/{prefix}"
    return "a subnet of your own"


def acl(context: Context) -> Step:
    """Keep guests from the bridge's own address and the clouds' metadata, as far as Incus' ACLs reach.

    The table of containarium's own (see firewall) covers every other address of the host, those of tomorrow too. An ACL
    that cannot be put in force is therefore a warning, not an error.
    """
    name, network = context.settings.acl, context.settings.bridge
    try:
        changed = _ensure_acl(context, name, _rules(context))
        changed |= _attach(context, name, network)
    except HostError as error:
        return Step("network ACL", False, warning=f"Incus cannot enforce it here, the firewall table does: {error}")
    return Step("network ACL", changed, f"{name} on {network}")


def _rules(context: Context) -> list[dict[str, str]]:
    config = context.incus.get("networks", context.settings.bridge)["config"]
    own = [config.get(key, "none").split("/")[0] for key in ("ipv4.address", "ipv6.address")]
    targets = [*(address for address in own if address not in ("none", "auto", "")), *METADATA]
    return [{"action": "reject", "destination": target, "state": "enabled"} for target in targets]


def _ensure_acl(context: Context, name: str, rules: list[dict[str, str]]) -> bool:
    incus = context.incus
    body = {"name": name, "egress": rules, "ingress": [], "config": {MANAGED: "true"}}
    found = context.find("network-acls", name)
    if found is None:
        context.progress(f"making network ACL {name}")
        incus.post("network-acls", body=body)
        context.receipt.add("acl", name)
        return True
    if found["config"].get(MANAGED) != "true":
        raise TerminalError(
            f"network ACL {name} exists and is not containarium's", remedy="rename or remove it", reason="Conflict"
        )
    if [(rule["action"], rule.get("destination")) for rule in found["egress"]] == [
        (rule["action"], rule["destination"]) for rule in rules
    ]:
        return False
    incus.put("network-acls", name, body={key: value for key, value in body.items() if key != "name"})
    return True


def _attach(context: Context, name: str, network: str) -> bool:
    config = context.incus.get("networks", network)["config"]
    attached = [part.strip() for part in config.get("security.acls", "").split(",") if part.strip()]
    if name in attached:
        return False
    change = {"security.acls": ",".join([*attached, name])}
    if not attached:  # the first ACL turns everything that no rule names from allowed to rejected
        change |= {f"security.acls.default.{way}.action": "allow" for way in ("egress", "ingress")}
    context.progress(f"putting ACL {name} on {network}")
    context.incus.patch("networks", network, body={"config": change})
    context.receipt.add("acl on bridge", network, name)
    return True


def _networks(items: list[dict[str, Any]]) -> Iterator[tuple[IPv4Network, str]]:
    for item in items:
        for address in item.get("addr_info", []):
            yield IPv4Interface(f"{address['local']}/{address['prefixlen']}").network, item["ifname"]
        target = item.get("dst", "default")
        if target not in ("default", "") and item.get("type", "unicast") == "unicast":
            yield IPv4Network(target, strict=False), item.get("dev", "a route")
