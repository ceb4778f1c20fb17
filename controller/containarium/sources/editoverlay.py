"""A folder as it will be: loads read the drafts of an edit in the place of the files."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from containarium.model.sshkey import SSHKey
from containarium.sources.documents import Candidate, read_candidates
from containarium.sources.keyfiles import KeyFault, KeyFiles, parse_keys
from containarium.sources.text import decode
from containarium.sources.yamltree import Budget


@dataclass(slots=True)
class Draft:
    """A file with what it is to become. None: there is none."""

    shown: str
    before: bytes | None
    after: bytes | None
    link: str | None = None
    """Where ``shown`` leads, if that is a link: then it goes together with the file."""


class Overlay:
    """Reads files as they will be."""

    def __init__(self, folder: Path, drafts: dict[str, Draft]) -> None:
        self._root = folder.resolve()
        self._by_shown = drafts
        self._by_path = {Path(shown).resolve(): draft for shown, draft in drafts.items()}

    def read(self, path: str, data: bytes, keys: KeyFiles, budget: Budget) -> Iterator[Candidate]:
        """As ``read_candidates``; nothing of a file that goes away."""
        draft = self._by_shown.get(path)
        if draft is not None and draft.after is None:
            return
        if draft is not None and draft.after is not None:
            data = draft.after
        yield from read_candidates(path, data, _KeyOverlay(keys, self._root, self._by_path), budget)


class _KeyOverlay(KeyFiles):
    """Key files as they will be."""

    def __init__(self, inner: KeyFiles, root: Path, drafts: dict[Path, Draft]) -> None:
        self._inner = inner
        self._root = root
        self._drafts = drafts

    def read(self, path: str) -> tuple[SSHKey, ...] | KeyFault:
        draft = self._drafts.get((self._root / path).resolve())
        if draft is None or draft.after is None:
            return self._inner.read(path)
        return parse_keys(decode(draft.after), draft.shown)
