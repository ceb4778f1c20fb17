"""Commands about this machine itself: host prepare, doctor."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, replace
from ipaddress import IPv4Interface
from typing import Annotated

import typer

from containarium.cli import errors
from containarium.cli.output import Format, count, say, say_json
from containarium.cli.wiring import wiring

_COLOURS = {"ok": None, "warn": "yellow", "fail": "red"}
_WORDS = {"ok": "fine", "warn": "to look at", "fail": "to mend"}
_LARGEST, _SMALLEST = 8, 29
"""Prefix lengths that a bridge can have."""

app = typer.Typer(
    help="Make this machine ready for environments.", context_settings={"help_option_names": ["-h", "--help"]}
)


@app.callback(invoke_without_command=True)
def group(context: typer.Context) -> None:
    """Make this machine ready for environments."""
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


@app.command("prepare")
def prepare(
    context: typer.Context,
    install: Annotated[bool, typer.Option("--install", help="Also install the packages that are missing.")] = False,
    subnet: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS/LENGTH",
            help="The bridge's own address, where it has to be made.",
            show_default="10.0.3.1/24",
        ),
    ] = None,
    service: Annotated[
        bool, typer.Option("--service", help="Also have systemd run the controller, now and at every boot.")
    ] = False,
) -> None:
    """Make a bare Debian or Ubuntu ready: Incus, storage, network, sshd.

    As often as you like: what is there stays as it is. containarium doctor checks the same things.
    """
    wired = wiring(context)
    wired.require_root("host prepare")
    settings = replace(wired.settings, subnet=_subnet(subnet)) if subnet else wired.settings
    steps = wired.prepare(settings, install=install, service=service, progress=say)
    width = max((len(step.name) for step in steps), default=0)
    for step in steps:
        say(
            f"  {'+' if step.changed else ' '} {step.name:<{width}}  {step.detail}".rstrip(),
            "green" if step.changed else None,
        )
    for step in steps:
        if step.warning:
            say(f"  ! {step.name}: {step.warning}", "yellow")
    changed = sum(step.changed for step in steps)
    what = f"{count(changed, 'step')} of {len(steps)} changed something" if changed else "nothing had to be changed"
    say(f"This host is ready: {what}.", "green")


def _subnet(text: str) -> str:
    """The bridge's own address, as Incus writes it."""
    example = "write the bridge's own address, such as --subnet 10.0.3.1/24"
    try:
        interface = IPv4Interface(text)
    except ValueError:
        raise errors.CommandError(f"{text!r} is no IPv4 address with a prefix length", example) from None
    network = interface.network
    if not interface.is_private or interface.is_loopback or interface.is_link_local:
        raise errors.CommandError(f"{text} is not an address of a private network", example)
    if not _LARGEST <= network.prefixlen <= _SMALLEST:
        raise errors.CommandError(f"/{network.prefixlen} is no size for a bridge", f"write /{_LARGEST} to /{_SMALLEST}")
    if interface.ip in (network.network_address, network.broadcast_address):
        raise errors.CommandError(
            f"{text} is not an address that a bridge can have", f"write --subnet {network[1]}/{network.prefixlen}"
        )
    return str(interface)


def doctor(
    context: typer.Context,
    output: Annotated[Format, typer.Option("--output", "-o", help="How to print it.")] = Format.TEXT,
) -> None:
    """Check this machine and say how to mend what is not as it should be. Exit code 1 when something is not."""
    wired = wiring(context)
    findings = wired.examine(wired.settings)
    if output is Format.JSON:
        say_json([asdict(finding) for finding in findings])
    else:
        for finding in findings:
            say(f"  {finding.level.value:<4}  {finding.check}: {finding.message}", _COLOURS[finding.level.value])
            if finding.remedy:
                say(f"        -> {finding.remedy}")
        levels = Counter(finding.level.value for finding in findings)
        parts = [f"{levels[level]} {words}" for level, words in _WORDS.items() if levels[level]]
        say(f"{count(len(findings), 'check')}: {', '.join(parts) or 'none was carried out'}.")
    if any(finding.level.value == "fail" for finding in findings):
        raise typer.Exit(errors.FAILED)
