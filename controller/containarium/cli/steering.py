"""An admin's word to the controller: approve what it holds back, leave an environment alone, look after it again."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from containarium.cli.errors import CommandError
from containarium.cli.output import complain, say
from containarium.cli.survey import folder_of, survey
from containarium.cli.wiring import Wiring, wiring

if TYPE_CHECKING:
    from containarium.plan.decision import Interlock

Name = Annotated[str, typer.Argument(help="The environment.", show_default=False)]


_MEANING = {"create": "be made anew here", "move": "go on here with what there is"}
"""What an approved verb means, where it does not say so itself."""


def approve(
    context: typer.Context,
    digest: Annotated[
        str, typer.Argument(metavar="DIGEST", help="The digest that plan or status names.", show_default=False)
    ],
    manifests: Annotated[
        Path | None,
        typer.Option("--manifests", "-f", help="Folder of manifests, if not the host's own.", show_default=False),
    ] = None,
) -> None:
    """Confirm that exactly this set of environments may go away, or go on without a host that is silent.

    It holds for 15 minutes, on this host.

    The set is looked up anew: a digest that fits nothing that is held back now approves nothing.
    """
    wired = wiring(context)
    wired.require_root("approve")
    verb, names = confirm(wired, folder_of(wired, None, manifests), digest)
    say(f"Approved: {', '.join(names)} may {_MEANING.get(verb, verb)}.")
    _nudge(wired, "run containarium apply within 15 minutes")


def confirm(wired: Wiring, folder: Path, digest: str) -> tuple[str, tuple[str, ...]]:
    """Write down the approval of what has this digest now. Returns what is to happen, and to whom.

    Raises CommandError where nothing has it.
    """
    from containarium.host import approvals
    from containarium.model.observed import Look
    from containarium.plan.decision import Verb
    from containarium.plan.safety import digest as digest_of

    found = survey(wired, folder, Look.SHALLOW)
    asked = [interlock for interlock in found.plan.interlocks if interlock.digest]
    interlock = next((interlock for interlock in asked if interlock.digest == digest.strip().lower()), None)
    if interlock is None:
        raise CommandError(f"nothing that is held back has the digest {digest}", _held_back(asked))
    verb = next(verb for verb in Verb if digest_of(verb, interlock.environments) == interlock.digest)
    approvals.approve(wired.settings.runtime, interlock, verb, wired.clock())
    return verb, interlock.environments


def suspend(context: typer.Context, name: Name) -> None:
    """Leave an environment alone until resume, whatever its manifest says. It runs on, and nothing is repaired."""
    wired = wiring(context)
    wired.require_root("suspend")
    changed = wired.suspension(wired.settings).suspend(name, wired.clock())
    say(f"{name} is left alone from now on." if changed else f"{name} is suspended already.")
    _nudge(wired, "")


def resume(context: typer.Context, name: Name) -> None:
    """Look after a suspended environment again."""
    wired = wiring(context)
    wired.require_root("resume")
    if wired.suspension(wired.settings).resume(name):
        say(f"{name} is looked after again.")
        _nudge(wired, "run containarium apply to mend what changed meanwhile")
    else:
        say(f"{name} is not suspended on this host; its manifest may say so (containarium.dev/suspend).")


def _held_back(asked: list[Interlock]) -> str:
    if not asked:
        return "nothing waits for an approval: see containarium plan"
    return "; ".join(f"{interlock.digest} stands for {', '.join(interlock.environments)}" for interlock in asked)


def _nudge(wired: Wiring, otherwise: str) -> None:
    """Let a running controller see it now; without one, say what to do."""
    from containarium.host.control import ask
    from containarium.model.host import HostError, TerminalError

    try:
        ask(wired.settings.control, {"do": "reconcile"}, timeout=30.0)
    except TerminalError:
        if otherwise:
            say(f"No controller runs here: {otherwise}.")
    except HostError as error:
        complain(f"The controller will see it at its next pass: {error}", "yellow")
