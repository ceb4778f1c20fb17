"""Editing a folder of manifests: changes are drafted, the whole folder is read as if they were made, then they are.

Session.create/change/drop -> changed texts -> check (directory.load with them in the place of the files) -> commit
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Any, Final

from containarium.model.environment import KIND
from containarium.model.manifest import Load, Manifest
from containarium.model.problem import Problem
from containarium.sources.directory import load
from containarium.sources.editfile import absent, content, put_link, swap, take_link
from containarium.sources.editoverlay import Draft, Overlay
from containarium.sources.edittext import Change, EditRefusedError, SetField, appended, changed, plain, without
from containarium.sources.folder import MAX_FILE_BYTES, SourceFile
from containarium.sources.text import TextError, decode

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


class Session:
    """Changes of one folder that are made together or not at all. ``load`` is the folder as it was found."""

    def __init__(self, folder: Path) -> None:
        """Read the folder. What it holds is never refused here."""
        self.folder = folder
        self.load = load(folder)
        self._drafts: dict[Path, Draft] = {}
        self._edited: set[str] = set()

    def manifest(self, name: str) -> Manifest | None:
        """The manifest of an environment, where there is one that loads."""
        return next((manifest for manifest in self.load.manifests if manifest.name == name), None)

    def find(self, name: str) -> Written:
        """Where an environment is written. Raises EditRefusedError where that is nowhere, or does not load."""
        manifest = self.manifest(name)
        if manifest is None:
            raise self._missing(name)
        path = self._real(Path(manifest.origin.file))
        documents = plain(self._text(path), manifest.origin.file)
        for index, data in enumerate(documents):
            if _is_of(data, name):
                return Written(manifest, data, path, index, len(documents))
        raise EditRefusedError(f"{path} has no manifest of {name} any more", "run the command again")

    def create(self, file: str, text: str) -> None:
        """A new file in the folder. Raises EditRefusedError where there is one."""
        path = self.folder / file
        if os.path.lexists(path):
            # Nobody is told to move it away: whoever is in it would lose access.
            raise EditRefusedError(f"{path} exists already", "write the manifest into another file there by hand")
        self._drafts[path] = Draft(str(path), None, text.encode())
        self._edited.update(_names(text, str(path)))

    def append(self, file: str, text: str, mark: str) -> None:
        """Further documents at the end of a file that begins with ``mark``; one that is not there is made.

        Raises EditRefusedError where it begins otherwise, or cannot be read to its end.
        """
        shown = self.folder / file
        if not os.path.lexists(shown):
            self.create(file, text)
            return
        path = self._real(shown)
        before = self._text(path)
        if not before.startswith(mark):
            raise EditRefusedError(f"{shown} exists already, and was written by somebody else")
        plain(before, str(shown))
        self._edited.update(_names(text, str(shown)))
        try:
            self._put(path, appended(before, text))
        except EditRefusedError as error:
            raise EditRefusedError(f"{shown}: {error.message}", error.remedy) from None

    def change(self, name: str, changes: Sequence[Change]) -> None:
        """Change fields of an environment. Raises EditRefusedError."""
        found = self.find(name)
        try:
            text = changed(self._text(found.file), found.document, changes)
        except EditRefusedError as error:
            raise _by_hand(found, error, ".".join(changes[0].path)) from None
        self._put(found.file, text)
        self._edited.add(name)

    def drop(self, name: str) -> None:
        """Take an environment's document away, and its file with the last of them. Raises EditRefusedError.

        Where a link leads to the file, that goes too: no folder loads with a link to nothing in it.
        """
        found = self.find(name)
        if found.documents == 1:
            self._drafts[found.file].after = None
            return
        try:
            text = without(self._text(found.file), found.document)
        except EditRefusedError as error:
            raise _by_hand(found, error, "metadata.name") from None
        self._put(found.file, text)

    def key_file(self, path: str) -> str:
        """The text of a key file, named as manifests name it. Raises EditRefusedError."""
        return self._text(self._real(self.folder / path))

    def write_key_file(self, path: str, text: str) -> None:
        """Give a key file another text. Raises EditRefusedError."""
        self._put(self._real(self.folder / path), text)

    def check(self) -> Load:
        """The whole folder as it will be. Raises ManifestRefusedError for a problem that was not there before.

        Of several, that of whoever is edited is told: two have a problem where one gets the other one's key.
        """
        drafts = {draft.shown: draft for draft in self._drafts.values()}
        for draft in drafts.values():
            if len(draft.after or b"") > MAX_FILE_BYTES:
                message = f"{draft.shown} would be larger than {MAX_FILE_BYTES >> 10} KiB"
                raise EditRefusedError(message, "write into several files")
        overlay = Overlay(self.folder, drafts)
        new = [SourceFile(d.shown, d.after) for d in drafts.values() if d.before is None and d.after is not None]
        for file in new:
            absent(Path(file.path))
        found = load(self.folder, overlay.read, new)
        known = {_gist(problem) for problem in self.load.problems}
        problems = [p for p in found.problems if _gist(p) not in known and p.reason != _EMPTY]
        if problems:
            raise ManifestRefusedError(min(problems, key=lambda problem: problem.environment not in self._edited))
        return found

    def commit(self) -> tuple[Path, ...]:
        """Check, then put the files in their places; returns those that have changed.

        Raises EditRefusedError, and OSError; then nothing is changed, or is changed back.
        """
        self.check()
        back: list[Callable[[], None]] = []
        try:
            for path, draft in self._drafts.items():
                self._carry_out(path, draft, back)
        except BaseException:
            for undo in reversed(back):
                with contextlib.suppress(OSError, EditRefusedError):  # what somebody has changed since is theirs
                    undo()
            raise
        return tuple(path for path, draft in self._drafts.items() if draft.before != draft.after)

    def _carry_out(self, path: Path, draft: Draft, back: list[Callable[[], None]]) -> None:
        """Put one file in its place. ``back`` is given what undoes it."""
        if draft.after is None and draft.link is not None:
            # The link first: there is never one to nothing.
            shown, link = Path(draft.shown), draft.link
            take_link(shown, link)
            back.append(lambda: put_link(shown, link))
        swap(path, draft.before, draft.after)
        back.append(lambda: swap(path, draft.after, draft.before))

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
            link = str(path.readlink()) if path.is_symlink() else None
            self._drafts[real] = Draft(str(path), (data := content(real)), data, link)
        return real

    def _text(self, path: Path) -> str:
        try:
            return decode(self._drafts[path].after or b"")
        except TextError as error:
            raise EditRefusedError(f"{path}: {error.fault.message}", error.fault.remedy) from None

    def _put(self, path: Path, text: str) -> None:
        draft = self._drafts[path]
        mark = _BOM if (draft.before or b"").startswith(_BOM) else b""
        draft.after = mark + text.encode()


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


def _by_hand(found: Written, error: EditRefusedError, field: str) -> EditRefusedError:
    """Where a person can do what cannot be done for them."""
    return EditRefusedError(f"{found.manifest.origin.locate(field)}: {field}: {error.message}", error.remedy)


def _is_of(data: Any, name: str) -> bool:
    if not isinstance(data, dict) or data.get("kind") != KIND:
        return False
    metadata = data.get("metadata")
    return isinstance(metadata, dict) and metadata.get("name") == name


def _names(text: str, shown: str) -> set[str]:
    """Whom the documents of a new text are about. Raises EditRefusedError where it is no YAML."""
    found = (data.get("metadata") for data in plain(text, shown) if isinstance(data, dict))
    return {str(metadata.get("name")) for metadata in found if isinstance(metadata, dict)}


def _gist(problem: Problem) -> tuple[str, str, str, str]:
    """What is the same about a problem when lines have moved."""
    return problem.location.file, problem.field, problem.reason, problem.environment
