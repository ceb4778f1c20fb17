"""The command ``sync``: the manifests' folder from a git repository."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from containarium.cli import errors
from containarium.cli.output import Format, complain, count, say, say_json
from containarium.cli.wiring import wiring

if TYPE_CHECKING:
    from containarium.model.syncing import SyncConfig
    from containarium.reconcile.sync import Outcome

CONFIG: Final = Path("/etc/containarium/sync.yaml")
_SHORT: Final = 12
_HISTORY: Final = {
    "rewound": "the branch was taken back to an earlier commit",
    "rewritten": "the history was rewritten",
}


def sync(
    context: typer.Context,
    repository: Annotated[
        str | None, typer.Option(metavar="URL", help="Take this repository instead.", show_default=False)
    ] = None,
    branch: Annotated[str | None, typer.Option(help="Follow this branch instead.", show_default=False)] = None,
    tag: Annotated[str | None, typer.Option(help="Follow this tag instead.", show_default=False)] = None,
    path: Annotated[
        str | None, typer.Option(metavar="FOLDER", help="Folder of the manifests in it.", show_default=False)
    ] = None,
    config: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Configuration.", show_default=str(CONFIG))
    ] = None,
    check: Annotated[bool, typer.Option("--check", help="Fetch, verify and validate, but do not swap.")] = False,
    any_history: Annotated[
        bool, typer.Option("--any-history", help="Take a signed commit that does not follow the one in use.")
    ] = False,
    output: Annotated[Format, typer.Option("--output", "-o", help="How to print it.")] = Format.TEXT,
) -> None:
    """Take the manifests over from a git repository.

    A commit that cannot be fetched, is not signed as it should be, or holds a manifest that is not valid is not taken
    over: the last good one stays in use, and the exit code is 1.
    """
    wired = wiring(context)
    wired.require_root("sync")
    given = {"repository": repository, "branch": branch, "tag": tag, "path": path}
    asked = _configuration(config, {name: value for name, value in given.items() if value is not None})
    from containarium.reconcile import sync as work

    outcome = work.sync(wired.settings, asked, wired.clock, check=check, any_history=any_history)
    if output is Format.JSON:
        say_json(outcome.as_json())
    else:
        _tell(outcome)
    if outcome.refused:
        raise typer.Exit(errors.FAILED)


def _configuration(file: Path | None, options: dict[str, str]) -> SyncConfig:
    from containarium.sources.syncfile import SyncFileError, merged, read_sync_file

    place = file or CONFIG
    try:
        found = read_sync_file(place) if file is not None or place.exists() else None
        if found is None and "repository" not in options:
            raise errors.CommandError(f"there is no {place}", "write one, or give --repository URL")
        return merged(found, options)
    except SyncFileError as refused:
        for problem in refused.problems[1:]:
            complain(str(problem))
        raise errors.CommandError(str(refused.problems[0])) from None


def _tell(outcome: Outcome) -> None:
    tip = outcome.commit[:_SHORT]
    number = count(outcome.environments, "environment")
    if outcome.refused:
        for problem in outcome.problems:
            say(problem)
        stays = f"{outcome.applied[:_SHORT]} stays in use" if outcome.applied else "nothing was taken over"
        complain(f"{count(len(outcome.problems), 'problem')} in commit {tip} of {outcome.ref}: {stays}", "red")
        return
    words = {
        "applied": f"{outcome.ref} of {outcome.repository} is in use now: commit {tip}, {number}",
        "unchanged": f"commit {tip} of {outcome.ref} is in use already, {number}",
        "valid": f"commit {tip} of {outcome.ref} is valid, {number}; it was not swapped in",
    }
    say(words[outcome.result], "green" if outcome.result == "applied" else None)
    if outcome.history in _HISTORY and outcome.before != outcome.commit:
        say(f"{_HISTORY[outcome.history]}: {outcome.before[:_SHORT]} was in use before", "yellow")
