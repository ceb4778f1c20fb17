"""Three whole machines as one fleet, with a TCP balancer before them and a git repository that they follow.

The outer bridge is their private network. What a cloud's router does (a route to each host's subnet) stands on each
host, in a file of ifupdown's, so that it is there after a boot too. Each host has a data disk, and so a file system,
of its own: where hosts share one, `btrfs receive` finds another's subvolume and takes it for the one to build upon.
"""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from ipaddress import IPv4Interface
from typing import TYPE_CHECKING, Any

from tests.lab import crossing, recipes
from tests.lab.command import wait_until
from tests.lab.disk import DiskHost
from tests.lab.host import LabHost
from tests.lab.images import ImageStore

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from types import TracebackType
    from typing import Self

    from tests.lab.outer import Outer

NAMES = ("jump-1", "jump-2", "jump-3")
WORK = "/srv/work"
_BARE = "/home/git/environments.git"
_KEY = "/etc/containarium/deploy_key"
_KNOWN = "/etc/containarium/known_hosts"
_INTERFACES = "auto lo\niface lo inet loopback\nauto eth0\niface eth0 inet dhcp\n"
_RENAME = 'echo "$1" > /etc/hostname; hostname "$1"; sed -i "s/^127.0.1.1.*/127.0.1.1 $1/" /etc/hosts'
_HAPROXY = """global
    maxconn 500
defaults
    mode tcp
    timeout connect 2s
    timeout check 2s
    timeout client 1h
    timeout server 1h
    option redispatch
listen ssh
    bind :22
    balance roundrobin
    option tcp-check
    tcp-check expect rstring ^SSH-2.0
    default-server check inter 1s fall 2 rise 2 on-marked-down shutdown-sessions
"""
_REPOSITORY = f"""
useradd --create-home --shell /usr/bin/git-shell git
install -d -o git -g git -m 0700 /home/git/.ssh
ssh-keygen -q -t ed25519 -N '' -f /root/deploy_key
install -o git -g git -m 0600 /root/deploy_key.pub /home/git/.ssh/authorized_keys
git config --global --add safe.directory '*'
git config --global user.name Admin
git config --global user.email admin@example.org
git init --quiet --bare --initial-branch=main {_BARE}
git clone --quiet {_BARE} {WORK}
chown -R git:git {_BARE}
"""
_PUSH = f"""
cd {WORK}
git add --all
git commit --quiet --allow-empty -m change
git push --quiet origin HEAD:refs/heads/main
chown -R git:git {_BARE}
git rev-parse HEAD
"""


@dataclass(frozen=True)
class Member:
    """One host of the fleet: its name as the manifests have it, the machine, and its bridge's address."""

    name: str
    host: LabHost
    subnet: IPv4Interface

    @property
    def address(self) -> str:
        """Where the others reach it."""
        return self.host.address


class Fleet:
    """The machines. Who lives on them is the tests' business."""

    def __init__(self, outer: Outer, names: Iterable[str] = NAMES) -> None:
        """Nothing happens before `create`."""
        self.outer = outer
        self.members = {
            name: Member(name, DiskHost(outer, name), IPv4Interface(f"10.97.{number}.1/24"))
            for number, name in enumerate(names, start=11)
        }
        self.balancer = LabHost(outer, "balancer", recipe=recipes.BALANCER)

    @property
    def address(self) -> str:
        """The balancer's address: what people connect to."""
        return self.balancer.address

    # -- life and death

    def create(self) -> None:
        """Boot all of it side by side, routed and named, with an empty repository that each host may fetch from."""
        ImageStore(self.outer).ensure(recipes.BALANCER)
        crossing.allow(self.outer.settings)
        self.each(_boot, self._create_balancer)
        addresses = {name: member.address for name, member in self.members.items()}
        self.each(lambda member: self._route(member, addresses), lambda: self._serve(addresses))
        known = self.balancer.run(["cat", "/etc/ssh/ssh_host_ed25519_key.pub"]).stdout.split()
        line = f"[{self.address}]:{recipes.GIT_PORT} {known[0]} {known[1]}\n"
        key = self.balancer.pull("/root/deploy_key")
        self.each(lambda member: self._follow(member, key, line))

    def delete(self) -> None:
        """Delete all of it."""
        self.each(lambda member: member.host.delete(), self.balancer.delete)

    def __enter__(self) -> Self:
        """Create it; what was made of one that fails goes again."""
        try:
            self.create()
        except BaseException:
            self.delete()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        """Delete it."""
        self.delete()

    def each(self, work: Callable[[Member], object], *others: Callable[[], object]) -> dict[str, Any]:
        """Do something with every host, and other things beside it, at once. Returns the results by host."""
        with ThreadPoolExecutor(max_workers=len(self.members) + len(others)) as pool:
            results = {name: pool.submit(work, member) for name, member in self.members.items()}
            beside = [pool.submit(other) for other in others]
            for future in (*results.values(), *beside):
                future.result()
        return {name: future.result() for name, future in results.items()}

    # -- the repository

    def write(self, path: str, text: str) -> None:
        """Put a file into the work tree of the repository."""
        self.balancer.push(f"{WORK}/{path}", text)

    def remove(self, *paths: str) -> None:
        """Take files out of the work tree."""
        self.balancer.run(["rm", "-f", *(f"{WORK}/{path}" for path in paths)])

    def push(self) -> str:
        """Commit the work tree and push it. Returns the commit."""
        return self.balancer.run(["sh", "-euc", _PUSH]).stdout.split()[-1]

    # -- the balancer

    def serving(self) -> set[str]:
        """Names of the hosts that the balancer sends people to at present."""
        shown = self.balancer.run(["sh", "-c", "echo 'show stat' | nc -N -U /run/haproxy/admin.sock"]).stdout
        rows = [line.split(",") for line in shown.splitlines() if line.startswith("ssh,")]
        return {row[1] for row in rows if row[1] in self.members and row[17].startswith("UP")}

    def until_serving(self, *names: str, timeout: float = 60) -> None:
        """Wait until the balancer sends people to exactly these hosts."""
        wait_until(f"the balancer to serve {names}", lambda: self.serving() == set(names), timeout=timeout)

    # -- details

    def _create_balancer(self) -> None:
        self.balancer.create()
        self.balancer.run(["sh", "-euc", _REPOSITORY])

    def _route(self, member: Member, addresses: dict[str, str]) -> None:
        ways = [
            f"ip route replace {other.subnet.network} via {addresses[other.name]}"
            for other in self.members.values()
            if other.name != member.name
        ]
        lines = "".join(f"    up {way}\n" for way in ways)
        member.host.push("/etc/network/interfaces", _INTERFACES + lines)
        member.host.run(["sh", "-euc", "; ".join(ways)])

    def _serve(self, addresses: dict[str, str]) -> None:
        servers = "".join(f"    server {name} {address}:22\n" for name, address in addresses.items())
        socket = "    stats socket /run/haproxy/admin.sock mode 660\n"
        self.balancer.push("/etc/haproxy/haproxy.cfg", _HAPROXY.replace("defaults", f"{socket}defaults", 1) + servers)
        self.balancer.run(["systemctl", "restart", "haproxy"])

    def _follow(self, member: Member, key: str, known: str) -> None:
        host = member.host
        host.push(_KEY, key, mode=0o600)
        host.push(_KNOWN, known)
        place = {"identity": _KEY, "knownHosts": _KNOWN, "timeout": "20s"}
        repository = f"ssh://git@{self.address}:{recipes.GIT_PORT}{_BARE}"
        host.push("/etc/containarium/sync.yaml", json.dumps({"repository": repository, **place}))


def _boot(member: Member) -> None:
    member.host.create()
    member.host.run(["sh", "-euc", _RENAME, "rename", member.name])
    member.host.install_project()
