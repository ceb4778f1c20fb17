"""How it goes: status and events, from what the controller wrote down. Neither asks Incus."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from containarium.cli.errors import FAILED, CommandError
from containarium.cli.output import Format, say, say_fields, say_json, say_table
from containarium.cli.wiring import Wiring, wiring

if TYPE_CHECKING:
    from containarium.cli.known import Known
    from containarium.model.status import Condition
    from containarium.report.snapshot import Revision, Trouble
    from containarium.report.statusfile import EnvironmentStatus, Status

Name = Annotated[str | None, typer.Argument(help="One environment. Default: the whole host.", show_default=False)]
_EVENTS_OF_ONE = 5


def status(
    context: typer.Context,
    name: Name = None,
    output: Annotated[Format, typer.Option("--output", "-o", help="How to print it.")] = Format.TEXT,
) -> None:
    """Show how it goes: the controller, its last pass, and whatever is not as it should be.

    Exit code 0 when the controller runs and everything that ought to be ready is, 1 otherwise.
    """
    from containarium.cli.known import known

    wired = wiring(context)
    found = known(wired)
    if found is None:
        raise CommandError(
            "no controller has run on this host since the boot",
            "start it (systemctl start containarium); containarium list shows the host without it",
        )
    if name is not None:
        _one(wired, found, name, output)
        return
    if output is Format.JSON:
        say_json({"alive": found.alive, "age": round(found.age, 1), **found.status.to_json()})
    else:
        say_fields(_host_fields(wired, found))
    if not (found.current and found.status.well):
        raise typer.Exit(FAILED)


def events(
    context: typer.Context,
    name: Annotated[str | None, typer.Argument(help="One environment. Default: all.", show_default=False)] = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=100_000, help="How many, at most.")] = 50,
    output: Annotated[Format, typer.Option("--output", "-o", help="How to print it.")] = Format.TEXT,
) -> None:
    """Show what happened, oldest first; for drift, who did it."""
    wired = wiring(context)
    found = _events(wired, name or "", limit)
    if output is Format.JSON:
        say_json(found)
    elif found:
        say_table(("TIME", "ENVIRONMENT", "EVENT", "WHAT", "BY"), (_event_cells(event) for event in found))
    else:
        say(f"Nothing is known to have happened to {name}." if name else "Nothing is known to have happened.")


def _events(wired: Wiring, name: str, limit: int) -> list[dict[str, Any]]:
    from containarium.report.journal import read

    return read(wired.settings.events, name, limit)


def _event_cells(event: dict[str, Any]) -> tuple[str, ...]:
    return (
        _local(str(event.get("time", ""))),
        str(event.get("environment") or "-"),
        str(event["reason"]),
        _what(event) or "-",
        str(event.get("by") or "-"),
    )


def _what(event: dict[str, Any]) -> str:
    fields = event.get("fields")
    named = ", ".join(str(field) for field in fields) if isinstance(fields, list) else ""
    return ": ".join(part for part in (named, str(event.get("message", ""))) if part)


def _local(stamp: str) -> str:
    """A time as RFC 3339 without its fraction; text that is no time stays as it is."""
    try:
        return datetime.fromisoformat(stamp).isoformat(sep=" ", timespec="seconds")
    except ValueError:
        return stamp


def _host_fields(wired: Wiring, found: Known) -> list[tuple[str, str]]:
    from containarium.cli.known import ago, span

    status, last = found.status, found.status.last_pass
    fields = [
        ("Host", status.host),
        ("Controller", _controller(found)),
        ("Last pass", f"{ago(found.age)} ({last.id}): {last.sentence}"),
        ("Last whole pass", _success(wired, status) if last.error or not status.last_success else ""),
        ("Revision", _revision(status.revision)),
        ("This host", "\n".join(_wrong_steps(status))),
        ("Preempted", status.preempted),
        ("Recovered", f"everybody could log in {span(status.recovered)} after the boot" if status.recovered else ""),
        ("Environments", ", ".join(f"{number} {key}" for key, number in status.counts.items()) or "none"),
        ("Not ready", "\n".join(_not_ready(status))),
        ("Working", "\n".join(f"{e.name}: {e.work.action} {e.work.step}" for e in status.environments if e.work)),
        ("Trouble", "\n".join(f"{e.name}: {_trouble(wired, e.trouble)}" for e in status.environments if e.trouble)),
        ("Held back", "\n".join(_interlocks(status))),
        ("Problems", "\n".join(problem.message for problem in status.problems)),
    ]
    return [(name, value) for name, value in fields if value]


def _controller(found: Known) -> str:
    daemon = found.status.daemon
    since = daemon.started.isoformat(sep=" ", timespec="seconds")
    if not found.alive:
        return f"NOT RUNNING (it was pid {daemon.pid}, started {since}): systemctl start containarium"
    if not found.current:
        return f"running (pid {daemon.pid}), and its last pass is not recent: journalctl -u containarium"
    return f"running (pid {daemon.pid}, since {since})"


def _success(wired: Wiring, status: Status) -> str:
    if status.last_success is None:
        return "none yet"
    from containarium.cli.known import ago

    return ago((wired.clock() - status.last_success).total_seconds())


def _revision(revision: Revision) -> str:
    if not revision.error:
        return revision.applied
    return f"{revision.applied or 'none'} applied; {revision.tried or 'the last one'} was refused: {revision.error}"


def _wrong_steps(status: Status) -> Iterator[str]:
    """Steps of the host's preparation that did not end well."""
    from containarium.model.status import ConditionStatus

    for condition in status.conditions:
        if condition.status is not ConditionStatus.TRUE:
            yield _condition(condition)


def _not_ready(status: Status) -> Iterator[str]:
    for environment in status.environments:
        if environment.wanting:
            yield f"{environment.name}: {_reason(environment.ready)}"


def _reason(condition: Condition) -> str:
    return f"{condition.reason}: {condition.message}" if condition.message else condition.reason


def _trouble(wired: Wiring, trouble: Trouble) -> str:
    from containarium.cli.known import span

    tries = f"attempt {trouble.attempts}"
    if trouble.retry_at is None:
        again = "waits for a person"
    else:
        again = f"next try in {span((trouble.retry_at - wired.clock()).total_seconds())}"
    again = f"waits for a person, {again}" if trouble.stalled and trouble.retry_at is not None else again
    return f"{trouble.action}: {trouble.message} ({tries}, {again})"


def _interlocks(status: Status) -> Iterator[str]:
    for interlock in status.interlocks:
        yield f"{', '.join(interlock.environments)}: {interlock.reason}: {interlock.message}"
        if interlock.remedy:
            yield f"  {interlock.remedy}"
        approve = f"containarium approve {interlock.digest}"
        if interlock.digest and approve not in interlock.remedy:
            yield f"  {approve}"


def _one(wired: Wiring, found: Known, name: str, output: Format) -> None:
    environment = found.status.environment(name)
    if environment is None:
        raise CommandError(f"the controller knows no environment {name}", "containarium list shows those there are")
    try:
        history = _events(wired, name, _EVENTS_OF_ONE)
    except PermissionError:  # the status is for everybody, the events are for root
        history = []
    if output is Format.JSON:
        plain = next(e for e in found.status.to_json()["environments"] if e["name"] == name)
        say_json({"alive": found.alive, "age": round(found.age, 1), **plain, "events": history})
    else:
        say_fields(_fields_of_one(wired, found, environment, history))
    if not found.current or environment.wanting:
        raise typer.Exit(FAILED)


def _fields_of_one(
    wired: Wiring, found: Known, environment: EnvironmentStatus, history: list[dict[str, Any]]
) -> list[tuple[str, str]]:
    from containarium.cli.known import ago

    work, probe, trouble = environment.work, environment.probe, environment.trouble
    seen = f"{ago((wired.clock() - probe.at).total_seconds())}, {probe.seconds:.2f} s" if probe else ""
    fields = [
        ("Name", environment.name),
        ("Status", environment.status),
        ("IP", environment.ip),
        ("Controller", _controller(found)),
        ("Last pass", ago(found.age)),
        ("Conditions", "\n".join(_condition(condition) for condition in environment.conditions)),
        ("Working", f"{work.action} {work.step}".rstrip() if work else ""),
        ("Trouble", _trouble(wired, trouble) if trouble else ""),
        ("SSH", f"{f'failed: {probe.error}' if probe.error else 'ok'} ({seen})" if probe else "not probed yet"),
        (
            "Events",
            "\n".join(
                "  ".join(
                    cell for cell in (time, reason, what, f"by {by}" if by != "-" else "") if cell not in ("", "-")
                )
                for time, _name, reason, what, by in map(_event_cells, history)
            ),
        ),
    ]
    return [(name, value) for name, value in fields if value]


def _condition(condition: Condition) -> str:
    since = f" since {_local(condition.last_transition)}" if condition.last_transition else ""
    return f"{condition.type} {condition.status.value}{since}: {_reason(condition)}"
