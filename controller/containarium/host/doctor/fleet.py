"""Checks of the fleet: that this host can ask each of the others, and they it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence

from containarium.host.command import Run
from containarium.host.doctor.finding import PREPARE, Finding, Patient, fail, ok, warn
from containarium.host.firewall import Firewall
from containarium.host.keyfiles import read_all_keys
from containarium.host.passwd import read_account_files
from containarium.host.peering import account
from containarium.host.peering.channel import Channel
from containarium.host.peering.fleet import Fleet, fleet_of
from containarium.host.peering.membership import LISTEN
from containarium.host.peering.neighbours import Answer, Neighbours
from containarium.host.settings import HostSettings
from containarium.host.sshd import PEER_ACCOUNT, Sshd
from containarium.model.manifest import DeclaredHost
from containarium.model.sshkey import SSHKey

_SKEW = 5.0
"""Seconds by which another host's clock may differ: what expires does so on each by its own."""
Ask = Callable[[HostSettings, str, Sequence[DeclaredHost]], Sequence[Answer]]


def ask_all(settings: HostSettings, name: str, hosts: Sequence[DeclaredHost]) -> Sequence[Answer]:
    """What each of the others says now."""
    return list(Neighbours(name, Channel(settings)).answers(hosts).values())


def membership(patient: Patient) -> Iterator[Finding]:
    """This host lets the others ask, and only them, and only that."""
    own, fleet = patient.declaration.own, _fleet(patient)
    if own is None or fleet is None:
        return
    if own.manifest.spec.identity is None:
        remedy = "commit what containarium host manifest prints"
        yield fail("fleet", f"the Host manifest of {own.name} has no identity, so the others do not know it", remedy)
    if not patient.root:
        yield warn("fleet", "who may ask can only be seen by root", "sudo containarium doctor")
        return
    yield from _identity(patient)
    if PEER_ACCOUNT not in read_account_files(patient.settings.etc).passwd:
        yield fail("fleet", f"there is no account {PEER_ACCOUNT} for the others", PREPARE)
        return
    lines = read_all_keys(patient.settings.peer_keys).get(PEER_ACCOUNT, ())
    if lines != account.key_lines(fleet):
        remedy = f"{PREPARE}, or let the controller follow"
        yield fail("fleet", "who may ask is not what the Host manifests say", remedy)
    wrong = Sshd(patient.settings, patient.run).not_in_force(PEER_ACCOUNT)
    if wrong:
        text = ", ".join(f"{keyword} is {found or 'unset'}" for keyword, (_, found) in sorted(wrong.items()))
        remedy = "an earlier Match block or file in sshd_config.d decides first: remove or rename it"
        yield fail("fleet", f"for {PEER_ACCOUNT}, sshd's {text}", remedy)
    elif lines == account.key_lines(fleet):
        yield ok("fleet", f"{len(lines)} others may ask, and nothing else")
    yield from _relay(patient.run)
    yield from _incus(patient, fleet)


def neighbours(patient: Patient, ask: Ask = ask_all) -> Iterator[Finding]:
    """Each of the others answers, is who its manifest says, and has the same time."""
    own, fleet = patient.declaration.own, _fleet(patient)
    if own is None or fleet is None:
        return
    if not patient.root:
        yield warn("peers", "the others can only be asked by root", "sudo containarium doctor")
        return
    for answer in ask(patient.settings, own.name, patient.declaration.hosts):
        check = f"peer {answer.name}"
        if answer.error is not None:
            yield fail(check, answer.error.message, answer.error.remedy or "see containarium doctor there")
        elif abs(answer.skew) >= _SKEW:
            way = "ahead" if answer.skew > 0 else "behind"
            remedy = "set both by a time server: timedatectl set-ntp true"
            yield warn(check, f"answers, and its clock is {abs(answer.skew):.0f} s {way}", remedy)
        else:
            yield ok(check, f"answers, with {len(answer.told.boxes) if answer.told else 0} environments")


def _fleet(patient: Patient) -> Fleet | None:
    own, hosts = patient.declaration.own, patient.declaration.hosts
    return fleet_of((*hosts, own), own.name) if own is not None else None


def _identity(patient: Patient) -> Iterator[Finding]:
    """What the others know this host by is what it has."""
    own = patient.declaration.own
    identity = own.manifest.spec.identity if own is not None else None
    if identity is None:
        return
    remedy = "commit what containarium host manifest prints"
    if {key.identity for key in identity.host_keys}.isdisjoint(Sshd(patient.settings, patient.run).host_keys()):
        yield fail("identity", "its Host manifest names none of the host keys that sshd has", remedy)
    public = patient.settings.peer_key.with_name(f"{patient.settings.peer_key.name}.pub")
    try:
        found = SSHKey.parse(public.read_text(errors="replace").strip()).identity
    except (OSError, ValueError):
        yield fail("identity", f"there is no key in {public} to ask the others with", PREPARE)
        return
    if found != identity.peer_key.identity:
        yield fail("identity", "its Host manifest names another peerKey than this host has", remedy)


def _relay(run: Run) -> Iterator[Finding]:
    """The account has to be able to run the program that answers."""
    python = sys.executable
    command = ["runuser", "-u", PEER_ACCOUNT, "--", python, "-I", "-c", "import containarium.host.peering.relay"]
    if run(command, timeout=30, check=False).code != 0:
        remedy = "install containarium where everybody may read it, below /opt"
        yield fail("fleet", f"{PEER_ACCOUNT} cannot run {python}, so nobody is answered", remedy)


def _incus(patient: Patient, fleet: Fleet) -> Iterator[Finding]:
    listens = (patient.incus.get().get("config") or {}).get(LISTEN, "")
    if not listens:
        yield fail("Incus for the fleet", "Incus does not listen: nothing can be fetched from here", PREPARE)
    elif not Firewall(patient.settings, patient.run).in_force():
        yield fail("Incus for the fleet", f"the firewall does not keep strangers from {listens}", PREPARE)
    else:
        yield ok("Incus for the fleet", f"listens on {listens}, for {len(fleet.addresses)} others")


CHECKS = (membership, neighbours)
