"""Snapshots of an environment's files: take one, list them, go back to one, remove one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from containarium.cli.errors import refuse_no_name
from containarium.cli.output import ListFormat, say, say_json, say_table, say_yaml
from containarium.cli.wiring import Wiring, wiring

if TYPE_CHECKING:
    from containarium.host.snapshots import Snapshot
    from containarium.model.host import Progress

Name = Annotated[str, typer.Argument(help="The environment.", show_default=False)]
SnapshotName = Annotated[str, typer.Argument(metavar="SNAPSHOT", help="The snapshot.", show_default=False)]
_HEADERS = ("SNAPSHOT", "TAKEN", "EXPIRES", "SIZE")
_SAFETY_DAYS = "7d"

app = typer.Typer(
    help="Snapshots of an environment's files, on its own storage pool.",
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback(invoke_without_command=True)
def group(context: typer.Context) -> None:
    """Snapshots of an environment's files, on its own storage pool.

    They are quick and cheap, and go with the environment: a backup (containarium backup NAME) does not.
    Schedules are the manifest's (spec.snapshots).
    """
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


@app.command("create")
def create(
    context: typer.Context,
    name: Name,
    snapshot: Annotated[
        str | None, typer.Argument(metavar="[SNAPSHOT]", help="What to call it.", show_default="manual- and the time")
    ] = None,
    expires: Annotated[
        str | None,
        typer.Option(metavar="DURATION", help="Remove it after so long: 12h, 30d, 4w.", show_default="never"),
    ] = None,
) -> None:
    """Keep an environment's files as they are now. Of a running one: as a power cut would leave them.

    Example: containarium snapshot create alice before-upgrade --expires 30d
    """
    wired = wiring(context)
    wired.require_root(f"snapshot create {name}")
    say(take(wired, name, snapshot, expires, say), "green")


def take(wired: Wiring, name: str, snapshot: str | None, expires: str | None, tell: Progress) -> str:
    """Take a snapshot, called ``manual-`` and the time without a name. Returns what there is to say of it.

    Raises CommandError and HostError.
    """
    from containarium.cli.image import duration

    refuse_no_name(name)
    now = wired.clock()
    called = snapshot or f"manual-{now:%Y%m%dT%H%M%SZ}"
    until = now + duration(expires, "--expires") if expires else None
    wired.snapshots(wired.settings).create(name, called, until, progress=tell)
    kept = f"until {_shown(until)}" if until else f"until containarium snapshot delete {name} {called}"
    return f"{name} has the snapshot {called}, {kept}."


@app.command("list")
def list_(
    context: typer.Context,
    name: Name,
    output: Annotated[ListFormat, typer.Option("--output", "-o", help="How to print it.")] = ListFormat.TABLE,
) -> None:
    """List an environment's snapshots, oldest first: those taken by hand, and those of its schedule.

    Example: containarium snapshot list alice -o json
    """
    show([plain(snapshot) for snapshot in listed(wiring(context), name)], name, output)


def listed(wired: Wiring, name: str) -> tuple[Snapshot, ...]:
    """An environment's snapshots, oldest first. Raises CommandError and HostError."""
    refuse_no_name(name)
    return wired.snapshots(wired.settings).all(name)


def show(found: Sequence[Mapping[str, Any]], name: str, output: ListFormat) -> None:
    """Print snapshots as ``plain`` describes them."""
    if output is ListFormat.JSON:
        say_json(list(found))
    elif output is ListFormat.YAML:
        say_yaml(list(found))
    elif found:
        say_table(_HEADERS, map(_cells, found))
    else:
        say(f"{name} has no snapshots.")


@app.command("restore")
def restore(
    context: typer.Context,
    name: Name,
    snapshot: SnapshotName,
    no_safety: Annotated[
        bool, typer.Option("--no-safety", help="Keep nothing of the present files: they are lost for good.")
    ] = False,
) -> None:
    """Give an environment its files of then. It is stopped for it, and started again where it ran.

    The files of now are kept as another snapshot for 7 days, so that nothing is lost. Settings, limits, address and
    keys stay those of its manifest. Works beside the running controller, which leaves it alone meanwhile.

    Example: containarium snapshot restore alice before-upgrade
    """
    wired = wiring(context)
    wired.require_root(f"snapshot restore {name} {snapshot}")
    say(go_back(wired, name, snapshot, safety=not no_safety, tell=say), "green")


def go_back(wired: Wiring, name: str, snapshot: str, *, safety: bool, tell: Progress) -> str:
    """Give an environment its files of then, with nobody else at it. Returns what there is to say of it.

    Raises CommandError and HostError.
    """
    from containarium.cli.alone import alone_with, nudge
    from containarium.cli.image import duration

    refuse_no_name(name)
    now = wired.clock()
    kept = f"before-restore-{now:%Y%m%dT%H%M%SZ}" if safety else ""
    until = now + duration(_SAFETY_DAYS, "")
    with alone_with(wired, name, tell=tell):
        wired.snapshots(wired.settings).restore(name, snapshot, kept, until, progress=tell)
    if kept:
        tell(f"What it had is kept until {_shown(until)}: containarium snapshot restore {name} {kept}")
    nudge(wired, "No controller runs here: containarium apply brings keys and packages up to its manifest.", tell)
    return f"{name} has its files of {snapshot} again."


@app.command("delete")
def delete(context: typer.Context, name: Name, snapshot: SnapshotName) -> None:
    """Remove a snapshot. What only it held is lost.

    Example: containarium snapshot delete alice before-upgrade
    """
    wired = wiring(context)
    wired.require_root(f"snapshot delete {name} {snapshot}")
    say(drop(wired, name, snapshot), "green")


def drop(wired: Wiring, name: str, snapshot: str) -> str:
    """Remove a snapshot. Returns what there is to say of it. Raises CommandError and HostError."""
    refuse_no_name(name)
    wired.snapshots(wired.settings).delete(name, snapshot)
    return f"The snapshot {snapshot} of {name} is gone."


def _shown(moment: datetime | None) -> str:
    return moment.strftime("%Y-%m-%d %H:%M") if moment else "-"


def _cells(snapshot: Mapping[str, Any]) -> tuple[str, ...]:
    taken, expires, size = (snapshot[key] for key in ("created", "expires", "size"))
    return (
        str(snapshot["name"]),
        _shown(datetime.fromisoformat(taken) if taken else None),
        _shown(datetime.fromisoformat(expires)) if expires else "never",
        "-" if size is None else f"{size / 2**20:.0f} MiB",
    )


def plain(snapshot: Snapshot) -> dict[str, Any]:
    """A snapshot as JSON has it."""
    return {
        "name": snapshot.name,
        "created": snapshot.created.isoformat(timespec="seconds") if snapshot.created else None,
        "expires": snapshot.expires.isoformat(timespec="seconds") if snapshot.expires else None,
        "size": snapshot.size,
    }
