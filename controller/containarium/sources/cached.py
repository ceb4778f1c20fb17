"""A folder of manifests that is read again and again: the bytes every time, the YAML only where they are new.

Reading the bytes of a file costs about what asking for its time stamps costs, so no time stamp is trusted: neither a
coarse clock nor a network file system can hide a change. Everything else is ``directory.load`` itself.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from containarium.model.manifest import Load, Manifest
from containarium.model.sshkey import SSHKey
from containarium.sources.directory import Reader, load
from containarium.sources.documents import Candidate, read_candidates
from containarium.sources.keyfiles import KeyFault, KeyFiles
from containarium.sources.yamltree import Budget

_Keys = tuple[SSHKey, ...] | KeyFault


class CachedSource:
    """Loads one folder, cheaply when little has changed. For one thread at a time."""

    def __init__(self, folder: Path, read: Reader = read_candidates) -> None:
        """Nothing is read before the first ``load``. ``read`` is asked about every file that is new."""
        self._folder = folder
        self._memory = Memory(read)
        self._last: Load | None = None
        self._revisions: dict[str, tuple[Manifest, str]] = {}
        self._generation = 0

    def load(self) -> Load:
        """What ``directory.load`` returns for the folder now. Never raises for what is in it."""
        self._memory.begin()
        result = load(self._folder, self._memory.read)
        if result.complete:
            self._memory.forget_unused()
        if result != self._last:
            self._generation += 1
            self._last = result
            self._revisions = {manifest.name: self._revised(manifest) for manifest in result.manifests}
        return result

    @property
    def generation(self) -> int:
        """Goes up whenever a load differs from the one before in manifests, problems or completeness; 0 before any."""
        return self._generation

    def revision(self, name: str) -> str:
        """A digest of an environment's manifest and keys as last loaded, wherever they are written; empty without."""
        return self._revisions[name][1] if name in self._revisions else ""

    def _revised(self, manifest: Manifest) -> tuple[Manifest, str]:
        known = self._revisions.get(manifest.name)
        if known is not None and known[0] is manifest:
            return known
        declared = manifest.environment.model_dump(mode="json")
        digest = hashlib.sha256(json.dumps(declared, sort_keys=True).encode())
        for key in manifest.keys:
            digest.update(f"\n{key.type} {key.blob} {key.comment}".encode())
        return manifest, digest.hexdigest()


@dataclass(frozen=True, slots=True)
class _Known:
    """What a file came to, and all that this depended on besides its path."""

    content: bytes
    keys: tuple[tuple[str, _Keys], ...]
    nodes: int
    candidates: tuple[Candidate, ...]


class Memory:
    """Stands in for ``read_candidates`` and remembers what came of every file."""

    def __init__(self, read: Reader = read_candidates) -> None:
        self._read = read
        self._known: dict[str, _Known] = {}
        self._used: set[str] = set()

    def begin(self) -> None:
        """A load begins."""
        self._used.clear()

    def forget_unused(self) -> None:
        """Drop the files that were not read since ``begin``."""
        self._known = {path: known for path, known in self._known.items() if path in self._used}

    def read(self, path: str, data: bytes, keys: KeyFiles, budget: Budget) -> Iterator[Candidate]:
        """The same candidates, problems and spent budget as ``read_candidates``. Raises BudgetExceededError."""
        self._used.add(path)
        content = hashlib.sha256(data).digest()
        known = self._known.get(path)
        # key files are compared by what is in them now; asking in the same order counts the same bytes
        if (
            known is not None
            and known.content == content
            and known.nodes <= budget.nodes
            and all(keys.read(file) == found for file, found in known.keys)
        ):
            budget.spend(known.nodes)
            yield from known.candidates
            return
        self._known.pop(path, None)
        before, asked = budget.nodes, _Asked(keys)
        candidates = []
        for candidate in self._read(path, data, asked, budget):
            candidates.append(candidate)
            yield candidate
        if any(not problem.location.line for candidate in candidates for problem in candidate.problems):
            return  # what has no line may be a shortage of memory: next time it may go well
        nodes = before - budget.nodes
        self._known[path] = _Known(content, tuple(asked.answers.items()), nodes, tuple(candidates))


class _Asked(KeyFiles):
    """Passes every question on, and remembers the answers."""

    def __init__(self, inner: KeyFiles) -> None:
        self._inner = inner
        self.answers: dict[str, _Keys] = {}

    def read(self, path: str) -> _Keys:
        answer = self._inner.read(path)
        self.answers[path] = answer
        return answer
