"""The command export: what a person needs to log in, made by somebody who can vouch for the host keys."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from containarium.cli.errors import CommandError
from containarium.cli.output import complain, say
from containarium.cli.wiring import Wiring, wiring

if TYPE_CHECKING:
    from containarium.cli.sshconfig import Route
    from containarium.model.observed import Observed

DEFAULT_KEY = "~/.ssh/id_ed25519"
DEFAULT_PORT = 22
DEFAULT_KNOWN_HOSTS = "~/.ssh/known_hosts.containarium"


JumpHost = Annotated[
    str | None,
    typer.Option(
        "--jump-host",
        "--jump-ip",
        metavar="HOST",
        help="Name or address of this host as users reach it.",
        show_default="spec.login of its Host manifest, or its own",
    ),
]
JumpPort = Annotated[
    int | None,
    typer.Option(
        metavar="PORT",
        min=1,
        max=65535,
        help="Port of its sshd.",
        show_default="spec.login of its Host manifest, or 22",
    ),
]
KeyPath = Annotated[str, typer.Option(metavar="PATH", help="The private key on the user's computer. It is not read.")]


def export(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="The environment.", show_default=False)],
    jump_host: JumpHost = None,
    jump_port: JumpPort = None,
    key: KeyPath = DEFAULT_KEY,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE",
            help="Write FILE and FILE.known_hosts, so that ssh -F FILE NAME works.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Print (or write) the ssh configuration with which a user logs in.

    The host keys in it come from the container's and this host's own files, not from the network: the first login
    is as safe as every other.

    Example: containarium export alice --jump-ip 203.0.113.7 --output alice.ssh
    """
    wired = wiring(context)
    way = Way(jump_host, jump_port, key)
    if output is None:
        say(block(wired, name, way))
        return
    write(wired, name, way, output)
    say(f"Written to {output} and {output.name}.known_hosts. Log in with: ssh -F {shlex.quote(str(output))} {name}")


@dataclass(frozen=True, slots=True)
class Way:
    """How users reach this host; None: as its Host manifest says, else by its own name and port 22."""

    jump_host: str | None = None
    jump_port: int | None = None
    key: str = DEFAULT_KEY


def block(wired: Wiring, name: str, way: Way, observed: Observed | None = None) -> str:
    """What an admin forwards to a user: the ssh configuration, and the known_hosts lines as comments.

    ``observed`` is a look that was taken already. Raises CommandError where nobody could log in with it.
    """
    from containarium.cli.sshconfig import config

    route, trusted = _connection(wired, name, way, (DEFAULT_KNOWN_HOSTS,), observed)
    listed = "".join(f"# {line}\n" for line in trusted.splitlines())
    return f"{config(route)}\n# Put these lines into {DEFAULT_KNOWN_HOSTS}, without the #:\n{listed}".rstrip("\n")


def write(wired: Wiring, name: str, way: Way, output: Path, observed: Observed | None = None) -> None:
    """Write both files, readable to their owner alone. Raises CommandError, also where a file is not ours."""
    from containarium.cli.sshconfig import beside

    put(output, *_connection(wired, name, way, beside(output), observed))


def put(output: Path, route: Route, trusted: str) -> None:
    """Write a configuration and, beside it, the known_hosts lines that it trusts. Raises CommandError."""
    from containarium.cli.sshconfig import HEADER, portable
    from containarium.host.files import write_atomically

    known = output.with_name(f"{output.name}.known_hosts").absolute()
    for path in (output, known):
        _refuse_foreign(path, HEADER)
    write_atomically(known, f"{HEADER} {route.name}\n{trusted}", 0o600)
    write_atomically(output, portable(route, output.name), 0o600)


def _connection(
    wired: Wiring, name: str, way: Way, known_hosts_files: tuple[str, ...], observed: Observed | None
) -> tuple[Route, str]:
    from containarium.cli.sshconfig import Route, known_hosts

    address, guest, door = reached(wired, name, way, observed)
    route = Route(
        name=name,
        address=address,
        jump_host=door.address,
        jump_port=door.port,
        key=way.key,
        known_hosts=known_hosts_files,
    )
    return route, known_hosts(route, guest, door.keys)


@dataclass(frozen=True, slots=True)
class Door:
    """What users connect to, and the host keys of whoever may answer there."""

    address: str
    port: int
    keys: list[str]


def _door(wired: Wiring, way: Way) -> Door:
    """This host; or what its Host manifest says users connect to, with the keys of every host that may be behind it."""
    from containarium.cli.fleet import declared

    own = _of_jump_host(wired)
    hosts = declared(wired)
    name = wired.neighbours(wired.settings).name if hosts else ""
    spec = next((host.manifest.spec for host in hosts if host.name == name), None)
    login = spec.login if spec is not None else None
    if login is None or way.jump_host not in (None, login.address):
        return Door(
            way.jump_host or wired.host_keys(wired.settings).jump_host_name(), way.jump_port or DEFAULT_PORT, own
        )
    identities = [host.manifest.spec.identity for host in hosts]
    keys = [key.identity for identity in identities if identity is not None for key in identity.host_keys]
    return Door(login.address, way.jump_port or login.port, list(dict.fromkeys((*own, *keys))))


def reached(wired: Wiring, name: str, way: Way, observed: Observed | None = None) -> tuple[str, Sequence[str], Door]:
    """The address of an environment on whichever host has it, its guest's host keys, and what users connect to.

    Raises CommandError where nobody could log in.
    """
    from containarium.cli.fleet import Whereabouts, placed, whereabouts
    from containarium.model.fleet import Presence
    from containarium.model.observed import Look
    from containarium.plan.presence import boxes

    observed = observed or wired.host(wired.settings).observe(Look.SHALLOW)
    here = boxes(observed).get(name)
    lives_here = here is not None and here.presence is Presence.HERE
    target = placed(wired, name) if lives_here else ""
    own = not target or target == observed.host.name.partition(".")[0]
    there = Whereabouts() if lives_here and own else whereabouts(wired, name)
    if not there.host or (lives_here and there.host != target):
        if here is None and there.silent:
            raise CommandError(f"there is no environment {name} on this host, and {there.silent[0]}")
        return _address(observed, name), _of_guest(wired, name), _door(wired, way)
    if not there.keys:
        raise CommandError(f"the container of {name} has no SSH host keys yet", f"start it once, on {there.host}")
    return there.address, there.keys, _door(wired, way)


def _address(observed: Observed, name: str) -> str:
    from containarium.model import marks
    from containarium.plan.addresses import pinned

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
