"""Editing a folder of manifests: changes are drafted, the whole folder is read as if they were made, then they are.

Session.create/change/drop -> changed texts -> check (directory.load with them in the place of the files) -> commit
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Any, Final

from containarium.model.environment import KIND
from containarium.model.manifest import Load, Manifest
from containarium.model.problem import Problem
from containarium.model.sshkey import SSHKey
from containarium.sources.directory import load
from containarium.sources.documents import Candidate, read_candidates
from containarium.sources.editfile import content, swap
from containarium.sources.edittext import Change, EditRefusedError, SetField, changed, plain, without
from containarium.sources.folder import SourceFile
from containarium.sources.keyfiles import KeyFault, KeyFiles, parse_keys
from containarium.sources.text import TextError, decode
from containarium.sources.yamltree import Budget

__all__ = ["EditRefusedError", "ManifestRefusedError", "Session", "Written", "take_out"]

_BOM: Final = b"\xef\xbb\xbf"
_EMPTY: Final = "SourceEmpty"


class ManifestRefusedError(EditRefusedError):
    """With the change made, a manifest would not load. ``problem`` says which, where and why."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.message, problem.remedy)
        self.problem = problem

    def __str__(self) -> str:
        return str(self.problem)


@dataclass(frozen=True, slots=True)
class Written:
    """An environment as its file has it: ``data`` is its document without what a class or a default adds."""

    manifest: Manifest
    data: dict[str, Any]
    file: Path
    document: int
    documents: int
    """How many there are in the file, of whatever kind."""


@dataclass(slots=True)
class _Draft:
    """A file with what it is to become. None: there is none."""

    shown: str
    before: bytes | None
    after: bytes | None


class Session:
    """Changes of one folder that are made together or not at all. ``load`` is the folder as it was found."""

    def __init__(self, folder: Path) -> None:
        """Read the folder. What it holds is never refused here."""
        self.folder = folder
        self.load = load(folder)
        self._drafts: dict[Path, _Draft] = {}

    def manifest(self, name: str) -> Manifest | None:
        """The manifest of an environment, where there is one that loads."""
        return next((manifest for manifest in self.load.manifests if manifest.name == name), None)

    def find(self, name: str) -> Written:
        """Where an environment is written. Raises EditRefusedError where that is nowhere, or does not load."""
        manifest = self.manifest(name)
        if manifest is None:
            raise self._missing(name)
        path = self._real(Path(manifest.origin.file))
        documents = plain(self._text(path))
        for index, data in enumerate(documents):
            if _is_of(data, name):
                return Written(manifest, data, path, index, len(documents))
        raise EditRefusedError(f"{path} has no manifest of {name} any more", "run the command again")

    def create(self, file: str, text: str) -> None:
        """A new file in the folder. Raises EditRefusedError where there is one."""
        path = self.folder / file
        if os.path.lexists(path):
            raise EditRefusedError(f"{path} exists already", "move it away, or name another file")
        self._drafts[path] = _Draft(str(path), None, text.encode())

    def change(self, name: str, changes: Sequence[Change]) -> None:
        """Change fields of an environment. Raises EditRefusedError."""
        found = self.find(name)
        try:
            text = changed(self._text(found.file), found.document, changes)
        except EditRefusedError as error:
            raise self._by_hand(found, error) from None
        self._put(found.file, text)

    def drop(self, name: str) -> None:
        """Take an environment's document away, and its file with the last of them. Raises EditRefusedError."""
        found = self.find(name)
        if found.documents == 1:
            self._draft(found.file).after = None
            return
        try:
            text = without(self._text(found.file), found.document)
        except EditRefusedError as error:
            raise self._by_hand(found, error) from None
        self._put(found.file, text)

    def key_file(self, path: str) -> str:
        """The text of a key file, named as manifests name it. Raises EditRefusedError."""
        return self._text(self._real(self.folder / path))

    def write_key_file(self, path: str, text: str) -> None:
        """Give a key file another text. Raises EditRefusedError."""
        self._put(self._real(self.folder / path), text)

    def check(self) -> Load:
        """The whole folder as it will be. Raises ManifestRefusedError for a problem that was not there before."""
        drafts = {draft.shown: draft for draft in self._drafts.values()}
        overlay = _Overlay(self.folder, drafts)
        new = [SourceFile(d.shown, d.after) for d in drafts.values() if d.before is None and d.after is not None]
        found = load(self.folder, overlay.read, new)
        known = {_gist(problem) for problem in self.load.problems}
        for problem in found.problems:
            if _gist(problem) not in known and problem.reason != _EMPTY:
                raise ManifestRefusedError(problem)
        return found

    def commit(self) -> tuple[Path, ...]:
        """Check, then put the files in their places; returns those that have changed.

        Raises EditRefusedError, and OSError; then nothing is changed, or is changed back.
        """
        self.check()
        done: list[tuple[Path, _Draft]] = []
        try:
            for path, draft in self._drafts.items():
                swap(path, draft.before, draft.after)
                done.append((path, draft))
        except BaseException:
            for path, draft in reversed(done):
                with contextlib.suppress(OSError, EditRefusedError):  # what somebody has changed since is theirs
                    swap(path, draft.after, draft.before)
            raise
        return tuple(path for path, draft in done if draft.before != draft.after)

    def _missing(self, name: str) -> EditRefusedError:
        for problem in self.load.problems:
            if problem.environment == name:
                return EditRefusedError(f"{name} has a manifest that does not load: {problem}")
        for problem in self.load.problems:
            if not self.load.complete and problem.reason != _EMPTY:
                return EditRefusedError(f"the manifests cannot be read whole: {problem}")
        return EditRefusedError(f"no manifest in {self.folder} names {name}", "containarium list shows who there is")

    def _real(self, path: Path) -> Path:
        """The file itself. Links may lead about inside the folder, and not out of it."""
        try:
            real, root = path.resolve(strict=True), self.folder.resolve(strict=True)
        except OSError:
            raise EditRefusedError(f"{path} is not there any more", "run the command again") from None
        if not real.is_relative_to(root):
            raise EditRefusedError(f"{path} leads out of the folder of the manifests", "put the file itself there")
        draft = self._drafts.get(real)
        if draft is None:
            self._drafts[real] = _Draft(str(path), (data := content(real)), data)
        return real

    def _draft(self, path: Path) -> _Draft:
        return self._drafts[path]

    def _text(self, path: Path) -> str:
        try:
            return decode(self._drafts[path].after or b"")
        except TextError as error:
            raise EditRefusedError(f"{path}: {error.fault.message}", error.fault.remedy) from None

    def _put(self, path: Path, text: str) -> None:
        draft = self._drafts[path]
        mark = _BOM if (draft.before or b"").startswith(_BOM) else b""
        draft.after = mark + text.encode()

    def _by_hand(self, found: Written, error: EditRefusedError) -> EditRefusedError:
        place = found.manifest.origin.locate("metadata.name")
        return EditRefusedError(f"{place}: {error.message}", error.remedy)


def take_out(session: Session, names: Sequence[str], today: date) -> bool:
    """Draft the folder without these environments. Raises EditRefusedError.

    Where nobody would be left they stay, and expire as of yesterday: an empty folder is taken for unknown, not for
    nobody. Returns whether that is so.
    """
    trial = Session(session.folder)
    for name in names:
        trial.drop(name)
    emptied = any(problem.reason == _EMPTY for problem in trial.check().problems)
    yesterday = (today - timedelta(days=1)).isoformat()
    for name in names:
        if emptied:
            session.change(name, [SetField(("spec", "expires"), yesterday)])
        else:
            session.drop(name)
    return emptied


class _Overlay:
    """Reads files as they will be."""

    def __init__(self, folder: Path, drafts: dict[str, _Draft]) -> None:
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

    def __init__(self, inner: KeyFiles, root: Path, drafts: dict[Path, _Draft]) -> None:
        self._inner = inner
        self._root = root
        self._drafts = drafts

    def read(self, path: str) -> tuple[SSHKey, ...] | KeyFault:
        draft = self._drafts.get((self._root / path).resolve())
        if draft is None or draft.after is None:
            return self._inner.read(path)
        return parse_keys(decode(draft.after), draft.shown)


def _is_of(data: Any, name: str) -> bool:
    if not isinstance(data, dict) or data.get("kind") != KIND:
        return False
    metadata = data.get("metadata")
    return isinstance(metadata, dict) and metadata.get("name") == name


def _gist(problem: Problem) -> tuple[str, str, str, str]:
    """What is the same about a problem when lines have moved."""
    return problem.location.file, problem.field, problem.reason, problem.environment
