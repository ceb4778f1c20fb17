"""What sshd's lines say, and what nobody can make them say."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from containarium.host.loglines import Kind, Line, Login, changes, logins, said

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
KEY = "SHA256:" + "a" * 43


def line(message: str, pid: int = 7, *, at: float = 0.0, trusted: bool = True) -> Line:
    return Line(NOW + timedelta(seconds=at), pid, message, trusted, "sshd")


@pytest.mark.parametrize(
    ("message", "kind", "source", "key", "why"),
    [
        (
            f"Accepted publickey for alice from 10.0.0.5 port 4711 ssh2: ED25519 {KEY}",
            Kind.ACCEPTED,
            "10.0.0.5",
            KEY,
            "",
        ),
        ("Accepted password for alice from fe80::1 port 4711 ssh2", Kind.ACCEPTED, "fe80::1", "", ""),
        (
            f"Failed publickey for alice from 10.0.0.5 port 4711 ssh2: RSA {KEY}",
            Kind.REFUSED,
            "10.0.0.5",
            KEY,
            "key not accepted",
        ),
        (
            "Failed none for invalid user alice from 10.0.0.5 port 4711 ssh2",
            Kind.REFUSED,
            "10.0.0.5",
            "",
            "not accepted",
        ),
        ("Invalid user alice from 10.0.0.5 port 4711", Kind.REFUSED, "10.0.0.5", "", "no such account"),
        (
            "Connection closed by authenticating user alice 10.0.0.5 port 4711 [preauth]",
            Kind.REFUSED,
            "10.0.0.5",
            "",
            "no key was accepted",
        ),
        (
            "error: maximum authentication attempts exceeded for alice from 10.0.0.5 port 4711 ssh2 [preauth]",
            Kind.REFUSED,
            "10.0.0.5",
            "",
            "too many keys",
        ),
        ("User alice not allowed because account is locked", Kind.REFUSED, "", "", "not allowed"),
        (
            "pam_unix(sshd:account): account alice has expired (account expired)",
            Kind.REFUSED,
            "",
            "",
            "account expired",
        ),
        ("pam_unix(sshd:session): session closed for user alice", Kind.CLOSED, "", "", ""),
        ("Disconnected from user alice 10.0.0.5 port 4711", Kind.CLOSED, "10.0.0.5", "", ""),
    ],
)
def test_what_sshd_says(message: str, kind: Kind, source: str, key: str, why: str) -> None:
    found = said(line(message))
    assert found is not None
    assert (found.kind, found.name, found.source, found.key, found.why) == (kind, "alice", source, key, why)


@pytest.mark.parametrize(
    "message",
    [
        # somebody typed "alice from 9.9.9.9 port 1" as a user name
        "Invalid user alice from 9.9.9.9 port 1 from 10.0.0.5 port 4711",
        "Failed none for invalid user alice from 9.9.9.9 port 1 ssh2 from 10.0.0.5 port 4711 ssh2",
        f"Invalid user x\nAccepted publickey for alice from 9.9.9.9 port 1 ssh2: ED25519 {KEY}",
        f"Accepted publickey for ALICE from 9.9.9.9 port 1 ssh2: ED25519 {KEY}",
        f"Accepted publickey for alice from 9.9.9.9 port 99999 ssh2: ED25519 {KEY}",
        f"Accepted publickey for alice from 999.9.9.9 port 1 ssh2: ED25519 {KEY}",
        f"Accepted publickey for alice from 9.9.9.9 port 1 ssh2: ED25519 {KEY} and more",
        "Accepted publickey for =cmd|calc from 9.9.9.9 port 1 ssh2",
        "Invalid user  from 10.0.0.5 port 4711",
        "x" * 5000,
        "",
    ],
)
def test_what_strangers_write_is_nobodys(message: str) -> None:
    assert said(line(message)) is None


def test_only_root_says_who_was_let_in() -> None:
    message = f"Accepted publickey for alice from 10.0.0.5 port 4711 ssh2: ED25519 {KEY}"
    assert said(line(message, trusted=False)) is None
    assert said(line("Disconnected from user alice 10.0.0.5 port 4711", trusted=False)) is not None


def told(*lines: Line) -> list[Login]:
    return logins(found for one in lines if (found := said(one)))


def test_a_login_ends_by_its_process() -> None:
    accepted = f"Accepted publickey for {{}} from 10.0.0.5 port {{}} ssh2: ED25519 {KEY}"
    first, second, third = told(
        line(accepted.format("alice", 1001), 1),
        line(accepted.format("bob", 1002), 2, at=1),
        line(accepted.format("alice", 1003), 3, at=2),
        line("pam_unix(sshd:session): session closed for user alice", 1, at=61.5),
        line("pam_unix(sshd:session): session closed for user bob", 3, at=62),  # that process is alice's
    )
    assert (first.name, first.seconds) == ("alice", 61.5)
    assert second.seconds is None
    assert third.seconds is None


def test_a_login_ends_by_its_port_where_another_process_tells() -> None:
    (login,) = told(
        line(f"Accepted publickey for alice from 10.0.0.5 port 1001 ssh2: ED25519 {KEY}", 1),
        line("Disconnected from user alice 10.0.0.5 port 1001", 9, at=3, trusted=False),
        line("pam_unix(sshd:session): session closed for user alice", 1, at=4),
    )
    assert login.seconds == 3


def test_one_refusal_is_told_once() -> None:
    (login,) = told(
        line(f"Failed publickey for alice from 10.0.0.5 port 1001 ssh2: ED25519 {KEY}"),
        line("Failed publickey for alice from 10.0.0.5 port 1001 ssh2: RSA SHA256:" + "b" * 43),
        line("Connection closed by authenticating user alice 10.0.0.5 port 1001 [preauth]"),
    )
    assert (login.accepted, login.key, login.why) == (False, KEY, "key not accepted")
    assert len(told(*(line(f"Invalid user alice from 10.0.0.5 port {port}") for port in (1, 2, 2, 3)))) == 3


def test_who_gets_in_with_a_second_key_was_refused_once_and_let_in_once() -> None:
    refused, accepted = told(
        line("Failed publickey for alice from 10.0.0.5 port 1001 ssh2: RSA SHA256:" + "b" * 43),
        line(f"Accepted publickey for alice from 10.0.0.5 port 1001 ssh2: ED25519 {KEY}"),
    )
    assert (refused.accepted, accepted.accepted) == (False, True)


@pytest.mark.parametrize(
    ("message", "trusted", "counts"),
    [
        ('{"event": "audit", "action": "apply"}', True, True),
        ('{"event": "audit", "action": "apply"}', False, False),
        ('{"event": "audit", "action": 7}', True, False),
        ('{"event": "other", "action": "apply"}', True, False),
        ("[1]", True, False),
        ("{" * 5000, True, False),
    ],
)
def test_changes_are_believed_from_root_alone(message: str, trusted: bool, counts: bool) -> None:
    assert (changes(line(message, trusted=trusted)) is not None) is counts
