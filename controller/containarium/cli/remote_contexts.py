"""Named servers, in a file of the person's own: context list, use, add, remove."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from containarium.cli.errors import CommandError
from containarium.cli.output import Format, say, say_json, say_table

app = typer.Typer(help="Servers by name.", context_settings={"help_option_names": ["-h", "--help"]})
_LARGEST = 1 << 20
_LOCAL = "local"
Name = Annotated[str, typer.Argument(help="What it is called.", show_default=False)]


@dataclass(frozen=True, slots=True)
class Context:
    """A server with a name. ``certs`` is the folder of its certificates, empty for the usual one."""

    name: str
    server: str
    certs: str = ""


@dataclass(frozen=True, slots=True)
class Config:
    """The file. ``current`` is empty where commands are carried out here unless they say otherwise."""

    current: str
    contexts: tuple[Context, ...]


def folder(environ: Mapping[str, str] | None = None) -> Path:
    """``~/.config/containarium``, or where XDG_CONFIG_HOME says."""
    environ = os.environ if environ is None else environ
    home = environ.get("XDG_CONFIG_HOME", "")
    base = Path(home) if home.startswith("/") else Path(environ.get("HOME") or "/root") / ".config"
    return base / "containarium"


def default_certificates(environ: Mapping[str, str] | None = None) -> Path:
    """Where certificates are looked for that nobody names."""
    return folder(environ) / "certs"


def read(environ: Mapping[str, str] | None = None) -> Config:
    """The file's contents; nothing where there is none. Raises CommandError where it cannot be understood."""
    path = folder(environ) / "config.yaml"
    try:
        with path.open("rb") as file:
            text = file.read(_LARGEST)
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return Config("", ())
    import yaml

    try:
        data = yaml.safe_load(text) or {}
        contexts = tuple(
            Context(str(name), str(each["server"]), str(each.get("certs") or ""))
            for name, each in (data.get("contexts") or {}).items()
        )
        return Config(str(data.get("current") or ""), contexts)
    except (yaml.YAMLError, AttributeError, KeyError, TypeError) as error:
        raise CommandError(f"{path} cannot be understood", "mend it, or move it away") from error


def find(name: str | None, environ: Mapping[str, str] | None = None) -> Context | None:
    """The context of this name, or the current one; None where there is no current one."""
    config = read(environ)
    wanted = name or config.current
    if not wanted:
        return None
    for context in config.contexts:
        if context.name == wanted:
            return context
    raise CommandError(f"there is no context {wanted}", "containarium context list shows those there are")


@app.callback(invoke_without_command=True)
def group(context: typer.Context) -> None:
    """Servers by name, so that commands need neither --server nor --certs-dir.

    Example: containarium context add prod --server jump-1.example.org:50051 --certs-dir ~/certs/prod
    """
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


@app.command("list")
def list_(
    output: Annotated[Format, typer.Option("--output", "-o", help="How to print it.")] = Format.TEXT,
) -> None:
    """List the servers; the current one, which commands talk to, has a star."""
    config = read()
    if output is Format.JSON:
        say_json(
            [
                {"name": c.name, "server": c.server, "certs": c.certs, "current": c.name == config.current}
                for c in config.contexts
            ]
        )
        return
    rows = [("*" if not config.current else "", _LOCAL, "this host", "")]
    rows += [("*" if c.name == config.current else "", c.name, c.server, c.certs or "-") for c in config.contexts]
    say_table(("", "NAME", "SERVER", "CERTIFICATES"), rows)


@app.command("use")
def use(name: Name) -> None:
    """Have commands talk to this server from now on; local: to this host itself."""
    config = read()
    if name != _LOCAL:
        find(name)
    _write(Config("" if name == _LOCAL else name, config.contexts))
    say(f"Commands are carried out on {name if name != _LOCAL else 'this host'} from now on.")


@app.command("add")
def add(
    name: Name,
    server: Annotated[
        str, typer.Option("--address", metavar="HOST:PORT", help="The server (also as --server).", show_default=False)
    ] = "",
    certs: Annotated[
        Path | None, typer.Option("--certs", metavar="FOLDER", help="Its certificates (also as --certs-dir).")
    ] = None,
    *,
    context: typer.Context,
) -> None:
    """Write a server down, or change it. The first one becomes the current one."""
    from containarium.api.client import Target
    from containarium.cli.wiring import wiring

    given = wiring(context).remote
    server = server or (given.server if given is not None else "")
    if not server or name == _LOCAL:
        raise CommandError("a context needs a name of its own and a server", f"context add {name} --server HOST:PORT")
    where = certs or (given.certificates if given is not None else None)
    made = Context(name, Target.parse(server, Path()).server, str(where.expanduser().absolute()) if where else "")
    config = read()
    others = tuple(each for each in config.contexts if each.name != name)
    _write(Config(config.current or ("" if others else name), (*others, made)))
    say(f"{name} is {made.server}.")


@app.command("remove")
def remove(name: Name) -> None:
    """Forget a server. Its certificates stay where they are."""
    config = read()
    find(name)
    left = tuple(each for each in config.contexts if each.name != name)
    _write(Config("" if config.current == name else config.current, left))
    say(f"{name} is forgotten.")


def _write(config: Config) -> None:
    import yaml

    from containarium.host.files import write_atomically

    contexts: dict[str, dict[str, Any]] = {
        each.name: {"server": each.server} | ({"certs": each.certs} if each.certs else {}) for each in config.contexts
    }
    text = yaml.safe_dump({"current": config.current, "contexts": contexts}, sort_keys=False)
    write_atomically(folder() / "config.yaml", text, 0o600)
