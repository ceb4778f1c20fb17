"""The accounts of those who run this machine, as its Host manifest names them: their keys and sudo, no more.

An account is ours to give sudo to where this program made it, which its comment says (root alone can change it), or
where it had sudo before. Whoever is not named any more loses our keys and our sudo, and keeps the account.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from containarium.host import homekeys
from containarium.host.files import read_small, write_atomically
from containarium.host.guestfiles import read_block
from containarium.host.homekeys import Home
from containarium.host.passwd import AccountFiles, PasswdLine, parse_passwd, read_account_files
from containarium.host.passwdlock import our_turn
from containarium.host.prepare.steps import Context, Step
from containarium.host.settings import HostSettings
from containarium.model.host import HostError, RetryableError, TerminalError

NAME = "admin accounts"
COMMENT = "containarium admin"
SUDO_GROUPS = frozenset({"sudo", "wheel", "admin", "google-sudoers"})
_SUDOERS = "sudoers.d/50-containarium"
_HEAD = "# Written by containarium: the admins of this host's manifest. They have no password to be asked for.\n"
_GRANT = "ALL=(ALL:ALL) NOPASSWD: ALL"
_GRANTED = re.compile(rf"(?m)^([a-z_][a-z0-9_-]*) {re.escape(_GRANT)}$")
_ATTEMPTS = 4
"""useradd itself waits 15 s for its lock, which a cloud's agent may hold for twice that."""
_TIMEOUT = 40.0


def admin_accounts(context: Context, sleep: Callable[[float], None] = time.sleep) -> Step:
    """Make who is missing, and give keys and sudo to exactly those who are named.

    Raises TerminalError (AdminRefused) where a name is somebody else's account, once all others are served.
    """
    own = context.declaration.own
    if own is None:
        return Step(NAME, False, "no Host manifest names any")
    changed, refused = [], []
    before = granted(context.settings)
    served: list[str] = []
    for name in own.admins:
        try:
            if _ensure(context, name, before, sleep):
                changed.append(f"{name} made")
            served.append(name)
        except HostError as error:
            refused.append(f"{name}: {error.message}")
    if _write_sudoers(context, served):
        changed.append("sudo")
    for name in served:
        try:
            if homekeys.write(home(context.settings, name), tuple(key.line for key in own.admins[name])):
                context.receipt.add("admin", name)
                changed.append(f"keys of {name}")
        except HostError as error:
            refused.append(error.message)
    changed += _withdraw(context, set(before) - set(own.admins), set(own.admins))
    if refused:
        raise TerminalError(
            f"not every admin gets in: {'; '.join(refused)}",
            remedy=f"mend what is named, or choose another name in {own.origin.file}",
            reason="AdminRefused",
        )
    return Step(NAME, bool(changed), ", ".join(changed) or ", ".join(served) or "the manifest names none")


def granted(settings: HostSettings) -> tuple[str, ...]:
    """Who has sudo from us."""
    return tuple(_GRANTED.findall(read_small(settings.etc / _SUDOERS) or ""))


def home(settings: HostSettings, name: str) -> Home:
    """An account's home. Raises TerminalError (NoHome) where it has none in which keys could be."""
    line = read_account_files(settings.etc).passwd.get(name)
    if line is None or not re.fullmatch(r"(/[A-Za-z0-9._@+-]+)+", line.home) or ".." in line.home.split("/"):
        raise TerminalError(f"{name} has no home in which keys could be", reason="NoHome")
    return Home(Path(line.home), line.uid, line.gid)


def who_gets_in(settings: HostSettings) -> tuple[str, ...]:
    """Accounts with sudo that have a key of whatever kind, sorted; without root's."""
    files = read_account_files(settings.etc)
    names = {name for name, groups in files.member_of.items() if groups & SUDO_GROUPS} | set(granted(settings))
    return tuple(sorted(name for name in names & files.passwd.keys() if _opens(settings, name)))


def withdraw(context: Context, name: str) -> bool:
    """Take our keys from an account that may be gone. Returns whether it had any."""
    try:
        return homekeys.write(home(context.settings, name), ())
    except TerminalError:
        return False


def _opens(settings: HostSettings, name: str) -> bool:
    try:
        return homekeys.opens(home(settings, name))
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
    path = context.settings.etc / _SUDOERS
    text = _HEAD + "".join(f"{name} {_GRANT}\n" for name in names)
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


def _withdraw(context: Context, gone: set[str], named: set[str]) -> list[str]:
    """Take our block from whoever had sudo from us, and from accounts that we made, unless they are named."""
    files: AccountFiles = read_account_files(context.settings.etc)
    gone |= {name for name, line in files.passwd.items() if _ours(line)} - named
    changed = []
    for name in sorted(gone):
        if withdraw(context, name):
            context.progress(f"withdrawing the keys of {name}, whom the manifest does not name any more")
            changed.append(f"keys of {name} withdrawn")
    return changed


def block(settings: HostSettings, name: str) -> tuple[str, ...] | None:
    """The keys of our block in an account's file; None where there is none, or it cannot be read."""
    try:
        return read_block(homekeys.read(home(settings, name)))
    except (TerminalError, OSError):
        return None
