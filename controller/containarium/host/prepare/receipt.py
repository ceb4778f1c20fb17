"""What a preparation made, so that exactly this can be taken back and nothing that was there before."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from containarium.host.files import read_small, write_atomically
from containarium.model.host import TerminalError

_VERSION = 1


@dataclass(frozen=True, slots=True)
class Made:
    """One thing that was made. What ``before`` holds depends on the kind: a digest, a former value, a line."""

    kind: str
    name: str
    before: str = ""


class Receipt:
    """The list of those things, in the order of their making, kept in a file and merged over repeated runs."""

    def __init__(self, path: Path) -> None:
        """Reads the file if there is one. Raises TerminalError (ReceiptUnreadable) when it makes no sense."""
        self._path = path
        self._made: dict[tuple[str, str], Made] = {}
        text = read_small(path)
        if text is None:
            return
        try:
            content = json.loads(text)
            if content["version"] != _VERSION:
                raise ValueError(f"version {content['version']}")
            for item in content["made"]:
                made = Made(str(item["kind"]), str(item["name"]), str(item.get("before", "")))
                self._made[made.kind, made.name] = made
        except (ValueError, KeyError, TypeError) as error:
            raise TerminalError(
                f"{path} is not a list of what was prepared: {error}",
                remedy="look at it; moved away, nothing is lost but the means to undo the preparation",
                reason="ReceiptUnreadable",
            ) from error

    def __iter__(self) -> Iterator[Made]:
        """In the order of making."""
        return iter(list(self._made.values()))

    def holds(self, kind: str, name: str) -> bool:
        """Whether an earlier or this run made it."""
        return (kind, name) in self._made

    def add(self, kind: str, name: str, before: str = "") -> None:
        """Remember one thing, at once on disk. What it was before its first change stays as it was noted then."""
        known = self._made.get((kind, name))
        if known is None:
            self._made[kind, name] = Made(kind, name, before)
            self._save()

    def add_file(self, path: Path, text: str) -> None:
        """Remember a file by its content, so that one which somebody changed later is not removed."""
        self._made["file", str(path)] = Made("file", str(path), digest(text))
        self._save()

    def forget(self, made: Made) -> None:
        """It was taken back."""
        self._made.pop((made.kind, made.name), None)
        self._save()

    def drop(self, kind: str, name: str) -> None:
        """It is no longer there."""
        self._made.pop((kind, name), None)
        self._save()

    def _save(self) -> None:
        content = {"version": _VERSION, "made": [asdict(made) for made in self._made.values()]}
        write_atomically(self._path, json.dumps(content, indent=1) + "\n", 0o600)


def digest(text: str) -> str:
    """Digest of a file's text."""
    return hashlib.sha256(text.encode()).hexdigest()
