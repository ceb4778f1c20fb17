"""Environments and the classes that they name, which may stand in another file."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import replace

from pydantic import ValidationError

from containarium.model.base import shown
from containarium.model.environmentclass import EnvironmentClass, merged
from containarium.model.problem import Problem
from containarium.sources.documents import Candidate

_FIELD = "spec.class"
_NAME = "metadata.name"


def with_classes(candidates: Sequence[Candidate], *, whole: bool) -> list[Candidate]:
    """The candidates as their classes make them; whose class is missing or broken has a problem instead.

    None of those given is changed. ``whole`` is false where classes may stand in files that were not read: an
    environment whose class is not among these is then taken as it is.
    """
    classes: dict[str, list[Candidate]] = {}
    for candidate in candidates:
        if candidate.named is not None:
            classes.setdefault(candidate.named.metadata.name, []).append(candidate)
    if not any(candidate.of_class or _class_of(candidate) for candidate in candidates):
        return list(candidates)
    broken = any(candidate.of_class and candidate.named is None for candidate in candidates)
    good = {name: found[0].named for name, found in classes.items() if len(found) == 1}
    found: list[Candidate] = []
    for candidate in candidates:
        if candidate.named is not None:
            found.append(_alone(candidate, classes[candidate.named.metadata.name]))
        elif name := _class_of(candidate):
            found.append(_in_class(candidate, name, good, classes, broken=broken, whole=whole))
        else:
            found.append(candidate)
    return found


def _class_of(candidate: Candidate) -> str:
    """The class that it names; empty where it names none."""
    return (candidate.manifest.environment.spec.class_name or "") if candidate.manifest is not None else ""


def _alone(candidate: Candidate, others: Sequence[Candidate]) -> Candidate:
    """A class, with a problem if it is not the only one of its name."""
    if len(others) == 1 or candidate.named is None:
        return candidate
    places = ", ".join(str(other.origin.locate(_NAME)) for other in others if other is not candidate)
    problem = Problem(
        candidate.origin.locate(_NAME),
        _NAME,
        f"the class {candidate.named.metadata.name} is there twice: {places}",
        "keep one of them, or rename one",
        "DuplicateName",
    )
    return replace(candidate, problems=[*candidate.problems, problem])


def _in_class(
    candidate: Candidate,
    name: str,
    good: Mapping[str, EnvironmentClass | None],
    classes: Mapping[str, Sequence[Candidate]],
    *,
    broken: bool,
    whole: bool,
) -> Candidate:
    named = good.get(name)
    if candidate.manifest is None or (named is None and name not in classes and not whole):
        return candidate
    if named is None:
        return _refused(candidate, *_missing(name, classes, broken=broken))
    try:
        environment = merged(candidate.manifest.environment, named)
    except ValidationError as error:  # each of them is valid, and so should both together be
        return _refused(candidate, f"with its class it is not valid: {error.errors()[0]['msg']}", "write it out here")
    return replace(candidate, manifest=replace(candidate.manifest, environment=environment))


def _missing(name: str, classes: Mapping[str, Sequence[Candidate]], *, broken: bool) -> tuple[str, str]:
    if name in classes:
        return f"the class {name} is there twice", "keep one of them"
    close = difflib.get_close_matches(name, classes, n=1)
    if close:
        return f"there is no class {shown(name)}", f"did you mean {close[0]}?"
    if broken:
        return f"there is no class {shown(name)} that loads", "mend the classes that are named here"
    return f"there is no class {shown(name)}", "write one (kind: EnvironmentClass), or leave the field out"


def _refused(candidate: Candidate, message: str, remedy: str) -> Candidate:
    problem = Problem(candidate.origin.locate(_FIELD), _FIELD, message, remedy, "ClassMissing", candidate.name)
    return replace(candidate, manifest=None, key_fields=(), problems=[*candidate.problems, problem])
