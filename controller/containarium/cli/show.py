"""Commands that only look: list and info."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from containarium.cli.errors import CommandError
from containarium.cli.output import Format, ListFormat, complain, count, say, say_fields, say_json, say_table, say_yaml
from containarium.cli.survey import Survey, folder_of, survey
from containarium.cli.wiring import Wiring, wiring

if TYPE_CHECKING:
    from containarium.model.observed import Look

Manifests = Annotated[
    Path | None,
    typer.Option(
        "--manifests", "-f", help="Folder of manifests. Default: /etc/containarium/environments.", show_default=False
    ),
]
_HEADERS = ("NAME", "STATUS", "IP", "QUOTA", "AUTOSTART", "SSH", "READY", "DRIFT")


def list_(
    context: typer.Context,
    manifests: Manifests = None,
    output: Annotated[ListFormat, typer.Option("--output", "-o", help="How to print it.")] = ListFormat.TABLE,
    live: Annotated[bool, typer.Option("--live", help="Look at the host now, whatever the controller found.")] = False,
) -> None:
    """List the environments of this host and how far each is from its manifest.

    Shows what the running controller found in its last pass. Where none runs, or with --manifests or --live, the host
    is looked at now, though not inside the guests. Works without manifests too, then Ready is Unknown.
    """
    from containarium.cli.known import current, mention, row

    wired = wiring(context)
    known = None if live or manifests is not None else current(wired)
    if known is not None:
        _show([row(environment) for environment in known.status.environments], output)
        mention(known)
        return
    from containarium.cli.overview import rows
    from containarium.model.observed import Look

    found = _survey(wired, manifests, Look.SHALLOW)
    _show(rows(found), output)
    _mention(found)


def _show(data: list[dict[str, Any]], output: ListFormat) -> None:
    if output is ListFormat.JSON:
        say_json(data)
    elif output is ListFormat.YAML:
        say_yaml(data)
    elif data:
        say_table(_HEADERS, (_cells(row) for row in data))
    else:
        say("There are no environments on this host.")


def info(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="The environment.", show_default=False)],
    manifests: Manifests = None,
    output: Annotated[Format, typer.Option("--output", "-o", help="How to print it.")] = Format.TEXT,
    deep: Annotated[bool, typer.Option("--deep", help="Look inside the guests too: slower, and finds more.")] = False,
) -> None:
    """Show everything about one environment: state, limits, keys, jump account, conditions."""
    from containarium.cli.overview import details, names
    from containarium.model.observed import Look

    found = _survey(wiring(context), manifests, Look.DEEP if deep else Look.SHALLOW)
    if name not in names(found):
        raise CommandError(f"there is no environment {name}", "containarium list shows those there are")
    data = details(found, name)
    if output is Format.JSON:
        say_json(data)
    else:
        say_fields(_fields(data))
    _mention(found)


def _survey(wired: Wiring, manifests: Path | None, look: Look) -> Survey:
    """A folder that is asked for has to be there; the host's own one may be missing."""
    if manifests is None and not wired.settings.manifests.exists():
        return survey(wired, None, look)
    return survey(wired, folder_of(wired, None, manifests), look)


def _mention(found: Survey) -> None:
    if not found.declared:
        complain("There are no manifests on this host: only what is here is shown.", "yellow")
    elif found.plan.problems:
        complain(f"{count(len(found.plan.problems), 'problem')} in the manifests: see containarium plan", "yellow")


def _cells(row: dict[str, Any]) -> tuple[str, ...]:
    return (
        row["name"],
        row["status"],
        row["ip"] or "-",
        row["quota"] or "-",
        "yes" if row["autostart"] else "no",
        row["ssh"]["result"] if row["ssh"] else "-",
        _ready(row["ready"]),
        ", ".join(row["drift"]) or "-",
    )


def _ready(ready: dict[str, str]) -> str:
    return ready["status"] if ready["status"] == "True" else f"{ready['status']} ({ready['reason']})"


def _fields(data: dict[str, Any]) -> list[tuple[str, str]]:
    account, resources = data["jump_account"], data["resources"]
    fields = [
        ("Name", data["name"]),
        ("Container", data["container"]),
        ("User", data["user"]),
        ("Status", data["status"]),
        ("Ready", _ready(data["ready"]) + (f": {message}" if (message := data["ready"]["message"]) else "")),
        ("Drift", ", ".join(data["drift"]) or "none"),
        ("IP", data["ip"]),
        ("CPU", resources["cpu"]),
        ("Memory", resources["memory"]),
        ("Disk", resources["disk"]),
        ("Processes", resources["processes"]),
        ("Autostart", "yes" if data["autostart"] else "no"),
        ("Image", data["image"]),
        ("Created", data["created"]),
        ("Jump account", account["state"] + (f" ({account['detail']})" if account["detail"] else "")),
        ("Keys", "\n".join(_key(key) for key in data["keys"])),
        ("Retired", data["retired"]),
        ("Data kept until", data["retired_until"]),
        ("Conditions", "\n".join(_condition(condition) for condition in data["conditions"])),
    ]
    always = {"IP", "Keys", "Conditions"}
    return [(name, value or "-") for name, value in fields if value or name in always]


def _key(key: dict[str, Any]) -> str:
    marks = [
        word for word, here in (("not declared", key["declared"]), ("not installed", key["installed"])) if not here
    ]
    words = [key["fingerprint"], key["type"], key["comment"], f"({', '.join(marks)})" if marks else ""]
    return "  ".join(word for word in words if word)


def _condition(condition: dict[str, str]) -> str:
    text = f"{condition['type']} {condition['status']}: {condition['reason']}"
    return f"{text}: {condition['message']}" if condition["message"] else text
