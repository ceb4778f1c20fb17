"""Who is banned, as fail2ban says. It is asked, and never told anything."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from ipaddress import ip_address

from containarium.host.command import Run, run
from containarium.model.host import HostError

_TIMEOUT = 20.0
_JAIL = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_MOST = 10_000
_WITH_TIME = re.compile(
    r"(?P<address>[0-9a-fA-F.:]{2,45})\s+(?P<from>\d{4}-\d\d-\d\d \d\d:\d\d:\d\d) \+ -?\d{1,12} = "
    r"(?P<until>\d{4}-\d\d-\d\d \d\d:\d\d:\d\d)"
)


@dataclass(frozen=True, slots=True)
class Ban:
    """An address that is shut out now. ``since`` and ``until`` are None where fail2ban does not say."""

    address: str
    jail: str
    since: datetime | None = None
    until: datetime | None = None


@dataclass(frozen=True, slots=True)
class Bans:
    """Those that are in force, sorted by jail and address; ``unknown`` says why nobody knows, where that is so."""

    found: tuple[Ban, ...] = ()
    unknown: str = ""


def bans(run: Run = run) -> Bans:
    """What every jail of sshd's has banned now. Never raises: where fail2ban cannot be asked, that is the answer."""
    try:
        done = run(["fail2ban-client", "status"], timeout=_TIMEOUT, check=False)
    except HostError as error:
        missing = error.reason == "CommandMissing"
        return Bans(unknown="fail2ban is not installed" if missing else f"fail2ban does not answer: {error.message}")
    if done.code != 0:
        return Bans(unknown=f"fail2ban does not answer: {done.tail[:200]}")
    found: list[Ban] = []
    for jail in _jails(done.out):
        try:
            listed = run(["fail2ban-client", "get", jail, "banip", "--with-time"], timeout=_TIMEOUT, check=False)
        except HostError as error:
            return Bans(unknown=f"fail2ban does not answer: {error.message}")
        if listed.code == 0:
            found += [ban for line in listed.out.splitlines()[:_MOST] if (ban := _ban(line.strip(), jail))]
    return Bans(tuple(sorted(found, key=lambda ban: (ban.jail, ban.address))))


def _jails(status: str) -> list[str]:
    """The jails that have to do with SSH, and the one for those who come again and again."""
    match = re.search(r"Jail list:\s*(.*)", status)
    names = [name.strip() for name in (match[1] if match else "").split(",")]
    return [name for name in names if _JAIL.fullmatch(name) and ("ssh" in name or name == "recidive")]


def _ban(line: str, jail: str) -> Ban | None:
    match = _WITH_TIME.fullmatch(line)
    address = match["address"] if match else line
    try:
        ip_address(address)
    except ValueError:
        return None
    return Ban(address, jail, _local(match["from"]), _local(match["until"])) if match else Ban(address, jail)


def _local(text: str) -> datetime | None:
    """A time of this host's zone; None for one that fail2ban could not work out."""
    try:
        return datetime.strptime(text, "%Y-%m-%d %H:%M:%S").astimezone()
    except (ValueError, OverflowError, OSError):
        return None
