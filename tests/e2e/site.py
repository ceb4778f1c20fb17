"""A prepared host with an admin at its root shell: manifests in, facts out. Shared by all end-to-end tests.

Facts come from the machine's own tools and files (incus, getent, /etc/shadow), never from the product.
"""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import yaml

from tests.e2e.people import Person
from tests.lab.command import CommandError, LabError, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from tests.lab.command import Completed
    from tests.lab.host import LabHost
    from tests.lab.laptop import Laptop

MANIFESTS = "/etc/containarium/environments"
JUMP_KEYS = "/etc/ssh/containarium/keys"
IMAGE = "guest"
BRIDGE = "incusbr0"
_APPLY_TIMEOUT = 420


@dataclass(frozen=True)
class Facts:
    """What there is of one environment. Empty where there is none."""

    instance: dict[str, Any]
    """Incus' own words, with state; empty when there is no instance."""
    passwd: str
    """The account's line in passwd, as getent gives it."""
    password: str
    """The second field of the account's line in shadow."""
    groups: tuple[str, ...]
    """All groups of the account, its own first."""
    keys: tuple[str, ...] | None
    """Lines of the account's root-owned file of keys; None where there is no file."""

    @property
    def exists(self) -> bool:
        """Whether anything is there: instance, account or keys."""
        return bool(self.instance or self.passwd or self.keys is not None)

    @property
    def status(self) -> str:
        """Running, Stopped, or empty."""
        return str(self.instance.get("status", ""))

    @property
    def config(self) -> dict[str, str]:
        """The instance's own configuration."""
        return dict(self.instance.get("config", {}))

    @property
    def devices(self) -> dict[str, dict[str, str]]:
        """The instance's own devices."""
        return dict(self.instance.get("devices", {}))

    @property
    def address(self) -> str:
        """The address that is pinned on the NIC."""
        return self.devices.get("eth0", {}).get("ipv4.address", "")

    @property
    def pid(self) -> int:
        """The guest's PID 1, as the host sees it; 0 where it does not run."""
        return int((self.instance.get("state") or {}).get("pid") or 0)

    @property
    def shell(self) -> str:
        """The account's shell."""
        return self.passwd.rpartition(":")[2]


def instance_of(name: str) -> str:
    """Name of the environment's instance."""
    return f"{name}-container"


def manifest(name: str, **spec: Any) -> str:
    """A manifest as YAML. Fields of the spec that are not given: a small guest from the lab's image."""
    resources = {"cpu": 1, "memory": "512MiB", "disk": "2GiB", "processes": 512, **spec.pop("resources", {})}
    document = {
        "apiVersion": "containarium.dev/v1",
        "kind": "Environment",
        "metadata": {"name": name, **spec.pop("metadata", {})},
        "spec": {"image": IMAGE, "resources": resources, **spec},
    }
    return yaml.safe_dump(document, sort_keys=False)


@dataclass
class Site:
    """The host, the laptop, and what an admin does."""

    host: LabHost
    laptop: Laptop
    _people: dict[str, Person] = field(default_factory=dict)

    def spare_from_bans(self, address: str) -> None:
        """Tell fail2ban not to ban an address: tests fail to log in on purpose, and go on."""
        self.host.push("/etc/fail2ban/jail.d/zz-lab.local", f"[DEFAULT]\nignoreip = {address}\n")
        self.host.run(["systemctl", "reload-or-restart", "fail2ban"])

    # -- manifests

    def person(self, name: str) -> Person:
        """Somebody at the laptop, the same one at every call."""
        return self._people.setdefault(name, Person(self.laptop, name))

    def declare(self, name: str, **spec: Any) -> None:
        """Write the manifest of an environment; `sshKeys` defaults to the ed25519 key of the person of that name."""
        spec.setdefault("sshKeys", [self.person(name).public()])
        self.write(f"{name}.yaml", manifest(name, **spec))

    def write(self, file: str, text: str) -> None:
        """Put a file beside the manifests, atomically."""
        path, unseen = f"{MANIFESTS}/{file}", f"{MANIFESTS}/.{file.replace('/', '_')}.new"
        script = 'mkdir -p "${1%/*}" && cat > "$2" && mv -f "$2" "$1"'
        self.host.run(["sh", "-euc", script, "write", path, unseen], input=text)

    def withdraw(self, *names: str) -> None:
        """Remove manifests."""
        self.host.run(["rm", "-f", *(f"{MANIFESTS}/{name}.yaml" for name in names)])

    def declared(self) -> list[str]:
        """Names of the manifests that are there."""
        files = self.host.run(["ls", MANIFESTS], check=False).stdout.split()
        return sorted(file.removesuffix(".yaml") for file in files if file.endswith(".yaml"))

    # -- the product

    def containarium(self, *args: str, check: bool = True, timeout: float = 60) -> Completed:
        """Run the command on the host, as root."""
        return self.host.run(["containarium", *args], check=check, timeout=timeout)

    def apply(self, *options: str, code: int = 0, timeout: float = _APPLY_TIMEOUT) -> dict[str, Any]:
        """Apply; the exit code must be `code`. Returns what `apply -o json` says."""
        return self._json(["apply", *options], code, timeout)

    def plan(self, *options: str, code: int | None = None) -> dict[str, Any]:
        """Plan. Returns what `plan -o json` says; the exit code must be `code`, where that is given."""
        return self._json(["plan", *options], code, 60)

    def _json(self, args: list[str], code: int | None, timeout: float) -> dict[str, Any]:
        done = self.containarium(*args, "--output=json", check=False, timeout=timeout)
        if code is not None and done.returncode != code:
            shown = f"{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
            raise AssertionError(f"containarium {' '.join(args)}: exit code {done.returncode}, not {code}\n{shown}")
        said: dict[str, Any] = json.loads(done.stdout) if done.stdout.startswith("{") else {}
        return said

    # -- facts

    def environment(self, name: str) -> Facts:
        """Everything that there is of one environment, in one look."""
        passwd = self.host.run(["getent", "passwd", name], check=False).stdout.strip()
        shadow = self.host.run(["getent", "shadow", name], check=False).stdout.strip()
        groups = self.host.run(["id", "-Gn", name], check=False).stdout.split() if passwd else []
        keys: tuple[str, ...] | None = None
        with suppress(CommandError):
            keys = tuple(self.host.run(["cat", f"{JUMP_KEYS}/{name}"]).stdout.splitlines())
        return Facts(
            instance=self.instance(name),
            passwd=passwd,
            password=shadow.split(":")[1] if shadow else "",
            groups=tuple(groups),
            keys=keys,
        )

    def instance(self, name: str) -> dict[str, Any]:
        """The environment's instance with its state; empty when there is none."""
        path = f"/1.0/instances/{instance_of(name)}?recursion=1"
        done = self.host.incus("query", path, check=False)
        found: dict[str, Any] = json.loads(done.stdout) if done.returncode == 0 else {}
        return found

    def snapshot(self) -> dict[str, str]:
        """Everything that an apply could touch, in a form to compare: before and after must be equal."""
        instances = {name: _lasting(instance) for name, instance in self.host.instances().items()}
        files = ("/etc/passwd", "/etc/shadow", "/etc/group", "/etc/subuid", "/etc/subgid")
        seen = {path: self.host.run(["cat", path]).stdout for path in files}
        seen["keys"] = self.host.run(["sh", "-c", f"cd {JUMP_KEYS} && grep -r . . | sort"], check=False).stdout
        return {**seen, **{f"instance {name}": json.dumps(i, sort_keys=True) for name, i in instances.items()}}

    def bridge_address(self) -> str:
        """The host's own address on the guests' bridge."""
        return self.host.incus("network", "get", BRIDGE, "ipv4.address").stdout.split("/")[0]

    # -- inside

    def inside(
        self, name: str, *argv: str, check: bool = True, timeout: float = 60, input: str | None = None
    ) -> Completed:
        """Run a command as root in the environment's guest, past ssh."""
        return self.host.incus("exec", instance_of(name), "--", *argv, check=check, timeout=timeout, input=input)

    def boot_id(self, name: str) -> str:
        """Changes with every start of the guest."""
        return self.inside(name, "cat", "/proc/sys/kernel/random/boot_id").stdout.strip()

    # -- the user's side

    def export(self, name: str, person: Person | None = None, key: Path | None = None) -> Path:
        """Export the environment's ssh configuration to its person; returns the file for `Person.ssh`.

        The files have the same path on the host and on the laptop, so that they can travel as they are.
        """
        person = person or self.person(name)
        path = person.home / (f"{name}.ssh_config" if key is None else f"{name}-{key.name}.ssh_config")
        self.host.run(["mkdir", "-p", str(path.parent)])
        options = [*self._way_in(), "--key", str(key or person.key()), "--output", str(path)]
        self.containarium("export", name, *options)
        return person.configure(self.host.pull(str(path)), self.host.pull(f"{path}.known_hosts"), path)

    def _way_in(self) -> list[str]:
        """Tell `export` where users reach the host."""
        return ["--jump-host", self.host.address]

    def wait_login(self, name: str, config: Path, timeout: float = 30) -> None:
        """Wait until a person gets in with an exported configuration, with nobody's help."""
        person = self.person(name)
        try:
            wait_until(
                f"login of {name}",
                lambda: person.ssh(config, name, "true", check=False).returncode == 0,
                timeout=timeout,
                interval=0.5,
            )
        except LabError as error:
            said = person.ssh(config, name, "true", check=False)
            probe = self.containarium("probe", name, check=False)
            found = f"{said.stderr}\nprobe: {probe.stdout}{probe.stderr}\n{self.environment(name)}"
            raise LabError(f"{error}\n{found}") from error

    # -- clearing up

    def purge(self, names: Iterable[str]) -> None:
        """Remove environments by hand, with manifest and all: for the end of a test."""
        for name in names:
            self.withdraw(name)
            instance = instance_of(name)
            self.host.incus("config", "unset", instance, "security.protection.delete", check=False)
            self.host.incus("delete", "--force", instance, check=False)
            self.host.run(["userdel", name], check=False)
            self.host.run(["rm", "-f", f"{JUMP_KEYS}/{name}"])


def _lasting(instance: dict[str, Any]) -> dict[str, Any]:
    """What of an instance stays as it is while nobody changes it."""
    return {key: instance.get(key) for key in ("name", "status", "config", "devices", "profiles", "description")}
