"""Checks of the way in: sshd and its drop-in, jump accounts and their keys, locks, fail2ban, the manifests."""

from __future__ import annotations

import socket
import stat
from collections.abc import Iterator

from containarium.host.accounts import Accounts
from containarium.host.doctor.finding import PREPARE, Finding, Patient, fail, ok, warn
from containarium.host.files import read_small
from containarium.host.jumpaccount import is_ours
from containarium.host.keyfiles import UNSAFE
from containarium.host.passwdlock import stale_locks
from containarium.host.sshd import SSHD, Sshd, drop_in_text
from containarium.model.marks import JUMP_GROUP
from containarium.model.observed import Account, Password

_SHOWN = 5
_AS_ROOT = "sudo containarium doctor"


def drop_in(patient: Patient) -> Iterator[Finding]:
    """The drop-in is there as it was written, and every directive of it holds for a jump account."""
    settings = patient.settings
    text = read_small(settings.sshd_drop_in)
    if text is None:
        yield fail("sshd drop-in", f"{settings.sshd_drop_in} is missing: jump accounts are not confined", PREPARE)
        return
    if text != drop_in_text(settings):
        yield fail("sshd drop-in", f"{settings.sshd_drop_in} was changed", PREPARE)
    if not patient.root:
        yield warn("sshd rules", "what sshd applies can only be seen by root", _AS_ROOT)
        return
    accounts, _ = Accounts(settings, patient.run).observe()
    account = next((name for name in sorted(accounts) if is_ours(accounts[name])), None)
    if account is None:
        yield ok("sshd rules", "there is no jump account yet to look at them for")
        return
    server = Sshd(settings, patient.run)
    wrong = server.not_in_force(account)
    if wrong:
        text = ", ".join(f"{keyword} is {found or 'unset'}" for keyword, (_, found) in sorted(wrong.items()))
        remedy = "an earlier Match block or file in sshd_config.d decides first: remove or rename it"
        yield fail("sshd rules", f"for {account}, {text}", remedy)
    else:
        yield ok("sshd rules", f"all hold for {account}")
    yield from _let_in(server.effective(account), account)


def server(patient: Patient) -> Iterator[Finding]:
    """sshd answers, and nobody but root reads its keys."""
    ports = [22]
    if patient.root:
        ports = [int(word) for word in Sshd(patient.settings, patient.run).effective("root").get("port", "22").split()]
    answering = [port for port in ports if _answers(port)]
    if answering:
        yield ok("sshd", f"answers on port {answering[0]}")
    else:
        yield fail(
            "sshd", f"does not answer on port {ports[0]}", "systemctl enable --now ssh" if patient.systemd else SSHD
        )
    keys = sorted((patient.settings.etc / "ssh").glob("ssh_host_*_key"))
    readable = [path.name for path in keys if stat.S_IMODE(path.stat().st_mode) & 0o077 or path.stat().st_uid != 0]
    if not keys:
        yield fail("host keys", "sshd has none", "ssh-keygen -A")
    elif readable:
        yield fail("host keys", f"others than root may read {', '.join(readable)}", "chown root and chmod 600 them")
    else:
        yield ok("host keys", f"{len(keys)}, only root reads them")


def keys_folder(patient: Patient) -> Iterator[Finding]:
    """sshd trusts key files only where every folder above them is root's alone."""
    folder = patient.settings.jump_keys
    if not folder.is_dir():
        yield fail("keys folder", f"{folder} does not exist", PREPARE)
        return
    for path in (folder, *folder.parents):
        status = path.lstat()
        if stat.S_ISLNK(status.st_mode) or status.st_uid != 0 or status.st_mode & 0o022:
            remedy = f"chown root:root {path}; chmod go-w {path} (and no link in its place)"
            yield fail("keys folder", f"{path} is not root's alone, so sshd refuses every key in {folder}", remedy)
            return
        if not status.st_mode & 0o001:
            yield fail("keys folder", f"sshd cannot read keys through {path}", f"chmod 755 {path}")
            return
    yield ok("keys folder", f"{folder} and all above it are root's alone")


def accounts(patient: Patient) -> Iterator[Finding]:
    """Jump accounts are what they should be, and nothing else carries their group."""
    found, orphans = Accounts(patient.settings, patient.run).observe()
    ours = [account for account in found.values() if is_ours(account)]
    wrong = [f"{account.name} ({fault})" for account in ours if (fault := _fault(account))]
    if wrong:
        yield fail("jump accounts", _some(wrong), "containarium apply repairs them")
    else:
        yield ok("jump accounts", f"{len(ours)}, all as they should be")
    strangers = [a.name for a in found.values() if not is_ours(a) and JUMP_GROUP in (a.group, *a.groups)]
    if strangers:
        remedy = f"move them to another group: sshd confines all of {JUMP_GROUP}"
        yield warn("jump group", f"not containarium's, but in {JUMP_GROUP}: {_some(strangers)}", remedy)
    if orphans:
        yield warn("jump keys", f"key files without an account: {_some(sorted(orphans))}", "containarium apply")


def locks(patient: Patient) -> Iterator[Finding]:
    """No killed tool blocks account changes for ever."""
    stale = stale_locks(patient.settings.etc)
    if stale:
        yield warn(
            "account locks",
            f"left by killed tools: {', '.join(stale)}",
            "the next account change removes them; or: rm them in /etc",
        )
    else:
        yield ok("account locks", "none is stale")


def fail2ban(patient: Patient) -> Iterator[Finding]:
    """Where fail2ban is installed it runs, with the sshd jail."""
    if not (patient.settings.etc / "fail2ban").is_dir():
        return
    if not patient.root:
        yield warn("fail2ban", "can only be asked by root", _AS_ROOT)
        return
    asked = patient.run(["fail2ban-client", "status", "sshd"], timeout=20, check=False)
    if asked.code == 0:
        yield ok("fail2ban", "watches sshd")
    else:
        yield warn("fail2ban", f"does not watch sshd: {asked.tail}", f"{PREPARE}; then: systemctl restart fail2ban")


def manifests(patient: Patient) -> Iterator[Finding]:
    """Whoever writes manifests gets into every environment: only root may."""
    folder = patient.settings.manifests
    try:
        status = folder.stat()
        list(folder.iterdir())
    except OSError as error:
        yield fail("manifests", f"{folder} cannot be read: {error.strerror}", PREPARE)
        return
    if status.st_mode & 0o002 or (status.st_mode & 0o020 and status.st_gid != 0):
        yield warn("manifests", f"others than root can write {folder}", f"chmod go-w {folder}, or know the group well")
    else:
        yield ok("manifests", str(folder))


def _let_in(effective: dict[str, str], account: str) -> Iterator[Finding]:
    lists = {
        key: effective[key] for key in ("allowusers", "denyusers", "allowgroups", "denygroups") if key in effective
    }
    groups = lists.get("allowgroups", JUMP_GROUP).split()
    if "allowusers" in lists and account not in lists["allowusers"].split():
        yield fail("sshd lists", f"AllowUsers leaves {account} out", "remove AllowUsers, or use AllowGroups")
    elif JUMP_GROUP not in groups and "*" not in groups:
        yield fail("sshd lists", "AllowGroups leaves jump accounts out", f"add {JUMP_GROUP} to AllowGroups")
    elif JUMP_GROUP in lists.get("denygroups", "").split() or account in lists.get("denyusers", "").split():
        yield fail("sshd lists", f"DenyUsers or DenyGroups shuts {account} out", "remove it there")


def _fault(account: Account) -> str:
    if account.password is not Password.NONE:
        return f"password is {account.password.value!r}"
    if account.subordinate_ids:
        return "has subordinate ids"
    if account.groups:
        return f"is in {', '.join(sorted(account.groups))}"
    if account.keys and UNSAFE in account.keys:
        return "its keys file is not a plain file of root's"
    return ""


def _some(names: list[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")


def _answers(port: int) -> bool:
    for address in ("127.0.0.1", "::1"):
        try:
            with socket.create_connection((address, port), timeout=3) as connection:
                if connection.recv(4) == b"SSH-":
                    return True
        except OSError:
            continue
    return False


CHECKS = (server, drop_in, keys_folder, accounts, locks, fail2ban, manifests)
