"""Certificates for remote clients: cert generate, client, list, revoke, renew. Carried out on the server's host."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import asdict
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from containarium.cli.errors import CommandError
from containarium.cli.image import duration
from containarium.cli.output import Format, complain, say, say_json, say_table
from containarium.cli.wiring import Wiring, wiring

if TYPE_CHECKING:
    from containarium.api.store import CertificateStore

app = typer.Typer(help="Certificates for remote clients.", context_settings={"help_option_names": ["-h", "--help"]})
FOLDER = Path("/etc/containarium/certs")
_DNS = re.compile(r"(?:\*\.)?[A-Za-z0-9](?:[A-Za-z0-9.-]{0,251}[A-Za-z0-9])?")
_COLOURS = {"expired": "red", "expiring": "yellow", "revoked": "bright_black", "replaced": "bright_black"}


class RoleName(StrEnum):
    """What a client may do."""

    ADMIN = "admin"
    VIEWER = "viewer"


Folder = Annotated[
    Path, typer.Option("--output-dir", "--dir", metavar="FOLDER", help="The folder of the server's certificates.")
]


@app.callback(invoke_without_command=True)
def group(context: typer.Context) -> None:
    """Certificates for remote clients: an authority of this host's own, its server's, and one per client.

    Example: containarium cert generate --server-ip 203.0.113.7 --dns jump-1.example.org
    """
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


@app.command("generate")
def generate(
    context: typer.Context,
    server_ip: Annotated[
        list[str] | None,
        typer.Option(metavar="ADDRESS", help="An address of this server. Repeatable.", show_default=False),
    ] = None,
    dns: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="A name of it. Repeatable.", show_default=False)
    ] = None,
    length: Annotated[
        str, typer.Option("--duration", metavar="DURATION", help="For how long they hold, such as 365d.")
    ] = "365d",
    output_dir: Folder = FOLDER,
) -> None:
    """Make an authority, the server's certificate and a first client, admin. What is there already stays.

    Copy clients/admin to the admin's computer and name it there with --certs-dir.
    """
    store = _store(context, "cert generate", output_dir)
    addresses = [_address(text) for text in server_ip or ()]
    names = [_name(text) for text in dns or ()]
    made = store.generate(names, addresses, duration(length, "--duration"))
    if not made:
        say(f"All of it is in {output_dir} already: containarium cert list, cert renew")
        return
    say(f"Made in {output_dir}: {', '.join(made)}.", "green")
    say(f"For the admin's computer: {output_dir / 'clients' / 'admin'} (--certs-dir there). Keep ca.key here.")


@app.command("client")
def client(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="What the client is called; audits name it.", show_default=False)],
    role: Annotated[RoleName, typer.Option(help="A viewer looks, an admin changes.")] = RoleName.VIEWER,
    length: Annotated[str, typer.Option("--duration", metavar="DURATION", help="For how long it holds.")] = "365d",
    output_dir: Folder = FOLDER,
) -> None:
    """Make a certificate for another client.

    Example: containarium cert client vera --role viewer
    """
    from containarium.api.who import Role

    store = _store(context, f"cert client {name}", output_dir)
    folder = store.issue(name, Role(role.value), duration(length, "--duration"))
    say(f"For the computer of {name} ({role.value}): {folder}", "green")


@app.command("list")
def list_(
    context: typer.Context,
    output: Annotated[Format, typer.Option("--output", "-o", help="How to print it.")] = Format.TEXT,
    output_dir: Folder = FOLDER,
) -> None:
    """List every certificate, with who it is for and until when it holds."""
    store = _store(context, "cert list", output_dir, root=False)
    now, entries = wiring(context).clock(), store.entries()
    if output is Format.JSON:
        say_json([{key: _plain(value) for key, value in asdict(e).items()} | {"state": e.state(now)} for e in entries])
        return
    rows = [(e.kind, e.name, e.role or "-", e.state(now), f"{e.not_after:%Y-%m-%d}", e.serial) for e in entries]
    say_table(("KIND", "NAME", "ROLE", "STATE", "UNTIL", "SERIAL"), rows)
    for entry in entries:
        if entry.current and entry.state(now) in ("expiring", "expired"):
            what = entry.kind if entry.kind != "client" else entry.name
            complain(f"{what} ends on {entry.not_after:%Y-%m-%d}: containarium cert renew {what}", "yellow")


@app.command("revoke")
def revoke(
    context: typer.Context,
    what: Annotated[
        str, typer.Argument(metavar="NAME|SERIAL", help="A client, or one certificate.", show_default=False)
    ],
    output_dir: Folder = FOLDER,
) -> None:
    """Let a client in no more, at once, also on connections that are open. There is no way back but a new one.

    Example: containarium cert revoke vera
    """
    store = _store(context, f"cert revoke {what}", output_dir)
    revoked = store.revoke(what)
    say(f"Revoked: {', '.join(revoked)}." if revoked else f"{what} is revoked already.", "green" if revoked else None)


@app.command("renew")
def renew(
    context: typer.Context,
    what: Annotated[str, typer.Argument(metavar="server|ca|NAME", help="Whose certificate.", show_default=False)],
    length: Annotated[
        str | None, typer.Option("--duration", metavar="DURATION", help="For how long.", show_default="as before")
    ] = None,
    output_dir: Folder = FOLDER,
) -> None:
    """Make a new certificate in the place of one. The running server takes it over by itself.

    A client's has to be copied to its computer; the one before holds until it ends or is revoked.

    Example: containarium cert renew server
    """
    store = _store(context, f"cert renew {what}", output_dir)
    where = store.renew(what, duration(length, "--duration") if length is not None else None)
    say(f"Written to {where}.", "green")


def _store(context: typer.Context, command: str, folder: Path, *, root: bool = True) -> CertificateStore:
    from containarium.api.store import CertificateStore

    wired: Wiring = wiring(context)
    if root and folder == FOLDER:
        wired.require_root(command)
    return CertificateStore(folder, wired.clock)


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        raise CommandError(f"{text!r} is no address", "write --server-ip 203.0.113.7, and names with --dns") from None


def _name(text: str) -> str:
    if not _DNS.fullmatch(text):
        raise CommandError(
            f"{text!r} is no host name", "write --dns jump-1.example.org, and addresses with --server-ip"
        )
    return text.lower()


def _plain(value: Any) -> Any:
    return value.isoformat() if isinstance(value, datetime) else value
