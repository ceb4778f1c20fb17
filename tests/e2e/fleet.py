"""A fleet with admins who write to git and nowhere else, and people who log in through its balancer."""

from __future__ import annotations

import hashlib
import json
import re
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from typing import TYPE_CHECKING, Any

import yaml

from tests.e2e.living import LivingSite
from tests.e2e.site import IMAGE, instance_of, manifest
from tests.lab.command import LabError, wait_until
from tests.lab.disk import DISK
from tests.lab.fleet import WORK

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from tests.lab.command import Completed
    from tests.lab.fleet import Fleet, Member
    from tests.lab.laptop import Laptop

AT_ONCE = 6
"""Logins side by side: each is four processes, and there are two processors."""
ROOM = {"disk": "1GiB", "memory": "256MiB"}


class FleetSite:
    """What admins and people do with a fleet. Facts come from the machines' own tools, as in `Site`."""

    def __init__(self, fleet: Fleet, laptop: Laptop) -> None:
        self.fleet = fleet
        self.laptop = laptop
        self.homes: dict[str, str] = {}
        """The host that everybody lives on, by name, as the tests that share the fleet have left it."""
        self.sites = {name: LivingSite(member.host, laptop) for name, member in fleet.members.items()}

    @cached_property
    def _any(self) -> LivingSite:
        return next(iter(self.sites.values()))

    # -- from nothing to a fleet

    def prepare(self) -> None:
        """Prepare each host by its own Host manifest, as a start-up script does, and declare all of them in git."""
        declared = self.fleet.each(self._prepare)
        for name, text in declared.items():
            self.fleet.write(_file_of_host(name), text)

    def _prepare(self, member: Member) -> str:
        """Returns the Host manifest with the identity that the host has by now."""
        site, host = self.sites[member.name], member.host
        host.push("/etc/containarium/host.yaml", yaml.safe_dump(self._host_manifest(member), sort_keys=False))
        site.containarium("host", "prepare", "--service", timeout=300)
        # the lab syncs when a test says so: hosts follow at different times
        host.run(["systemctl", "disable", "--now", "containarium-sync.timer"])
        host.import_guest_image(IMAGE)
        spared = f"{self.laptop.address} {self.fleet.address}"
        host.push("/etc/fail2ban/jail.d/zz-lab.local", f"[DEFAULT]\nignoreip = {spared}\n[sshd]\nignoreip = {spared}\n")
        host.run(["systemctl", "reload-or-restart", "fail2ban"])
        return site.containarium("host", "manifest").stdout

    def _host_manifest(self, member: Member) -> dict[str, Any]:
        network = {"subnet": str(member.subnet), "address": member.address}
        storage = {"driver": "btrfs", "disk": DISK}
        spec = {"storage": storage, "network": network, "login": {"address": self.fleet.address}}
        return {
            "apiVersion": "containarium.dev/v1",
            "kind": "Host",
            "metadata": {"name": member.name},
            "spec": spec,
        }

    # -- the admin, in git

    def declare(self, name: str, host: str = "", **spec: Any) -> None:
        """Write somebody's manifest, placed on a host where one is given. `push` and `sync` bring it to the hosts."""
        spec = {"resources": ROOM, "sshKeys": [self._any.person(name).public()], **spec}
        placed = {"placement": {"host": host}} if host else {}
        self.fleet.write(_file(name), manifest(name, **spec, **placed))

    def withdraw(self, *names: str) -> None:
        """Take manifests of environments away."""
        self.fleet.remove(*map(_file, names))

    def publish(self, *hosts: str) -> None:
        """Push, and have these hosts (none named: all) fetch it."""
        self.fleet.push()
        self.sync(*hosts)

    def sync(self, *hosts: str) -> None:
        """Have hosts fetch what was pushed."""
        wanted = hosts or tuple(self.sites)

        def one(member: Member) -> None:
            if member.name in wanted:
                self.sites[member.name].containarium("sync")

        self.fleet.each(one)

    def host_text(self, name: str) -> str:
        """The Host manifest as it is in git."""
        return self.fleet.balancer.pull(f"{WORK}/{_file_of_host(name)}")

    def put_host(self, name: str, text: str) -> None:
        """Write a Host manifest."""
        self.fleet.write(_file_of_host(name), text)

    def remove_host(self, name: str) -> None:
        """Take a Host manifest away."""
        self.fleet.remove(_file_of_host(name))

    # -- waiting

    def wait_ready(self, homes: dict[str, str], timeout: float = 240.0) -> None:
        """Wait until everybody is ready on their host, and has a door on every other."""
        for host in sorted(set(homes.values())):
            self.sites[host].wait_ready(*(name for name, home in homes.items() if home == host), timeout=timeout)
        wait_until(f"doors to {', '.join(homes)}", lambda: not self.shut(homes), timeout=timeout, interval=0.7)

    def shut(self, homes: dict[str, str]) -> list[str]:
        """Who has no door that leads to them on which host: their account's keys name another address, or none."""
        addresses = {name: self.address(name, host) for name, host in homes.items()}
        found = self.doors()
        return [
            f"{name} on {host}: {doors.get(name)} and not {address}"
            for host, doors in found.items()
            for name, address in addresses.items()
            if not address or doors.get(name) != address
        ]

    def doors(self, *hosts: str) -> dict[str, dict[str, str]]:
        """By host: where each jump account leads to, as its file of keys says."""
        script = r"cd /etc/ssh/containarium/keys && grep -o 'permitopen=\"[^\"]*:22\"' * | sort -u"

        def look(member: Member) -> dict[str, str]:
            if hosts and member.name not in hosts:
                return {}
            lines = member.host.run(["sh", "-c", script], check=False).stdout.splitlines()
            pairs = (line.partition(":permitopen=") for line in lines)
            return {name: where.strip('"').removesuffix(":22") for name, _, where in pairs}

        return {host: found for host, found in self.fleet.each(look).items() if not hosts or host in hosts}

    # -- facts

    def address(self, name: str, host: str) -> str:
        """The address that somebody's instance on a host has pinned; empty where there is none."""
        devices = self.sites[host].instance(name).get("devices", {})
        return str(devices.get("eth0", {}).get("ipv4.address", ""))

    def instances(self) -> dict[str, dict[str, str]]:
        """By host: names of the environments with an instance there, and its status."""

        def look(member: Member) -> dict[str, str]:
            found = member.host.instances().values()
            marked = {i["config"].get("user.containarium.environment", ""): str(i["status"]) for i in found}
            return {name: status for name, status in marked.items() if name}

        return self.fleet.each(look)

    def inside(self, name: str, host: str, script: str, check: bool = True) -> Completed:
        """Run a script as root in somebody's guest, past ssh."""
        return self.sites[host].inside(name, "sh", "-euc", script, check=check)

    # -- the user's side

    def export(self, name: str, host: str) -> Path:
        """Have a host export somebody's configuration, with nothing said about where people connect to.

        Returns the file for `ssh`: strict, and it trusts what was exported and nothing else.
        """
        person = self._any.person(name)
        path = person.home / f"{name}.{host}.ssh_config"
        site = self.sites[host]
        site.host.run(["mkdir", "-p", str(path.parent)])
        site.containarium("export", name, "--key", str(person.key()), "--output", str(path))
        return person.configure(site.host.pull(str(path)), site.host.pull(f"{path}.known_hosts"), path)

    def exports(self, wanted: Mapping[str, str]) -> dict[str, Path]:
        """Have hosts export people's configurations, side by side. Takes hosts by name of person, returns files."""
        with ThreadPoolExecutor(max_workers=AT_ONCE) as pool:
            results = {name: pool.submit(self.export, name, host) for name, host in wanted.items()}
            return {name: result.result() for name, result in results.items()}

    def through(self, config: Path, host: str) -> Path:
        """The same configuration through one host and not the balancer: what the balancer does, done on purpose."""
        exported = config.with_suffix("")
        known = exported.with_name(f"{exported.name}.known_hosts")
        changed = exported.with_name(f"{exported.name}-{host}")
        there = self.fleet.members[host].address
        text = exported.read_text().replace(f"HostName {self.fleet.address}\n", f"HostName {there}\n")
        keys = re.sub(rf"^{re.escape(self.fleet.address)} ", f"{there} ", known.read_text(), flags=re.MULTILINE)
        person = self._any.person(exported.name.partition(".")[0])
        return person.configure(text.replace(known.name, f"{changed.name}.known_hosts"), keys, changed)

    def log_in(self, wanted: Iterable[tuple[str, Path]]) -> dict[Path, str]:
        """Log in with configurations, some at once. Returns what the boxes say they are called, or the error."""

        def one(name: str, config: Path) -> str:
            done = self._any.person(name).ssh(config, name, "hostname", check=False)
            return done.stdout.strip() if done.returncode == 0 else f"{done.returncode}: {done.stderr.strip()}"

        with ThreadPoolExecutor(max_workers=AT_ONCE) as pool:
            results = {config: pool.submit(one, name, config) for name, config in wanted}
            return {config: result.result() for config, result in results.items()}

    def wait_login(self, name: str, config: Path, timeout: float = 60) -> None:
        """Wait until somebody gets in."""
        said: list[str] = []

        def inside() -> bool:
            said[:] = self.log_in([(name, config)]).values()
            return said == [instance_of(name)]

        try:
            wait_until(f"login of {name} with {config.name}", inside, timeout=timeout, interval=0.5)
        except LabError as error:
            raise LabError(f"{error}: {said}\n{json.dumps(self.doors(), indent=1)}") from error


def trusted(config: Path) -> list[str]:
    """The lines that an exported configuration trusts, sorted."""
    file = config.with_suffix("").with_name(f"{config.stem}.known_hosts")
    return sorted(line for line in file.read_text().splitlines() if not line.startswith("#"))


def chosen(name: str, hosts: Iterable[str]) -> str:
    """Where rendezvous hashing puts a name: worked out here once more, for it must never change."""
    return max(hosts, key=lambda host: hashlib.sha256(f"{host}\0{name}".encode()).hexdigest())


def _file(name: str) -> str:
    return f"environments/{name}.yaml"


def _file_of_host(name: str) -> str:
    return f"environments/host-{name}.yaml"
