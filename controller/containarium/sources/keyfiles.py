"""Files of public keys that manifests refer to, each read and parsed once in a load."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from containarium.model.base import InvalidValueError
from containarium.model.problem import Location
from containarium.model.sshkey import SSHKey, refuse_other_formats
from containarium.sources.folder import ReadError, Tree
from containarium.sources.text import TextError, decode

MAX_KEY_FILE_BYTES: Final = 64 << 10


@dataclass(frozen=True, slots=True)
class KeyFault:
    """Why a key file cannot be used. ``location`` is None when the reference to it is what has to be mended."""

    message: str
    remedy: str
    location: Location | None = None


class KeyFiles:
    """The key files below one folder."""

    def __init__(self, tree: Tree) -> None:
        self._tree = tree
        self._known: dict[str, tuple[SSHKey, ...] | KeyFault] = {}

    def read(self, path: str) -> tuple[SSHKey, ...] | KeyFault:
        """Every key of a file: one per line, with blank lines and ``#`` comments between them."""
        if path not in self._known:
            self._known[path] = self._read(path)
        return self._known[path]

    def _read(self, path: str) -> tuple[SSHKey, ...] | KeyFault:
        shown = self._tree.show(path)
        try:
            text = decode(self._tree.read(path, MAX_KEY_FILE_BYTES))
        except ReadError as error:
            return KeyFault(f"the key file {shown}: {error.message}", error.remedy)
        except TextError as error:
            return KeyFault(error.fault.message, error.fault.remedy, Location(shown, *error.fault.position))
        return parse_keys(text, shown)


def parse_keys(text: str, shown: str) -> tuple[SSHKey, ...] | KeyFault:
    """Every key in the text of a key file; ``shown`` is its path as messages print it."""
    keys: dict[str, SSHKey] = {}
    number = 1
    try:
        refuse_other_formats(text)
        for number, line in enumerate(text.split("\n"), 1):  # noqa: B007 (told in the message)
            entry = line.strip()
            if entry and not entry.startswith("#"):
                key = SSHKey.parse(entry)
                keys.setdefault(key.identity, key)
    except InvalidValueError as error:
        return KeyFault(error.message, error.remedy, Location(shown, number, 1))
    if not keys:
        return KeyFault(f"the key file {shown} has no key in it", "write the line of a .pub file into it")
    return tuple(keys.values())
