"""What another host says is believed as a whole or not at all."""

from __future__ import annotations

import json
from typing import Any

import pytest

from containarium.host.peering.wire import (
    MOST_BOXES,
    Request,
    parse_keys,
    parse_offer,
    parse_request,
    parse_told,
)
from containarium.model.fleet import Box, Presence
from containarium.model.host import RetryableError, TerminalError
from tests.builders import public_key
from tests.unit.host.peering.hosts import host

OTHER = host(2)
ALICE = {"name": "alice", "presence": "here", "address": "10.0.12.5", "other": ""}
LISTED = {"version": "0.1.0", "clock": 1795358879.5, "boxes": [ALICE]}
OFFERED = {
    "operation": "e0c07775-f30b-4603-b9aa-fd3ca17b6b4c",
    "secrets": {"control": "a1" * 32, "fs": "b2" * 32},
    "certificate": f"-----BEGIN CERTIFICATE-----\n{'QUJD' * 30}\n-----END CERTIFICATE-----\n",
    "config": {"user.containarium.environment": "alice", "user.note": "two\nlines"},
    "architecture": "x86_64",
    "image": "",
    "instance_id": "",
}


def line(answer: Any) -> bytes:
    return json.dumps(answer).encode() + b"\n"


def test_a_list() -> None:
    told = parse_told(line(LISTED), OTHER)
    assert told.boxes == {"alice": Box("alice", Presence.HERE, "10.0.12.5")}
    assert (told.version, told.clock) == ("0.1.0", 1795358879.5)


@pytest.mark.parametrize(
    "change",
    [
        {"address": "10.0.11.5"},
        {"address": "10.0.12.1"},
        {"address": "10.0.12.0"},
        {"address": "10.0.12.255"},
        {"address": "127.0.0.1"},
        {"address": "169.254.169.254"},
        {"address": "::1"},
        {"address": "10.0.12.5\n"},
        {"address": 168430090},
        {"name": "root"},
        {"name": "Alice"},
        {"name": "alice\x1b[2J"},
        {"name": "../alice"},
        {"name": "a" * 40},
        {"name": ["alice"]},
        {"presence": "everywhere"},
        {"presence": None},
        {"other": "jump 1"},
        {"other": "x\u202e"},
        {"other": 7},
    ],
)
def test_one_part_that_is_wrong_makes_the_list_none(change: dict[str, Any]) -> None:
    bob = {**ALICE, "name": "bob", "address": "10.0.12.6"}
    with pytest.raises(RetryableError) as raised:
        parse_told(line({**LISTED, "boxes": [bob, {**ALICE, **change}]}), OTHER)
    assert raised.value.reason == "PeerUnclear"
    assert raised.value.message.startswith("jump-2 told ")
    assert str(raised.value).isprintable()


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"\n",
        b"no json\n",
        b"[" * 100_000 + b"\n",
        b"\xff\xfe\n",
        b"1" * 100_000 + b"\n",
        line([]),
        line(None),
        line({"boxes": {}}),
        line({**LISTED, "boxes": [ALICE, ALICE]}),
        line({**LISTED, "boxes": [ALICE] * (MOST_BOXES + 1)}),
        line({**LISTED, "boxes": ["alice"]}),
        line({**LISTED, "clock": "now"}),
        line({**LISTED, "clock": True}),
        line({**LISTED, "clock": 1e300}),
        line({**LISTED, "version": "1\n2"}),
        b'{"version": "1", "clock": NaN, "boxes": []}\n',
    ],
)
def test_what_is_no_list_is_refused(answer: bytes) -> None:
    with pytest.raises(RetryableError, match="jump-2 told"):
        parse_told(answer, OTHER)


def test_a_thousand_environments_are_no_trouble() -> None:
    boxes = [{"name": f"u{number}", "presence": "here", "address": ""} for number in range(1000)]
    assert len(parse_told(line({**LISTED, "boxes": boxes}), OTHER).boxes) == 1000


def test_a_refusal_travels_as_one_printable_line() -> None:
    with pytest.raises(RetryableError) as raised:
        parse_told(line({"error": "no\x1b[31m\nway " + "x" * 9999, "remedy": "wait"}), OTHER)
    assert raised.value.reason == "PeerRefused"
    assert raised.value.message.isprintable()
    assert len(raised.value.message) < 400


def test_an_offer() -> None:
    offer = parse_offer(line(OFFERED), OTHER)
    assert offer.operation == OFFERED["operation"]
    assert offer.config["user.note"] == "two\nlines"
    assert "a1a1" not in repr(offer)


@pytest.mark.parametrize(
    "change",
    [
        {"operation": "../../1.0/certificates"},
        {"operation": "https://elsewhere.example/1.0/operations/x"},
        {"secrets": {}},
        {"secrets": {"control": "short"}},
        {"secrets": ["a"]},
        {"certificate": "-----BEGIN PRIVATE KEY-----"},
        {"config": {"user.note": "\x00"}},
        {"config": {"user.note": 7}},
        {"config": {"key with blank": "x"}},
        {"config": {f"user.k{number}": "" for number in range(600)}},
        {"architecture": "x86_64; rm"},
        {"image": "abc"},
        {"instance_id": "a b"},
    ],
)
def test_an_offer_that_is_none(change: dict[str, Any]) -> None:
    with pytest.raises(RetryableError, match="jump-2 told an offer"):
        parse_offer(line({**OFFERED, **change}), OTHER)


def test_host_keys() -> None:
    key = public_key("guest").rpartition(" ")[0]
    assert parse_keys(line({"keys": [key]}), OTHER) == (key,)
    for keys in (["ssh-ed25519 AAAA\n@cert-authority"], [key] * 17, "x", None):
        with pytest.raises(RetryableError, match="host keys that make no sense"):
            parse_keys(line({"keys": keys}), OTHER)


def test_requests() -> None:
    asked = {"from": "jump-2", "request": {"ask": "offer", "name": "alice", "disk": 5}}
    assert parse_request(line(asked)) == Request("jump-2", "offer", "alice", 5)


@pytest.mark.parametrize(
    "asked",
    [
        {},
        [],
        {"from": "jump-2", "request": {"ask": "shell"}},
        {"from": "jump-2", "request": {"ask": "offer", "name": "root"}},
        {"from": "jump-2", "request": {"ask": "offer", "name": "../x"}},
        {"from": "jump-2", "request": {"ask": "keys"}},
        {"from": "", "request": {"ask": "list"}},
        {"from": "jump-2", "request": {"ask": "list", "disk": -1}},
        {"from": "jump-2", "request": ["list"]},
    ],
)
def test_requests_that_are_none(asked: Any) -> None:
    with pytest.raises(TerminalError):
        parse_request(line(asked))
