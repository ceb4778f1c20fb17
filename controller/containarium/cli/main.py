"""The command ``containarium``: its commands by group, and the one place where errors end."""

from __future__ import annotations

import gc
import io
import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from containarium import __version__
from containarium.cli import (
    audit,
    backup,
    cert,
    create,
    delete,
    errors,
    export,
    fleet,
    hostcmd,
    image,
    importing,
    key,
    manifests,
    power,
    probe,
    remote,
    remote_contexts,
    remote_server,
    report,
    resize,
    run,
    service,
    sessions,
    show,
    snapshot,
    status,
    steering,
    sync,
)
from containarium.cli.auditing import audit_all
from containarium.cli.output import say
from containarium.cli.wiring import Wiring, wiring

_GARBAGE = 50_000
"""A command lives for a moment: looking for garbage while it imports would take a tenth of its time."""
_HELP = """Keep the Linux environments of this host as their YAML manifests declare them.

Start with: containarium host prepare, then containarium plan, then containarium apply.
"""
_MANIFESTS, _CONVERGE, _LOOK, _HOST = "Manifests", "Plan and apply", "Look", "This host"
_PEOPLE, _REMOTE = "Environments", "From afar"

app = typer.Typer(
    name="containarium",
    help=_HELP,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("create", rich_help_panel=_PEOPLE)(create.create)
app.command("delete", rich_help_panel=_PEOPLE)(delete.delete)
app.command("rm", rich_help_panel=_PEOPLE, hidden=True)(delete.delete)
app.command("resize", rich_help_panel=_PEOPLE)(resize.resize)
app.command("start", rich_help_panel=_PEOPLE)(power.start)
app.command("stop", rich_help_panel=_PEOPLE)(power.stop)
app.add_typer(key.app, name="key", rich_help_panel=_PEOPLE)
app.command("plan", rich_help_panel=_CONVERGE)(run.plan)
app.command("apply", rich_help_panel=_CONVERGE)(run.apply)
app.command("approve", rich_help_panel=_CONVERGE)(steering.approve)
app.command("suspend", rich_help_panel=_CONVERGE)(steering.suspend)
app.command("resume", rich_help_panel=_CONVERGE)(steering.resume)
app.command("undelete", rich_help_panel=_CONVERGE)(backup.undelete)
app.command("backup", rich_help_panel=_CONVERGE)(backup.backup)
app.command("restore", rich_help_panel=_CONVERGE)(backup.restore)
app.add_typer(snapshot.app, name="snapshot", rich_help_panel=_CONVERGE)
app.command("list", rich_help_panel=_LOOK)(show.list_)
app.command("ls", rich_help_panel=_LOOK, hidden=True)(show.list_)
app.command("info", rich_help_panel=_LOOK)(show.info)
app.command("status", rich_help_panel=_LOOK)(status.status)
app.command("events", rich_help_panel=_LOOK)(status.events)
app.command("probe", rich_help_panel=_LOOK)(probe.probe)
app.command("sessions", rich_help_panel=_LOOK)(sessions.sessions)
app.command("audit", rich_help_panel=_LOOK)(audit.audit)
app.command("report", rich_help_panel=_LOOK)(report.report)
app.command("export", rich_help_panel=_LOOK)(export.export)
app.command("fleet", rich_help_panel=_LOOK)(fleet.fleet)
app.command("peer", hidden=True)(fleet.peer)
app.command("validate", rich_help_panel=_MANIFESTS)(manifests.validate)
app.command("schema", rich_help_panel=_MANIFESTS)(manifests.schema)
app.command("import", rich_help_panel=_MANIFESTS)(importing.import_)
app.command("sync", rich_help_panel=_MANIFESTS)(sync.sync)
app.command("daemon", rich_help_panel=_HOST)(service.daemon)
app.command("api", rich_help_panel=_HOST)(remote_server.api)
app.add_typer(cert.app, name="cert", rich_help_panel=_REMOTE)
app.add_typer(remote_contexts.app, name="context", rich_help_panel=_REMOTE)
app.add_typer(image.app, name="image", rich_help_panel=_HOST)
app.add_typer(hostcmd.app, name="host", rich_help_panel=_HOST)
app.command("doctor", rich_help_panel=_HOST)(hostcmd.doctor)


@app.command("version", rich_help_panel=_HOST)
def version() -> None:
    """Print the version."""
    say(f"containarium {__version__}")


def _print_version(asked: bool) -> None:
    if asked:
        version()
        raise typer.Exit


@app.callback(invoke_without_command=True)
def root(
    context: typer.Context,
    _version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
    server: Annotated[
        str | None,
        typer.Option(
            metavar="HOST:PORT",
            help="Carry the command out on this server. CONTAINARIUM_SERVER names one, too.",
            show_default=False,
        ),
    ] = None,
    certs_dir: Annotated[
        Path | None,
        typer.Option(
            "--certs-dir", metavar="FOLDER", help="ca.crt, client.crt and client.key for it.", show_default=False
        ),
    ] = None,
    on: Annotated[
        str | None,
        typer.Option("--context", metavar="NAME", help="The server of this name; local: none.", show_default=False),
    ] = None,
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="After an error, show where in the program it came from.")
    ] = False,
) -> None:
    """Without a command, show the help."""
    if verbose:
        os.environ[errors.DEBUG] = "1"
    wired = wiring(context)
    if (backend := remote.chosen(server, certs_dir, on)) is not None:
        context.obj = replace(wired, remote=backend)
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


root.__doc__ = _HELP
audit_all(app)
remote.anywhere(app)


def run_command(arguments: Sequence[str], wired: Wiring | None = None) -> int:
    """Run one command line and return its exit code. Nothing but BrokenPipeError and SystemExit gets out."""
    wired = wired if wired is not None else Wiring()
    try:
        command = typer.main.get_command(app)
        code = command.main(remote.hoisted(arguments), prog_name="containarium", standalone_mode=False, obj=wired)
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except (KeyboardInterrupt, typer.Abort):
        return errors.interrupted()
    except Exception as error:  # noqa: BLE001 - the end of the line: whatever it is, a person is told in one
        return errors.explain(error, wired.settings.state, root=wired.is_root())
    if code == errors.INTERRUPTED:
        return errors.interrupted()
    return code if isinstance(code, int) else errors.OK


def main() -> NoReturn:
    """The entry point of the command."""
    gc.set_threshold(_GARBAGE)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        code = run_command(sys.argv[1:])
    except BrokenPipeError:
        # Whoever read our output has gone. Python would complain once more when it flushes at the end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = errors.FAILED
    sys.exit(code)
