"""The person's account in a guest: made or repaired with the guest's own shadow tools."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from containarium.host import guestfiles
from containarium.host.faults import clean
from containarium.host.guestfiles import GuestUser
from containarium.host.incus import Incus
from containarium.host.look import ENVIRONMENT_NAME, FILE_LIMIT, sudoers_path, sudoers_rule
from containarium.model.action import SetUpUser
from containarium.model.host import RetryableError, TerminalError
from containarium.model.observed import Password

_TIMEOUT = 60.0
_GROUP = re.compile(r"[a-z_][a-z0-9_-]{0,31}")
_SHELL = re.compile(r"(/[A-Za-z0-9._+-]+)+")
_SUDOERS_LIMIT = 4096
_LOCK = re.compile(r"cannot lock|try again later|lock file", re.IGNORECASE)
_LONGEST_ARGUMENT = 96 << 10
"""Bytes; the kernel takes 128 KiB."""
# One command instead of several: each costs Incus a process and this host a tenth of a second. What is there already is
# left to the slow way, which looks first (-C: no file is replaced; mkdir: no folder is entered that somebody made).
_NEWCOMER = r"""
set -euC
useradd -m -U -s "$2" -p '*' ${3:+-G "$3"} -- "$1"
umask 0337
printf '%s' "$5" > "$4"
test -n "$6" || exit 0
entry=$(getent passwd "$1")
home=$(printf '%s' "$entry" | cut -d: -f6)
cd "$home"
umask 077
mkdir .ssh
printf '%s' "$6" > .ssh/authorized_keys
chown -R -h -- "$1:" .ssh
"""
_NO_SHELLS = ("", "/usr/sbin/nologin", "/sbin/nologin", "/bin/false", "/usr/bin/false")


@dataclass(frozen=True, slots=True)
class _Files:
    passwd: bytes
    shadow: bytes
    group: bytes

    def has_group(self, name: str) -> bool:
        return self.group.startswith(f"{name}:".encode()) or f"\n{name}:".encode() in self.group


class GuestUsers:
    """Sets up accounts in running guests."""

    def __init__(self, incus: Incus) -> None:
        self._incus = incus

    def set_up(self, action: SetUpUser, *, is_new: bool = False) -> bool:
        """Make the account, or repair its groups, password, home and sudo rule. Changes nothing that is right.

        The user id and home of an account that is there already stay as they are, and so does a shell that lets
        one in: the person may have chosen it. ``is_new`` says that there was no such account a moment ago. Returns
        whether its keys were written, too.
        """
        _check(action)
        if is_new and self._added(action):
            return bool(_block(action))
        self._make_or_repair(action)
        self._allow_sudo(action.instance, action.user)
        return False

    def _added(self, action: SetUpUser) -> bool:
        """Whether the account could be made with nothing to look at before: the usual groups, and no leftovers."""
        path, rule = sudoers_path(action.user), sudoers_rule(action.user).decode()
        given = [action.user, action.shell, ",".join(action.groups), path, rule, _block(action)]
        done = self._incus.execute(action.instance, ["sh", "-c", _NEWCOMER, "newcomer", *given], timeout=_TIMEOUT)
        return done.code == 0

    def _make_or_repair(self, action: SetUpUser) -> None:
        files = self._files(action.instance)
        for group in action.groups:
            if not files.has_group(group):
                self._run(action.instance, ["groupadd", "-f", "--", group])
        if guestfiles.find_user(files.passwd, action.user) is None:
            self._add(action, files)
        else:
            self._repair(action, files)

    def lock_root(self, instance: str) -> None:
        """Take root's password away: no password can match ``*``."""
        self._shadow(instance, guestfiles.find_user(self._files(instance).passwd, "root"))
        self._run(instance, ["usermod", "-p", "*", "--", "root"])

    def _shadow(self, instance: str, user: GuestUser | None, password: Password = Password.NONE) -> None:
        """Give a half-made account its shadow entry, and move there what stands in passwd itself."""
        if password is Password.MISSING or (user is not None and user.own is not None):
            self._run(instance, ["pwconv"])

    def _add(self, action: SetUpUser, files: _Files) -> None:
        # a group of that name may stand in the image, or be left by a useradd that was killed
        own = ["-N", "-g", action.user] if files.has_group(action.user) else ["-U"]
        self._run(action.instance, _useradd(action, own))

    def _repair(self, action: SetUpUser, files: _Files) -> None:
        user = guestfiles.find_user(files.passwd, action.user)
        if user is None:
            return
        password = guestfiles.effective_password(user, guestfiles.find_password(files.shadow, action.user))
        self._shadow(action.instance, user, password)
        there = guestfiles.find_groups(files.group, action.user, user.gid)
        wanted = [group for group in action.groups if group not in there]
        change = ["-s", action.shell] if user.shell in _NO_SHELLS else []
        change += ["-p", "*"] if password is not Password.NONE or user.own is not None else []
        change += ["-a", "-G", ",".join(wanted)] if wanted else []
        if change:
            self._run(action.instance, ["usermod", *change, "--", action.user])
        for group in action.without:
            if group in there and group not in action.groups:
                self._run(action.instance, ["gpasswd", "-d", action.user, group])
        if not user.home:
            raise TerminalError(
                f"the home of {action.user} in {action.instance} is no plain path",
                remedy="mend it in the guest: usermod -d /home/NAME NAME",
                reason="BadHome",
            )
        if self._incus.read_file(action.instance, user.home, 0) is None:
            self._run(action.instance, ["cp", "-r", "-T", "--", "/etc/skel", user.home])
            self._run(action.instance, ["chown", "-R", f"{user.uid}:{user.gid}", "--", user.home])

    def _allow_sudo(self, instance: str, user: str) -> None:
        path, rule = sudoers_path(user), sudoers_rule(user)
        there = self._incus.read_file(instance, path, _SUDOERS_LIMIT)
        if there is not None and there.kind == "file" and (there.data, there.mode, there.uid) == (rule, 0o440, 0):
            return
        if there is None:
            self._write_new(instance, path, rule)
            return
        unseen = f"{path}.new"  # sudo ignores names with a dot
        self._incus.remove_file(instance, unseen)
        self._incus.write_file(instance, unseen, rule, uid=0, gid=0, mode=0o440)
        self._run(instance, ["mv", "-f", "-T", "--", unseen, path])

    def _write_new(self, instance: str, path: str, rule: bytes) -> None:
        """Nobody can be in the middle of reading what was not there, so it needs no other name first."""
        try:
            self._incus.write_file(instance, path, rule, uid=0, gid=0, mode=0o440)
        except TerminalError as error:
            if error.reason != "NotFound":
                raise
            # sudo may be installed only later
            self._incus.make_folder(instance, "/etc/sudoers.d", uid=0, gid=0, mode=0o750)
            self._incus.write_file(instance, path, rule, uid=0, gid=0, mode=0o440)

    def _files(self, instance: str) -> _Files:
        found = []
        for path in ("/etc/passwd", "/etc/shadow", "/etc/group"):
            file = self._incus.read_file(instance, path, FILE_LIMIT)
            found.append(file.data if file is not None and file.kind == "file" and file.whole else b"")
        return _Files(*found)

    def _run(self, instance: str, args: Sequence[str]) -> None:
        done = self._incus.execute(instance, args, timeout=_TIMEOUT)
        if done.code == 0:
            return
        words = clean(done.tail)
        if _LOCK.search(words):
            raise RetryableError(
                f"the account files of {instance} are locked: {words}",
                remedy="it is tried again; an /etc/passwd.lock that nobody holds has to be removed in the guest",
                reason="GuestBusy",
            )
        if done.code == 127:
            raise TerminalError(
                f"{instance} has no {args[0]}", remedy="use a Debian or Ubuntu image", reason="CommandMissing"
            )
        raise RetryableError(
            f"{args[0]} failed in {instance} with exit code {done.code}: {words}", reason="GuestCommandFailed"
        )


def _useradd(action: SetUpUser, own_group: Sequence[str]) -> list[str]:
    more = ["-G", ",".join(action.groups)] if action.groups else []
    return ["useradd", "-m", *own_group, "-s", action.shell, "-p", "*", *more, "--", action.user]


def _block(action: SetUpUser) -> str:
    """The keys file of a new account; empty where there are no keys yet, or too many for an argument."""
    text = guestfiles.write_block(b"", action.keys).decode() if action.keys else ""
    return text if len(text.encode()) <= _LONGEST_ARGUMENT else ""


def _check(action: SetUpUser) -> None:
    if not ENVIRONMENT_NAME.fullmatch(action.user):
        raise TerminalError(f"{clean(action.user, 60)!r} is no user name", reason="BadName")
    if not _SHELL.fullmatch(action.shell):
        raise TerminalError(
            f"{clean(action.shell, 60)!r} is no shell's path", remedy="fix spec.shell", reason="BadShell"
        )
    for group in (*action.groups, *action.without):
        if not _GROUP.fullmatch(group):
            raise TerminalError(f"{clean(group, 60)!r} is no group name", reason="BadName")
