"""Commands that need no host: validate, schema."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from containarium.cli import errors
from containarium.cli.output import complain, count, say
from containarium.cli.wiring import wiring


class Kind(StrEnum):
    """Kinds of manifest that have a schema."""

    ENVIRONMENT = "environment"
    CLASS = "environmentclass"
    HOST = "host"


def validate(
    context: typer.Context,
    path: Annotated[
        Path | None,
        typer.Argument(help="A folder of manifests or one file. Default: the host's own folder.", show_default=False),
    ] = None,
) -> None:
    """Check manifests without touching anything.

    Each mistake is one line: file, line, column, field, what is wrong, what to write instead. Needs no host.
    """
    from containarium.sources.directory import load, load_file

    place = path or wiring(context).settings.manifests
    if not place.exists():
        raise errors.CommandError(f"there is no {place}", "name a folder or a file that holds manifests")
    found = load(place) if place.is_dir() else load_file(place)
    for problem in found.problems:
        say(str(problem))
    if found.problems:
        complain(f"{count(len(found.problems), 'problem')} in {place}", "red")
        raise typer.Exit(errors.FAILED)
    if not (found.manifests or found.classes or found.hosts):
        raise errors.CommandError(f"there are no manifests in {place}", "name a folder that holds *.yaml files")
    number = len(found.manifests)
    classes = f"{len(found.classes)} class{'es' if len(found.classes) > 1 else ''}" if found.classes else ""
    beside = " and ".join(filter(None, (classes, count(len(found.hosts), "host") if found.hosts else "")))
    with_others = f", with {beside}" if beside else ""
    say(f"{count(number, 'environment')} {'is' if number == 1 else 'are'} valid{with_others}")


def schema(
    kind: Annotated[Kind, typer.Argument(help="Which manifest.")] = Kind.ENVIRONMENT,
) -> None:
    """Print the JSON Schema of a manifest.

    Editors complete and check manifests with it: yaml-language-server reads it from the first line of a file.
    """
    from containarium.model.schema import class_schema_text, host_schema_text, schema_text

    texts = {Kind.ENVIRONMENT: schema_text, Kind.CLASS: class_schema_text, Kind.HOST: host_schema_text}
    say(texts[kind]().rstrip("\n"))
