"""The command sessions: who is connected now."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from containarium.cli.output import ListFormat, say, say_json, say_table, say_yaml
from containarium.cli.wiring import Wiring, wiring

if TYPE_CHECKING:
    from containarium.host.connections import Connection

_HEADERS = ("NAME", "FROM", "SINCE", "FOR", "FORWARDS", "PID")


def sessions(
    context: typer.Context,
    name: Annotated[str | None, typer.Argument(help="Only this environment.", show_default="all")] = None,
    output: Annotated[ListFormat, typer.Option("--output", "-o", help="How to print it.")] = ListFormat.TABLE,
) -> None:
    """Show who is connected now: since when, from where, and how many ways are open through it.

    What is shown is what runs, whatever the logs say. To end somebody's sessions, withdraw the key.

    Example: containarium sessions alice -o json
    """
    wired = wiring(context)
    wired.require_root("sessions")
    show(connected(wired, name or ""), wired.clock(), name or "", output)


def connected(wired: Wiring, name: str) -> list[dict[str, Any]]:
    """Who is connected now, as JSON has it: everybody, or ``name`` alone."""
    return [_plain(one) for one in wired.connections(jump_accounts(wired)) if not name or one.name == name]


def show(found: Sequence[Mapping[str, Any]], now: datetime, name: str, output: ListFormat) -> None:
    """Print what ``connected`` returns."""
    if output is ListFormat.JSON:
        say_json(list(found))
    elif output is ListFormat.YAML:
        say_yaml(list(found))
    elif found:
        say_table(_HEADERS, (_cells(one, now) for one in found))
    else:
        say(f"{name} is not connected." if name else "Nobody is connected.")


def jump_accounts(wired: Wiring) -> dict[str, int]:
    """The user ids of our jump accounts, by name."""
    from containarium.model.observed import Look
    from containarium.plan.resolve import owned_account

    accounts = wired.host(wired.settings).observe(Look.SHALLOW).accounts.values()
    return {account.name: account.uid for account in accounts if owned_account(account)}


def _cells(one: Mapping[str, Any], now: datetime) -> tuple[str, ...]:
    from containarium.cli.known import span

    since, source = datetime.fromisoformat(one["since"]), str(one["from"])
    where = f"[{source}]:{one['port']}" if ":" in source else f"{source}:{one['port']}"
    lasted = span((now - since).total_seconds())
    return str(one["name"]), where, f"{since:%Y-%m-%d %H:%M:%S}", lasted, str(one["forwards"]), str(one["pid"])


def _plain(one: Connection) -> dict[str, Any]:
    return {
        "name": one.name,
        "from": one.source,
        "port": one.port,
        "since": one.since.isoformat(timespec="seconds"),
        "forwards": one.forwards,
        "pid": one.pid,
    }
