"""The keys of a person, edited wherever they are written: in the manifest or in a key file beside it."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Final

from containarium.model.sshkey import SSHKey
from containarium.sources.edit import Session
from containarium.sources.edittext import AddItem, EditRefusedError, RemoveItem
from containarium.sources.keyfiles import KeyFault, parse_keys

NOBODYS: Final = "nobody-has-this-key"
"""Comment of a key that stands in for the last one: its other half was never kept."""
_FIELD: Final = ("spec", "sshKeys")


@dataclass(frozen=True, slots=True)
class WrittenKeys:
    """An item of ``spec.sshKeys``: a key, or a file of them, as the manifest names it."""

    index: int
    keys: tuple[SSHKey, ...]
    file: str = ""


def written_keys(session: Session, name: str) -> list[WrittenKeys]:
    """The keys of an environment by where they are written. Raises EditRefusedError."""
    found = []
    for index, source in enumerate(session.find(name).data["spec"]["sshKeys"]):
        if isinstance(source, str):
            found.append(WrittenKeys(index, (SSHKey.parse(source),)))
            continue
        keys = parse_keys(session.key_file(source["file"]), source["file"])
        if isinstance(keys, KeyFault):
            raise EditRefusedError(f"{keys.location or source['file']}: {keys.message}", keys.remedy)
        found.append(WrittenKeys(index, keys, source["file"]))
    return found


def add_keys(session: Session, name: str, keys: Sequence[SSHKey]) -> tuple[SSHKey, ...]:
    """Draft the manifest with further keys. Returns those that were not there. Raises EditRefusedError.

    A key that stood in for the last one goes.
    """
    items = written_keys(session, name)
    known = {key.identity for item in items for key in item.keys}
    new = {key.identity: key for key in keys if key.identity not in known}
    if new:
        stood_in = [item.index for item in items if any(key.comment == NOBODYS for key in item.keys)]
        added = [AddItem(_FIELD, key.line) for key in new.values()]
        session.change(name, [*added, *(RemoveItem(_FIELD, index) for index in reversed(stood_in))])
    return tuple(new.values())


def remove_keys(session: Session, name: str, leaving: Collection[str]) -> tuple[str, ...]:
    """Draft the manifest and its key files without these keys (``SSHKey.identity``). Raises EditRefusedError.

    Returns the key files that are used no more; they are left. Where no key would be left, one that nobody has takes
    their place, for a manifest has at least one.
    """
    emptied: list[WrittenKeys] = []
    items = written_keys(session, name)
    for item in items:
        here = [key for key in item.keys if key.identity in leaving]
        if len(here) == len(item.keys):
            emptied.append(item)
        elif here:
            session.write_key_file(item.file, _without(session.key_file(item.file), leaving))
    stand_in = [AddItem(_FIELD, _nobodys())] if len(emptied) == len(items) else []
    # From the last one on, so that the numbers of those before stay right.
    session.change(name, [*stand_in, *(RemoveItem(_FIELD, item.index) for item in reversed(emptied))])
    return tuple(str(session.folder / item.file) for item in emptied if item.file)


def _without(text: str, leaving: Collection[str]) -> str:
    def stays(line: str) -> bool:
        entry = line.strip()
        return not entry or entry.startswith("#") or SSHKey.parse(entry).identity not in leaving

    return "".join(line for line in text.splitlines(keepends=True) if stays(line))


def _nobodys() -> str:
    """A key whose private half is forgotten at once."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    public = Ed25519PrivateKey.generate().public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)
    return f"{public.decode()} {NOBODYS}"
