"""What is wrong with a manifest's fields, said to somebody who writes YAML and has never heard of the validator."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from containarium.model.base import InvalidValueError, ManifestModel, shown
from containarium.model.environment import (
    API_VERSION,
    KIND,
    Deletion,
    Environment,
    Metadata,
    Network,
    Placement,
    Resources,
    Snapshots,
    Spec,
)
from containarium.model.hostmanifest import (
    Admin,
    HostManifest,
    HostMetadata,
    HostNetwork,
    HostSpec,
    Identity,
    IncusSource,
    Login,
    Logs,
    Repository,
    Storage,
)

if TYPE_CHECKING:
    from pydantic import ValidationError
    from pydantic_core import ErrorDetails

_MODELS: Final[dict[str, type[ManifestModel]]] = {
    "": Environment,
    "metadata": Metadata,
    "spec": Spec,
    "spec.resources": Resources,
    "spec.network": Network,
    "spec.snapshots": Snapshots,
    "spec.placement": Placement,
    "spec.deletion": Deletion,
}
"""The model behind every path of the manifest that holds named fields."""

_HOST_MODELS: Final[dict[str, type[ManifestModel]]] = {
    "": HostManifest,
    "metadata": HostMetadata,
    "spec": HostSpec,
    "spec.incus": IncusSource,
    "spec.incus.repository": Repository,
    "spec.storage": Storage,
    "spec.network": HostNetwork,
    "spec.login": Login,
    "spec.admins[]": Admin,
    "spec.logs": Logs,
    "spec.identity": Identity,
}
_INDEX: Final = re.compile(r"\[[0-9]+\]")


_ADD: Final = {
    "apiVersion": f"add apiVersion: {API_VERSION}",
    "kind": f"add kind: {KIND}",
    "metadata": "add metadata with a name",
    "metadata.name": "add name with the person's account name",
    "spec": "add spec with sshKeys",
    "spec.sshKeys": "add sshKeys with at least one public key",
    "spec.placement.host": "add host with a host's name, or leave placement out",
}


_HOST_ADD: Final = {
    "apiVersion": f"add apiVersion: {API_VERSION}",
    "metadata": "add metadata with a name",
    "metadata.name": "add name with what hostname -s says on that machine",
    "spec.admins[].name": "add name with the admin's account name",
    "spec.admins[].sshKeys": "add sshKeys with at least one public key",
    "spec.incus.repository.key": "add key with the armoured public key that the repository is signed with",
    "spec.identity.hostKeys": "copy what containarium host manifest prints on that machine",
    "spec.identity.peerKey": "copy what containarium host manifest prints on that machine",
}


class Form:
    """What can be written in one kind of manifest. Lists count as one place: ``spec.admins[].name``."""

    def __init__(self, models: Mapping[str, type[ManifestModel]], add: Mapping[str, str]) -> None:
        """``models`` holds the model behind every path with named fields, ``add`` what to do about missing ones."""
        self.add = add
        self.fields = {
            path: tuple(field.alias or name for name, field in model.model_fields.items())
            for path, model in models.items()
        }
        self._python_only = {
            f"{path}.{name}".lstrip("."): field.alias
            for path, model in models.items()
            for name, field in model.model_fields.items()
            if field.alias and field.alias != name
        }

    def alias(self, path: str) -> str | None:
        """How a field that is written as Python names it (``spec.ssh_keys``) is really called."""
        return self._python_only.get(place(path))


def place(path: str) -> str:
    """A path without the numbers of list items."""
    return _INDEX.sub("[]", path)


ENVIRONMENT: Final = Form(_MODELS, _ADD)
HOST: Final = Form(_HOST_MODELS, _HOST_ADD)

_ITS_OWN: Final = "write it into the environments: each has its own"
_CLASS_REMEDIES: Final = {
    "metadata.name": "write name with what environments name in spec.class, such as student",
    "metadata.annotations": "write them into the environments, or labels here",
    "spec": "add spec with what its environments have in common",
    "spec.sshKeys": _ITS_OWN,
    "spec.network": _ITS_OWN,
    "spec.class": "write it out: a class has no class",
}


class Refusal(NamedTuple):
    """One field that is wrong. ``at_key``: its name is at fault, not its value."""

    field: str
    message: str
    remedy: str
    at_key: bool = False


def refusals(error: ValidationError, form: Form = ENVIRONMENT) -> list[Refusal]:
    """Every refusal that a failed validation holds."""
    return [_refusal(detail, form) for detail in error.errors(include_url=False)]


def class_refusals(error: ValidationError) -> list[Refusal]:
    """The same for an EnvironmentClass, whose remedies know what is no class's to say."""
    unfit = ("extra_forbidden", "missing")
    return [
        refusal._replace(remedy=_CLASS_REMEDIES.get(refusal.field, refusal.remedy))
        if detail["type"] in unfit
        else refusal
        for detail, refusal in zip(error.errors(include_url=False), refusals(error), strict=True)
    ]


def python_spellings(fields: Mapping[str, Any], form: Form = ENVIRONMENT) -> list[Refusal]:
    """Fields written as Python names them (``ssh_keys``), which the models would take."""
    return [
        Refusal(path, f"there is no field {path.rpartition('.')[2]!r}", f"did you mean {alias}?", at_key=True)
        for path in fields
        if (alias := form.alias(path))
    ]


def join(location: tuple[int | str, ...]) -> str:
    """The validator's location as the manifest's dotted path."""
    path = ""
    for part in location:
        if isinstance(part, int):
            path += f"[{part}]"
        elif part != "[key]":
            path = f"{path}.{part}" if path else part
    return path


def _refusal(detail: ErrorDetails, form: Form) -> Refusal:
    path = join(detail["loc"])
    kind = detail["type"]
    name = str(detail["loc"][-1]) if detail["loc"] else ""
    if kind == "extra_forbidden":
        return Refusal(path, f"there is no field {shown(name)}", _unknown(path, name, form), at_key=True)
    if kind == "missing":
        return Refusal(path, f"{name} is missing", form.add.get(place(path), "add it"))
    cause = detail.get("ctx", {}).get("error")
    if isinstance(cause, InvalidValueError):
        return Refusal(path, cause.message, cause.remedy, at_key=name == "[key]")
    message, remedy = _wrong_kind(kind, detail["input"], detail.get("ctx", {}))
    return Refusal(path, message or detail["msg"], remedy, at_key=name == "[key]")


def _wrong_kind(kind: str, value: Any, context: dict[str, Any]) -> tuple[str, str]:
    what = shown(value)
    if value is None:
        return "nothing is written here", "write a value, or leave the field out"
    match kind:
        case "string_type":
            if isinstance(value, float):
                return f"the number {what} is not text", "put it in quotes"
            return f"{what} is not text", f'put it in quotes: "{what}"' if isinstance(value, int) else "write text"
        case "bool_type":
            return f"{what} is neither true nor false", "write true or false, without quotes"
        case "int_type" | "int_parsing" | "int_from_float":
            digits = value.lstrip("0") if isinstance(value, str) and value.isdecimal() else ""
            plain = digits[:18] or "digits only"
            return f"{what} is not a whole number", f"write {plain}, without quotes or leading zeros"
        case "greater_than_equal":
            return f"{what} is too low", f"write {context.get('ge')} or more"
        case "less_than_equal":
            return f"{what} is too high", f"write {context.get('le')} or less"
        case "tuple_type":
            return f"{what} is not a list", "write each item on a line of its own, after '- '"
        case "dict_type" | "model_type" | "model_attributes_type":
            return f"{what} is not a mapping", "write NAME: VALUE lines below it, indented"
        case "literal_error":
            return f"{what} is not known", f"write {context.get('expected', '')}".replace("'", "")
    return "", ""


def _unknown(path: str, name: str, form: Form) -> str:
    parent = place(path[: -len(name) - 1] if path != name else "")
    known = form.fields.get(parent, ())
    close = difflib.get_close_matches(name.lower(), [k.lower() for k in known], n=1, cutoff=0.7)
    if close:
        return f"did you mean {next(k for k in known if k.lower() == close[0])}?"
    homes = [home for home, fields in form.fields.items() if name in fields and home != parent]
    if len(homes) == 1:
        return f"it belongs in {homes[0]}" if homes[0] else "it belongs to the left edge, outside of this"
    return f"known here are {', '.join(known)}" if known else "leave it out"
