"""What should be, worked out in full: the form in which a manifest is compared with the host."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass

from containarium.model import marks
from containarium.model.manifest import Manifest
from containarium.model.observed import HostFacts
from containarium.model.recipe import Recipe

GUEST_SHELL = "/bin/bash"
BASE_PACKAGES = ("openssh-server", "sudo")
"""What a guest needs for a person to log in and to own the machine."""

DOCKER_PACKAGES = ("docker.io",)
DOCKER_GROUP = "docker"
SUDO_GROUP = "sudo"

AUTOSTART = "boot.autostart"
PROTECTION = "security.protection.delete"
PROBE_COMMENT = "containarium-probe"
"""Comment of the SSH probe's key, on every jump account's last line of keys."""

_RESTRICT = "restrict,port-forwarding,"
_PROBE_LINE = re.compile(
    rf'{_RESTRICT}permitopen="[0-9.]+:22",from="127\.0\.0\.1,::1" ssh-ed25519 [A-Za-z0-9+/=]+ {PROBE_COMMENT}'
)

ROOT_DEVICE = "root"
NIC_DEVICE = "eth0"


@dataclass(frozen=True, slots=True)
class DesiredEnvironment:
    """One environment as it should be on this host.

    ``config`` and ``root``/``nic`` hold exactly the keys that are managed; an empty value means "must not be set".
    ``digest`` changes whenever any of it does, so an instance that carries it and differs has drifted.
    """

    manifest: Manifest
    name: str
    instance: str
    image: str
    address: str
    config: Mapping[str, str]
    root: Mapping[str, str]
    nic: Mapping[str, str]
    running: bool
    groups: tuple[str, ...]
    packages: tuple[str, ...]
    docker: bool
    guest_keys: tuple[str, ...]
    account_keys: tuple[str, ...]
    digest: str

    @property
    def recipe(self) -> Recipe:
        """What its container is made from."""
        return Recipe(self.image, self.packages, self.docker)


def desire(manifest: Manifest, host: HostFacts, address: str) -> DesiredEnvironment:
    """Work out one environment, given the address that was chosen for it."""
    spec = manifest.environment.spec
    name = manifest.name
    config = _config(manifest)
    root = {"type": "disk", "path": "/", "pool": host.pool, "size": str(spec.resources.disk)}
    nic = {
        "type": "nic",
        "name": NIC_DEVICE,
        "network": host.bridge,
        "ipv4.address": address,
        "hwaddr": marks.hardware_address(address),
        "host_name": marks.port_name(address),
        "security.ipv4_filtering": "true",
        "security.mac_filtering": "true",
        "security.port_isolation": "true",
    }
    groups = (SUDO_GROUP, DOCKER_GROUP) if spec.docker else (SUDO_GROUP,)
    packages = recipe(manifest).packages
    guest_keys = tuple(key.line for key in manifest.keys)
    account_keys = account_lines(manifest, address)
    if host.probe_key:
        account_keys += (probe_line(address, host.probe_key),)
    parts = (spec.image, config, root, nic, spec.running, groups, packages, account_keys, _noted(manifest))
    return DesiredEnvironment(
        manifest=manifest,
        name=name,
        instance=marks.instance_name(name),
        image=spec.image,
        address=address,
        config=config,
        root=root,
        nic=nic,
        running=spec.running,
        groups=groups,
        packages=packages,
        docker=spec.docker,
        guest_keys=guest_keys,
        account_keys=account_keys,
        digest=hashlib.sha256(repr(parts).encode()).hexdigest()[:16],
    )


def recipe(manifest: Manifest) -> Recipe:
    """What the container of a manifest is made from: its image with every package that it needs."""
    spec = manifest.environment.spec
    packages = sorted({*BASE_PACKAGES, *(DOCKER_PACKAGES if spec.docker else ()), *spec.packages})
    return Recipe(spec.image, tuple(packages), spec.docker)


def account_lines(manifest: Manifest, address: str) -> tuple[str, ...]:
    """The lines that let a manifest's keys through the jump account, to port 22 of this address and nothing else."""
    return tuple(f'{_RESTRICT}permitopen="{address}:22" {key.line}' for key in manifest.keys)


def probe_line(address: str, key: str) -> str:
    """The line of a jump account's keys that lets the SSH probe (``type blob``) in, from the host itself only.

    The guest does not get this key: the probe reaches its port and never logs in.
    """
    return f'{_RESTRICT}permitopen="{address}:22",from="127.0.0.1,::1" {key} {PROBE_COMMENT}'


def is_probe_line(line: str) -> bool:
    """Whether a line is one of ``probe_line``, for whatever address and key. No manifest's key can make one such."""
    return _PROBE_LINE.fullmatch(line) is not None


def deletion_mark(manifest: Manifest) -> str:
    """How the environment may go, in the form that stands on the instance: ``Retire;7d;backup``."""
    deletion = manifest.environment.spec.deletion
    return f"{deletion.policy};{deletion.grace}" + (";backup" if deletion.backup else "")


def _noted(manifest: Manifest) -> tuple[object, ...]:
    """What changes nothing on the host but the record of the manifest, which is to be that of the last one."""
    metadata, spec = manifest.environment.metadata, manifest.environment.spec
    noted = (spec.expires, spec.network.ipv4, spec.placement.host if spec.placement else None)
    return (*map(str, noted), sorted(metadata.labels.items()), sorted(metadata.annotations.items()))


def _config(manifest: Manifest) -> dict[str, str]:
    spec = manifest.environment.spec
    docker = "true" if spec.docker else ""
    config = {
        "limits.cpu": str(spec.resources.cpu),
        "limits.memory": str(spec.resources.memory),
        "limits.processes": str(spec.resources.processes),
        "security.nesting": docker,
        "security.syscalls.intercept.mknod": docker,
        "security.syscalls.intercept.setxattr": docker,
        "security.privileged": "false",
        "security.idmap.isolated": "true",
        AUTOSTART: "true" if spec.autostart else "false",
        "snapshots.schedule": spec.snapshots.schedule if spec.snapshots else "",
        "snapshots.expiry": spec.snapshots.keep.incus if spec.snapshots else "",
        marks.ENVIRONMENT: manifest.name,
        marks.IMAGE: spec.image,
        marks.DELETION: deletion_mark(manifest),
        marks.RETIRED: "",
        marks.PRUNE_AFTER: "",
    }
    if spec.deletion.protect is not None:
        config[PROTECTION] = "true" if spec.deletion.protect else ""
    return config
