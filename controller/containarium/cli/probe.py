"""The command probe: whether somebody could log in to an environment right now, tried out."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from containarium.cli import errors
from containarium.cli.output import Format, say, say_json
from containarium.cli.wiring import Wiring, wiring

if TYPE_CHECKING:
    from collections.abc import Callable

    from containarium.host.probe import ProbeResult

    Prober = Callable[[str, str, str], ProbeResult]


def probe(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="The environment.", show_default=False)],
    output: Annotated[Format, typer.Option("--output", "-o", help="How to print it.")] = Format.TEXT,
) -> None:
    """Try the way in: log in to this host as the jump account, be forwarded, check the container's host key.

    With a key of the controller's own, which opens nothing else; it does not log in to the container. Exit code 1
    when a person could not get in either.
    """
    from containarium.host.probe import SSHProbe

    wired = wiring(context)
    wired.require_root(f"probe {name}")
    carry_out(wired, SSHProbe(wired.settings).probe, name, output)


def carry_out(wired: Wiring, prober: Prober, name: str, output: Format) -> None:
    """Probe an environment and tell the result. Raises typer.Exit(1) when it is a bad one."""
    from containarium.model import marks

    address = _address(wired, name)
    result = prober(name, marks.instance_name(name), address)
    if output is Format.JSON:
        ok = not result.error
        say_json({"name": name, "address": address, "ok": ok, **asdict(result), "seconds": round(result.seconds, 3)})
    elif result.error:
        say(f"{name}: {result.error}", "red")
        if result.detail and result.detail not in result.error:
            say(f"  {result.detail}")
    else:
        say(f"{name}: SSH gets through to the host key of the container in {result.seconds:.2f} s", "green")
    if result.error:
        raise typer.Exit(errors.FAILED)


def _address(wired: Wiring, name: str) -> str:
    from containarium.model import marks
    from containarium.model.observed import Look
    from containarium.plan.addresses import pinned

    observed = wired.host(wired.settings).observe(Look.SHALLOW)
    instance = observed.instances.get(marks.instance_name(name))
    if instance is None or instance.config.get(marks.ENVIRONMENT) != name:
        raise errors.CommandError(
            f"there is no environment {name} on this host", "containarium list shows those there are"
        )
    if instance.config.get(marks.RETIRED):
        raise errors.CommandError(f"{name} is retired and nobody can log in", "bring its manifest back first")
    address = pinned(observed, name)
    if not address:
        raise errors.CommandError(f"{name} has no address of its own yet", "containarium apply gives it one")
    return address
