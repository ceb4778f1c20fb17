"""Three hosts, one repository, a balancer before them: whoever logs in gets to their box, wherever it lives.

The tests share the fleet and leave everybody ready, on the host that `site.homes` names.
"""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from tests.e2e.boxes import (
    alive,
    belongings,
    connects,
    dead,
    forget,
    gone,
    held,
    left_behind,
    logins,
    reachable,
    settled,
    staging,
    until_copying,
)
from tests.e2e.fleet import AT_ONCE, FleetSite, chosen, trusted
from tests.e2e.site import instance_of
from tests.lab.command import wait_until
from tests.lab.fleet import NAMES, Fleet

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.lab.laptop import Laptop
    from tests.lab.outer import Outer

ONE, TWO, THREE = NAMES
HASHED = {"alice": ONE, "bob": ONE, "dora": TWO, "emil": TWO, "karl": THREE}
"""Placed nowhere: where hashing puts them, on every fleet of these three names and for ever."""
PLACED = {"nora": ONE, "olaf": TWO, "rosa": THREE, "sven": THREE, "tina": THREE}
HOMES = HASHED | PLACED
ASKED_EVERY = 35.0
"""Seconds after which each host has asked the others anew, at the latest."""
_KEY = "/var/lib/containarium/peer/id_ed25519"
_STRANGE = (
    *("-F", "none", "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null"),
    *("-o", "IdentitiesOnly=yes", "-o", "ConnectTimeout=5", "-o", "LogLevel=INFO"),
)
"""ssh of somebody who does not care whom he talks to."""


@pytest.fixture(scope="module")
def site(outer: Outer, laptop: Laptop) -> Iterator[FleetSite]:
    """Give the fleet with ten people on it, as declared in git and nowhere else."""
    with Fleet(outer) as fleet:
        made = FleetSite(fleet, laptop)
        made.prepare()
        for name in HASHED:
            made.declare(name)
        for name, host in PLACED.items():
            made.declare(name, host)
        made.publish()
        made.homes |= HOMES
        made.wait_ready(made.homes)
        yield made


def test_each_environment_is_on_one_host_and_has_a_door_on_all(site: FleetSite) -> None:
    assert {name: chosen(name, NAMES) for name in HASHED} == HASHED
    assert {name: host for host, found in site.instances().items() for name in found} == HOMES
    assert sum(len(found) for found in site.instances().values()) == len(HOMES)
    addresses = {name: site.address(name, host) for name, host in HOMES.items()}
    for name, host in HOMES.items():
        assert addresses[name].startswith(f"{site.fleet.members[host].subnet.network.network_address!s}"[:-1])
    assert site.doors() == dict.fromkeys(NAMES, addresses)


def test_everybody_gets_in_through_every_host(site: FleetSite) -> None:
    exported = site.exports(site.homes)
    ways = {(name, host): site.through(config, host) for name, config in exported.items() for host in NAMES}
    said = site.log_in((name, config) for (name, _), config in ways.items())
    assert {way: said[config] for way, config in ways.items()} == {way: instance_of(way[0]) for way in ways}


def test_the_balancer_and_all_host_keys_are_exported_on_every_host(site: FleetSite) -> None:
    """Used as it is printed, with strict checking: each connection may end on another host."""
    configs = {(name, host): site.export(name, host) for name in ("alice", "rosa") for host in NAMES}
    texts = {way: config.with_suffix("").read_text() for way, config in configs.items()}
    known = {way: set(trusted(config)) for way, config in configs.items()}
    for name in ("alice", "rosa"):
        assert all(known[name, host] == known[name, ONE] for host in NAMES)
        assert f"HostName {site.fleet.address}\n" in texts[name, ONE]
    keys = {line.split()[2] for line in known["alice", ONE] if line.startswith(f"{site.fleet.address} ")}
    script = "cut -d' ' -f2 /etc/ssh/ssh_host_*_key.pub"
    real = site.fleet.each(lambda member: member.host.run(["sh", "-c", script]).stdout.split())
    assert keys == {key for found in real.values() for key in found}
    site.fleet.until_serving(*NAMES)
    for _ in range(2):  # the balancer sends one after the other to the next host
        said = site.log_in((name, config) for (name, _), config in configs.items())
        assert {way: said[config] for way, config in configs.items()} == {way: instance_of(way[0]) for way in configs}
    assert all(logins(site, host) for host in NAMES)


def test_guests_reach_no_other_host_and_nobody_elses_guest(site: FleetSite) -> None:
    """Their packets would leave with their own host's address, so they have to be stopped there."""
    members = site.fleet.members
    targets = [f"{members[host].address}/{port}" for host in NAMES for port in (22, 8443)]
    targets += [f"{members[host].subnet.ip}/22" for host in (TWO, THREE)]
    targets += [f"{site.address(name, site.homes[name])}/22" for name in ("bob", "dora", "karl")]
    outside = f"{site.fleet.address}/2222"
    assert reachable(site, "alice", ONE, [outside]) == [outside], "what is none of the fleet's can be reached"
    assert reachable(site, "alice", ONE, targets) == []
    for name in ("dora", "karl"):
        address = site.address(name, site.homes[name])
        greeting = members[ONE].host.run(["timeout", "5", "bash", "-c", f"head -c 7 </dev/tcp/{address}/22"])
        assert greeting.stdout == "SSH-2.0"


def test_strangers_reach_neither_incus_nor_guests(site: FleetSite) -> None:
    """The laptop is in the hosts' network and knows the way; only hosts may go it."""
    ways = [f"{site.fleet.members[host].subnet.network} via {site.fleet.members[host].address}" for host in NAMES]
    try:
        for way in ways:
            site.laptop.run(["ip", "route", "replace", *way.split()])
        for host in NAMES:
            for port in (8443, 22):
                assert connects(site, site.fleet.members[host].address, port) == (port == 22), f"{host}:{port}"
        for name in ("alice", "dora", "karl"):
            address = site.address(name, site.homes[name])
            assert not connects(site, address, 22), name
    finally:
        for way in ways:
            site.laptop.run(["ip", "route", "delete", *way.split()], check=False)


def test_the_key_of_a_host_does_nothing_but_ask(site: FleetSite) -> None:
    host, there = site.fleet.members[TWO].host, f"containarium-peer@{site.fleet.members[ONE].address}"
    host.run(["sh", "-euc", "rm -f /root/unknown*; ssh-keygen -q -t ed25519 -N '' -f /root/unknown"])
    names = (*site.homes, "../x")
    forward = ("administratively prohibited", "SSH-2.0")
    ends = (f"{site.address('alice', ONE)}:22", "127.0.0.1:22", f"{site.fleet.members[THREE].address}:8443")
    asked: list[tuple[list[str], str, str, str]] = [
        # how, what goes in, what has to come back, what must not
        ([there], json.dumps({"ask": "list"}), '"alice"', "error"),
        *(([there, command], "id", "error", "uid=") for command in ("id", "sh -c id", "/bin/sh -i")),
        (["-tt", there], "id", "PTY allocation request failed", "uid="),
        *((["-W", end, there], "", *forward) for end in ends),
        (["-o", "ExitOnForwardFailure=yes", "-N", "-R", "0:127.0.0.1:22", there], "", "forwarding failed", "\0"),
        (["-s", there, "sftp"], "id", "error", "uid="),
        # somebody who is not to move there, and what is nobody
        *(([there], json.dumps({"ask": "offer", "name": n, "disk": 0}), "error", "secrets") for n in names),
        (["-i", "/root/unknown", there], json.dumps({"ask": "list"}), "Permission denied", "alice"),
    ]

    def ask(args: list[str], what: str) -> str:
        # whoever hangs up takes the question back, and an answer may be slow to come on a busy machine
        script = 'what=$1; shift; timeout 30 ssh "$@" < <(exec 2>/dev/null; echo "$what"; sleep 10)'
        key = [] if "-i" in args else ["-i", _KEY]
        done = host.run(["bash", "-c", script, "ask", what, *_STRANGE, *key, *args], check=False)
        return done.stdout + done.stderr

    with ThreadPoolExecutor(max_workers=AT_ONCE) as pool:
        said = list(pool.map(lambda case: ask(case[0], case[1]), asked))
    for (args, what, right, wrong), answer in zip(asked, said, strict=True):
        assert right in answer, f"{args} {what}: {answer}"
        assert wrong not in answer, f"{args} {what}: {answer}"
    assert site.instances()[ONE]["alice"] == "Running"


def test_the_key_of_a_host_is_of_no_use_elsewhere(site: FleetSite) -> None:
    stolen, there = site.fleet.members[TWO].host.pull(_KEY), f"containarium-peer@{site.fleet.members[ONE].address}"
    balancer = site.fleet.balancer
    balancer.push("/root/stolen", stolen, mode=0o600)
    said = balancer.run(["timeout", "15", "ssh", *_STRANGE, "-i", "/root/stolen", there], check=False)
    assert "Permission denied" in said.stderr


def test_an_environment_moves_with_its_data(site: FleetSite) -> None:
    """Files, snapshots and host keys go along, what was there waits out its grace, and people get one new address."""
    before = settled(site, "sven", THREE)
    old = site.address("sven", THREE)
    config = site.export("sven", THREE)
    site.inside("sven", THREE, "echo first > /root/draft")
    site.sites[THREE].containarium("snapshot", "create", "sven", "early")
    site.inside("sven", THREE, "echo second > /root/draft")
    site.declare("sven", ONE)
    site.publish()
    site.wait_ready({"sven": ONE})
    assert site.address("sven", ONE) != old
    assert belongings(site, "sven", ONE) == before
    assert site.inside("sven", ONE, "cat /root/draft").stdout == "second\n"
    assert "early" in site.sites[ONE].containarium("snapshot", "list", "sven").stdout
    left_behind(site, "sven", THREE, ONE)
    exported = site.export("sven", TWO)
    assert trusted(exported) == trusted(config), "nothing that people trust has changed"
    said = site.log_in(("sven", site.through(exported, host)) for host in NAMES)
    assert set(said.values()) == {"sven-container"}
    site.sites[ONE].containarium("snapshot", "restore", "sven", "early", timeout=120)
    site.wait_ready({"sven": ONE})
    assert site.inside("sven", ONE, "cat /root/draft").stdout == "first\n"


def test_and_back_over_what_was_left_behind(site: FleetSite) -> None:
    """What is newest wins: the copy that was left behind is older, and goes."""
    site.inside("sven", ONE, "echo third > /root/draft")
    before = settled(site, "sven", ONE)
    site.declare("sven", THREE)
    site.publish()
    site.wait_ready({"sven": THREE})
    assert site.inside("sven", THREE, "cat /root/draft").stdout == "third\n"
    assert belongings(site, "sven", THREE) == before
    left_behind(site, "sven", ONE, THREE)
    forget(site, "sven", ONE)


def test_hosts_that_follow_at_different_times(site: FleetSite) -> None:
    """The new host knows already, the old one not yet: it refuses, nothing is lost, and it goes on by itself."""
    before = settled(site, "tina", THREE)
    config = site.export("tina", THREE)
    site.declare("tina", TWO)
    site.publish(ONE, TWO)

    def refused() -> bool:
        said = site.sites[TWO].conditions("tina").get("Ready", {})
        return said.get("reason") == "PeerRefused"

    wait_until("the new host to be refused", refused, timeout=60, interval=0.7)
    assert site.instances()[THREE]["tina"] == "Running"
    assert set(site.log_in([("tina", site.through(config, host)) for host in NAMES]).values()) == {"tina-container"}
    site.sync(THREE)
    site.wait_ready({"tina": TWO})
    assert belongings(site, "tina", TWO) == before
    left_behind(site, "tina", THREE, TWO)
    site.homes["tina"] = TWO


def test_an_incus_killed_in_the_middle_of_a_copy(site: FleetSite) -> None:
    """What had come is thrown away and fetched anew: nothing is lost, and nothing stays on the disk."""
    before = settled(site, "rosa", THREE, megabytes=300)
    site.declare("rosa", TWO)
    site.publish()
    until_copying(site, "rosa", TWO)
    site.fleet.members[TWO].host.run(["systemctl", "kill", "--signal=KILL", "incus.service"])
    site.wait_ready({"rosa": TWO})
    assert belongings(site, "rosa", TWO) == before
    left_behind(site, "rosa", THREE, TWO)
    assert staging(site, TWO) == ""
    site.homes["rosa"] = TWO


@pytest.mark.soak
@pytest.mark.parametrize("victim", ["source-incus", "source-controller", "controller", "source-host", "host"])
def test_others_killed_in_the_middle_of_a_copy(site: FleetSite, victim: str) -> None:
    here = site.homes["rosa"]
    there = THREE if here == TWO else TWO
    before = settled(site, "rosa", here, megabytes=300)
    site.declare("rosa", there)
    site.publish()
    until_copying(site, "rosa", there)
    member = site.fleet.members[here if victim.startswith("source") else there]
    if victim.endswith("host"):
        member.host.preempt()
    else:
        unit = "incus.service" if victim.endswith("incus") else "containarium.service"
        member.host.run(["systemctl", "kill", "--signal=KILL", unit])
    site.wait_ready({"rosa": there}, timeout=400)
    assert belongings(site, "rosa", there) == before
    left_behind(site, "rosa", here, there)
    site.homes["rosa"] = there
    site.wait_ready(site.homes)


def test_a_dead_host_takes_nobody_elses_box_with_it(site: FleetSite) -> None:
    """The others serve, people who are new wait where they might be its own, and it comes back with nobody's help."""
    there = [name for name, host in site.homes.items() if host == TWO]
    others = site.exports({name: host for name, host in site.homes.items() if host != TWO})
    letters = {name: settled(site, name, TWO) for name in there}
    with dead(site, TWO):
        died = time.monotonic()
        site.fleet.until_serving(ONE, THREE)
        said = site.log_in(others.items())
        assert {name: said[config] for name, config in others.items()} == {name: instance_of(name) for name in others}
        time.sleep(max(0.0, died + ASKED_EVERY - time.monotonic()))
        site.declare("hans")  # he would live on the first host, unless the dead one has him
        site.declare("zoe", THREE)
        assert chosen("hans", NAMES) == ONE
        site.publish(ONE, THREE)
        digests = {name: held(site, name, host) for name, host in (("hans", ONE), ("zoe", THREE))}
        assert all("hans" not in found and "zoe" not in found for found in alive(site, ONE, THREE).values())
        site.sites[THREE].containarium("approve", digests["zoe"])
        site.sites[THREE].wait_ready("zoe")
        assert "hans" not in alive(site, ONE)[ONE], "what was approved was somebody else"
    site.sync(TWO)
    site.fleet.until_serving(*NAMES)
    site.wait_ready(site.homes | {"hans": ONE, "zoe": THREE})
    assert {name: belongings(site, name, TWO) for name in there} == letters
    gone(site, "hans", "zoe")


def test_a_host_that_left_the_list_keeps_what_it_has(site: FleetSite) -> None:
    """Somebody takes its manifest away: nothing is retired or deleted there, and nobody is made anew elsewhere."""
    there = [name for name, host in site.homes.items() if host == THREE]
    before = {name: settled(site, name, THREE) for name in there}
    text = site.host_text(THREE)
    site.remove_host(THREE)
    site.publish()
    assert held(site, "karl", chosen("karl", (ONE, TWO))), "his hash leads elsewhere now"
    for host in (ONE, TWO):
        plan = site.sites[host].plan()
        assert {p["reason"] for p in plan["problems"] if p["environment"] == "sven"} == {"HostUnknown"}
    for host in NAMES:
        site.sites[host].containarium("apply", check=False, timeout=120)
    found = site.instances()
    assert {name: status for name, status in found[THREE].items() if name in there} == dict.fromkeys(there, "Running")
    assert not {*found[ONE], *found[TWO]} & {*there}
    assert {name: belongings(site, name, THREE) for name in there} == before
    site.put_host(THREE, text)
    site.publish()
    site.wait_ready(site.homes)
