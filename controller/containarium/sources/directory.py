"""A folder of YAML to manifests: every file is read or told about, and nothing in it can crash, hang or lead out.

Tree.files -> read_candidates (yamltree, models, keys) -> check_together -> Load
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from itertools import chain
from pathlib import Path

from containarium.model.manifest import Load
from containarium.model.problem import Location, Problem
from containarium.sources.checks import check_together
from containarium.sources.classes import with_classes
from containarium.sources.declared import check_hosts
from containarium.sources.documents import Candidate, read_candidates
from containarium.sources.folder import MAX_FILE_BYTES, ReadError, SourceFile, Tree
from containarium.sources.keyfiles import KeyFiles
from containarium.sources.yamltree import MAX_NODES, Budget, BudgetExceededError

Reader = Callable[[str, bytes, KeyFiles, Budget], Iterator[Candidate]]
"""What makes Environments of one file, as ``read_candidates`` does."""

_KIND = re.compile(rb"\bkind\W{1,9}([A-Za-z]{1,32})")


def load(folder: Path, read: Reader = read_candidates, also: Iterable[SourceFile] = ()) -> Load:
    """Read every manifest below a folder, as if ``also`` were in it. Never raises for what is in it.

    ``complete`` is false when the folder is missing, unreadable, without any Environment, or changed while it was
    read: what is not there is then unknown, and a problem says what to do.
    """
    shown = str(folder)
    try:
        tree = Tree(os.fspath(folder), shown)
    except (OSError, ValueError) as error:
        return _unknown(shown, *_unavailable(error))
    with tree:
        reading = _Reading(tree, read)
        candidates = list(reading.candidates(chain(tree.files(), also)))
        whole = reading.whole
        problems = reading.problems
        if not tree.intact():
            whole = False
            problem = Problem(
                Location(tree.show("")),
                "",
                "it changed while it was read",
                "nothing to do: it is read again",
                "SourceChanged",
            )
            problems.append(problem)
    # Classes and hosts alone are nobody, and an empty folder is unknown.
    if whole and not problems and not any(candidate.somebody for candidate in candidates):
        nobody = _unknown(
            shown,
            "there is no Environment in this folder",
            "put the manifests there; an empty folder is taken for unknown, so everything stays as it is",
            "SourceEmpty",
        )
        hosts, found = check_hosts(candidates)
        return replace(nobody, hosts=tuple(hosts), problems=(*nobody.problems, *found), hosts_unsure=bool(found))
    loaded = _result(candidates, problems, shown, complete=whole)
    return replace(loaded, hosts_unsure=loaded.hosts_unsure or reading.hosts_unsure)


def load_file(path: Path) -> Load:
    """Read one file alone, as ``validate`` does. Key files are looked for from the folder that the file is in.

    ``complete`` is always false: one file says nothing about what else there should be.
    """
    shown = str(path)
    parent = os.path.dirname(shown)  # noqa: PTH120 (keeps the user's "./")
    try:
        tree = Tree(parent or ".", parent)
    except (OSError, ValueError) as error:
        return _unknown(shown, *_unavailable(error))
    with tree:
        reading = _Reading(tree)
        try:
            file = SourceFile(tree.show(path.name), tree.read(path.name, MAX_FILE_BYTES))
        except ReadError as error:
            file = SourceFile(tree.show(path.name), error=error)
        candidates = list(reading.candidates([file]))
    return _result(candidates, reading.problems, shown, complete=False, whole=False)


class _Reading:
    """One load in progress. ``whole`` turns false when something was lost that cannot be told by name.

    ``hosts_unsure`` turns true with a problem that may be with a Host manifest.
    """

    def __init__(self, tree: Tree, read: Reader = read_candidates) -> None:
        self.problems: list[Problem] = []
        self.whole = True
        self.hosts_unsure = False
        self._read = read
        self._tree = tree
        self._keys = KeyFiles(tree)
        self._budget = Budget()

    def candidates(self, files: Iterable[SourceFile]) -> Iterator[Candidate]:
        """Every Environment of the files, good or bad; what is wrong with a file itself goes to ``problems``."""
        for file in files:
            if file.error is not None:
                self._refuse(file.path, file.error.message, file.error.remedy, "FileUnreadable")
                self.whole = self.whole and not file.error.whole
                self.hosts_unsure = True
                continue
            try:
                for candidate in self._read(file.path, file.data, self._keys, self._budget):
                    self.hosts_unsure = self.hosts_unsure or _may_be_host(candidate, file.data)
                    yield candidate
            except BudgetExceededError:
                message = f"there are more than {MAX_NODES} values in all manifests, up to here"
                self._refuse(file.path, message, "split them over several hosts", "TooLarge")
                self.whole = False
                self.hosts_unsure = True
                return

    def _refuse(self, path: str, message: str, remedy: str, reason: str) -> None:
        self.problems.append(Problem(Location(path), "", message, remedy, reason))


def _may_be_host(candidate: Candidate, data: bytes) -> bool:
    """Whether a document is refused that is a Host, or was meant to be one: nearly so spelt, in a file that says so."""
    if not candidate.problems or candidate.of_class or candidate.name:
        return False
    kinds = _KIND.findall(data.replace(b"\0", b""))  # in UTF-16, too
    return candidate.of_host or any(
        difflib.get_close_matches(kind.decode().lower(), ["host"], cutoff=0.6) for kind in kinds
    )


def _result(
    candidates: list[Candidate], problems: list[Problem], source: str, *, complete: bool, whole: bool = True
) -> Load:
    manifests, found = check_together(with_classes(candidates, whole=whole))
    hosts, also = check_hosts(candidates)
    manifests.sort(key=lambda manifest: manifest.name)
    classes = sorted(candidate.named.metadata.name for candidate in candidates if candidate.named is not None)
    every = tuple(sorted((*problems, *found, *also)))
    return Load(tuple(manifests), every, complete, source, tuple(classes), tuple(hosts), hosts_unsure=bool(also))


def _unavailable(error: OSError | ValueError) -> tuple[str, str, str]:
    reason = "SourceUnavailable"
    if isinstance(error, FileNotFoundError):
        return "the folder does not exist", "make it and put manifests in it, or name another one", reason
    if isinstance(error, NotADirectoryError):
        return "this is not a folder", "name the folder that holds the manifests", reason
    if isinstance(error, PermissionError):
        return "the folder may not be read", "let the controller's account read it", reason
    what = error.strerror if isinstance(error, OSError) else str(error)
    return f"the folder cannot be read ({what})", "look at the disk and the mount", reason


def _unknown(source: str, message: str, remedy: str, reason: str) -> Load:
    return Load(problems=(Problem(Location(source), "", message, remedy, reason),), source=source)
