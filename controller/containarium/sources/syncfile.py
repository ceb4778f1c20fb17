"""``/etc/containarium/sync.yaml``: read as strictly as a manifest, and refused in the same words."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError

from containarium.model.base import ManifestModel, shown
from containarium.model.problem import Location, Origin, Problem
from containarium.model.syncing import GPGSigners, SSHSigners, SyncConfig, Verify
from containarium.sources.refusals import Refusal, refusals
from containarium.sources.text import TextError, decode
from containarium.sources.yamltree import Budget, Document, read_documents

_MODELS: Final[dict[str, type[ManifestModel]]] = {
    "": SyncConfig,
    "verify": Verify,
    "verify.ssh": SSHSigners,
    "verify.gpg": GPGSigners,
}
_ADD: Final = {
    "repository": "add repository with its address, such as git@HOST:PATH",
    "verify.ssh.allowedSigners": "add allowedSigners with the path of a file",
    "verify.gpg.keyring": "add keyring with the path of a file of public keys",
}


class SyncFileError(Exception):
    """The file is refused. ``problems`` says line by line why."""

    def __init__(self, problems: list[Problem]) -> None:
        super().__init__(str(problems[0]))
        self.problems = problems


def read_sync_file(path: Path) -> SyncConfig:
    """The configuration in a file. Raises SyncFileError for what it holds, OSError where it cannot be read."""
    with path.open("rb") as file:
        data = file.read(1 << 20)
    name = str(path)
    try:
        documents = list(read_documents(decode(data), Budget()))
    except TextError as error:
        fault = error.fault
        problem = Problem(Location(name, *fault.position), "", fault.message, fault.remedy, "SyntaxError")
        raise SyncFileError([problem]) from None
    if len(documents) != 1:
        what = "the file is empty" if not documents else "there is more than one document"
        raise SyncFileError([Problem(Location(name), "", what, "write one mapping, beginning with repository:")])
    document = documents[0]
    faults = [
        Problem(Location(name, *fault.position), fault.path, fault.message, fault.remedy, "SyntaxError")
        for fault in document.faults
    ]
    if faults:
        raise SyncFileError(faults)
    return _validated(name, document)


def merged(config: SyncConfig | None, options: Mapping[str, str]) -> SyncConfig:
    """A configuration with what the command line says instead. Raises SyncFileError, which names the options."""
    data: dict[str, Any] = dict(config) if config is not None else {}
    if "branch" in options or "tag" in options:
        data.update(branch=None, tag=None)
    try:
        return SyncConfig.model_validate({**data, **options})
    except ValidationError as error:
        problems = [Problem(Location("--" + r.field), "", r.message, r.remedy) for r in _reworded(error)]
        raise SyncFileError(problems) from None


def _validated(name: str, document: Document) -> SyncConfig:
    if not isinstance(document.data, dict):
        problem = Problem(
            Location(name, 1, 1), "", f"{shown(document.data)} is not a mapping", "write NAME: VALUE lines"
        )
        raise SyncFileError([problem])
    origin = Origin(name, document.positions)
    refused = _python_spellings(document.keys)
    if not refused:
        try:
            return SyncConfig.model_validate(document.data)
        except ValidationError as error:
            refused = _reworded(error)
    problems = []
    for refusal in refused:
        at = document.keys.get(refusal.field) if refusal.at_key else None
        location = Location(name, *at) if at else origin.locate(refusal.field)
        problems.append(Problem(location, refusal.field, refusal.message, refusal.remedy))
    raise SyncFileError(problems)


def _reworded(error: ValidationError) -> list[Refusal]:
    """The refusals, with remedies that know the fields of this file instead of a manifest's."""
    reworded = []
    for detail, refusal in zip(error.errors(include_url=False), refusals(error), strict=True):
        if detail["type"] == "extra_forbidden":
            parent, _, name = refusal.field.rpartition(".")
            refusal = refusal._replace(remedy=_known(parent, name))  # noqa: PLW2901
        elif detail["type"] == "missing":
            refusal = refusal._replace(remedy=_ADD.get(refusal.field, "add it"))  # noqa: PLW2901
        reworded.append(refusal)
    return reworded


def _fields(parent: str) -> list[str]:
    model = _MODELS.get(parent)
    return [field.alias or name for name, field in model.model_fields.items()] if model else []


def _known(parent: str, name: str) -> str:
    known = _fields(parent)
    close = difflib.get_close_matches(name.lower(), [field.lower() for field in known], n=1, cutoff=0.7)
    if close:
        return f"did you mean {next(field for field in known if field.lower() == close[0])}?"
    return f"known here are {', '.join(known)}" if known else "leave it out"


def _python_spellings(keys: Mapping[str, Any]) -> list[Refusal]:
    """Fields written as Python names them, which the models would take."""
    return [
        Refusal(path, f"there is no field '{name}'", f"did you mean {field.alias}?", at_key=True)
        for parent, model in _MODELS.items()
        for name, field in model.model_fields.items()
        if field.alias != name and (path := f"{parent}.{name}".lstrip(".")) in keys
    ]
