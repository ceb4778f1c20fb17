"""Ethernet frames as a hostile guest's root may write them, as data: who must see each, and who must not."""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address

from tests.e2e.probe import MARK, checksum

BROADCAST = "ff:ff:ff:ff:ff:ff"
IPV4, ARP, IPV6, VLAN, LOCAL_EXPERIMENT = 0x0800, 0x0806, 0x86DD, 0x8100, 0x88B5
UDP, ICMPV6 = 17, 58
_PORT = 7200


@dataclass(frozen=True)
class Net:
    """Addresses of one machine on the bridge."""

    mac: str
    ip: str

    @property
    def link_local(self) -> str:
        """The IPv6 address that a machine gives itself, made from its hardware address."""
        raw = bytes.fromhex(self.mac.replace(":", ""))
        middle = bytes([raw[0] ^ 2]) + raw[1:3] + b"\xff\xfe" + raw[3:]
        return str(IPv6Address(b"\xfe\x80" + bytes(6) + middle))


Nets = Mapping[str, Net]
"""`own`, `peer` and `gateway`."""


@dataclass(frozen=True)
class Frame:
    """One frame from one's own box. `host`: whether the host's end of the bridge may see it; the peer never may."""

    name: str
    make: Callable[[Nets, bytes], bytes]
    host: bool


def word(name: str, sender: str) -> bytes:
    """What the sniffers note of a frame."""
    return MARK + f"{sender}: {name}".encode()


def ethernet(target: str, source: str, kind: int, payload: bytes) -> bytes:
    """An Ethernet frame."""
    return _mac(target) + _mac(source) + struct.pack(">H", kind) + payload


def udp4(source: str, target: str, payload: bytes, ports: tuple[int, int] = (_PORT, _PORT)) -> bytes:
    """An IPv4 packet with a UDP datagram (whose checksum is left out, as IPv4 allows)."""
    datagram = struct.pack(">HHHH", *ports, 8 + len(payload), 0) + payload
    addresses = IPv4Address(source).packed + IPv4Address(target).packed
    head = struct.pack(">BBHHHBBH", 0x45, 0, 20 + len(datagram), 0x4374, 0, 64, UDP, 0)
    total = struct.pack(">H", checksum(head + addresses))
    return head[:10] + total + addresses + datagram


def ip6(source: str, target: str, protocol: int, body: bytes) -> bytes:
    """An IPv6 packet; of an ICMPv6 or UDP body the checksum is filled in."""
    addresses = IPv6Address(source).packed + IPv6Address(target).packed
    at = 6 if protocol == UDP else 2
    padded = body + b"\0" * (len(body) % 2)
    total = checksum(addresses + struct.pack(">II", len(body), protocol) + padded)
    body = body[:at] + struct.pack(">H", total) + body[at + 2 :]
    return struct.pack(">IHBB", 6 << 28, len(body), protocol, 255) + addresses + body


def _udp6(source: str, target: str, payload: bytes) -> bytes:
    return ip6(source, target, UDP, struct.pack(">HHHH", _PORT, _PORT, 8 + len(payload), 0) + payload)


def arp(operation: int, sender: Net, target: Net, trailer: bytes) -> bytes:
    """An ARP packet; the word travels in what follows it."""
    head = struct.pack(">HHBBH", 1, IPV4, 6, 4, operation)
    addresses = [_mac(sender.mac), IPv4Address(sender.ip).packed, _mac(target.mac), IPv4Address(target.ip).packed]
    return head + b"".join(addresses) + trailer


def _mac(text: str) -> bytes:
    return bytes.fromhex(text.replace(":", ""))


def _plain(target: str, source_ip: str = "", target_ip: str = "") -> Callable[[Nets, bytes], bytes]:
    """A UDP datagram to the hardware address of `target`, by default from and to whom it says."""

    def make(nets: Nets, payload: bytes) -> bytes:
        own = nets["own"]
        address = nets[target_ip].ip if target_ip in nets else target_ip or nets[target].ip
        source = nets[source_ip].ip if source_ip in nets else source_ip or own.ip
        return ethernet(nets[target].mac, own.mac, IPV4, udp4(source, address, payload))

    return make


def _group(mac: str, address: str, ports: tuple[int, int] = (_PORT, _PORT)) -> Callable[[Nets, bytes], bytes]:
    """A UDP datagram to many."""

    def make(nets: Nets, payload: bytes) -> bytes:
        own = nets["own"]
        if ":" in address:
            return ethernet(mac, own.mac, IPV6, _udp6(own.link_local, address, payload))
        return ethernet(mac, own.mac, IPV4, udp4(own.ip, address, payload, ports))

    return make


def _as_peer(nets: Nets, payload: bytes) -> bytes:
    """The peer's hardware address and its own IP address, both stolen."""
    peer, gateway = nets["peer"], nets["gateway"]
    return ethernet(gateway.mac, peer.mac, IPV4, udp4(peer.ip, gateway.ip, payload))


def _other_mac(nets: Nets, payload: bytes) -> bytes:
    gateway = nets["gateway"]
    return ethernet(gateway.mac, "02:00:00:00:00:77", IPV4, udp4(nets["own"].ip, gateway.ip, payload))


def _arp(operation: int, sender: Callable[[Nets], Net]) -> Callable[[Nets, bytes], bytes]:
    """An ARP packet to all, that says where `sender` is."""

    def make(nets: Nets, payload: bytes) -> bytes:
        said = sender(nets)
        return ethernet(BROADCAST, nets["own"].mac, ARP, arp(operation, said, Net(BROADCAST, said.ip), payload))

    return make


def _neighbour(target: str) -> Callable[[Nets, bytes], bytes]:
    """An IPv6 neighbour advertisement to all, that says the peer (or oneself) is at another hardware address."""

    def make(nets: Nets, payload: bytes) -> bytes:
        own, claimed = nets["own"], nets[target].link_local
        mac = "02:00:00:00:00:77" if target == "peer" else own.mac
        body = struct.pack(">BBHI", 136, 0, 0, 0x20000000) + IPv6Address(claimed).packed + b"\x02\x01" + _mac(mac)
        packet = ip6(own.link_local, "ff02::1", ICMPV6, body + _option(payload))
        return ethernet("33:33:00:00:00:01", own.mac, IPV6, packet)

    return make


def _router(nets: Nets, payload: bytes) -> bytes:
    own = nets["own"]
    body = struct.pack(">BBHBBHII", 134, 0, 0, 64, 0, 1800, 0, 0) + b"\x01\x01" + _mac(own.mac)
    packet = ip6(own.link_local, "ff02::1", ICMPV6, body + _option(payload))
    return ethernet("33:33:00:00:00:01", own.mac, IPV6, packet)


def _option(payload: bytes) -> bytes:
    """An option of neighbour discovery, of an experimental kind, to carry the word."""
    eights = (len(payload) + 9) // 8
    return struct.pack("BB", 253, eights) + payload.ljust(eights * 8 - 2, b"\0")


def _to_peer6(nets: Nets, payload: bytes) -> bytes:
    own, peer = nets["own"], nets["peer"]
    return ethernet(peer.mac, own.mac, IPV6, _udp6(own.link_local, peer.link_local, payload))


def _tagged(nets: Nets, payload: bytes) -> bytes:
    own, peer = nets["own"], nets["peer"]
    inner = struct.pack(">HH", 1, IPV4) + udp4(own.ip, peer.ip, payload)
    return ethernet(peer.mac, own.mac, VLAN, inner)


def _experiment(nets: Nets, payload: bytes) -> bytes:
    return ethernet(BROADCAST, nets["own"].mac, LOCAL_EXPERIMENT, payload)


FRAMES = (
    Frame("to the gateway", _plain("gateway"), host=True),
    Frame("broadcast", _group(BROADCAST, "255.255.255.255"), host=True),
    Frame("multicast", _group("01:00:5e:00:00:fb", "224.0.0.251"), host=True),
    Frame("to the peer", _plain("peer"), host=False),
    Frame("to the peer's address at the gateway", _plain("gateway", target_ip="peer"), host=True),
    Frame("to the peer over IPv6", _to_peer6, host=False),
    Frame("IPv6 multicast to all", _group("33:33:00:00:00:01", "ff02::1"), host=True),
    Frame("a rogue DHCP server", _group(BROADCAST, "255.255.255.255", (67, 68)), host=True),
    Frame("a rogue IPv6 router", _router, host=True),
    Frame("from the peer's IP address", _plain("gateway", source_ip="peer"), host=False),
    Frame("from the gateway's IP address", _plain("gateway", source_ip="gateway", target_ip="peer"), host=False),
    Frame("from a free IP address", _plain("gateway", source_ip="10.0.3.250"), host=False),
    Frame("from an IP address of the internet", _plain("gateway", source_ip="203.0.113.9"), host=False),
    Frame("from the loopback", _plain("gateway", source_ip="127.0.0.1"), host=False),
    Frame("from a spoofed IP address to the peer", _plain("peer", source_ip="gateway"), host=False),
    Frame("from the peer's hardware address", _as_peer, host=False),
    Frame("from a made-up hardware address", _other_mac, host=False),
    Frame("ARP: I am the peer", _arp(2, lambda nets: Net(nets["own"].mac, nets["peer"].ip)), host=False),
    Frame("ARP: I am the gateway", _arp(2, lambda nets: Net(nets["own"].mac, nets["gateway"].ip)), host=False),
    Frame("ARP: the peer is elsewhere", _arp(1, lambda nets: Net("02:00:00:00:00:77", nets["peer"].ip)), host=False),
    Frame("ARP: I am myself", _arp(1, lambda nets: nets["own"]), host=True),
    Frame("IPv6: I am myself", _neighbour("own"), host=True),
    Frame("IPv6: the peer is elsewhere", _neighbour("peer"), host=False),
    Frame("a VLAN tag", _tagged, host=False),
    Frame("a protocol of one's own", _experiment, host=False),
)
