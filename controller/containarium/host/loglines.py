"""What a line of sshd's, or of our own audit trail, says. Pure, strict, and for lines that strangers had a hand in.

A user name in such a line is whatever somebody typed, "alice from 10.0.0.1 port 22" included. So a line counts only
when all of it has the expected form, with a name that an environment can have; every other line is nobody's.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from ipaddress import ip_address
from typing import Any

_NAME = r"(?P<name>[a-z][a-z0-9-]{0,31})"
_FROM = r"(?P<source>[0-9a-fA-F.:]{2,45}) port (?P<port>[0-9]{1,5})"
_KEY = r"(?P<type>[A-Z0-9-]{2,20}) (?P<key>SHA256:[A-Za-z0-9+/]{43})"
_WAY = r"[a-z0-9/-]{2,40}"
_END = r"(?: \[preauth\])?"


class Kind(StrEnum):
    """What a line tells of."""

    ACCEPTED = "accepted"
    REFUSED = "refused"
    CLOSED = "closed"
    """The connection of a login that was accepted earlier has ended."""


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a log, as far as it can be believed. ``trusted``: a process of root's wrote it."""

    at: datetime
    pid: int
    message: str
    trusted: bool = True
    identifier: str = ""


@dataclass(frozen=True, slots=True)
class Said:
    """What sshd said about a name that an environment can have.

    ``key`` is a fingerprint, ``why`` is a few words of ours; either may be empty. ``port`` is 0 where none is told.
    """

    kind: Kind
    at: datetime
    pid: int
    name: str
    source: str = ""
    port: int = 0
    key: str = ""
    why: str = ""


_FORMS: tuple[tuple[re.Pattern[str], Kind, str], ...] = tuple(
    (re.compile(pattern), kind, why)
    for pattern, kind, why in (
        (rf"Accepted {_WAY} for {_NAME} from {_FROM} ssh2: {_KEY}", Kind.ACCEPTED, ""),
        (rf"Accepted (?P<way>{_WAY}) for {_NAME} from {_FROM} ssh2", Kind.ACCEPTED, ""),
        (rf"Failed {_WAY} for (?:invalid user )?{_NAME} from {_FROM} ssh2: {_KEY}", Kind.REFUSED, "key not accepted"),
        (rf"Failed (?P<way>{_WAY}) for (?:invalid user )?{_NAME} from {_FROM} ssh2", Kind.REFUSED, "not accepted"),
        (rf"Invalid user {_NAME} from {_FROM}", Kind.REFUSED, "no such account"),
        (
            rf"(?:Connection (?:closed|reset) by|Disconnected from) authenticating user {_NAME} {_FROM}{_END}",
            Kind.REFUSED,
            "no key was accepted",
        ),
        (
            rf"error: maximum authentication attempts exceeded for {_NAME} from {_FROM} ssh2{_END}",
            Kind.REFUSED,
            "too many keys",
        ),
        (rf"User {_NAME} from [^ ]{{1,255}} not allowed because .{{1,80}}", Kind.REFUSED, "not allowed"),
        (rf"User {_NAME} not allowed because .{{1,80}}", Kind.REFUSED, "not allowed"),
        (rf"pam_unix\(sshd:account\): account {_NAME} has expired \(.{{1,40}}\)", Kind.REFUSED, "account expired"),
        (rf"pam_unix\(sshd:session\): session closed for user {_NAME}", Kind.CLOSED, ""),
        (rf"Disconnected from user {_NAME} {_FROM}", Kind.CLOSED, ""),
        (rf"Connection closed by user {_NAME} {_FROM}", Kind.CLOSED, ""),
    )
)
_LONGEST = 1024
_BY_ANYBODY = ("Disconnected from user ", "Connection closed by user ")
"""What sshd says with the rights of the person who had logged in."""


def said(line: Line) -> Said | None:
    """What a line of sshd's tells of somebody; None for every other line."""
    message = line.message
    if len(message) > _LONGEST or not (line.trusted or message.startswith(_BY_ANYBODY)):
        return None
    for pattern, kind, why in _FORMS:
        if match := pattern.fullmatch(message):
            parts = match.groupdict()
            source, port = parts.get("source", ""), int(parts.get("port") or 0)
            if source and not (_is_address(source) and 0 < port < 65536):
                return None
            return Said(kind, line.at, line.pid, match["name"], source, port, parts.get("key") or "", why)
    return None


def changes(line: Line) -> Mapping[str, Any] | None:
    """A line of the audit trail; None for what is none, or is not root's."""
    if not line.trusted or not line.message.startswith("{"):
        return None
    try:
        found = json.loads(line.message)
    except (ValueError, RecursionError):
        return None
    if not isinstance(found, dict) or found.get("event") != "audit" or not isinstance(found.get("action"), str):
        return None
    return found


@dataclass(frozen=True, slots=True)
class Login:
    """One login as it was let in or refused. ``seconds`` is how long it lasted, None while it does or nobody knows."""

    at: datetime
    name: str
    accepted: bool
    source: str = ""
    port: int = 0
    key: str = ""
    why: str = ""
    seconds: float | None = None


def logins(found: Iterator[Said]) -> list[Login]:
    """Logins in the order of their lines, each with its end where that was told.

    sshd tells a refusal in several lines: of one connection the first stands, with the most telling reason.
    """
    listed: list[Login] = []
    open_by: dict[tuple[str, int], int] = {}
    refused: dict[tuple[str, str, int], int] = {}
    for one in found:
        if one.kind is Kind.CLOSED:
            _close(listed, open_by, one)
            continue
        accepted = one.kind is Kind.ACCEPTED
        connection = (one.name, one.source, one.port)
        if not accepted and one.port and connection in refused:
            listed[refused[connection]] = _merged(listed[refused[connection]], one)
            continue
        listed.append(Login(one.at, one.name, accepted, one.source, one.port, one.key, one.why))
        if accepted:
            open_by[one.name, one.pid] = len(listed) - 1
            if one.port:  # the end may be told by another process of the same connection
                open_by[f"{one.name} {one.source}", -one.port] = len(listed) - 1
            refused.pop(connection, None)
        elif one.port:
            refused[connection] = len(listed) - 1
    return listed


def _close(listed: list[Login], open_by: dict[tuple[str, int], int], one: Said) -> None:
    by_port = open_by.pop((f"{one.name} {one.source}", -one.port), None) if one.port else None
    index = by_port if by_port is not None else open_by.pop((one.name, one.pid), None)
    if index is not None and listed[index].seconds is None:
        login = listed[index]
        seconds = max(0.0, (one.at - login.at).total_seconds())
        listed[index] = Login(
            login.at, login.name, True, login.source, login.port, login.key, login.why, round(seconds, 3)
        )


def _merged(login: Login, one: Said) -> Login:
    """A second line about one connection: its key where none was told, and its reason where that says more."""
    why = login.why if login.why not in ("", "no key was accepted") else one.why or login.why
    return Login(login.at, login.name, False, login.source, login.port, login.key or one.key, why)


def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True
