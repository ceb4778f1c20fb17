"""The command report: the last day in a page of plain text, for an admin's mail."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any

import typer

from containarium.cli.audit import Window, window_of
from containarium.cli.output import Format, count, say, say_json
from containarium.cli.wiring import Wiring, wiring

if TYPE_CHECKING:
    from containarium.host.usage import Disks

_SOON = timedelta(days=14)
_NEARLY_FULL = 0.9
_MOST_EVENTS = 20_000
_MOST_LINES = 10
_BAD = frozenset({"Failed", "SSHUnreachable", "ManifestRefused", "PruneBlocked", "HostUnseen", "RevisionRefused"})
"""Events that an admin has to know of, whatever became of it since."""


@dataclass(slots=True)
class _Page:
    """``data`` for programs, ``lines`` for people: a title each, and what stands below it."""

    data: dict[str, Any] = field(default_factory=dict)
    lines: list[tuple[str, list[str]]] = field(default_factory=list)

    def add(self, key: str, title: str, data: Any, below: list[str] | None = None) -> None:
        self.data[key] = data
        self.lines.append((title, below or []))


def report(
    context: typer.Context,
    since: Annotated[
        str, typer.Option(metavar="TIME", help="From when on: 24h, 7d, 2026-11-20, or 2026-11-20T08:30.")
    ] = "24h",
    output: Annotated[Format, typer.Option("--output", "-o", help="How to print it.")] = Format.TEXT,
) -> None:
    """Sum up the last day: environments, repaired drift, logins and refusals, bans, what expires, what is full.

    containarium-report.timer prints it to the journal every morning (journalctl -u containarium-report).

    Example: containarium report | mail -s "$(hostname): containarium" admins@example.org
    """
    wired = wiring(context)
    wired.require_root("report")
    window = window_of(wired, since, None)
    page = _Page()
    parts: tuple[tuple[str, Callable[[Wiring, Window, _Page], None]], ...] = (
        ("environments", _environments),
        ("events", _events),
        ("logins", _logins),
        ("bans", _bans),
        ("expiring", _expiring),
        ("disks", _disks),
    )
    for key, part in parts:
        _attempt(key, part, wired, window, page)
    if output is Format.JSON:
        say_json({"since": _iso(window.since), "until": _iso(window.until), **page.data})
        return
    say(f"Containarium, {window.since:%Y-%m-%d %H:%M} to {window.until:%Y-%m-%d %H:%M %Z}".rstrip(), bold=True)
    for title, below in page.lines:
        say("")
        say(title)
        for line in below[:_MOST_LINES]:
            say(f"  {line}")
        if len(below) > _MOST_LINES:
            say(f"  and {len(below) - _MOST_LINES} more")


def _attempt(
    key: str, part: Callable[[Wiring, Window, _Page], None], wired: Wiring, window: Window, page: _Page
) -> None:
    """What cannot be found out is told, and keeps nobody from the rest."""
    from containarium.cli.errors import CommandError
    from containarium.model.host import HostError

    try:
        part(wired, window, page)
    except (HostError, CommandError, OSError) as error:
        page.add(key, f"{key.capitalize()}: not known: {error}", None)


def _environments(wired: Wiring, _window: Window, page: _Page) -> None:
    from containarium.cli.known import current, row
    from containarium.cli.overview import rows
    from containarium.cli.survey import survey
    from containarium.model.observed import Look

    known = current(wired)
    if known is not None:
        listed = [row(environment) for environment in known.status.environments]
    else:
        folder = wired.settings.manifests if wired.settings.manifests.is_dir() else None
        listed = rows(survey(wired, folder, Look.SHALLOW))
    ready = [one for one in listed if one["ready"]["status"] == "True"]
    others = Counter(one["ready"]["reason"] for one in listed if one["ready"]["status"] != "True")
    title = f"{count(len(listed), 'environment')}, {len(ready)} ready"
    title += "".join(f", {number} {reason}" for reason, number in sorted(others.items()))
    if known is None:
        title += " (no controller runs)"
    below = [
        f"{one['name']}: {one['ready']['reason']}: {one['ready']['message']}".rstrip(": ")
        for one in listed
        if one["ready"]["status"] != "True" and one["ready"]["reason"] not in ("Suspended", "Retired", "Elsewhere")
    ]
    data = {"total": len(listed), "ready": len(ready), "other": dict(sorted(others.items()))}
    page.add("environments", title, data, below)


def _events(wired: Wiring, window: Window, page: _Page) -> None:
    from containarium.report.journal import read

    found = [event for event in read(wired.settings.events, limit=_MOST_EVENTS) if _within(event, window)]
    drift = [event for event in found if event["reason"] == "DriftRepaired"]
    bad = [event for event in found if event["reason"] in _BAD]
    page.add(
        "drift_repaired",
        f"Drift: {count(len(drift), 'change')} by somebody else put right",
        [_short(event) for event in drift],
        [_event(event) for event in drift],
    )
    if bad:
        page.add("trouble", f"Trouble: {len(bad)}", [_short(event) for event in bad], [_event(event) for event in bad])


def _logins(wired: Wiring, window: Window, page: _Page) -> None:
    from containarium.host.logins import people, ssh_logins

    read = wired.logs().ssh(window.since, window.until, wanted=people(wired.settings))
    found = ssh_logins(read, wired.settings)
    accepted = Counter(login.name for login in found if login.accepted)
    refused = Counter(login.name for login in found if not login.accepted)
    sources = Counter(login.source for login in found if not login.accepted and login.source)
    title = f"Logins: {sum(accepted.values())} by {count(len(accepted), 'account')}; {sum(refused.values())} refused"
    title += "" if read.whole else " (there are too many: earlier ones are left out)"
    below = [f"refused as {name}: {number}" for name, number in refused.most_common(5)]
    below += [f"refused from {source}: {number}" for source, number in sources.most_common(5)]
    data = {
        "accepted": dict(accepted),
        "refused": dict(refused),
        "refused_from": dict(sources.most_common(100)),
        "whole": read.whole,
    }
    page.add("logins", title, data, below)


def _bans(wired: Wiring, _window: Window, page: _Page) -> None:
    bans = wired.bans()
    if bans.unknown:
        page.add("bans", f"Bans: not known: {bans.unknown}", None)
        return
    below = [f"{ban.address}" + (f" until {ban.until:%Y-%m-%d %H:%M}" if ban.until else "") for ban in bans.found]
    page.add("bans", f"Bans: {len(bans.found)} now", [ban.address for ban in bans.found], below)


def _expiring(wired: Wiring, window: Window, page: _Page) -> None:
    from containarium.cli.survey import read
    from containarium.model import marks
    from containarium.model.observed import Look

    today = window.until.date()
    manifests = read(wired.settings.manifests).manifests if wired.settings.manifests.is_dir() else ()
    leaving = sorted(
        (expires, manifest.name)
        for manifest in manifests
        if (expires := manifest.environment.spec.expires) is not None and today <= expires <= today + _SOON
    )
    below = [f"{name} expires after {expires}" for expires, name in leaving]
    instances = wired.host(wired.settings).observe(Look.SHALLOW).instances.values()
    deleted = sorted(
        (instance.config[marks.PRUNE_AFTER], instance.config.get(marks.ENVIRONMENT, instance.name))
        for instance in instances
        if instance.config.get(marks.PRUNE_AFTER)
    )
    below += [f"the data of {name} is deleted after {after}" for after, name in deleted]
    data = {"expires": {name: str(day) for day, name in leaving}, "deleted_after": {n: a for a, n in deleted}}
    page.add("expiring", f"Leaving: {len(leaving)} within {_SOON.days} days, {len(deleted)} retired", data, below)


def _disks(wired: Wiring, _window: Window, page: _Page) -> None:
    found: Disks = wired.disks(wired.settings)
    full = {name: disk for name, disk in found.environments.items() if disk.share >= _NEARLY_FULL}
    title = f"Disk: the pool is {found.pool.share:.0%} full, and {count(len(full), 'environment')} nearly so"
    below = [f"{name}: {disk.share:.0%} of {disk.size / 2**30:.1f} GiB" for name, disk in full.items()]
    if found.pool.share >= _NEARLY_FULL:
        below.insert(0, "the pool itself: remove retired environments, snapshots and unused images, or add a disk")
    data = {"pool": round(found.pool.share, 4), "full": {name: round(disk.share, 4) for name, disk in full.items()}}
    page.add("disks", title, data, below)


def _within(event: Mapping[str, Any], window: Window) -> bool:
    try:
        moment = datetime.fromisoformat(str(event.get("time", "")))
    except ValueError:
        return False
    return moment.tzinfo is not None and window.since <= moment <= window.until


def _short(event: Mapping[str, Any]) -> dict[str, Any]:
    return {key: event[key] for key in ("time", "reason", "environment", "fields", "by", "message") if key in event}


def _event(event: Mapping[str, Any]) -> str:
    return " ".join(_words(event))


def _words(event: Mapping[str, Any]) -> Iterator[str]:
    yield str(event.get("environment") or "the host")
    fields = event.get("fields")
    yield f"{event['reason']}:" if not isinstance(fields, list) else f"{', '.join(map(str, fields))}"
    if message := event.get("message"):
        yield str(message)
    if by := event.get("by"):
        yield f"(by {by})"


def _iso(moment: datetime) -> str:
    return moment.isoformat(timespec="seconds")
