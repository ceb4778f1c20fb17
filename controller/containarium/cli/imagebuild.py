"""Bakes ahead of time what manifests need, for ``image build``."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from containarium.cli import errors
from containarium.cli.errors import CommandError
from containarium.cli.output import Format, complain, count, say, say_json
from containarium.cli.survey import folder_of, survey
from containarium.cli.wiring import Recipes, Wiring, wiring

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import datetime

    from containarium.cli.progress import LiveReporter, PlainReporter
    from containarium.cli.survey import Survey
    from containarium.model.host import HostError
    from containarium.model.manifest import Manifest
    from containarium.model.recipe import Baked, Recipe

_MOST_NAMES = 3

Manifests = Annotated[
    Path | None,
    typer.Option(
        "--manifests", "-f", help="Folder of manifests. Default: /etc/containarium/environments.", show_default=False
    ),
]


def build(
    context: typer.Context,
    names: Annotated[
        list[str] | None, typer.Argument(metavar="NAME", help="Environments. Default: all.", show_default=False)
    ] = None,
    everybody: Annotated[
        bool, typer.Option("--all", help="For all manifests of this host, as without a name.")
    ] = False,
    manifests: Manifests = None,
    output: Annotated[Format, typer.Option("--output", "-o", help="How to print it.")] = Format.TEXT,
) -> None:
    """Bake ahead of time what manifests need, each image once, so that creating them takes seconds.

    Before a class begins: containarium image build --all
    For two people: containarium image build alice bob

    Works beside the running controller; what is there already stays as it is.
    Exit code 1 when an image could not be built or a manifest does not load.
    """
    from containarium.model.observed import Look

    wired = wiring(context)
    wired.require_root("image build")
    if names and everybody:
        raise CommandError("there are names and --all", "give one or the other")
    found = survey(wired, folder_of(wired, None, manifests), Look.SHALLOW)
    needs = _needs(_chosen(found, names or [], wired.clock()))
    ends = _bake(wired, needs, quiet=output is Format.JSON) if needs else []
    problems = [] if names else [str(problem) for problem in found.load.problems]
    if output is Format.JSON:
        say_json({"images": [end.plain() for end in ends], "problems": problems})
    else:
        _tell_built(ends, problems)
    if problems or any(end.error for end in ends):
        raise typer.Exit(errors.FAILED)


@dataclass(frozen=True, slots=True)
class _Need:
    """A recipe, and the environments that need it."""

    recipe: Recipe
    names: tuple[str, ...]

    def __str__(self) -> str:
        more = len(self.names) - _MOST_NAMES
        return ", ".join(self.names if more <= 0 else (*self.names[:_MOST_NAMES], f"{more} more"))


@dataclass(frozen=True, slots=True)
class _End:
    """How it went with one recipe: ``built`` now or there before, or ``error``."""

    need: _Need
    baked: Baked | None = None
    built: bool = False
    error: HostError | None = None

    def plain(self) -> dict[str, Any]:
        """As JSON has it."""
        from containarium.model.recipe import short

        recipe, error = self.need.recipe, self.error
        return {
            "image": recipe.image,
            "packages": list(recipe.packages),
            "docker": recipe.docker,
            "environments": list(self.need.names),
            "result": "failed" if self.baked is None else "built" if self.built else "present",
            "recipe": short(self.baked.digest) if self.baked else None,
            "error": {"reason": error.reason, "message": error.message, "remedy": error.remedy} if error else None,
        }


def _chosen(found: Survey, names: Sequence[str], now: datetime) -> Iterator[Manifest]:
    """The manifests of these names; without any, all that there are for this host. Raises CommandError."""
    known = {manifest.name: manifest for manifest in found.load.manifests}
    for name in dict.fromkeys(names):
        if name not in known:
            for problem in found.load.problems:
                if problem.environment == name:
                    raise CommandError(f"{name} has a manifest that does not load: {problem}")
            raise CommandError(f"there is no manifest of {name}", "containarium list shows those there are")
        yield known[name]
    if names:
        return
    others = {*found.plan.elsewhere, *found.plan.suspended}
    for name, manifest in sorted(known.items()):
        expires = manifest.environment.spec.expires
        if name not in others and (expires is None or expires >= now.date()):
            yield manifest


def _needs(manifests: Iterator[Manifest]) -> list[_Need]:
    """Each recipe once, in the order in which it is first needed."""
    from containarium.plan.desired import recipe

    needed: dict[Recipe, list[str]] = {}
    for manifest in manifests:
        needed.setdefault(recipe(manifest), []).append(manifest.name)
    return [_Need(which, tuple(names)) for which, names in needed.items()]


def _bake(wired: Wiring, needs: Sequence[_Need], *, quiet: bool) -> list[_End]:
    """One after the other: each build has its lock, and uses the network and the disk as they are."""
    from concurrent.futures import ThreadPoolExecutor

    from containarium.cli.interrupt import Interrupt

    recipes, reporter = wired.recipes(wired.settings), _reporter(quiet=quiet)
    there = {baked.digest for baked in recipes.baked()}
    ends = []
    # In a thread, so that Ctrl-C lets the build that runs come to its end and begins no other.
    with Interrupt().heeded(), reporter.running(), ThreadPoolExecutor(max_workers=1) as pool:
        for need in needs:
            ends.append(end := pool.submit(_bake_one, recipes, need, there, reporter).result())
            there.update({end.baked.digest} if end.baked else ())
    for end in ends:
        bug = end.error.__cause__ if end.error is not None and end.error.reason == "InternalError" else None
        if isinstance(bug, Exception):
            complain(f"{end.need}: details of the internal error: {errors.keep(bug, wired.settings.state)}")
    return ends


def _bake_one(recipes: Recipes, need: _Need, there: set[str], told: LiveReporter | PlainReporter) -> _End:
    from containarium.model.action import Action
    from containarium.model.host import HostError
    from containarium.reconcile.execute import Failure, unexpected

    class Look(Action):
        """No plan's action: what a reporter says until the host has something to tell."""

        kind = "looking for the image"

    step = Look(environment=str(need))
    told.started(str(need), step)
    try:
        baked = recipes.bake(need.recipe, lambda line: told.progress(str(need), line))
    except Exception as error:  # noqa: BLE001 - whatever it is, the other images are built
        failed = error if isinstance(error, HostError) else unexpected(error)
        told.finished(str(need), Failure(str(need), step.kind, failed))
        return _End(need, error=failed)
    told.finished(str(need), None)
    return _End(need, baked, built=baked.digest not in there)


def _reporter(*, quiet: bool) -> LiveReporter | PlainReporter:
    from containarium.cli.progress import LiveReporter, PlainReporter

    if quiet or not sys.stdout.isatty() or os.environ.get("TERM") == "dumb":
        return PlainReporter(complain if quiet else say, lambda _plan: None)
    from rich.console import Console

    return LiveReporter(Console(highlight=False), lambda _plan: None)


def _tell_built(ends: Sequence[_End], problems: Sequence[str]) -> None:
    for end in ends:
        if end.baked is not None:
            say(f"{title(end.baked)}: {'built' if end.built else 'was there'}, for {end.need}")
        else:
            say(f"{end.need.recipe}: failed, for {end.need}: {end.error}", "red")
    for problem in problems:
        say(f"Refused: {problem}", "red")
    built = sum(end.built for end in ends)
    failed = sum(end.error is not None for end in ends)
    parts = [f"{count(built, 'image')} built", f"{len(ends) - built - failed} there before"]
    if failed:
        parts.append(f"{failed} failed")
    if problems:
        parts.append(f"{count(len(problems), 'problem')} in the manifests")
    bad = bool(failed or problems)
    say(f"{'Not all done' if bad else 'Done'}: {', '.join(parts)}.", "red" if bad else "green")


def title(baked: Baked) -> str:
    """An image as a line about it begins."""
    from containarium.model.recipe import short

    return f"{short(baked.digest)} ({baked.recipe})"
