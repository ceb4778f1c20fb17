"""The command audit: logins and changes, as the host wrote them down, and who is banned now."""

from __future__ import annotations

import csv
import io
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from containarium.cli.errors import CommandError, refuse_no_name
from containarium.cli.output import complain, printable, say, say_json, say_table
from containarium.cli.wiring import Wiring, wiring

if TYPE_CHECKING:
    from containarium.host.bans import Bans
    from containarium.host.loglines import Line, Login


class AuditFormat(StrEnum):
    """What audit can print."""

    TABLE = "table"
    JSON = "json"
    CSV = "csv"


COLUMNS = ("time", "event", "environment", "from", "port", "key", "seconds", "who", "via", "what", "result")
_HEADERS = ("TIME", "EVENT", "ENVIRONMENT", "FROM", "KEY", "FOR", "WHO", "WHAT")
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")
_MOST_IN_WORDS = 5
_ONE = threading.Lock()
"""Whoever holds it looks at the logs."""
_PATIENCE = 5.0
"""Seconds that the next one waits."""


@dataclass(frozen=True, slots=True)
class Window:
    """The time that is asked for."""

    since: datetime
    until: datetime


def audit(
    context: typer.Context,
    name: Annotated[str | None, typer.Argument(help="Only this environment.", show_default="all")] = None,
    since: Annotated[
        str, typer.Option(metavar="TIME", help="From when on: 12h, 7d, 2026-11-20, or 2026-11-20T08:30.")
    ] = "7d",
    until: Annotated[
        str | None, typer.Option(metavar="TIME", help="Up to when, written likewise.", show_default="now")
    ] = None,
    output: Annotated[AuditFormat, typer.Option("--output", "-o", help="How to print it.")] = AuditFormat.TABLE,
) -> None:
    """Show logins that were let in or refused, and what admins changed, oldest first.

    Logins are what this host's sshd wrote to the journal (or auth.log), by the fingerprint of their key; changes are
    what containarium itself did for somebody, and for whom. Current bans of fail2ban stand below.

    Example: containarium audit alice --since 30d -o csv > alice.csv
    """
    wired = wiring(context)
    wired.require_root("audit")
    show(told(wired, name or "", since, until), name or "", output)


def told(wired: Wiring, name: str, since: str, until: str | None, patience: float = _PATIENCE) -> dict[str, Any]:
    """What audit prints as JSON: entries, oldest first, where they are from, and bans; all, or only ``name``'s.

    ``remarks`` are words about what is missing among them. Raises CommandError and HostError.
    """
    if name:
        refuse_no_name(name)
    window = window_of(wired, since, until)
    with _alone(patience):
        rows, source, remarks = _entries(wired, window, name)
    begin = window.since.isoformat(timespec="seconds")
    return {"source": source, "since": begin, "entries": rows, "remarks": remarks, **_banned(wired.bans())}


@contextmanager
def _alone(patience: float) -> Iterator[None]:
    """A server is asked by several at once, and what is read takes memory. Raises RetryableError (Busy)."""
    from containarium.model.host import RetryableError

    if not _ONE.acquire(timeout=patience):
        raise RetryableError(
            "the logs are just being looked through for somebody else", remedy="ask again in a minute", reason="Busy"
        )
    try:
        yield
    finally:
        _ONE.release()


def _entries(wired: Wiring, window: Window, name: str) -> tuple[list[dict[str, Any]], str, list[str]]:
    """The rows, their source, and remarks. Strangers fill one of the two logs: that it fails takes nothing from the
    other. Raises HostError where both fail.
    """
    from containarium.model.host import HostError

    rows: list[dict[str, Any]] = []
    source, failed, remarks = "", [], []
    parts = (("changes", _changes), ("logins", _logins))
    for title, part in parts:
        try:
            found, source, whole = part(wired, window, name)
        except HostError as error:
            failed.append(error)
            remarks.append(f"The {title} are not known: {error}.")
            continue
        rows += found
        if not whole:
            remarks.append(f"There are too many {title}: earlier ones are left out.")
    if len(failed) == len(parts):
        raise failed[-1]
    rows.sort(key=lambda row: (str(row["time"]), row["event"] == "change"))
    words = " ".join(remarks).rstrip(".")
    return rows, f"{source} ({words})" if words else source, remarks


def show(data: Mapping[str, Any], name: str, output: AuditFormat) -> None:
    """Print what ``told`` returns."""
    if output is AuditFormat.JSON:
        say_json(data)
    elif output is AuditFormat.CSV:
        say(as_csv(data["entries"]).rstrip("\n"))
    else:
        _table(data)
        _tell_bans(data, name)
    if output is not AuditFormat.JSON:
        for remark in data.get("remarks", ()):  # older servers have none
            complain(remark, "yellow")


def window_of(wired: Wiring, since: str, until: str | None) -> Window:
    """What the two options ask for. Raises CommandError."""
    now = wired.clock()
    window = Window(_moment(since, now, "--since"), min(now, _moment(until, now, "--until")) if until else now)
    if window.since >= window.until:
        raise CommandError(f"nothing is after {since} and before {until or 'now'}", "give --since an earlier time")
    return window


def as_csv(rows: Sequence[Mapping[str, Any]]) -> str:
    """The rows with a line of headers. No cell can be taken for a formula, whoever chose its text."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for row in rows:
        writer.writerow([_cell(row.get(column)) for column in COLUMNS])
    return text.getvalue()


def _cell(value: Any) -> str:
    text = "" if value is None else printable(str(value)).replace("\n", " ")
    return f"'{text}" if text.startswith(_FORMULA) else text


def _moment(text: str, now: datetime, option: str) -> datetime:
    from containarium.model.base import InvalidValueError
    from containarium.model.quantity import Duration

    try:
        return now - Duration.parse(text).delta
    except (InvalidValueError, OverflowError):
        pass
    try:
        moment = datetime.fromisoformat(text)
        return moment if moment.tzinfo else moment.astimezone()
    except (ValueError, OverflowError):  # also for what is a time, and in no year that there is
        raise CommandError(
            f"{option}: {text!r} is no time", "write 12h, 7d, 2026-11-20 or 2026-11-20T08:30 (this host's time)"
        ) from None


def _environments(wired: Wiring) -> frozenset[str]:
    """The names that have an instance or a jump account of ours here."""
    from containarium.model import marks
    from containarium.model.observed import Look
    from containarium.plan.resolve import owned_account

    observed = wired.host(wired.settings).observe(Look.SHALLOW)
    names = {instance.config.get(marks.ENVIRONMENT, "") for instance in observed.instances.values()}
    return frozenset({*names, *(a.name for a in observed.accounts.values() if owned_account(a))} - {""})


def _login(login: Login) -> dict[str, Any]:
    return {
        "time": login.at.isoformat(timespec="seconds"),
        "event": "login" if login.accepted else "refused",
        "environment": login.name,
        "from": login.source,
        "port": login.port or None,
        "key": login.key,
        "seconds": login.seconds,
        "who": "",
        "via": "ssh",
        "what": login.why,
        "result": "ok" if login.accepted else "refused",
    }


def _logins(wired: Wiring, window: Window, name: str) -> tuple[list[dict[str, Any]], str, bool]:
    """Rows of everybody whose environment is here, or of ``name``; where they are from, and whether that is all."""
    from containarium.host.logins import people, ssh_logins

    names = frozenset({name}) if name else _environments(wired)
    read = wired.logs().ssh(window.since, window.until, name, people(wired.settings, names))
    return [_login(login) for login in ssh_logins(read, wired.settings)], read.source, read.whole


def _changes(wired: Wiring, window: Window, name: str) -> tuple[list[dict[str, Any]], str, bool]:
    """As ``_logins``, of changes."""
    from containarium.host.loglines import changes

    read, found = wired.logs().trail(window.since, window.until), []
    for line in read.lines:
        change = changes(line)
        if change is not None and (not name or name in _names(change)):
            found.append(_change(line, change))
    return found, read.source, read.whole


def _change(line: Line, change: Mapping[str, Any]) -> dict[str, Any]:
    before, after = str(change.get("before", "")), str(change.get("after", ""))
    edited = f" (manifests {before} -> {after})" if before != after else ""
    details = change.get("details")
    words = [f"{key}={value}" for key, value in details.items()] if isinstance(details, dict) else []
    return {
        "time": line.at.isoformat(timespec="seconds"),
        "event": "change",
        "environment": ",".join(_names(change)),
        "from": "",
        "port": None,
        "key": str(change.get("certificate", "")),
        "seconds": None,
        "who": str(change.get("who", "")),
        "via": str(change.get("via", "")),
        "what": " ".join([str(change["action"]), *words]) + edited,
        "result": str(change.get("result", "")),
    }


def _names(change: Mapping[str, Any]) -> list[str]:
    found = change.get("environments")
    return [str(name) for name in found] if isinstance(found, list) else []


def _table(data: Mapping[str, Any]) -> None:
    if not data["entries"]:
        since = datetime.fromisoformat(data["since"])
        say(f"Nothing since {since:%Y-%m-%d %H:%M} in {data['source']}.")
        return
    say_table(_HEADERS, (_line(row) for row in data["entries"]))


def _line(row: Mapping[str, Any]) -> tuple[str, ...]:
    from containarium.cli.known import span

    lasted = "-" if row["seconds"] is None else span(float(row["seconds"]))
    failed = f" ({row['result']})" if row["event"] == "change" and row["result"] != "ok" else ""
    return (
        str(row["time"]),
        str(row["event"]),
        str(row["environment"]) or "-",
        str(row["from"]) or "-",
        str(row["key"]) or "-",
        lasted,
        " by ".join(filter(None, (str(row["who"]), str(row["via"]) if row["event"] == "change" else ""))) or "-",
        (str(row["what"]) or "-") + failed,
    )


def _banned(bans: Bans) -> dict[str, Any]:
    return {
        "bans": [
            {
                "address": ban.address,
                "jail": ban.jail,
                "since": ban.since.isoformat(timespec="seconds") if ban.since else None,
                "until": ban.until.isoformat(timespec="seconds") if ban.until else None,
            }
            for ban in bans.found
        ],
        "bans_unknown": bans.unknown,
    }


def _tell_bans(data: Mapping[str, Any], name: str) -> None:
    """Everybody who is banned; with a name, those that tried it."""
    if data["bans_unknown"]:
        complain(f"Who is banned is not known: {data['bans_unknown']}.", "yellow")
        return
    tried = {row["from"] for row in data["entries"] if row["event"] != "change"}
    found = [ban for ban in data["bans"] if not name or ban["address"] in tried]
    if not found:
        return
    listed = ", ".join(f"{ban['address']}{_until(ban['until'])}" for ban in found[:_MOST_IN_WORDS])
    more = f" and {len(found) - _MOST_IN_WORDS} more" if len(found) > _MOST_IN_WORDS else ""
    addresses = "1 address" if len(found) == 1 else f"{len(found)} addresses"
    say(f"Banned now ({addresses}): {listed}{more}")


def _until(moment: str | None) -> str:
    return f" until {datetime.fromisoformat(moment):%Y-%m-%d %H:%M}" if moment else ""
