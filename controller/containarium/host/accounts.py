"""Jump accounts: made, repaired, locked and removed with the distribution's own tools, and only when they are ours.

An account is ours when its primary group is ``containarium-jump`` and its comment says so. useradd writes both in one
line of passwd at once, so even an account whose making was killed half-way tells whose it is.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

import tenacity

from containarium.host.command import Completed, Run, run
from containarium.host.jumpaccount import (
    as_account,
    conflict,
    repairs,
    require_ours,
    require_own_uid,
    useradd,
    young_again,
)
from containarium.host.keyfiles import Known, read_all_keys, write_keys_file
from containarium.host.passwd import AccountFiles, PasswdLine, parse_passwd, read_account_files
from containarium.host.passwdlock import lock_file_owners, our_turn, pwd_lock_holder, remove_stale_locks
from containarium.host.sessions import end_processes
from containarium.host.settings import HostSettings
from containarium.model.host import HostError, Progress, RetryableError, TerminalError, silent
from containarium.model.marks import ADMIN_GROUP, JUMP_GROUP, account_comment
from containarium.model.observed import Account, Password
from containarium.plan.desired import is_probe_line

_NAME = re.compile(r"[a-z][a-z0-9-]{0,31}")
_TOOL_TIMEOUT = 40.0
"""Seconds for one tool; it waits up to 15 s for the lock by itself."""
_LOCK_PATIENCE = 60.0
"""Seconds for which a lock held by others is waited for; cloud guest agents hold it for up to 30."""
_NSS_FRESH = 30.0
"""Seconds for which the list of accounts from LDAP and the like is kept; the local files are read each time."""
_LOCKED = ("cannot lock /etc", "try again later")
_MEANING = {
    1: "the account files could not be changed",
    2: "the tool did not understand its options",
    3: "an option's value was refused",
    4: "the user id is taken",
    6: "the account or its group does not exist",
    8: "the account is in use",
    9: "the name is taken",
    10: "the group file could not be changed",
    11: "there is no space for the group file",
    14: "SELinux refused",
    16: "/etc/subuid could not be changed",
    18: "/etc/subgid could not be changed",
}
_MOST_REPAIRS = 8
"""Commands that one repair may take: the group, the account, its aging, and a few ranges of subordinate ids."""
_HOPELESS = frozenset({2, 3, 14})


class _StillLockedError(RetryableError):
    """A tool found the account files locked."""


class Accounts:
    """The accounts of this host. Safe to call from several threads and beside another process of ours."""

    def __init__(
        self,
        settings: HostSettings,
        run: Run = run,
        *,
        patience: float = _LOCK_PATIENCE,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._settings = settings
        self._etc = settings.etc
        self._run = run
        self._patience = patience
        self._sleep = sleep
        self._nss: tuple[float, dict[str, PasswdLine]] = (0.0, {})
        self._known_keys: Known = {}

    # -- looking ---------------------------------------------------------------------------------------------------

    def observe(self) -> tuple[dict[str, Account], frozenset[str]]:
        """Every account by name, and the names that have a keys file but no account. Changes nothing.

        Accounts known only to other name services than the local files come without password and expiry (never ours).
        Raises TerminalError (NotRoot) without root, RetryableError where a name service does not answer.
        """
        files = read_account_files(self._etc)
        keys = read_all_keys(self._settings.jump_keys, self._known_keys)
        accounts = {
            name: Account(name, line.uid, str(line.gid), line.comment, line.home, line.shell, keys=keys.get(name))
            for name, line in self._from_name_services(files).items()
        }
        accounts |= {name: as_account(files, line, keys.get(name)) for name, line in files.passwd.items()}
        return accounts, frozenset(keys.keys() - accounts.keys())

    def _from_name_services(self, files: AccountFiles) -> dict[str, PasswdLine]:
        """The accounts that the local files do not hold."""
        if self._etc != Path("/etc") or not _asks_others(self._etc):
            return {}
        asked, known = self._nss
        if not asked or time.monotonic() - asked > _NSS_FRESH:
            everything = parse_passwd(self._run(["getent", "passwd"], timeout=10).out)
            known = {name: line for name, line in everything.items() if name not in files.passwd}
            self._nss = (time.monotonic(), known)
        return known

    # -- changing --------------------------------------------------------------------------------------------------

    def ensure(self, name: str, progress: Progress = silent) -> None:
        """Make the jump account or repair it, half-made ones too: see EnsureAccount for what it is to be like.

        Raises TerminalError (Conflict) when the name belongs to a foreign account, which stays as it is, and
        RetryableError (PasswdLocked) when others hold the account files for longer than a minute.
        """
        _check(name)
        with self._turn():
            for _ in range(_MOST_REPAIRS):  # a new account may inherit a dead one's groups and ids: look again
                files = read_account_files(self._etc)
                step = self._group_step(files) or self._account_step(files, name)
                if step is None:
                    return
                progress(f"{'making' if step[0] in ('useradd', 'groupadd') else 'repairing'} {step[-1]}")
                self._tool(step, progress)
        raise RetryableError(
            f"account {name} is not as it should be after its repair",
            remedy="look at its lines in /etc/passwd, shadow, group, subuid and subgid",
            reason="AccountNotRepaired",
        )

    def ensure_group(self, progress: Progress = silent) -> bool:
        """Make the jump accounts' group where it is missing. Returns whether it was."""
        with self._turn():
            step = self._group_step(read_account_files(self._etc))
            if step:
                progress(f"making group {JUMP_GROUP}")
                self._tool(step, progress)
            return step is not None

    def ensure_admins(self, progress: Progress = silent) -> bool:
        """Make the group of those who may use the API's socket, with nobody in it. Returns whether it was missing."""
        with self._turn():
            if ADMIN_GROUP in read_account_files(self._etc).group_ids:
                return False
            progress(f"making group {ADMIN_GROUP}")
            self._tool(["groupadd", "-r", "--", ADMIN_GROUP], progress)
            return True

    def settle(self, step: Callable[[AccountFiles], list[str] | None], progress: Progress = silent) -> bool:
        """Carry out the account tools' commands that ``step`` asks for, one after the other, until it asks for none.

        Returns whether there were any. Raises what ``step`` raises, and as ``ensure`` does.
        """
        with self._turn():
            for number in range(_MOST_REPAIRS):
                command = step(read_account_files(self._etc))
                if command is None:
                    return number > 0
                progress(f"{'making' if command[0] in ('useradd', 'groupadd') else 'repairing'} {command[-1]}")
                self._tool(command, progress)
        raise RetryableError("an account is not as it should be after its repair", reason="AccountNotRepaired")

    def remove_group(self, name: str, progress: Progress = silent) -> None:
        """Remove one of these groups. While it is any account's primary group the tool refuses, and so does this."""
        with self._turn():
            if name in read_account_files(self._etc).group_ids:
                self._tool(["groupdel", name], progress)

    def write_keys(self, name: str, lines: tuple[str, ...]) -> None:
        """Replace the account's keys file atomically (root's, mode 0644); no lines: remove the file.

        Where a key is withdrawn, the account's open connections end: through one that it let in, its owner could open
        new channels for as long as it lives. An account that does not exist (yet, or any more) may have a file; a
        foreign account is a TerminalError (Conflict).
        """
        _check(name)
        with self._turn("keys"):
            files = read_account_files(self._etc)
            if name in files.passwd:
                require_ours(files, files.passwd[name])
            elif lines:
                self._refuse_unknown_owner(name)
            before = write_keys_file(self._settings.jump_keys, name, lines)
        line = files.passwd.get(name)
        if line is not None and _blobs(before) - _blobs(lines):
            require_own_uid(files, line)
            self._end_sessions(line, silent)

    def lock(self, name: str, progress: Progress = silent) -> None:
        """Expire the account, which sshd (PAM off) and pam_unix (PAM on) both refuse, and end its open sessions.

        An account that does not exist is locked enough. A foreign one is a TerminalError (Conflict).
        """
        _check(name)
        with self._turn():
            files = read_account_files(self._etc)
            line = files.passwd.get(name)
            if line is None:
                return
            require_ours(files, line)
            require_own_uid(files, line)
            if not files.expired(name) or files.password(line) in (Password.MISSING, Password.EMPTY):
                progress(f"expiring account {name}")
                self._tool(["usermod", "-e", "1", "-p", Password.NONE.value, "--", name], progress)
        self._end_sessions(line, progress)

    def delete(self, name: str, progress: Progress = silent) -> None:
        """Remove the account and its keys file; its open sessions end first. Nothing is left to do when it is gone.

        A foreign account of this name is a TerminalError (Conflict).
        """
        _check(name)
        self.write_keys(name, ())
        self.lock(name, progress)
        with self._turn():
            files = read_account_files(self._etc)
            if name in files.passwd:
                require_ours(files, files.passwd[name])
                progress(f"removing account {name}")
                self._tool(["userdel", "--", name], progress)

    # -- how -------------------------------------------------------------------------------------------------------

    def _turn(self, over: str = "accounts") -> AbstractContextManager[None]:
        return our_turn(self._settings.runtime, wait=self._patience + _TOOL_TIMEOUT, over=over)

    def _group_step(self, files: AccountFiles) -> list[str] | None:
        if JUMP_GROUP in files.group_ids:
            return None
        # Where somebody deleted the group, our accounts still carry its number: it gets that one back.
        orphaned = {
            line.gid
            for line in files.passwd.values()
            if line.comment == account_comment(line.name) and line.gid not in files.group_names
        }
        number = ["-g", str(min(orphaned))] if orphaned else []
        return ["groupadd", "-r", *number, "--", JUMP_GROUP]

    def _account_step(self, files: AccountFiles, name: str) -> list[str] | None:
        line = files.passwd.get(name)
        if line is None:
            self._refuse_unknown_owner(name)
            return useradd(name)
        require_ours(files, line)
        options = repairs(files, line)
        return ["usermod", *options, "--", name] if options else young_again(files, name)

    def _refuse_unknown_owner(self, name: str) -> None:
        """A name that the local files do not know may still be somebody's in LDAP or the like."""
        if self._etc != Path("/etc"):
            return
        done = self._run(["getent", "passwd", name], timeout=10, check=False)
        found = parse_passwd(done.out).get(name)
        if found and found.comment != account_comment(name):  # our own comment: a cache that is behind
            raise conflict(found)
        if done.code not in (0, 2):
            raise RetryableError(f"cannot tell whether account {name} exists: {done.tail}", reason="NameServiceFailed")

    def _end_sessions(self, line: PasswdLine, progress: Progress) -> None:
        def still_ours() -> bool:
            now = read_account_files(self._etc)
            return now.passwd.get(line.name) == line and [p.uid for p in now.passwd.values()].count(line.uid) == 1

        progress(f"ending open sessions of {line.name}")
        if end_processes(line.uid, still_ours):
            raise RetryableError(f"open sessions of {line.name} did not end", reason="SessionsOpen")

    def _tool(self, args: Sequence[str], progress: Progress) -> None:
        attempts = tenacity.Retrying(
            stop=tenacity.stop_after_delay(self._patience),
            wait=tenacity.wait_random_exponential(multiplier=0.2, max=5),
            retry=tenacity.retry_if_exception_type(_StillLockedError),
            sleep=self._sleep,
            reraise=True,
        )
        attempts(self._tool_once, args, progress)

    def _tool_once(self, args: Sequence[str], progress: Progress) -> None:
        done = self._run(args, timeout=_TOOL_TIMEOUT, check=False)
        if done.code == 0 or (args[0] == "userdel" and done.code == 6):
            return
        if any(text in done.err for text in _LOCKED):
            for removed in remove_stale_locks(self._etc):
                progress(f"removed stale lock {self._etc / removed}")
            raise self._locked()
        raise _failure(args, done)

    def _locked(self) -> _StillLockedError:
        pid = pwd_lock_holder(self._etc)
        where = [f"{self._etc / name} of {_process(owner)}" for name, owner in lock_file_owners(self._etc).items()]
        holder = ", ".join(where) if pid is None else f"{self._etc / '.pwd.lock'} of {_process(pid)}"
        return _StillLockedError(
            f"the account files stay locked by {holder or 'a process that has just ended'}",
            remedy="it is tried again; if it never ends, look at that process, then at containarium doctor",
            reason="PasswdLocked",
        )


def _process(pid: int) -> str:
    comm = Path(f"/proc/{pid}/comm")
    if not pid:
        return "a process outside this container"
    return f"process {pid} ({comm.read_text().strip()})" if comm.exists() else f"process {pid}"


def _check(name: str) -> None:
    if not _NAME.fullmatch(name):
        raise TerminalError(
            f"{name!r} is no account name",
            remedy="a lower-case letter, then up to 31 lower-case letters, digits and hyphens",
            reason="InvalidName",
        )


def _asks_others(etc: Path) -> bool:
    """Whether accounts come from anywhere else than the local files."""
    try:
        text = (etc / "nsswitch.conf").read_text(errors="replace")
    except OSError:
        return False
    found = re.search(r"^\s*passwd:([^#\n]*)", text, re.MULTILINE)
    return bool(found and set(found[1].split()) - {"files", "compat"})


def _failure(args: Sequence[str], done: Completed) -> HostError:
    meaning = _MEANING.get(done.code, f"exit code {done.code}")
    kind = TerminalError if done.code in _HOPELESS else RetryableError
    reason = "AccountBusy" if done.code == 8 else "AccountToolFailed"
    return kind(f"{args[0]} {args[-1]}: {meaning} ({done.tail})", reason=reason)


def _blobs(lines: tuple[str, ...]) -> frozenset[str]:
    """The keys themselves, whatever stands before and after them, but the probe's: nobody holds a session by that."""
    people = (line for line in lines if not is_probe_line(line))
    return frozenset(part for line in people for part in line.split() if part.startswith("AAAA"))
