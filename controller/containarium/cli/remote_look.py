"""Commands that only look, carried out on a server: what it says is shown as it is shown there."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from containarium.api.v1 import controller_pb2 as pb
from containarium.cli import errors
from containarium.cli import show as local_show
from containarium.cli import status as local_status
from containarium.cli.errors import CommandError
from containarium.cli.known import Known
from containarium.cli.output import (
    Format,
    ListFormat,
    complain,
    count,
    say,
    say_fields,
    say_json,
    say_plan,
    say_table,
    say_yaml,
)
from containarium.cli.wiring import Wiring
from containarium.report import statusfile

if TYPE_CHECKING:
    from containarium.api.client import Client
    from containarium.cli.audit import AuditFormat
    from containarium.cli.remote import Backend
    from containarium.cli.sshconfig import Route

TIMEOUT = 60.0
"""Seconds for a call that only looks."""
_EVENTS = 5


def list_(
    backend: Backend,
    output: ListFormat,
    live: bool,
    state: local_show.State | None = None,
    user: list[str] | None = None,
    label: list[str] | None = None,
) -> None:
    """As ``list``."""
    from containarium.api.v1 import container_pb2

    with backend.connected() as client:
        found = client.ask("ListEnvironments", pb.ListEnvironmentsRequest(live=live), TIMEOUT)
        labelled: set[str] = set()
        if label:
            pairs = [text.partition("=") for part in label for text in part.split(",") if text]
            listed = client.ask("ListContainers", container_pb2.ListContainersRequest(), TIMEOUT, original=True)
            labelled = {
                each.username
                for each in listed.containers
                if all(key in each.labels and (not eq or each.labels[key] == value) for key, eq, value in pairs)
            }
    rows = [
        row
        for row in json.loads(found.document)
        if (state is None or row["status"].lower() == state.value)
        and (not user or row["name"] in user)
        and (not label or row["name"] in labelled)
    ]
    local_show._show(rows, output)
    _remark(found)


def info(backend: Backend, name: str, output: Format, deep: bool) -> None:
    """As ``info``."""
    with backend.connected() as client:
        found = client.ask("GetEnvironment", pb.GetEnvironmentRequest(name=name, deep=deep), TIMEOUT)
    data = json.loads(found.document)
    if output is Format.JSON:
        say_json(data)
    else:
        say_fields(local_show._fields(data))
    _remark(found)


def status(backend: Backend, wired: Wiring, name: str | None, output: Format) -> None:
    """As ``status``."""
    with backend.connected() as client:
        data = json.loads(client.ask("GetStatus", pb.GetStatusRequest(), TIMEOUT).document)
        history = _history(client, name, _EVENTS) if name is not None else []
    found = Known(statusfile._status(data), float(data["age"]), data["alive"] is True)
    if name is not None:
        _status_of(wired, found, data, name, output, history)
        return
    if output is Format.JSON:
        say_json(data)
    else:
        say_fields(local_status._host_fields(wired, found))
    if not (found.current and found.status.well):
        raise typer.Exit(errors.FAILED)


def _status_of(
    wired: Wiring, found: Known, data: dict[str, Any], name: str, output: Format, history: list[dict[str, Any]]
) -> None:
    environment = found.status.environment(name)
    if environment is None:
        raise CommandError(f"the controller knows no environment {name}", "containarium list shows those there are")
    if output is Format.JSON:
        plain = next(each for each in data["environments"] if each["name"] == name)
        say_json({"alive": found.alive, "age": data["age"], **plain, "events": history})
    else:
        say_fields(local_status._fields_of_one(wired, found, environment, history))
    if not found.current or environment.wanting:
        raise typer.Exit(errors.FAILED)


def events(backend: Backend, name: str | None, limit: int, output: Format) -> None:
    """As ``events``."""
    with backend.connected() as client:
        found = _history(client, name, min(limit, 10_000))
    if output is Format.JSON:
        say_json(found)
    elif found:
        rows = (local_status._event_cells(event) for event in found)
        say_table(("TIME", "ENVIRONMENT", "EVENT", "WHAT", "BY"), rows)
    else:
        say(f"Nothing is known to have happened to {name}." if name else "Nothing is known to have happened.")


def plan(
    backend: Backend,
    output: Format,
    detailed_exitcode: bool,
    shallow: bool,
    approve: list[str] | None,
    restart: bool,
) -> None:
    """As ``plan``."""
    request = pb.PlanRequest(shallow=shallow, approve=approve or (), restart=restart)
    with backend.connected() as client:
        found = client.ask("Plan", request, TIMEOUT)
    if output is Format.JSON:
        say_json(json.loads(found.document))
    else:
        say_plan(found.text)
    changes = errors.CHANGES if detailed_exitcode and found.pending else errors.OK
    raise typer.Exit(errors.UNSAFE if found.unsafe else errors.FAILED if found.blocked else changes)


def doctor(backend: Backend, output: Format) -> None:
    """As ``doctor``, of the server's host."""
    from collections import Counter

    from containarium.cli.hostcmd import _COLOURS, _WORDS

    with backend.connected() as client:
        findings = client.ask("Doctor", pb.DoctorRequest(), TIMEOUT).findings
    if output is Format.JSON:
        keys = ("check", "level", "message", "remedy")
        say_json([{key: getattr(finding, key) for key in keys} for finding in findings])
    else:
        for finding in findings:
            say(f"  {finding.level:<4}  {finding.check}: {finding.message}", _COLOURS.get(finding.level))
            if finding.remedy:
                say(f"        -> {finding.remedy}")
        levels = Counter(finding.level for finding in findings)
        parts = [f"{levels[level]} {words}" for level, words in _WORDS.items() if levels[level]]
        say(f"{count(len(findings), 'check')}: {', '.join(parts) or 'none was carried out'}.")
    if any(finding.level == "fail" for finding in findings):
        raise typer.Exit(errors.FAILED)


def export(
    backend: Backend, name: str, jump_host: str | None, jump_port: int | None, key: str, output: Path | None
) -> None:
    """As ``export``; files are written on this computer."""
    from containarium.cli.export import Way

    with backend.connected() as client:
        if output is None:
            say(block(client, name, Way(jump_host, jump_port, key)))
            return
        write(client, name, Way(jump_host, jump_port, key), output)
    say(f"Written to {output} and {output.name}.known_hosts. Log in with: ssh -F {shlex.quote(str(output))} {name}")


def key_list(backend: Backend, name: str, output: ListFormat) -> None:
    """As ``key list``, without the files."""
    with backend.connected() as client:
        found = client.ask("GetEnvironment", pb.GetEnvironmentRequest(name=name), TIMEOUT)
    fields = ("fingerprint", "type", "comment")
    rows = [{field: key[field] for field in fields} for key in json.loads(found.document)["keys"] if key["declared"]]
    if output is ListFormat.JSON:
        say_json(rows)
    elif output is ListFormat.YAML:
        say_yaml(rows)
    else:
        say_table([field.upper() for field in fields], ([row[field] or "-" for field in fields] for row in rows))


def sessions(backend: Backend, wired: Wiring, name: str | None, output: ListFormat) -> None:
    """As ``sessions``."""
    from containarium.cli.sessions import show

    with backend.connected() as client:
        found = client.ask("ListSessions", pb.ListSessionsRequest(name=name), TIMEOUT)
    show(json.loads(found.document), wired.clock(), name or "", output)


def audit(backend: Backend, name: str | None, since: str, until: str | None, output: AuditFormat) -> None:
    """As ``audit``; times without a zone are the server's."""
    from containarium.cli.audit import show

    with backend.connected() as client:
        found = client.ask("ListAudit", pb.ListAuditRequest(name=name, since=since, until=until), TIMEOUT)
    show(json.loads(found.document), name or "", output)


def block(client: Client, name: str, way: Any) -> str:
    """The connection block as ``export`` prints it."""
    from containarium.cli.export import DEFAULT_KNOWN_HOSTS
    from containarium.cli.sshconfig import config

    route, trusted = _connection(client, name, way, (DEFAULT_KNOWN_HOSTS,))
    listed = "".join(f"# {line}\n" for line in trusted.splitlines())
    return f"{config(route)}\n# Put these lines into {DEFAULT_KNOWN_HOSTS}, without the #:\n{listed}".rstrip("\n")


def write(client: Client, name: str, way: Any, output: Path) -> None:
    """Both files, as ``export --output`` writes them."""
    from containarium.cli.export import put
    from containarium.cli.sshconfig import beside

    put(output, *_connection(client, name, way, beside(output)))


def _connection(client: Client, name: str, way: Any, known_hosts_files: tuple[str, ...]) -> tuple[Route, str]:
    from containarium.cli.export import DEFAULT_PORT
    from containarium.cli.sshconfig import Route, known_hosts

    found = client.ask("GetAccess", pb.GetAccessRequest(name=name), TIMEOUT)
    told = found.jump_port if way.jump_host in (None, found.jump_host) else 0
    route = Route(
        name=name,
        address=found.address,
        jump_host=way.jump_host or found.jump_host,
        jump_port=way.jump_port or told or DEFAULT_PORT,
        key=way.key,
        known_hosts=known_hosts_files,
    )
    return route, known_hosts(route, list(found.guest_keys), list(found.jump_host_keys))


def _history(client: Client, name: str | None, limit: int) -> list[dict[str, Any]]:
    found = client.ask("ListEvents", pb.ListEventsRequest(environment=name or "", limit=limit), TIMEOUT).events
    return [
        {
            key: value
            for key, value in (
                ("time", each.time), ("reason", each.reason), ("environment", each.environment),
                ("message", each.message), ("fields", list(each.fields)), ("by", each.by), ("pass", each.pass_id),
            )
            if value
        }
        for each in found
    ]  # fmt: skip


def _remark(found: pb.Document) -> None:
    for remark in found.remarks:
        complain(remark, "yellow")
