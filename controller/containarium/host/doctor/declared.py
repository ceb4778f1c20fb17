"""Checks of what a Host manifest declares: disk, pool, subnet, admins, sshd for all, logs, and who keeps it so."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from containarium.host import homekeys
from containarium.host.aptsources import read_sources
from containarium.host.doctor.finding import PREPARE, Finding, Patient, fail, ok, warn
from containarium.host.files import read_small
from containarium.host.homekeys import Home
from containarium.host.prepare import conditions, disk, diskunits, logs, network, operators, server, storage, wayin, zfs
from containarium.host.prepare.service import HOST_PATH, HOST_SERVICE, HOST_TIMER, folder
from containarium.host.sshd import Sshd
from containarium.model.host import TerminalError
from containarium.model.hostmanifest import HostSpec, StorageDriver
from containarium.model.sshkey import SSHKey
from containarium.model.status import ConditionStatus

_AS_ROOT = "sudo containarium doctor"
_TIMEOUT = 30.0


def manifest(patient: Patient) -> Iterator[Finding]:
    """Which Host manifest is this machine's, and whether it can be read."""
    if patient.refused:
        yield fail("host manifest", patient.refused, "mend it; until then this host stays as it is")
    elif (own := patient.declaration.own) is not None:
        yield ok("host manifest", own.origin.file)
    else:
        yield ok("host manifest", "there is none of this machine's")


def preparation(patient: Patient) -> Iterator[Finding]:
    """Each step of the last preparation ended well, and what it carried out is what is declared."""
    last = conditions.read(patient.settings)
    for condition in last.conditions:
        if condition.status is not ConditionStatus.TRUE:
            level = fail if condition.status is ConditionStatus.FALSE else warn
            yield level(f"step {condition.type}", f"{condition.reason}: {condition.message}", PREPARE)
    if patient.declaration.own is None:
        return
    if last.digest != patient.declaration.digest:
        yield warn("preparation", "the Host manifests have changed since the last one", PREPARE)
    else:
        yield ok("preparation", f"carried out {last.at}")


def data_disk(patient: Patient) -> Iterator[Finding]:
    """Where a disk is named, Incus' folder is on it, and Incus starts nowhere else."""
    own, known = patient.declaration.own, disk.read(patient.settings)
    named = own.manifest.spec.storage.disk if own is not None else known.disk if known is not None else None
    left = patient.root and diskunits.guards_left(patient.settings)
    if left and not diskunits.is_due(patient.settings, named=named is not None):
        yield fail("disk guard", "Incus would not start at the next boot: it waits for a disk that it has not", PREPARE)
    if named is None:
        return
    path = patient.settings.incus_dir
    mount = disk.mounted_at(path)
    due = diskunits.is_due(patient.settings, named=True)
    if mount is None and not due:
        remedy = "name none, or see what step DataDisk says"
        yield fail("data disk", f"{named} is not mounted at {path}, which holds data on the boot disk", remedy)
    elif mount is None:
        yield fail("data disk", f"{named} is not mounted at {path}, so Incus does not start", f"attach it; {PREPARE}")
    elif not _on(mount, named):
        yield fail("data disk", f"{path} is on {mount.source} and not on {named}", "name the disk that it is on")
    else:
        yield ok("data disk", f"{named} ({mount.kind}) is mounted at {path}")
    if patient.systemd and due and not diskunits.guarded(patient.settings):
        yield fail("disk guard", "Incus would start on the boot disk when the data disk is missing", PREPARE)


def declared_pool(patient: Patient) -> Iterator[Finding]:
    """The pool is of the declared driver, and a ZFS one has the properties that it should have."""
    spec = _spec(patient)
    wanted = storage.named_driver(spec)
    if wanted is None:
        return
    name = patient.settings.pool
    listed = patient.incus.get("storage-pools", recursion="1") or []
    found = next((item for item in listed if item["name"] == name), None)
    if found is not None and found["driver"] != wanted.value:
        message = f"pool {name} is {found['driver']}, and {wanted.value} is declared"
        yield fail("pool driver", message, f"write driver: {found['driver']}")
    elif found is not None:
        yield ok("pool driver", wanted.value)
    if wanted is StorageDriver.ZFS and spec is not None and spec.storage.disk is not None and patient.root:
        wrong = zfs.wrong_properties(patient.run)
        if wrong:
            text = ", ".join(f"{key} is not {value}" for key, value in wrong.items())
            yield warn("pool properties", f"of {zfs.POOL}: {text}", PREPARE)
        else:
            yield ok("pool properties", f"of {zfs.POOL}, all as they should be")


def subnet(patient: Patient) -> Iterator[Finding]:
    """The bridge has the subnet that is declared, and that the other hosts are told."""
    spec = _spec(patient)
    if spec is None or not network.is_declared(spec):
        return
    name, wanted = patient.settings.bridge, str(spec.network.subnet)
    listed = patient.incus.get("networks", recursion="1") or []
    there = next((item["config"].get("ipv4.address", "none") for item in listed if item["name"] == name), "none")
    if there == wanted:
        yield ok("subnet", f"{name} has {wanted}")
    else:
        yield fail("subnet", f"{name} has {there}, and {wanted} is declared", f"write spec.network.subnet: {there}")


def repository(patient: Patient) -> Iterator[Finding]:
    """Where Incus is to come from its upstream, apt knows that."""
    spec = _spec(patient)
    if spec is None or spec.incus.repository is None:
        return
    url = spec.incus.repository.url.rstrip("/")
    if any(source.uri == url for source in read_sources(patient.settings.etc / "apt")):
        yield ok("repository", url)
    else:
        yield warn("repository", f"apt does not know {url}", PREPARE)


def admin_accounts(patient: Patient) -> Iterator[Finding]:
    """Whoever is named has an account, the declared keys and sudo; nobody else has sudo from us."""
    if patient.declaration.own is None:
        return
    if not patient.root:
        yield warn("admins", "their keys can only be read by root", _AS_ROOT)
        return
    admins = operators.declared(patient.settings, patient.declaration)
    if admins is None:
        yield ok("admins", "the manifest says nothing about them")
        return
    granted = set(wayin.granted(patient.settings))
    wrong = [f"{name} ({why})" for name in admins if (why := _lacks(patient, admins, name, granted))]
    wrong += [f"{name} (is not named, and has sudo)" for name in sorted(granted - set(admins))]
    if wrong:
        yield fail("admins", ", ".join(wrong), PREPARE)
    else:
        yield ok("admins", ", ".join(admins) or "the manifest names none")


def sshd_for_all(patient: Patient, root: Home = homekeys.ROOT) -> Iterator[Finding]:
    """What is to hold for everybody holds for root, and for somebody who is nobody in particular."""
    if _spec(patient) is None:
        return
    if not patient.root:
        yield warn("sshd for all", "what sshd applies can only be seen by root", _AS_ROOT)
        return
    wanted = server.directives(patient.settings, root)
    asked = Sshd(patient.settings, patient.run)
    wrong = {}
    for account in ("root", *wayin.granted(patient.settings)[:1]):
        found = asked.effective(account)
        for keyword, value in wanted.items():
            there = found.get(keyword.lower(), "unset")
            if there.replace("without-password", "prohibit-password") != value:
                wrong[keyword] = f"{keyword} is {there} for {account}"
    if wrong:
        remedy = f"{PREPARE}; else a file in sshd_config.d that sorts before ours decides first: look there"
        yield fail("sshd for all", ", ".join(wrong.values()), remedy)
    elif "PasswordAuthentication" not in wanted:
        yield warn("sshd for all", "passwords are allowed, since nobody has a key", "name an admin with a key")
    else:
        yield ok("sshd for all", ", ".join(f"{keyword} {value}" for keyword, value in wanted.items()))


def retention(patient: Patient) -> Iterator[Finding]:
    """The journal is kept on disk, for as long as declared."""
    spec = _spec(patient)
    if spec is None:
        return
    text = read_small(patient.settings.etc / logs.JOURNAL) or ""
    wanted = logs.journal_text(spec, 0)
    days = spec.logs.retention.delta.days
    if _without_size(text) != _without_size(wanted):
        yield warn("log retention", f"the journal is not kept for {days} days", PREPARE)
    elif patient.systemd and not Path("/var/log/journal").is_dir():
        yield warn("log retention", "the journal is not on the disk", "systemctl restart systemd-journald")
    else:
        yield ok("log retention", f"{days} days")


def keeper(patient: Patient) -> Iterator[Finding]:
    """Where the controller is a service, what puts the host right is enabled beside it."""
    if _spec(patient) is None or not patient.systemd or not (folder(patient.settings) / HOST_SERVICE).is_file():
        return
    units = (HOST_SERVICE, HOST_TIMER, HOST_PATH)
    quiet = ["systemctl", "is-enabled", "--quiet"]
    off = [unit for unit in units if patient.run([*quiet, unit], timeout=_TIMEOUT, check=False).code != 0]
    if off:
        yield warn("host units", f"not enabled: {', '.join(off)}", f"{PREPARE} --service")
    else:
        yield ok("host units", "keep this host as its manifest says")


def _spec(patient: Patient) -> HostSpec | None:
    return patient.declaration.own.manifest.spec if patient.declaration.own is not None else None


def _lacks(patient: Patient, admins: Mapping[str, tuple[SSHKey, ...]], name: str, granted: set[str]) -> str:
    if name not in granted:
        return "has no sudo from us"
    try:
        home = wayin.home(patient.settings, name)
    except TerminalError:
        return "has no home"
    return "" if homekeys.holds(home, tuple(key.line for key in admins[name])) else "has other keys"


def _on(mount: disk.Mount, named: str) -> bool:
    return mount.source == zfs.DATASET if mount.kind == "zfs" else disk.is_on(mount, named)


def _without_size(text: str) -> str:
    return re.sub(r"(?m)^SystemMaxUse=.*$", "", text)


CHECKS = (
    *(manifest, preparation, data_disk, declared_pool, subnet, repository, admin_accounts, sshd_for_all),
    *(retention, keeper),
)
