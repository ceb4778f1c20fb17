"""The accounts of those who run this machine, as its Host manifest names them: their keys and sudo, no more.

An account is ours to give sudo to where this program made it, which its comment says (root alone can change it), or
where it had sudo before. Whoever is not named any more loses our keys and our sudo, and keeps the account; unless
nobody would get in then. A manifest that says nothing about admins leaves them as they are.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path

from containarium.host import homekeys
from containarium.host.files import read_small, write_atomically
from containarium.host.homekeys import Home
from containarium.host.passwd import PasswdLine, parse_passwd, read_account_files
from containarium.host.passwdlock import our_turn
from containarium.host.prepare import vault, wayin
from containarium.host.prepare.steps import Context, Step
from containarium.host.prepare.wayin import GRANT, SUDO_GROUPS, SUDOERS, granted, home
from containarium.host.settings import HostSettings
from containarium.model.host import HostError, RetryableError, TerminalError
from containarium.model.manifest import Declaration
from containarium.model.sshkey import SSHKey

NAME = "admin accounts"
COMMENT = "containarium admin"
_HEAD = "# Written by containarium: the admins of this host's manifest. They have no password to be asked for.\n"
_ATTEMPTS = 4
"""useradd itself waits 15 s for its lock, which a cloud's agent may hold for twice that."""
_TIMEOUT = 40.0


def admin_accounts(context: Context, sleep: Callable[[float], None] = time.sleep, root: Home = homekeys.ROOT) -> Step:
    """Make who is missing, and give keys and sudo to exactly those who are named.

    Raises TerminalError (AdminRefused) where a name is somebody else's account, or nobody would get in without those
    who are not named any more, once all others are served.
    """
    own = context.declaration.own
    if own is None:
        return Step(NAME, False, "no Host manifest names any")
    admins = declared(context.settings, context.declaration)
    if admins is None:
        return Step(NAME, False, "the manifest says nothing about them: they stay as they are")
    changed: list[str] = []
    refused: list[str] = []
    leaving, before = _leaving(context, admins), granted(context.settings)
    served = _have_accounts(context, admins, sleep, changed, refused)
    # Whoever goes does so last: when it is seen that somebody else gets in.
    if _write_sudoers(context, [*served, *(name for name in before if name in leaving)]):
        changed.append("sudo")
    for name in served:
        try:
            if homekeys.write(home(context.settings, name), tuple(key.line for key in admins[name])):
                context.receipt.add("admin", name)
                changed.append(f"keys of {name}")
        except HostError as error:
            refused.append(error.message)
    if leaving and _shuts_out(context, leaving, root):
        refused.append(f"without {', '.join(leaving)} nobody would get in and become root, so they stay")
    elif leaving:
        _write_sudoers(context, served)
        changed += [f"keys of {name} withdrawn" for name in leaving if _withdraw(context, name)]
    if refused:
        raise TerminalError(
            f"not every admin is as declared: {'; '.join(refused)}",
            remedy=f"mend what is named, or name an admin with a key, or another name, in {own.origin.file}",
            reason="AdminRefused",
        )
    return Step(NAME, bool(changed), ", ".join(changed) or ", ".join(served) or "the manifest names none")


def declared(settings: HostSettings, declaration: Declaration) -> Mapping[str, tuple[SSHKey, ...]] | None:
    """The admins that there are to be; None where nothing says so.

    While the manifests have none of this host, whom the last one there named counts before host.yaml: that is the
    start-up script's, as old as the machine, and would give those who were withdrawn since root on a new boot disk.
    """
    own = declaration.own
    if own is None:
        return None
    said = own.admins if "admins" in own.manifest.spec.model_fields_set else None
    if said is not None and any(host.name == own.name for host in declaration.hosts):
        return said
    kept = vault.kept_admins(settings)
    return said if kept is None else kept


def withdraw(context: Context, name: str) -> bool:
    """Take our keys from an account that may be gone. Returns whether it had any."""
    try:
        return homekeys.write(home(context.settings, name), ())
    except TerminalError:
        return False


def _ensure(context: Context, name: str, before: Iterable[str], sleep: Callable[[float], None]) -> bool:
    """Returns whether the account was made. Raises TerminalError (AdminRefused) where it is somebody else's."""
    files = read_account_files(context.settings.etc)
    line = files.passwd.get(name)
    if line is None:
        _refuse_known_elsewhere(context, name)
        _make(context, name, sleep)
        return True
    if _ours(line) or name in before:
        return False
    if files.member_of.get(name, frozenset()) & SUDO_GROUPS:
        return False
    raise TerminalError(
        f"the account {name} was there before and is in none of {', '.join(sorted(SUDO_GROUPS))}",
        remedy=f"usermod -aG sudo {name}, if it is an admin's",
        reason="AdminRefused",
    )


def _ours(line: PasswdLine) -> bool:
    return line.comment.split(",")[0] == COMMENT


def _refuse_known_elsewhere(context: Context, name: str) -> None:
    """It may be somebody's in LDAP or the like."""
    done = context.run(["getent", "passwd", name], timeout=10, check=False)
    if name in parse_passwd(done.out):
        raise TerminalError(f"{name} is an account that this machine knows from elsewhere", reason="AdminRefused")


def _make(context: Context, name: str, sleep: Callable[[float], None]) -> None:
    context.progress(f"making the admin account {name}")
    shell = "/bin/bash" if Path("/bin/bash").exists() else "/bin/sh"
    # "*" and not "!": sshd refuses the latter where it does without PAM. No ids: a person's own ones are for guests.
    args = ["useradd", "--create-home", "--user-group", "--shell", shell, "--comment", COMMENT, "--password", "*"]
    args += ["-K", "SUB_UID_COUNT=0", "-K", "SUB_GID_COUNT=0", "--", name]
    with our_turn(context.settings.runtime, wait=60):
        for attempt in range(1, _ATTEMPTS + 1):
            done = context.run(args, timeout=_TIMEOUT, check=False)
            if done.code == 0:
                return
            if "cannot lock" not in done.err or attempt == _ATTEMPTS:
                break
            sleep(1.0)
    kind = RetryableError if "cannot lock" in done.err else TerminalError
    raise kind(f"useradd {name}: {done.tail}", reason="AdminRefused")


def _write_sudoers(context: Context, names: list[str]) -> bool:
    """Replace the file, which ``visudo`` has to accept first. Raises TerminalError (SudoMissing, SudoersRefused)."""
    path = context.settings.etc / SUDOERS
    text = _HEAD + "".join(f"{name} {GRANT}\n" for name in names)
    if read_small(path) == text or not (names or path.exists()):
        return False
    if not path.parent.is_dir():
        raise TerminalError("sudo is not installed", remedy="containarium host prepare --install", reason="SudoMissing")
    candidate = context.settings.state / "sudoers.new"
    write_atomically(candidate, text, 0o440)
    done = context.run(["visudo", "-c", "-q", "-f", str(candidate)], timeout=30, check=False)
    candidate.unlink()
    if done.code != 0:
        raise TerminalError(
            f"visudo refuses the admins' rules: {done.tail}", remedy="look at their names", reason="SudoersRefused"
        )
    return context.write(path, text, 0o440)


def _have_accounts(
    context: Context,
    names: Iterable[str],
    sleep: Callable[[float], None],
    changed: list[str],
    refused: list[str],
) -> list[str]:
    """Returns who has one; notes who was made, and why somebody is refused."""
    before, served = granted(context.settings), []
    for name in names:
        try:
            if _ensure(context, name, before, sleep):
                changed.append(f"{name} made")
            served.append(name)
        except HostError as error:
            refused.append(f"{name}: {error.message}")
    return served


def _leaving(context: Context, named: Collection[str]) -> list[str]:
    """Who has sudo from us, or our keys in an account that we made, and is not named."""
    files = read_account_files(context.settings.etc)
    ours = {name for name, line in files.passwd.items() if _ours(line) and wayin.block(context.settings, name)}
    return sorted((ours | set(granted(context.settings))) - set(named))


def _shuts_out(context: Context, leaving: Collection[str], root: Home) -> bool:
    """Whether those who leave are the last ones who get in."""
    settings = context.settings
    left = wayin.served(settings, leaving) or wayin.others(settings, leaving) or homekeys.opens(root)
    return not left and bool(wayin.served(settings))


def _withdraw(context: Context, name: str) -> bool:
    if not withdraw(context, name):
        return False
    context.progress(f"withdrawing the keys of {name}, whom the manifest does not name any more")
    return True
