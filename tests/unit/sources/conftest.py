"""A folder of manifests to write into."""

from __future__ import annotations

import base64
import struct
from pathlib import Path

import pytest

from tests.unit.sources.cases import HEAD


def public_key(number: int) -> str:
    """A well-formed key, another one for every number."""
    kind, point = b"ssh-ed25519", b"\x07" + number.to_bytes(31, "big")
    blob = struct.pack(">I", len(kind)) + kind + struct.pack(">I", len(point)) + point
    return f"ssh-ed25519 {base64.b64encode(blob).decode()} user{number}@laptop"


def manifest(name: str, keys: str | None = None, more: str = "") -> str:
    """A manifest's text; its key is a file of its own in ``keys`` unless given."""
    text = HEAD.replace("name: alice", f"name: {name}").replace(
        "{file: keys/alice.pub}", keys or f"{{file: keys/{name}.pub}}"
    )
    return text + more


class Folder:
    """A folder of manifests on a real disk."""

    def __init__(self, path: Path) -> None:
        self.path = path
        (path / "keys").mkdir(parents=True)
        for number, name in enumerate(("alice", "bob", "carol"), 1):
            self.write(f"keys/{name}.pub", public_key(number) + "\n")

    def write(self, name: str, content: str | bytes) -> Path:
        file = self.path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content if isinstance(content, bytes) else content.encode())
        return file

    def add(self, *names: str) -> None:
        for name in names:
            self.write(f"{name}.yaml", manifest(name))


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    """Holds three keys and no manifest yet."""
    return Folder(tmp_path / "manifests")
