"""One manifest file to environments: every document becomes a candidate, with a manifest or with its problems."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from pydantic import ValidationError

from containarium.model.base import InvalidValueError, shown
from containarium.model.environment import API_VERSION, KIND, Environment, KeyFile
from containarium.model.environmentclass import KIND as CLASS_KIND
from containarium.model.environmentclass import EnvironmentClass
from containarium.model.fields import check_name
from containarium.model.hostmanifest import KIND as HOST_KIND
from containarium.model.hostmanifest import HostManifest
from containarium.model.manifest import DeclaredHost, Manifest
from containarium.model.problem import Location, Origin, Problem
from containarium.model.sshkey import SSHKey
from containarium.sources.keyfiles import KeyFault, KeyFiles
from containarium.sources.refusals import ENVIRONMENT, HOST, Refusal, class_refusals, python_spellings, refusals
from containarium.sources.text import TextError, decode
from containarium.sources.yamltree import Budget, Document, read_documents

MAX_TOLD: Final = 100
"""Problems that are told about one file before the rest of it is left unread."""


@dataclass(slots=True)
class Candidate:
    """An Environment document. ``name`` is empty while unknown; ``manifest`` is None where there are problems.

    ``key_fields`` names, for every key of the manifest, the field that it came from.
    """

    name: str
    origin: Origin
    manifest: Manifest | None = None
    key_fields: tuple[str, ...] = ()
    problems: list[Problem] = field(default_factory=list)
    of_class: bool = False
    """It is an EnvironmentClass, ``named`` if it is a good one, and not an Environment."""
    named: EnvironmentClass | None = None
    of_host: bool = False
    """It is a Host, ``host`` if it is a good one, and not an Environment."""
    host: DeclaredHost | None = None

    @property
    def somebody(self) -> bool:
        """Whether it is an Environment, or was meant to be one."""
        return not (self.of_class or self.of_host) or bool(self.problems)


def read_candidates(path: str, data: bytes, keys: KeyFiles, budget: Budget) -> Iterator[Candidate]:
    """Every Environment in a file, and every document that might be one. Raises BudgetExceededError."""
    if not data.strip():
        yield _whole_file(path, "the file is empty", "write a manifest into it, or delete it", "FileEmpty")
        return
    try:
        text = decode(data)
    except TextError as error:
        fault = error.fault
        problem = Problem(Location(path, *fault.position), "", fault.message, fault.remedy, "SyntaxError")
        yield Candidate("", Origin(path), problems=[problem])
        return
    told = 0
    for document in read_documents(text, budget):
        candidate = _candidate(path, document, keys)
        if candidate is not None:
            told += len(candidate.problems)
            yield candidate
        if told > MAX_TOLD:
            yield _whole_file(path, "there are more problems than are told here", "mend the others first", "TooMany")
            return


def _whole_file(path: str, message: str, remedy: str, reason: str) -> Candidate:
    return Candidate("", Origin(path), problems=[Problem(Location(path), "", message, remedy, reason)])


def _candidate(path: str, document: Document, keys: KeyFiles) -> Candidate | None:
    data = document.data
    kind = data.get("kind", KIND) if isinstance(data, dict) else None
    name = _name(data) if _means_environment(kind) else ""
    candidate = Candidate(
        name, Origin(path, document.positions), of_class=kind == CLASS_KIND, of_host=kind == HOST_KIND
    )
    if document.faults:
        candidate.problems = [
            Problem(Location(path, *fault.position), fault.path, fault.message, fault.remedy, "SyntaxError", name)
            for fault in document.faults[:MAX_TOLD]
        ]
        return candidate
    if data is None:
        return None
    form = HOST if candidate.of_host else ENVIRONMENT
    refused = _wrong_kind(data, kind) or python_spellings(document.keys, form) or _read(candidate, data, keys)
    for refusal in refused[:MAX_TOLD]:
        at = document.keys.get(refusal.field) if refusal.at_key else None
        location = Location(path, *at) if at else candidate.origin.locate(refusal.field)
        candidate.problems.append(
            Problem(location, refusal.field, refusal.message, refusal.remedy, environment=candidate.name)
        )
    return candidate


def _read(candidate: Candidate, data: Any, keys: KeyFiles) -> list[Refusal]:
    """Make of it what its kind says, or return why that cannot be."""
    try:
        if candidate.of_class:
            candidate.named = EnvironmentClass.model_validate(data)
        elif candidate.of_host:
            _add_host(candidate, HostManifest.model_validate(data), keys)
        else:
            _add_keys(candidate, Environment.model_validate(data), keys)
    except ValidationError as error:
        if candidate.of_class:
            return class_refusals(error)
        return refusals(error, HOST if candidate.of_host else ENVIRONMENT)
    return []


def _name(data: Any) -> str:
    """The name that a document gives itself, if it is one."""
    metadata = data.get("metadata") if isinstance(data, dict) else None
    name = metadata.get("name") if isinstance(metadata, dict) else None
    try:
        return check_name(name) if isinstance(name, str) else ""
    except InvalidValueError:
        return ""


def _wrong_kind(data: Any, kind: Any) -> list[Refusal]:
    if not isinstance(data, dict):
        return [Refusal("", f"{shown(data)} is not a manifest", f"begin with apiVersion: {API_VERSION}")]
    if "kind" not in data and "apiVersion" not in data:
        message = "this is not a manifest: it has neither apiVersion nor kind"
        return [Refusal("", message, f"begin with apiVersion: {API_VERSION} and kind: {KIND}, or keep it elsewhere")]
    if kind in (KIND, CLASS_KIND, HOST_KIND) or "kind" not in data:
        return []
    remedy = f"write kind: {KIND}" + ("" if _means_environment(kind) else ", or keep this file elsewhere")
    return [Refusal("kind", f"the kind {shown(kind)} is not known", remedy)]


def _means_environment(kind: Any) -> bool:
    """Whether it says Environment, or nearly: a ConfigMap named alice must not stand in alice's way."""
    return kind == KIND or (
        isinstance(kind, str)
        and kind not in (CLASS_KIND, HOST_KIND)
        and bool(difflib.get_close_matches(kind.lower(), [KIND.lower()], cutoff=0.6))
    )


def _add_keys(candidate: Candidate, environment: Environment, files: KeyFiles) -> None:
    """Read and parse every key; the manifest is made only when all of them are good."""
    found = _keys(candidate, environment.spec.ssh_keys, "spec.sshKeys", files)
    if not candidate.problems:
        candidate.manifest = Manifest(environment, tuple(key for key, _ in found), candidate.origin)
        candidate.key_fields = tuple(path for _, path in found)


def _add_host(candidate: Candidate, manifest: HostManifest, files: KeyFiles) -> None:
    """The same for the keys of a host's admins."""
    admins = {
        admin.name: tuple(key for key, _ in _keys(candidate, admin.ssh_keys, f"spec.admins[{index}].sshKeys", files))
        for index, admin in enumerate(manifest.spec.admins)
    }
    if not candidate.problems:
        candidate.host = DeclaredHost(manifest, admins, candidate.origin)


def _keys(
    candidate: Candidate, sources: Sequence[str | KeyFile], field: str, files: KeyFiles
) -> list[tuple[SSHKey, str]]:
    """Every key once, and the field that it came from. What is wrong with one goes to the candidate's problems."""
    found: dict[str, tuple[SSHKey, str]] = {}
    for index, source in enumerate(sources):
        path = f"{field}[{index}]"
        if isinstance(source, str):
            try:
                keys: tuple[SSHKey, ...] | KeyFault = (SSHKey.parse(source),)
            except InvalidValueError as error:
                keys = KeyFault(error.message, error.remedy)
        else:
            keys = files.read(source.file)
        if isinstance(keys, KeyFault):
            location = keys.location or candidate.origin.locate(path)
            problem = Problem(location, path, keys.message, keys.remedy, "KeyInvalid", candidate.name)
            candidate.problems.append(problem)
            continue
        for key in keys:
            found.setdefault(key.identity, (key, path))
    return list(found.values())
