"""The commands key add, remove and list: the public keys of a person."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from containarium.cli.editing import (
    PATIENCE,
    Desk,
    Manifests,
    Name,
    Wait,
    editing,
    foresee,
    refuse_problems,
    refuse_synced,
)
from containarium.cli.errors import CommandError
from containarium.cli.follow import follow
from containarium.cli.output import ListFormat, count, say, say_json, say_table, say_yaml
from containarium.cli.survey import folder_of
from containarium.cli.wanted import is_key, keys_in, line_of
from containarium.cli.wiring import wiring

if TYPE_CHECKING:
    from containarium.model.sshkey import SSHKey

_SHOWN = "spec.sshKeys"
_HEADERS = ("FINGERPRINT", "TYPE", "COMMENT", "WHERE")

app = typer.Typer(help="The public keys of a person.", context_settings={"help_option_names": ["-h", "--help"]})


@app.callback(invoke_without_command=True)
def group(context: typer.Context) -> None:
    """The public keys of a person: add a second laptop, withdraw a lost one.

    Example: containarium key add alice ~/alice-laptop.pub
    """
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


@app.command("add")
def add(
    context: typer.Context,
    name: Name,
    keys: Annotated[
        list[str],
        typer.Argument(metavar="KEY...", help="A public key's line, in quotes, or its file.", show_default=False),
    ],
    manifests: Manifests = None,
    wait: Wait = PATIENCE,
) -> None:
    """Let a person in with further keys.

    A key that another person uses is refused. Example: containarium key add alice "ssh-ed25519 AAAA... alice@work"
    """
    wired = wiring(context)
    lines = [line for text in keys for line in _given(text)]
    with editing(wired, manifests, f"key add {name}") as desk:
        from containarium.model.sshkey import SSHKey
        from containarium.sources.editkeys import add_keys

        refuse_synced(desk, name, _SHOWN)
        new = add_keys(desk.session, name, [SSHKey.parse(line) for line in lines])
        if not new:
            say(f"{name} has {'this key' if len(lines) == 1 else 'these keys'} already.")
            return
        _commit(context, desk, name)
    told = ", ".join(_title(key) for key in new)
    follow(wired, desk, [name], wait, f"{name}: added {told}")


@app.command("remove")
def remove(
    context: typer.Context,
    name: Name,
    keys: Annotated[
        list[str],
        typer.Argument(
            metavar="KEY...",
            help="A fingerprint (SHA256:...), a comment, a public key's line, or its file.",
            show_default=False,
        ),
    ],
    force: Annotated[
        bool, typer.Option("--force", help="Also the last key: nobody gets in then until another one is added.")
    ] = False,
    manifests: Manifests = None,
    wait: Wait = PATIENCE,
) -> None:
    """Withdraw keys. Connections that are open with them end.

    Example: containarium key remove alice SHA256:Vjy3...
    """
    wired = wiring(context)
    with editing(wired, manifests, f"key remove {name}") as desk:
        from containarium.sources.editkeys import remove_keys

        found = desk.session.find(name)
        leaving = {key.identity: key for text in keys for key in _chosen(name, found.manifest.keys, text)}
        stays = [key for key in found.manifest.keys if key.identity not in leaving]
        if not stays and not force:
            raise CommandError(
                f"these are the last keys of {name}, and nobody could log in any more",
                "add another one first; --force withdraws them all the same",
            )
        refuse_synced(desk, name, _SHOWN)
        left = remove_keys(desk.session, name, leaving.keys())
        _commit(context, desk, name)
    for file in left:
        say(f"{file} is used no more, and stays where it is.")
    told = ", ".join(_title(key) for key in leaving.values())
    follow(wired, desk, [name], wait, f"{name}: withdrawn {told}; {count(len(stays), 'key')} left")


@app.command("list")
def list_(
    context: typer.Context,
    name: Name,
    output: Annotated[ListFormat, typer.Option("--output", "-o", help="How to print it.")] = ListFormat.TABLE,
    manifests: Manifests = None,
) -> None:
    """List the keys that a person's manifest declares, by fingerprint, and where each is written.

    Example: containarium key list alice
    """
    from containarium.sources.edit import EditRefusedError, Session
    from containarium.sources.editkeys import written_keys

    wired = wiring(context)
    session = Session(folder_of(wired, None, manifests))
    try:
        items = written_keys(session, name)
        place = session.find(name).manifest.origin
    except EditRefusedError as error:
        raise CommandError(str(error)) from None
    rows: list[dict[str, Any]] = [
        {
            "fingerprint": key.fingerprint,
            "type": key.type,
            "comment": key.comment,
            "where": item.file or str(place.locate(f"{_SHOWN}[{item.index}]")),
        }
        for item in items
        for key in item.keys
    ]
    if output is ListFormat.JSON:
        say_json(rows)
    elif output is ListFormat.YAML:
        say_yaml(rows)
    else:
        say_table(_HEADERS, ([row["fingerprint"], row["type"], row["comment"] or "-", row["where"]] for row in rows))


def _given(text: str) -> list[str]:
    return [line_of(text, "KEY")] if is_key(text) else keys_in(Path(text).expanduser(), "KEY")


def _chosen(name: str, keys: tuple[SSHKey, ...], text: str) -> list[SSHKey]:
    """The keys that an argument means: by fingerprint (or how it begins), comment, line or file."""
    plain = text.strip()
    if plain.startswith("SHA256:"):
        found = [key for key in keys if key.fingerprint == plain.rstrip("=")]
        found = found or [key for key in keys if len(plain) >= len("SHA256:") + 6 and key.fingerprint.startswith(plain)]
    else:
        found = [key for key in keys if key.comment == plain]
    if not found and (is_key(plain) or Path(plain).expanduser().is_file()):
        from containarium.model.sshkey import SSHKey

        asked = {SSHKey.parse(line).identity for line in _given(plain)}
        found = [key for key in keys if key.identity in asked]
    if not found:
        raise CommandError(
            f"{name} has no such key: {text[:80]}", f"containarium key list {name} shows those there are"
        )
    if len(found) > 1 and not (is_key(plain) or Path(plain).expanduser().is_file()):
        raise CommandError(f"{len(found)} keys of {name} are meant by {text[:80]}", "name one by its whole fingerprint")
    return found


def _commit(context: typer.Context, desk: Desk, name: str) -> None:
    from containarium.sources.edit import ManifestRefusedError

    try:
        if desk.live:
            plan, _ = foresee(wiring(context), desk)
            refuse_problems(plan, name)
        desk.session.commit()
    except ManifestRefusedError as refused:
        if refused.problem.environment != name:
            raise
        raise CommandError(f"{name}: {refused.problem.message}", refused.problem.remedy) from None


def _title(key: SSHKey) -> str:
    return f"{key.fingerprint} ({key.comment})" if key.comment else key.fingerprint
