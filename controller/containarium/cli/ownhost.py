"""Which Host manifest is this machine's: found once for a command, told in lines where it cannot be."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from containarium.cli import errors
from containarium.cli.output import complain, count
from containarium.host.hostname import own_name

if TYPE_CHECKING:
    from containarium.host.settings import HostSettings
    from containarium.model.manifest import Declaration


def own_declaration(settings: HostSettings, file: Path | None = None) -> Declaration:
    """What this machine is declared to be; with ``file``, by that. Broken ones are told, and end the command."""
    from containarium.model.manifest import Load
    from containarium.sources.directory import load
    from containarium.sources.ownhost import RefusedError, declaration, declared_by

    if file is not None and not file.exists():
        raise errors.CommandError(f"there is no {file}", "name the file of a Host manifest")
    # No folder yet is no fault: it is what a new machine has, and it is made by the preparation.
    found = load(settings.manifests) if settings.manifests.exists() else Load(complete=True)
    try:
        if file is not None:
            return declared_by(file, found, own_name())
        return declaration(found, settings.host_manifest, own_name())
    except RefusedError as error:
        for problem in error.problems:
            complain(f"containarium: error: {problem}")
        complain(f"{count(len(error.problems), 'problem')} in this machine's Host manifest; nothing was changed")
        raise typer.Exit(errors.FAILED) from None
