"""The trail: one line per change, in a schema that does not change, whatever somebody put into it."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from containarium.host.audittrail import Who, caller, peer, record

ANNA = Who("anna", "cli", 0, 1000, "anna")


def written(who: Who, action: str, details: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    lines: list[str] = []

    def send(line: str) -> bool:
        lines.append(line)
        return True

    assert record(who, action, details, send=send, **more)
    (line,) = lines
    assert line.isascii()
    assert line.isprintable()
    found: dict[str, Any] = json.loads(line)
    return found


def test_the_schema() -> None:
    assert written(
        ANNA, "resize", {"memory": "8GiB"}, environments=["alice"], result="ok", before="aa", after="bb"
    ) == {
        "event": "audit",
        "v": 1,
        "who": "anna",
        "via": "cli",
        "uid": 0,
        "login": 1000,
        "sudo": "anna",
        "action": "resize",
        "environments": ["alice"],
        "result": "ok",
        "before": "aa",
        "after": "bb",
        "details": {"memory": "8GiB"},
    }
    assert written(Who("admin", "mtls", certificate="SHA256:x"), "approve") == {
        "event": "audit",
        "v": 1,
        "who": "admin",
        "via": "mtls",
        "certificate": "SHA256:x",
        "action": "approve",
        "result": "ok",
    }


def test_what_strangers_chose_is_bounded_and_on_one_line() -> None:
    evil = "x\n{}\x1b[31m\u202e" + "y" * 100_000
    found = written(Who(evil, "mtls"), evil, {evil: evil, "list": [evil] * 1000}, environments=[evil] * 1000)
    assert len(json.dumps(found)) < 100_000
    assert len(found["who"]) == 200
    assert len(found["environments"]) == len(found["details"]["list"]) == 50


def test_the_login_counts_more_than_what_sudo_says(tmp_path: Path) -> None:
    (tmp_path / "loginuid").write_text("0")
    found = caller({"SUDO_USER": "mallory"}, tmp_path)
    assert (found.name, found.login, found.sudo, found.uid) == ("root", 0, "mallory", os.getuid())


@pytest.mark.parametrize("text", ["4294967295", "", "nonsense", None])
def test_where_nobody_logged_in_sudo_and_the_user_id_speak(tmp_path: Path, text: str | None) -> None:
    if text is not None:
        (tmp_path / "loginuid").write_text(text)
    assert caller({"SUDO_USER": "anna"}, tmp_path).name == "anna"
    alone = caller({}, tmp_path)
    assert alone.login is None
    assert alone.name == peer(os.getuid()).name


def test_a_peer_without_an_account_has_its_number() -> None:
    assert peer(4_000_000_000) == Who("4000000000", "socket", 4_000_000_000)


def test_where_nobody_takes_it_nothing_breaks() -> None:
    assert record(ANNA, "apply", send=lambda _line: False) is False
