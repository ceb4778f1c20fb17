"""What is wrong with a manifest's fields, said to somebody who writes YAML and has never heard of the validator."""

from __future__ import annotations

import difflib
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

if TYPE_CHECKING:
    from pydantic import ValidationError
    from pydantic_core import ErrorDetails

MODELS: Final[dict[str, type[ManifestModel]]] = {
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

FIELDS: Final[dict[str, tuple[str, ...]]] = {
    path: tuple(field.alias or name for name, field in model.model_fields.items()) for path, model in MODELS.items()
}

_PYTHON_ONLY: Final = {
    f"{path}.{name}".lstrip("."): field.alias
    for path, model in MODELS.items()
    for name, field in model.model_fields.items()
    if field.alias and field.alias != name
}

_ADD: Final = {
    "apiVersion": f"add apiVersion: {API_VERSION}",
    "kind": f"add kind: {KIND}",
    "metadata": "add metadata with a name",
    "metadata.name": "add name with the person's account name",
    "spec": "add spec with sshKeys",
    "spec.sshKeys": "add sshKeys with at least one public key",
    "spec.placement.host": "add host with a host's name, or leave placement out",
}


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


def refusals(error: ValidationError) -> list[Refusal]:
    """Every refusal that a failed validation holds."""
    return [_refusal(detail) for detail in error.errors(include_url=False)]


def class_refusals(error: ValidationError) -> list[Refusal]:
    """The same for an EnvironmentClass, whose remedies know what is no class's to say."""
    unfit = ("extra_forbidden", "missing")
    return [
        refusal._replace(remedy=_CLASS_REMEDIES.get(refusal.field, refusal.remedy))
        if detail["type"] in unfit
        else refusal
        for detail, refusal in zip(error.errors(include_url=False), refusals(error), strict=True)
    ]


def python_spellings(fields: dict[str, Any]) -> list[Refusal]:
    """Fields written as Python names them (``ssh_keys``), which the models would take."""
    return [
        Refusal(path, f"there is no field {path.rpartition('.')[2]!r}", f"did you mean {alias}?", at_key=True)
        for path, alias in _PYTHON_ONLY.items()
        if path in fields
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


def _refusal(detail: ErrorDetails) -> Refusal:
    path = join(detail["loc"])
    kind = detail["type"]
    name = str(detail["loc"][-1]) if detail["loc"] else ""
    if kind == "extra_forbidden":
        return Refusal(path, f"there is no field {shown(name)}", _unknown(path, name), at_key=True)
    if kind == "missing":
        return Refusal(path, f"{name} is missing", _ADD.get(path, "add it"))
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


def _unknown(path: str, name: str) -> str:
    parent = path[: -len(name) - 1] if path != name else ""
    known = FIELDS.get(parent, ())
    close = difflib.get_close_matches(name.lower(), [k.lower() for k in known], n=1, cutoff=0.7)
    if close:
        return f"did you mean {next(k for k in known if k.lower() == close[0])}?"
    homes = [home for home, fields in FIELDS.items() if name in fields and home != parent]
    if len(homes) == 1:
        return f"it belongs in {homes[0]}" if homes[0] else "it belongs to the left edge, outside of this"
    return f"known here are {', '.join(known)}" if known else "leave it out"
