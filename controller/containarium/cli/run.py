"""The two commands at the heart: plan shows what would be done, apply does it."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from containarium.cli.errors import CommandError, keep
from containarium.cli.output import Format, complain, say, say_json, say_plan
from containarium.cli.survey import folder_of, read, survey
from containarium.cli.wiring import Wiring, wiring

if TYPE_CHECKING:
    from containarium.cli.outcome import Outcome
    from containarium.cli.progress import LiveReporter, PlainReporter
    from containarium.plan.decision import Plan

PathArgument = Annotated[
    Path | None,
    typer.Argument(
        metavar="[PATH]", help="Folder of manifests. Default: /etc/containarium/environments.", show_default=False
    ),
]
Manifests = Annotated[
    Path | None, typer.Option("--manifests", "-f", help="Folder of manifests, like PATH.", show_default=False)
]
Output = Annotated[Format, typer.Option("--output", "-o", help="How to print it.")]
Approve = Annotated[
    list[str] | None,
    typer.Option(metavar="DIGEST", help="Confirm a set that goes away; the plan names its digest. Repeatable."),
]
Restart = Annotated[bool, typer.Option("--restart", help="Also restart where a change acts only after a restart.")]


def plan(
    context: typer.Context,
    path: PathArgument = None,
    manifests: Manifests = None,
    output: Output = Format.TEXT,
    detailed_exitcode: Annotated[
        bool, typer.Option("--detailed-exitcode", help="Exit 2 when there is something to do.")
    ] = False,
    shallow: Annotated[bool, typer.Option("--shallow", help="Do not look inside the guests: faster.")] = False,
    approve: Approve = None,
    restart: Restart = False,
) -> None:
    """Show what apply would do, and change nothing.

    Exit code: 0 fine, 1 an error or something refused or held back, 3 too much would go away at once (unsafe).
    With --detailed-exitcode also 2: there are changes.
    """
    from containarium.cli.outcome import plan_code
    from containarium.model.observed import Look
    from containarium.plan import render

    wired = wiring(context)
    folder = folder_of(wired, path, manifests)
    look = Look.SHALLOW if shallow else Look.DEEP
    found = survey(wired, folder, look, approved=frozenset(approve or ()), restart=restart)
    if output is Format.JSON:
        say_json(render.as_json(found.plan))
    else:
        say_plan(render.text(found.plan))
    raise typer.Exit(plan_code(found.plan, detailed=detailed_exitcode))


def apply(
    context: typer.Context,
    path: PathArgument = None,
    manifests: Manifests = None,
    output: Output = Format.TEXT,
    only: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Act on this environment alone. Repeatable.")
    ] = None,
    approve: Approve = None,
    restart: Restart = False,
    wait: Annotated[
        float, typer.Option(metavar="SECONDS", min=0, help="How long to wait for another containarium to end.")
    ] = 0.0,
) -> None:
    """Make the host as the manifests declare, and repair what drifted.

    Exit code: 0 all is as declared, 1 something failed, was refused or held back, 3 too much would go away at once,
    so none of that was retired.
    """
    from containarium.model.host import HostError

    wired = wiring(context)
    wired.require_root("apply")
    folder = folder_of(wired, path, manifests)
    names = frozenset(only or ())
    try:
        outcome = _converge(
            wired,
            folder,
            quiet=output is Format.JSON,
            only=names,
            approved=frozenset(approve or ()),
            restart=restart,
            wait=wait,
        )
    except HostError as error:
        if error.reason != "Locked":
            raise
        from containarium.cli.handover import hand_over

        code = hand_over(wired, folder, only=names, approved=frozenset(approve or ()), restart=restart, output=output)
        if code is None:
            raise
        raise typer.Exit(code) from None
    if output is Format.JSON:
        say_json(outcome.as_json())
    else:
        _tell(outcome)
    raise typer.Exit(outcome.code)


def _converge(
    wired: Wiring,
    folder: Path,
    *,
    quiet: bool,
    only: frozenset[str],
    approved: frozenset[str],
    restart: bool,
    wait: float,
) -> Outcome:
    from containarium.cli.interrupt import Interrupt
    from containarium.cli.outcome import Outcome
    from containarium.host import approvals
    from containarium.host.lock import only_controller
    from containarium.reconcile.cycle import Settings, converge

    with only_controller(wired.settings.runtime, wait):
        load = read(folder)
        confirmed = approved | approvals.read(wired.settings.runtime, wired.clock())
        reporter, interrupt = _reporter(quiet, only), Interrupt()
        with interrupt.heeded(), reporter.running():
            result = converge(
                load,
                interrupt.guard(wired.host(wired.settings)),
                wired.clock,
                Settings(approved=confirmed, restart=restart, only=only),
                reporter,
            )
    for failure in result.failures:
        if isinstance(bug := failure.error.__cause__, Exception) and failure.error.reason == "InternalError":
            complain(f"{failure.environment}: details of the internal error: {keep(bug, wired.settings.state)}")
    return Outcome.of(result, only)


def _reporter(quiet: bool, only: frozenset[str]) -> LiveReporter | PlainReporter:
    from containarium.cli.outcome import narrowed, unknown
    from containarium.cli.progress import LiveReporter, PlainReporter
    from containarium.plan import render

    def show(plan: Plan) -> None:
        if strangers := unknown(plan, only):
            raise CommandError(
                f"there is no environment {', '.join(strangers)}", "see containarium list, or leave --only out"
            )
        part = narrowed(plan, only)
        if part.environments and not quiet:
            say_plan(render.text(part))

    if quiet:
        return PlainReporter(complain, show)
    if not sys.stdout.isatty() or os.environ.get("TERM") == "dumb":
        return PlainReporter(say, show)
    from rich.console import Console

    return LiveReporter(Console(highlight=False), show)


def _tell(outcome: Outcome) -> None:
    for line in outcome.lines():
        say(line)
    for line in outcome.warnings():
        say(line, "red")
    say(outcome.summary, "red" if outcome.code else "green")
