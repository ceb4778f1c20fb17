"""Who would still get in and become root: what decides whether passwords, root and an admin may be shut out."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path, PurePath

from containarium.host import homekeys
from containarium.host.files import read_small
from containarium.host.guestfiles import read_block
from containarium.host.homekeys import Home
from containarium.host.passwd import AccountFiles, PasswdLine, read_account_files
from containarium.host.settings import HostSettings
from containarium.model.host import TerminalError
from containarium.model.observed import Password

SUDO_GROUPS = frozenset({"sudo", "wheel", "admin", "google-sudoers"})
SUDOERS = "sudoers.d/50-containarium"
GRANT = "ALL=(ALL:ALL) NOPASSWD: ALL"
_GRANTED = re.compile(rf"(?m)^([a-z_][a-z0-9_-]*) {re.escape(GRANT)}$")
_NO_PASSWORD = re.compile(r"(?m)^[ \t]*(%?[A-Za-z0-9_.-]+)[ \t]+[^#\n]*\bNOPASSWD:[ \t]*ALL[ \t]*$")
_NO_SHELLS = frozenset({"nologin", "false", "sync", "halt", "shutdown"})


def granted(settings: HostSettings) -> tuple[str, ...]:
    """Who has sudo from us."""
    return tuple(_GRANTED.findall(read_small(settings.etc / SUDOERS) or ""))


def home(settings: HostSettings, name: str) -> Home:
    """An account's home. Raises TerminalError (NoHome) where it has none in which keys could be."""
    line = read_account_files(settings.etc).passwd.get(name)
    if line is None or not re.fullmatch(r"(/[A-Za-z0-9._@+-]+)+", line.home) or ".." in line.home.split("/"):
        raise TerminalError(f"{name} has no home in which keys could be", reason="NoHome")
    return Home(Path(line.home), line.uid, line.gid)


def block(settings: HostSettings, name: str) -> tuple[str, ...] | None:
    """The keys of our block in an account's file; None where there is none, or it cannot be read."""
    try:
        return read_block(homekeys.read(home(settings, name)))
    except (TerminalError, OSError):
        return None


def served(settings: HostSettings, without: Iterable[str] = ()) -> tuple[str, ...]:
    """Admins of the manifest who get in and become root: our sudo, our keys, a shell."""
    files = read_account_files(settings.etc)
    names = set(granted(settings)) - set(without)
    return tuple(sorted(name for name in names if _has_shell(files, name) and block(settings, name)))


def others(settings: HostSettings, without: Iterable[str] = ()) -> tuple[str, ...]:
    """Accounts that get in and become root by what is not ours: a key of their own, a sudo group, and a password for
    it, or a rule that asks for none. Of those in ``without``, and of those that we serve, our part does not count.
    """
    files = read_account_files(settings.etc)
    free = _asked_for_none(settings)
    ours = {*without, *granted(settings)}
    return tuple(
        sorted(
            name
            for name, groups in files.member_of.items()
            if groups & SUDO_GROUPS
            and _has_shell(files, name)
            and (free & {name, *(f"%{group}" for group in groups)} or _has_password(files, files.passwd[name]))
            and _opens(settings, name, ours=name not in ours)
        )
    )


def _has_shell(files: AccountFiles, name: str) -> bool:
    line = files.passwd.get(name)
    return line is not None and PurePath(line.shell).name not in _NO_SHELLS and not files.expired(name)


def _has_password(files: AccountFiles, line: PasswdLine) -> bool:
    return files.password(line) is Password.USABLE


def _asked_for_none(settings: HostSettings) -> set[str]:
    """Accounts and groups (with a % before) to whom a rule of others gives all of sudo without a password."""
    paths = [settings.etc / "sudoers", *sorted((settings.etc / "sudoers.d").glob("[!.]*"))]
    texts = (read_small(path) or "" for path in paths if path != settings.etc / SUDOERS and not path.is_dir())
    return {name for text in texts for name in _NO_PASSWORD.findall(text)}


def _opens(settings: HostSettings, name: str, *, ours: bool) -> bool:
    try:
        return homekeys.opens(home(settings, name), ours=ours)
    except TerminalError:
        return False
