"""Images with everything in them that environments are made from: list them, bake ahead of time, remove unused ones."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from containarium.cli import imagebuild
from containarium.cli.errors import CommandError
from containarium.cli.imagebuild import Manifests, title
from containarium.cli.output import ListFormat, count, say, say_json, say_table, say_yaml
from containarium.cli.survey import folder_of, read
from containarium.cli.wiring import Wiring, wiring

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from containarium.model.recipe import Baked, Recipe

_HEADERS = ("RECIPE", "IMAGE", "PACKAGES", "DOCKER", "SIZE", "BUILT", "USED BY", "LAST USED", "STATE")
_MOST_PACKAGES = 4
"""Packages of one recipe in a table; -o json has all."""

app = typer.Typer(
    help="Images with packages in them, baked once, that environments are copied from.",
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback(invoke_without_command=True)
def group(context: typer.Context) -> None:
    """Images with packages in them, baked once, that environments are copied from.

    The first environment with certain packages takes as long as installing them; from then on there is an image.
    """
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


@app.command("list")
def list_(
    context: typer.Context,
    output: Annotated[ListFormat, typer.Option("--output", "-o", help="How to print it.")] = ListFormat.TABLE,
) -> None:
    """List the baked images of this host: what is in them, who was made from them, and when.

    "base updated": there is a newer base image, from which the next environment
    gets a new one; nobody is made anew.

    -o json names all packages, and all who use an image.
    """
    wired = wiring(context)
    found = sorted(wired.recipes(wired.settings).baked(), key=_order)
    if output is ListFormat.TABLE:
        if found:
            say_table(_HEADERS, (_cells(baked, wired.clock()) for baked in found))
        else:
            say("There are no baked images on this host: the first environment makes one, or containarium image build.")
        return
    data = [_plain(baked) for baked in found]
    if output is ListFormat.JSON:
        say_json(data)
    else:
        say_yaml(data)


app.command("build")(imagebuild.build)


@app.command("prune")
def prune(
    context: typer.Context,
    unused_for: Annotated[
        str, typer.Option(metavar="DURATION", help="Only what was not used for so long: 90m, 12h, 30d, 4w.")
    ] = "30d",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be removed.")] = False,
    manifests: Manifests = None,
) -> None:
    """Remove baked images that nobody was made from and no manifest would use now, and what broken builds left.

    What another age would remove: containarium image prune --unused-for 7d --dry-run

    The running controller does it once a day (containarium daemon --keep-recipes).
    """
    wired = wiring(context)
    wired.require_root("image prune")
    age = duration(unused_for, "--unused-for")
    recipes = wired.recipes(wired.settings)
    wanted, before, now = _wanted(wired, manifests), recipes.baked(), wired.clock()
    removed = recipes.prune(age, now, wanted=wanted, dry=dry_run)
    for baked in sorted(removed, key=_order):
        used = f"last used {_ago(baked.last_used, now)}" if baked.last_used else "never used"
        say(f"{'Would remove' if dry_run else 'Removed'} {title(baked)}: {_size(baked.size)}, {used}")
    if not dry_run:
        for builder in recipes.tidy():
            say(f"Removed {builder}, which a build that was interrupted had left")
    gone = {baked.fingerprint for baked in removed}
    stay = [baked for baked in before if baked.fingerprint not in gone]
    say(_sum(removed, stay, now - age, dry=dry_run), "green")


def duration(text: str, option: str) -> timedelta:
    """A length of time that an option was given. Raises CommandError."""
    from containarium.model.base import InvalidValueError
    from containarium.model.quantity import Duration

    try:
        return Duration.parse(text).delta
    except InvalidValueError as error:
        raise CommandError(f"{option}: {error.message}", error.remedy) from None


# -- list


def _order(baked: Baked) -> tuple[str, tuple[str, ...], bool, datetime, str]:
    recipe = baked.recipe
    return recipe.image, recipe.packages, recipe.docker, baked.built, baked.digest


def _cells(baked: Baked, now: datetime) -> tuple[str, ...]:
    plain, packages = _plain(baked), baked.recipe.packages
    more = len(packages) - _MOST_PACKAGES
    listed = packages if more <= 1 else (*packages[:_MOST_PACKAGES], f"{more} more")
    return (
        plain["recipe"],
        baked.recipe.image,
        ", ".join(listed) or "-",
        "yes" if baked.recipe.docker else "no",
        _size(baked.size),
        _ago(baked.built, now),
        str(len(baked.used_by)),
        _ago(baked.last_used, now) if baked.last_used else "never",
        plain["state"],
    )


def _plain(baked: Baked) -> dict[str, Any]:
    from containarium.model.recipe import short

    return {
        "recipe": short(baked.digest),
        "image": baked.recipe.image,
        "packages": list(baked.recipe.packages),
        "docker": baked.recipe.docker,
        "size": baked.size,
        "built": baked.built.isoformat(timespec="seconds"),
        "used_by": list(baked.used_by),
        "last_used": baked.last_used.isoformat(timespec="seconds") if baked.last_used else None,
        "state": "base updated" if baked.outdated else "current",
        "fingerprint": baked.fingerprint,
        "base": baked.base,
    }


def _ago(moment: datetime | None, now: datetime) -> str:
    from containarium.cli.known import ago

    return ago((now - moment).total_seconds()) if moment else "never"


def _size(size: int) -> str:
    """``312 MiB``, ``1.4 GiB``."""
    return f"{size / 2**30:.1f} GiB" if size >= 2**30 else f"{size / 2**20:.0f} MiB"


# -- prune


def _wanted(wired: Wiring, folder: Path | None) -> frozenset[Recipe]:
    """What all manifests need. Raises CommandError where one does not load: nobody knows what that one needs."""
    from containarium.plan.desired import recipe

    load = read(folder_of(wired, None, folder))
    if load.problems:
        raise CommandError(
            f"nothing is removed while manifests do not load: {load.problems[0]}",
            "containarium validate shows all of it",
        )
    return frozenset(map(recipe, load.manifests))


def _sum(removed: Sequence[Baked], stay: Sequence[Baked], since: datetime, *, dry: bool) -> str:
    gone, size = count(len(removed), "image"), _size(sum(baked.size for baked in removed))
    used = sum(bool(baked.used_by) for baked in stay)
    young = sum(not baked.used_by and max(baked.built, baked.last_used or baked.built) > since for baked in stay)
    parts = ((used, "in use"), (young, "of late"), (len(stay) - used - young, "for a manifest"))
    left = f"{len(stay)} {'stays' if len(stay) == 1 else 'stay'}"
    why = ", ".join(f"{number} {what}" for number, what in parts if number)
    left += f" ({why})" if why else ""
    if not removed:
        return f"Nothing to remove: {left}."
    return f"{gone} would go, which gives {size}; {left}." if dry else f"{gone} removed, which gave {size}; {left}."
