"""What should be, worked out in full: the form in which a manifest is compared with the host."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

from containarium.model import marks
from containarium.model.manifest import Manifest
from containarium.model.observed import HostFacts

GUEST_SHELL = "/bin/bash"
BASE_PACKAGES = ("openssh-server", "sudo")
"""What a guest needs for a person to log in and to own the machine."""

DOCKER_PACKAGES = ("docker.io",)
DOCKER_GROUP = "docker"
SUDO_GROUP = "sudo"

AUTOSTART = "boot.autostart"
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
    packages = tuple(sorted({*BASE_PACKAGES, *(DOCKER_PACKAGES if spec.docker else ()), *spec.packages}))
    guest_keys = tuple(key.line for key in manifest.keys)
    restriction = f'restrict,port-forwarding,permitopen="{address}:22" '
    account_keys = tuple(restriction + line for line in guest_keys)
    parts = (spec.image, config, root, nic, spec.running, groups, packages, account_keys)
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


def deletion_mark(manifest: Manifest) -> str:
    """How the environment may go, in the form that stands on the instance: ``Retire;7d;backup``."""
    deletion = manifest.environment.spec.deletion
    return f"{deletion.policy};{deletion.grace}" + (";backup" if deletion.backup else "")


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
        config["security.protection.delete"] = "true" if spec.deletion.protect else ""
    return config
