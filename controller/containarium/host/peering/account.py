"""The account as which other hosts come here, the file of their keys, and the key with which this one goes there."""

from __future__ import annotations

import contextlib
import re
import sys

from containarium.host.accounts import Accounts
from containarium.host.command import Run
from containarium.host.keyfiles import write_keys_file
from containarium.host.passwd import AccountFiles, read_account_files
from containarium.host.peering.fleet import Fleet
from containarium.host.sessions import end_processes
from containarium.host.settings import HostSettings
from containarium.host.sshd import PEER_ACCOUNT as ACCOUNT
from containarium.model.host import Progress, TerminalError, silent
from containarium.model.marks import JUMP_HOME
from containarium.model.observed import Password

COMMENT = "containarium account of the other hosts"
"""With the name it is the mark of ownership."""
_SHELL = "/bin/sh"
"""sshd runs a forced command by the account's shell."""
_PLAIN = re.compile(r"/[A-Za-z0-9/._+-]+")


def ensure_account(settings: HostSettings, run: Run, progress: Progress = silent) -> bool:
    """Make the account and its group, or repair them. Returns whether anything changed.

    Raises TerminalError (Conflict) where somebody else has the name.
    """
    return Accounts(settings, run).settle(_step, progress)


def group_number(settings: HostSettings) -> int | None:
    """The number of the relays' group; None where this host has none yet."""
    return read_account_files(settings.etc).group_ids.get(ACCOUNT)


def key_lines(fleet: Fleet | None) -> tuple[str, ...]:
    """A line for each host that may ask: its key, from its address, for one command that knows its name."""
    python = sys.executable
    if not _PLAIN.fullmatch(python):
        raise TerminalError(
            f"other hosts cannot be answered by what lies at {python!r}",
            remedy="install containarium below /opt, into what python3 -m venv /opt/containarium makes",
            reason="CommandUnusable",
        )
    lines = []
    for host in fleet.others if fleet is not None else ():
        address, identity = host.spec.network.address, host.spec.identity
        if address is not None and identity is not None:
            command = f"{python} -I -m containarium.host.peering.relay {host.name}"
            options = f'restrict,from="{address}",command="{command}"'
            lines.append(f"{options} {identity.peer_key.identity} {host.name}")
    return tuple(lines)


def write_keys(settings: HostSettings, lines: tuple[str, ...]) -> bool:
    """Let exactly these in; whoever came with a key that is not among them any more is put out. Returns whether
    anything changed.
    """
    before = write_keys_file(settings.peer_keys, ACCOUNT, lines)
    if set(before) - set(lines):
        _end_sessions(settings)
    return before != lines


def remove(settings: HostSettings, run: Run, progress: Progress = silent) -> None:
    """Take keys, account and group away. An account of that name that is not ours stays."""
    write_keys(settings, ())
    with contextlib.suppress(OSError):
        settings.peer_keys.rmdir()

    def step(files: AccountFiles) -> list[str] | None:
        line = files.passwd.get(ACCOUNT)
        if line is not None:
            return ["userdel", "--", ACCOUNT] if line.comment == COMMENT else None
        return ["groupdel", "--", ACCOUNT] if ACCOUNT in files.group_ids else None

    Accounts(settings, run).settle(step, progress)


def _end_sessions(settings: HostSettings) -> None:
    line = read_account_files(settings.etc).passwd.get(ACCOUNT)
    if line is None or line.comment != COMMENT or line.uid == 0:
        return

    def still_ours() -> bool:
        passwd = read_account_files(settings.etc).passwd
        return passwd.get(ACCOUNT) == line and [other.uid for other in passwd.values()].count(line.uid) == 1

    end_processes(line.uid, still_ours)


def _step(files: AccountFiles) -> list[str] | None:
    """The next command that is needed; None where all is as it should be."""
    if ACCOUNT not in files.group_ids:
        return ["groupadd", "-r", "--", ACCOUNT]
    line = files.passwd.get(ACCOUNT)
    if line is None:
        home = ["-M", "-d", JUMP_HOME, "-s", _SHELL, "-c", COMMENT]
        return ["useradd", "-r", "-N", "-g", ACCOUNT, *home, "-p", Password.NONE.value, "--", ACCOUNT]
    if line.comment != COMMENT:
        raise TerminalError(
            f"account {ACCOUNT} (user id {line.uid}) exists and is not containarium's",
            remedy="rename or remove it yourself",
            reason="Conflict",
        )
    options: list[str] = []
    if line.gid != files.group_ids[ACCOUNT]:
        options += ["-g", ACCOUNT]
    if line.home != JUMP_HOME:
        options += ["-d", JUMP_HOME]
    if line.shell != _SHELL:
        options += ["-s", _SHELL]
    if files.member_of.get(ACCOUNT, frozenset()) - {ACCOUNT}:
        options += ["-G", ""]
    if files.password(line) is not Password.NONE or files.expired(ACCOUNT):
        options += ["-p", Password.NONE.value, "-e", ""]
    return ["usermod", *options, "--", ACCOUNT] if options else None
