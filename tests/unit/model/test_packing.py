"""A manifest packed into a mark and back."""

from __future__ import annotations

import base64
import json
import zlib

import pytest

from containarium.model.environment import Environment
from containarium.model.packing import MAX_PACKED, pack, plain, unpack
from tests.builders import manifest, public_key


def packed(data: object) -> str:
    return base64.b64encode(zlib.compress(json.dumps(data).encode())).decode()


def test_what_is_packed_comes_back_as_it_was_written() -> None:
    one = manifest(
        "alice",
        resources={"cpu": "2-3", "memory": "8GiB"},
        docker=True,
        packages=["git"],
        network={"ipv4": "10.0.3.7"},
        snapshots={"keep": "30d"},
        expires="2026-12-31",
        deletion={"grace": "3d", "backup": True},
    )
    text = pack(one)
    assert 0 < len(text) < 1000
    assert "\n" not in text
    back = unpack(text)
    assert back == one.environment
    assert plain(back) == plain(one.environment)
    assert "autostart" not in plain(back)["spec"], "what was left to the defaults stays left to them"


def test_keys_of_files_are_written_in() -> None:
    one = manifest("alice")
    spec = one.environment.spec.model_copy(update={"ssh_keys": ({"file": "keys/alice.pub"},)})
    document = one.environment.model_dump(mode="json", by_alias=True, exclude_unset=True)
    document["spec"]["sshKeys"] = list(spec.ssh_keys)
    environment = Environment.model_validate(document)
    from_file = type(one)(environment, one.keys, one.origin)
    assert list(unpack(pack(from_file)).spec.ssh_keys) == [public_key("alice")]


def test_what_is_too_large_is_left_out() -> None:
    keys = [public_key(f"key-{number}") for number in range(400)]
    assert pack(manifest("alice", keys=keys)) == ""
    assert len(pack(manifest("alice", keys=keys[:100]))) <= MAX_PACKED


@pytest.mark.parametrize(
    "text",
    [
        "",
        "alice",
        "é",
        base64.b64encode(b"alice").decode(),
        base64.b64encode(zlib.compress(b"{}")[:-4]).decode(),
        packed({}),
        packed(["alice"]),
        packed({"apiVersion": "containarium.dev/v1", "kind": "Environment", "metadata": {"name": "root"}, "spec": {}}),
        base64.b64encode(zlib.compress(b"[" * 500_000)).decode(),
        base64.b64encode(zlib.compress(b" " * (2 << 20))).decode(),
        "A" * (MAX_PACKED + 4),
    ],
)
def test_whatever_else_stands_there_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        unpack(text)
