"""Two people on one host cannot see or reach one another, nor the host's services; the internet is open to both.

What must not arrive is looked for where it would arrive, by a sniffer that is shown first to see what may arrive.
"""

from __future__ import annotations

import json
import re
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from tests.e2e.frames import BROADCAST, FRAMES, IPV4, Frame, Net, ethernet, udp4, word
from tests.e2e.prober import HOST, LAPTOP, Prober
from tests.e2e.site import BRIDGE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.e2e.conftest import Pair

PEOPLE = ("alice", "bob")
PORT = "7100"
_SETTLE = 0.5  # seconds that a frame may take over a bridge; controls sent afterwards arrive within them


@dataclass
class Wire:
    """Sniffers and listeners, and the addresses of everybody on the bridge."""

    pair: Pair
    probe: Prober
    nets: dict[str, Net]
    sniffers: dict[str, str]

    def seen(self, where: str) -> set[str]:
        """Words of the frames that have been seen at a place so far."""
        return set(self.probe.log(self.sniffers[where]))

    def of(self, name: str) -> dict[str, Net]:
        """The bridge as one of the two sees it."""
        peer = next(other for other in PEOPLE if other != name)
        return {"own": self.nets[name], "peer": self.nets[peer], "gateway": self.nets["gateway"]}


@pytest.fixture(scope="module")
def wire(pair: Pair) -> Iterator[Wire]:
    """Sniff at both boxes and at the host's end of the bridge; have both try every frame once."""
    site, probe = pair.site, Prober(pair.site)
    mac = site.host.run(["cat", f"/sys/class/net/{BRIDGE}/address"]).stdout.strip()
    nets = {"gateway": Net(mac, site.bridge_address())}
    for name in PEOPLE:
        facts = pair.facts(name)
        nets[name] = Net(facts.devices["eth0"]["hwaddr"], facts.address)
    sniffers = {name: probe.start(name, "sniff", "eth0") for name in PEOPLE}
    sniffers["gateway"] = probe.start(HOST, "sniff", BRIDGE)
    probe.start(HOST, "listen", f"0.0.0.0@{PORT}", f"::@{PORT}")
    for name in PEOPLE:
        probe.start(name, "listen", f"0.0.0.0@{PORT}", f"::@{PORT}")
    wire = Wire(pair, probe, nets, sniffers)
    for name in PEOPLE:
        frames = [frame.make(wire.of(name), word(frame.name, name) + b";").hex() for frame in FRAMES]
        assert probe(name, "send", "eth0", *frames)["frames"] == len(FRAMES)
    time.sleep(_SETTLE)
    yield wire
    probe.close()


# -- frames


@pytest.mark.parametrize("name", PEOPLE)
def test_the_sniffers_see_what_the_host_sends(wire: Wire, name: str) -> None:
    """The positive control: to one's own address and to all, from the host's end of the bridge."""
    gateway, own = wire.nets["gateway"], wire.nets[name]
    wire.probe(name, "ping", gateway.ip)  # so that the bridge knows where the box is
    for what, mac, ip in (("control", own.mac, own.ip), ("control to all", BROADCAST, "255.255.255.255")):
        payload = word(what, f"host to {name}") + b";"
        wire.probe(HOST, "send", BRIDGE, ethernet(mac, gateway.mac, IPV4, udp4(gateway.ip, ip, payload)).hex())
    time.sleep(_SETTLE)
    wanted = {word(what, f"host to {name}").decode() for what in ("control", "control to all")}
    assert wanted <= wire.seen(name)


@pytest.mark.parametrize("frame", FRAMES, ids=lambda frame: frame.name)
@pytest.mark.parametrize("name", PEOPLE)
def test_a_frame_reaches_nobody_it_must_not_reach(wire: Wire, name: str, frame: Frame) -> None:
    peer = next(other for other in PEOPLE if other != name)
    said = word(frame.name, name).decode()
    assert said not in wire.seen(peer), "the other box received it"
    assert (said in wire.seen("gateway")) is frame.host


@pytest.mark.parametrize("name", PEOPLE)
def test_a_stolen_hardware_address_diverts_nothing(wire: Wire, name: str) -> None:
    """A bridge learns where a hardware address is from frames that a filter drops only afterwards."""
    nets, peer = wire.of(name), next(other for other in PEOPLE if other != name)
    stolen = ethernet(nets["gateway"].mac, nets["peer"].mac, IPV4, udp4(nets["own"].ip, nets["gateway"].ip, b""))
    payload = word("secret", f"host to {peer}") + b";"
    datagram = udp4(nets["gateway"].ip, nets["peer"].ip, payload)
    wire.probe(peer, "ping", nets["gateway"].ip)
    wire.probe(name, "send", "eth0", stolen.hex())
    wire.probe(HOST, "send", BRIDGE, ethernet(nets["peer"].mac, nets["gateway"].mac, IPV4, datagram).hex())
    time.sleep(_SETTLE)
    wire.probe(peer, "ping", nets["gateway"].ip)  # whatever was learned, the bridge knows better now
    assert payload[:-1].decode() not in wire.seen(name), "what the host sent to the other box came here"
    assert payload[:-1].decode() in wire.seen(peer)


# -- addresses


@contextmanager
def _by_way_of_the_host(wire: Wire) -> Iterator[None]:
    """Let both boxes send what is for the other to the gateway, as two users in league would."""
    site, gateway = wire.pair.site, wire.nets["gateway"].ip
    routes = {name: f"{wire.of(name)['peer'].ip}/32" for name in PEOPLE}
    for name, route in routes.items():
        site.inside(name, "ip", "route", "replace", route, "via", gateway)
    yield
    for name, route in routes.items():
        site.inside(name, "ip", "route", "delete", route)


@pytest.mark.parametrize("name", PEOPLE)
def test_the_other_box_does_not_answer(wire: Wire, name: str) -> None:
    probe, nets = wire.probe, wire.of(name)
    assert probe(name, "arp", "eth0", nets["gateway"].ip)["mac"] == nets["gateway"].mac, "the control"
    assert probe(name, "connect", nets["gateway"].ip, "53")["result"] == "connected", "the control"
    peer = nets["peer"]
    calls = [("arp", "eth0", peer.ip), ("ping", peer.ip), ("ping", f"{peer.link_local}%eth0"), ("ping", "ff02::1%eth0")]
    calls += [("connect", ip, port) for ip in (peer.ip, f"{peer.link_local}%eth0") for port in ("22", PORT)]
    for call, answer in zip(calls, probe.all(name, calls, timeout=2), strict=True):
        own = str(answer.get("peer", "")).startswith(nets["own"].link_local)  # one's own echo of a ping to all
        assert answer["result"] not in {"connected", "answered"} or own, (call, answer)


@pytest.mark.parametrize("name", PEOPLE)
def test_the_other_box_is_not_reached_by_way_of_the_host(wire: Wire, name: str) -> None:
    """Port isolation ends at the host's end of the bridge: what is sent there must not be routed back into it."""
    peer = wire.of(name)["peer"].ip
    with _by_way_of_the_host(wire):
        answers = wire.probe.all(name, [("connect", peer, "22"), ("connect", peer, PORT), ("ping", peer)], timeout=2)
    assert not [a for a in answers if a["result"] in {"connected", "answered"}], answers


def test_the_boxes_answer_the_host(wire: Wire) -> None:
    """The control of all the silence above."""
    for name in PEOPLE:
        address = wire.nets[name].ip
        assert wire.probe(HOST, "connect", address, PORT)["said"].startswith("hello from")
        assert wire.probe(HOST, "connect", address, "22")["said"].startswith("SSH-2.0-")
        assert wire.probe(HOST, "ping", address)["result"] == "answered"


@pytest.mark.parametrize("name", PEOPLE)
def test_the_host_does_not_tell_who_else_is_there(wire: Wire, name: str) -> None:
    """The bridge's DNS knows boxes by name and by address; a person learns nothing of others there."""
    site = wire.pair.site
    peer = next(other for other in PEOPLE if other != name)
    for question in (f"{peer}-container", f"{peer}-container.incus", wire.of(name)["peer"].ip):
        answer = site.inside(name, "getent", "hosts", question, check=False)
        assert answer.returncode == 2, (question, answer.stdout)


# -- the host's services


def _addresses(wire: Wire) -> list[str]:
    """Every address of the host that a box could try."""
    shown = json.loads(wire.pair.site.host.run(["ip", "-json", "address", "show"]).stdout)
    found = []
    for link in shown:
        for info in link["addr_info"]:
            six = info["family"] == "inet6"
            found.append(f"{info['local']}%eth0" if six and info["scope"] == "link" else info["local"])
    bridge = wire.nets["gateway"].link_local
    return [a for a in found if not a.startswith("127.") and a != "::1"] + [f"{bridge}%eth0"]


@pytest.mark.parametrize("name", PEOPLE)
def test_no_service_of_the_host_is_open_to_boxes(wire: Wire, name: str) -> None:
    host = wire.pair.site.host
    for port, says in ((PORT, "hello from"), ("22", "SSH-2.0-")):
        assert wire.probe(LAPTOP, "connect", host.address, port)["said"].startswith(says), "the control"
    places = [(address, port) for address in _addresses(wire) for port in (PORT, "22")]
    assert len(places) >= 6
    calls = [("connect", *place) for place in places]
    answers = dict(zip(places, wire.probe.all(name, calls, timeout=2), strict=True))
    assert not [where for where, answer in answers.items() if answer["result"] == "connected"]
    told = {where: answer for where, answer in answers.items() if ":" not in where[0]}
    assert not [where for where, answer in told.items() if answer["seconds"] > 1], "refused, not swallowed"


@pytest.mark.parametrize("name", PEOPLE)
def test_the_clouds_metadata_is_refused(wire: Wire, name: str) -> None:
    """The host answers for that address here, as a cloud would: a box is refused all the same."""
    host = wire.pair.site.host
    host.run(["ip", "address", "add", "169.254.169.254/32", "dev", "lo"])
    try:
        assert wire.probe(HOST, "connect", "169.254.169.254", PORT)["said"].startswith("hello from"), "the control"
        calls = [("connect", "169.254.169.254", port) for port in (PORT, "80", "53", "22")]
        for answer in wire.probe.all(name, calls, timeout=2):
            assert answer["result"] != "connected"
            assert answer["seconds"] < 1, "refused, not swallowed"
    finally:
        host.run(["ip", "address", "delete", "169.254.169.254/32", "dev", "lo"])


# -- what must work


@pytest.mark.parametrize("name", PEOPLE)
def test_addresses_names_and_the_internet_are_there(wire: Wire, name: str) -> None:
    site = wire.pair.site
    site.inside(name, "sh", "-c", "ifdown eth0 && ifup eth0", timeout=60)
    shown = site.inside(name, "ip", "-4", "-brief", "address", "show", "eth0").stdout
    assert f" {wire.nets[name].ip}/24" in shown, "DHCP gives it again"
    update = site.inside(name, "apt-get", "-o", "APT::Update::Error-Mode=any", "update", timeout=120)
    assert re.search(r"^(Hit|Get):1 http", update.stdout, re.MULTILINE)
