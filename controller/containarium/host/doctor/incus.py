"""Checks of Incus: the daemon, the pool, the bridge and what keeps guests from the host."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from containarium.host.doctor.finding import PREPARE, Finding, Patient, fail, ok, warn
from containarium.host.firewall import Firewall
from containarium.host.quotas import Subvolume, subvolume

_OLDEST = (6, 0)
_GIB = 1 << 30
_LITTLE, _VERY_LITTLE = 0.15, 0.05
"""Parts of the pool left free."""
_TIMEOUT = 20.0
_MAY_NOT = ("operation not permitted", "permission denied")


def incus(patient: Patient) -> Iterator[Finding]:
    """Incus answers, and is new enough."""
    version = str(patient.incus.get()["environment"]["server_version"])
    numbers = tuple(int(part) for part in version.split(".")[:2] if part.isdecimal())
    if numbers < _OLDEST:
        yield fail("incus", f"version {version} is too old", "install Incus 6.0 or newer (backports on Debian 12)")
    else:
        yield ok("incus", f"version {version} answers at {patient.settings.incus_socket}")


def pool(patient: Patient) -> Iterator[Finding]:
    """The pool is there, keeps disk limits, and has space."""
    name = patient.settings.pool
    found = _find(patient, "storage-pools", name)
    if found is None:
        yield fail("pool", f"storage pool {name} does not exist", PREPARE)
        return
    driver = str(found["driver"])
    if found.get("status") != "Created":
        yield fail("pool", f"storage pool {name} is {found.get('status')}", "incus storage info; is its disk attached?")
    elif driver in ("dir", "lvm"):
        yield warn("pool", f"pool {name} ({driver}) keeps no disk limits", "use a btrfs or ZFS pool")
    elif driver == "btrfs":
        yield _account(name, keeps_account(patient, name))
    else:
        yield ok("pool", f"storage pool {name} ({driver})")
    yield _space(name, patient.incus.get("storage-pools", name, "resources")["space"])


def bridge(patient: Patient) -> Iterator[Finding]:
    """The bridge is there, with NAT."""
    name = patient.settings.bridge
    found = _find(patient, "networks", name)
    if found is None:
        yield fail("bridge", f"bridge {name} does not exist", PREPARE)
        return
    config = found["config"]
    if not found["managed"]:
        yield fail("bridge", f"{name} is not managed by Incus", "choose another name for the bridge")
    elif config.get("ipv4.address", "none") == "none":
        yield fail("bridge", f"{name} has no IPv4 address", f"incus network set {name} ipv4.address=10.0.3.1/24")
    elif not Path(f"/sys/class/net/{name}").exists():
        yield fail("bridge", f"{name} is configured but not there", "systemctl restart incus")
    elif config.get("ipv4.nat") != "true":
        yield warn("bridge", f"{name} has no NAT: guests reach no mirror", f"incus network set {name} ipv4.nat=true")
    else:
        yield ok("bridge", f"{name} with {config['ipv4.address']}")
    attached = [part.strip() for part in config.get("security.acls", "").split(",")]
    if patient.settings.acl not in attached:
        yield warn("acl", f"network ACL {patient.settings.acl} is not on {name}", PREPARE)
    elif patient.root:
        yield _acl_in_force(patient, name)


def firewall(patient: Patient) -> Iterator[Finding]:
    """Guests cannot reach the host's services, and can reach the internet."""
    if not patient.root:
        yield warn("firewall", "cannot be seen without root", "sudo containarium doctor")
        return
    if Firewall(patient.settings, patient.run).in_force():
        yield ok("firewall", f"the host's services are shut to guests on {patient.settings.bridge}")
    else:
        yield fail("firewall", "guests can reach the host's own services: table inet containarium is missing", PREPARE)
    yield from _others_drop(patient)


def _others_drop(patient: Patient) -> Iterator[Finding]:
    """Docker sets the policy of forwarding to drop, for everybody."""
    shown = patient.run(["nft", "list", "chain", "ip", "filter", "FORWARD"], timeout=_TIMEOUT, check=False)
    if shown.code != 0 or "policy drop" not in shown.out:
        return
    name = patient.settings.bridge
    if any(name in _chain(patient, chain) for chain in ("FORWARD", "DOCKER-USER")):
        yield ok("forwarding", f"another program drops what is forwarded, with an exception for {name}")
        return
    yield fail(
        "forwarding",
        "another program (Docker?) drops all that is forwarded: guests do not reach the internet",
        f"iptables -I DOCKER-USER -i {name} -j ACCEPT; "
        f"iptables -I DOCKER-USER -o {name} -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT",
    )


def _chain(patient: Patient, chain: str) -> str:
    return patient.run(["nft", "list", "chain", "ip", "filter", chain], timeout=_TIMEOUT, check=False).out


def _acl_in_force(patient: Patient, bridge: str) -> Finding:
    shown = patient.run(["nft", "list", "chain", "inet", "incus", f"acl.{bridge}"], timeout=_TIMEOUT, check=False)
    if shown.code == 0 and "reject" in shown.out:
        return ok("acl", f"network ACL {patient.settings.acl} is in force on {bridge}")
    return warn(
        "acl",
        f"network ACL {patient.settings.acl} is configured but not in force (were all rules flushed?)",
        "systemctl restart incus; guests run on",
    )


def keeps_account(
    patient: Patient,
    pool: str,
    btrfs: Path = Path("/sys/fs/btrfs"),
    volume: Callable[[Path], Subvolume | None] = subvolume,
) -> bool | None:
    """Whether a pool of btrfs keeps account of space, which disk limits need; None where that cannot be seen from here.

    sysfs says it to everybody who can open the pool's folder, the command only to who has CAP_SYS_ADMIN.
    """
    folder = patient.settings.incus_dir / "storage-pools" / pool
    found = volume(folder)
    if found is not None and (btrfs / found.filesystem).is_dir():
        return _says_on(btrfs / found.filesystem / "qgroups")
    shown = patient.run(["btrfs", "qgroup", "show", str(folder)], timeout=_TIMEOUT, check=False)
    if shown.code == 0:
        return "qgroupid" in shown.out.lower()
    return None if any(words in shown.err.lower() for words in _MAY_NOT) else False


def _says_on(groups: Path) -> bool:
    """The folder is there while quotas are on; kernels since 6.1 also say it in a file."""
    try:
        return (groups / "enabled").read_text(encoding="ascii").strip() == "1"
    except OSError:
        return groups.is_dir()


def _account(pool: str, kept: bool | None) -> Finding:
    if kept is None:
        return ok("pool", f"storage pool {pool} (btrfs); whether it keeps account of space cannot be seen from here")
    if kept:
        return ok("pool", f"storage pool {pool} (btrfs)")
    return warn(
        "pool", f"pool {pool} (btrfs) keeps no account of space, so disk limits do not hold", "btrfs quota enable"
    )


def _space(pool: str, space: Mapping[str, int]) -> Finding:
    total, used = int(space.get("total", 0)), int(space.get("used", 0))
    if not total:
        return warn("space", f"the free space of pool {pool} is unknown", f"incus storage info {pool}")
    free = total - used
    text = f"{free / _GIB:.1f} of {total / _GIB:.1f} GiB are free in pool {pool}"
    if free < total * _LITTLE:
        level = fail if free < total * _VERY_LITTLE else warn
        return level("space", text, f"remove images and environments, or: incus storage set {pool} size=...")
    return ok("space", text)


def _find(patient: Patient, collection: str, name: str) -> Mapping[str, Any] | None:
    listed = patient.incus.get(collection, recursion="1") or []
    return next((item for item in listed if item["name"] == name), None)


CHECKS = (incus, pool, bridge, firewall)
