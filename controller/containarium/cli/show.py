"""Commands that only look: list and info."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from containarium.cli.errors import CommandError
from containarium.cli.output import Format, ListFormat, complain, count, say, say_fields, say_json, say_table, say_yaml
from containarium.cli.survey import Survey, folder_of, read, survey
from containarium.cli.wiring import Wiring, wiring

if TYPE_CHECKING:
    from containarium.cli.known import Known
    from containarium.model.observed import Look

Manifests = Annotated[
    Path | None,
    typer.Option(
        "--manifests", "-f", help="Folder of manifests. Default: /etc/containarium/environments.", show_default=False
    ),
]


class State(StrEnum):
    """What a container can be."""

    RUNNING = "running"
    STOPPED = "stopped"
    FROZEN = "frozen"
    ERROR = "error"
    ABSENT = "absent"


_EVENTS = 5
_HEADERS = ("NAME", "STATUS", "IP", "QUOTA", "AUTOSTART", "SSH", "READY", "DRIFT")


def list_(
    context: typer.Context,
    manifests: Manifests = None,
    output: Annotated[
        ListFormat, typer.Option("--output", "--format", "-o", help="How to print it.")
    ] = ListFormat.TABLE,
    live: Annotated[bool, typer.Option("--live", help="Look at the host now, whatever the controller found.")] = False,
    state: Annotated[
        State | None,
        typer.Option("--state", case_sensitive=False, help="Only those in this state.", show_default=False),
    ] = None,
    user: Annotated[
        list[str] | None, typer.Option("--user", metavar="NAME", help="Only this one. Repeatable.", show_default=False)
    ] = None,
    label: Annotated[
        list[str] | None,
        typer.Option(
            "--label", "-l", metavar="KEY[=VALUE]", help="Only those with this label. Repeatable.", show_default=False
        ),
    ] = None,
) -> None:
    """List the environments of this host and how far each is from its manifest.

    Shows what the running controller found in its last pass. Where none runs, or with --manifests or --live, the host
    is looked at now, though not inside the guests. Works without manifests too, then Ready is Unknown.

    Example: containarium list --state running --label team=ml -o json
    """
    from containarium.cli.known import current, mention, row

    wired = wiring(context)
    known = None if live or manifests is not None else current(wired)
    chosen = _chooser(wired, manifests, state, user, label)
    if known is not None:
        _show([shown for environment in known.status.environments if chosen(shown := row(environment))], output)
        mention(known)
        return
    from containarium.cli.overview import rows
    from containarium.model.observed import Look

    found = _survey(wired, manifests, Look.SHALLOW)
    _show([shown for shown in rows(found) if chosen(shown)], output)
    _mention(found)


def _chooser(
    wired: Wiring, manifests: Path | None, state: State | None, users: list[str] | None, labels: list[str] | None
) -> Callable[[dict[str, Any]], bool]:
    """Whether a row is asked for. Labels are those of the manifests."""
    labelled = _labelled(folder_of(wired, None, manifests), labels) if labels else frozenset()

    def chosen(row: dict[str, Any]) -> bool:
        return (
            (state is None or row["status"].lower() == state.value)
            and (not users or row["name"] in users)
            and (not labels or row["name"] in labelled)
        )

    return chosen


def _labelled(folder: Path, wanted: list[str]) -> frozenset[str]:
    pairs = [text.partition("=") for part in wanted for text in part.split(",") if text]
    return frozenset(
        manifest.name
        for manifest in read(folder).manifests
        if all(
            key in (labels := manifest.environment.metadata.labels) and (not equals or labels[key] == value)
            for key, equals, value in pairs
        )
    )


def _show(data: list[dict[str, Any]], output: ListFormat) -> None:
    if output is ListFormat.JSON:
        say_json(data)
    elif output is ListFormat.YAML:
        say_yaml(data)
    elif data:
        fleet = any(row.get("host") for row in data)
        headers = ("NAME", "HOST", *_HEADERS[1:]) if fleet else _HEADERS
        say_table(headers, (_cells(row, fleet=fleet) for row in data))
    else:
        say("There are no environments on this host.")


def info(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="The environment.", show_default=False)],
    manifests: Manifests = None,
    output: Annotated[Format, typer.Option("--output", "-o", help="How to print it.")] = Format.TEXT,
    deep: Annotated[bool, typer.Option("--deep", help="Look inside the guests too: slower, and finds more.")] = False,
) -> None:
    """Show everything about one environment: state, limits and use, keys, jump account, conditions, last events.

    Example: containarium info alice
    """
    from containarium.cli.known import current
    from containarium.cli.overview import names
    from containarium.model.observed import Look

    wired = wiring(context)
    found = _survey(wired, manifests, Look.DEEP if deep else Look.SHALLOW)
    if name not in names(found):
        raise CommandError(f"there is no environment {name}", "containarium list shows those there are")
    data = everything(wired, found, name, current(wired) if manifests is None else None)
    if output is Format.JSON:
        say_json(data)
    else:
        say_fields(_fields(data))
    _mention(found)


def everything(wired: Wiring, found: Survey, name: str, known: Known | None) -> dict[str, Any]:
    """What info prints of an environment, as JSON: of a look, and of what the running controller knows."""
    from containarium.cli.known import overlaid
    from containarium.cli.overview import details, uptime

    return overlaid(details(found, name), known) | {
        "uptime": uptime(found, name, wired.clock()),
        "usage": _usage(wired, found, name),
        "events": _last_events(wired, name),
    }


def _usage(wired: Wiring, found: Survey, name: str) -> dict[str, Any] | None:
    """What it uses now; None where it has no container, or nobody answers in time."""
    from containarium.model.host import HostError
    from containarium.report.environments import owned_instance

    instance = owned_instance(found.observed, name)
    if instance is None:
        return None
    try:
        return asdict(wired.figures(wired.settings, instance.name))
    except HostError as error:
        complain(f"What {name} uses is not known: {error}", "yellow")
        return None


def _last_events(wired: Wiring, name: str) -> list[dict[str, Any]]:
    from containarium.report.journal import read as read_events

    try:
        return read_events(wired.settings.events, name, _EVENTS)
    except OSError:  # they are for root
        return []


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


def _cells(row: dict[str, Any], *, fleet: bool) -> tuple[str, ...]:
    return (
        row["name"],
        *((row.get("host") or "-",) if fleet else ()),
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
    from containarium.cli.known import span

    account, resources = data["jump_account"], data["resources"]
    used = data["usage"] or dict.fromkeys(("cpu", "memory", "disk", "processes"))
    fields = [
        ("Name", data["name"]),
        ("Container", data["container"]),
        ("User", data["user"]),
        *((("Host", data["host"]),) if data.get("host") else ()),
        ("Status", data["status"]),
        ("Ready", _ready(data["ready"]) + (f": {message}" if (message := data["ready"]["message"]) else "")),
        ("Drift", ", ".join(data["drift"]) or "none"),
        ("SSH", (ssh["error"] or ssh["result"]) if (ssh := data["ssh"]) else ""),
        ("Trouble", data["trouble"]),
        ("IP", data["ip"]),
        ("CPU", _limit(resources["cpu"], f"{span(used['cpu'])} used since the start" if used["cpu"] else "")),
        ("Memory", _of(used["memory"], resources["memory"])),
        ("Disk", _of(used["disk"], resources["disk"])),
        ("Processes", _limit(resources["processes"], f"{used['processes']} now" if used["processes"] else "")),
        ("Uptime", span(data["uptime"]) if data["uptime"] is not None else ""),
        ("Autostart", "yes" if data["autostart"] else "no"),
        ("Image", data["image"]),
        ("Created", data["created"]),
        ("Jump account", account["state"] + (f" ({account['detail']})" if account["detail"] else "")),
        ("Keys", "\n".join(_key(key) for key in data["keys"])),
        ("Retired", data["retired"]),
        ("Data kept until", data["retired_until"]),
        ("Conditions", "\n".join(_condition(condition) for condition in data["conditions"])),
        ("Last events", "\n".join(_event(event) for event in data["events"])),
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


def _of(used: int | None, limit: str) -> str:
    """``1.2 GiB of 8GiB``."""
    if used is None:
        return limit
    shown = f"{used / 2**30:.1f} GiB" if used >= 2**30 else f"{used / 2**20:.0f} MiB"
    return f"{shown} of {limit}" if limit else shown


def _limit(limit: str, used: str) -> str:
    return f"{limit} ({used})" if used and limit else limit or used


def _event(event: dict[str, Any]) -> str:
    parts = (event.get("time"), event.get("reason"), event.get("message"))
    by = f"by {event['by']}" if event.get("by") else ""
    return "  ".join(str(part) for part in (*parts, by) if part)
