"""The commands start and stop: what a manifest says about running, and the host with it."""

from __future__ import annotations

from typing import Annotated

import typer

from containarium.cli.editing import PATIENCE, Manifests, Wait, editing, foresee, refuse_problems, refuse_synced
from containarium.cli.follow import follow
from containarium.cli.output import say
from containarium.cli.wiring import Wiring, wiring

Names = Annotated[list[str], typer.Argument(metavar="NAME...", help="The environments.", show_default=False)]
_RUNNING = "spec.running"


def start(context: typer.Context, names: Names, manifests: Manifests = None, wait: Wait = PATIENCE) -> None:
    """Start environments, and keep them running (spec.running: true).

    Example: containarium start alice
    """
    _turn(context, names, manifests, wait, running=True)


def stop(context: typer.Context, names: Names, manifests: Manifests = None, wait: Wait = PATIENCE) -> None:
    """Stop environments, and keep them stopped, over a boot of the host too (spec.running: false).

    Example: containarium stop alice
    """
    _turn(context, names, manifests, wait, running=False)


def _turn(context: typer.Context, names: list[str], manifests: Manifests, wait: float, *, running: bool) -> None:
    wired: Wiring = wiring(context)
    verb, state = ("start", "running") if running else ("stop", "stopped")
    names = list(dict.fromkeys(names))
    with editing(wired, manifests, f"{verb} {' '.join(names)}") as desk:
        from containarium.sources.edittext import SetField

        for name in names:
            found = desk.session.find(name)
            if found.manifest.environment.spec.running is not running:
                refuse_synced(desk, name, _RUNNING)
                desk.session.change(name, [SetField(("spec", "running"), running)])
        if desk.live:
            plan, _ = foresee(wired, desk)
            refuse_problems(plan, *names)
        if not desk.session.commit():
            say(f"{', '.join(names)}: declared as {state} already.")
    follow(wired, desk, names, wait, f"{', '.join(names)}: {state}")
