"""The command export: what a person needs to log in, made by somebody who can vouch for the host keys."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from containarium.cli.errors import CommandError
from containarium.cli.output import complain, say
from containarium.cli.wiring import Wiring, wiring

DEFAULT_KEY = "~/.ssh/id_ed25519"
DEFAULT_KNOWN_HOSTS = "~/.ssh/known_hosts.containarium"


def export(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="The environment.", show_default=False)],
    jump_host: Annotated[
        str | None,
        typer.Option(metavar="HOST", help="Name or address of this host as users reach it.", show_default="its own"),
    ] = None,
    jump_port: Annotated[int, typer.Option(metavar="PORT", min=1, max=65535, help="Port of its sshd.")] = 22,
    key: Annotated[
        str, typer.Option(metavar="PATH", help="The private key on the user's computer. It is not read.")
    ] = DEFAULT_KEY,
    output: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Write FILE and FILE.known_hosts, so that ssh -F FILE NAME works.", show_default=False
        ),
    ] = None,
) -> None:
    """Print (or write) the ssh configuration with which a user logs in.

    The host keys in it come from the container's and this host's own files, not from the network: the first login
    is as safe as every other.
    """
    from containarium.cli.sshconfig import HEADER, Route, config, known_hosts
    from containarium.host.files import write_atomically

    wired = wiring(context)
    keys = wired.host_keys(wired.settings)
    address = _address(wired, name)
    beside = output.with_name(f"{output.name}.known_hosts").absolute() if output is not None else None
    route = Route(
        name=name,
        address=address,
        jump_host=jump_host or keys.jump_host_name(),
        jump_port=jump_port,
        key=key,
        known_hosts=str(beside or DEFAULT_KNOWN_HOSTS),
    )
    trusted = known_hosts(route, _of_guest(wired, name), _of_jump_host(wired))
    if output is None or beside is None:
        listed = "".join(f"# {line}\n" for line in trusted.splitlines())
        say(f"{config(route)}\n# Put these lines into {DEFAULT_KNOWN_HOSTS}, without the #:\n{listed}".rstrip("\n"))
        return
    for path in (output, beside):
        _refuse_foreign(path, HEADER)
    write_atomically(beside, f"{HEADER} {name}\n{trusted}", 0o600)
    write_atomically(output, f"{HEADER} {name}\n{config(route)}", 0o600)
    say(f"Written to {output} and {beside.name}. Log in with: ssh -F {output} {name}")


def _address(wired: Wiring, name: str) -> str:
    from containarium.model import marks
    from containarium.model.observed import Look
    from containarium.plan.addresses import pinned

    observed = wired.host(wired.settings).observe(Look.SHALLOW)
    instance = observed.instances.get(marks.instance_name(name))
    if instance is None or instance.config.get(marks.ENVIRONMENT) != name:
        raise CommandError(f"there is no environment {name} on this host", "containarium list shows those there are")
    if instance.config.get(marks.RETIRED):
        raise CommandError(f"{name} is retired and nobody can log in", "bring its manifest back first")
    address = pinned(observed, name)
    if not address:
        raise CommandError(f"{name} has no address of its own yet", "containarium apply gives it one")
    return address


def _of_guest(wired: Wiring, name: str) -> list[str]:
    from containarium.model import marks

    found = list(wired.host_keys(wired.settings).of_guest(marks.instance_name(name)))
    if not found:
        raise CommandError(f"the container of {name} has no SSH host keys yet", "start it once: containarium apply")
    return found


def _of_jump_host(wired: Wiring) -> list[str]:
    found = list(wired.host_keys(wired.settings).of_jump_host())
    if not found:
        complain(f"There are no host keys in {wired.settings.etc / 'ssh'}: ssh will ask about the jump host.", "yellow")
    return found


def _refuse_foreign(path: Path, header: str) -> None:
    """Never overwrite what is not ours, such as somebody's ~/.ssh/config."""
    try:
        with path.open("rb") as file:
            start = file.read(len(header))
    except FileNotFoundError:
        return
    if start != header.encode():
        raise CommandError(f"{path} exists and was not written by containarium export", "name another file")
