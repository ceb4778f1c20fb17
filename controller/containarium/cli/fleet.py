"""The command fleet: the declared hosts, who answers, and what they carry. And the relay, which is not for people."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

import containarium
from containarium.cli.output import ListFormat, say, say_json, say_table, say_yaml
from containarium.cli.wiring import Wiring, wiring

if TYPE_CHECKING:
    from collections.abc import Mapping

    from containarium.host.peering.neighbours import Answer
    from containarium.model.manifest import DeclaredHost, Load
    from containarium.model.observed import Observed

_SKEW = 5.0
"""Seconds by which another host's clock may differ."""


def fleet(
    context: typer.Context,
    output: Annotated[ListFormat, typer.Option("--output", "-o", "--format", help="How to print it.")] = (
        ListFormat.TABLE
    ),
) -> None:
    """List the hosts that are declared: who can be reached, and what they carry. Works on each of them.

    Each is asked now, over the fleet's network.
    """
    wired = wiring(context)
    wired.require_root("fleet")
    rows = _rows(wired, declared(wired))
    if output is ListFormat.JSON:
        say_json(rows)
    elif output is ListFormat.YAML:
        say_yaml(rows)
    elif not rows:
        say("No Host manifest declares a host: this one is alone.")
    else:
        headers = ("NAME", "ENVIRONMENTS", "VERSION", "SUBNET", "ADDRESS", "LOGIN", "STATE")
        say_table(headers, ([_cell(row[header.lower()]) for header in headers] for row in rows))


def peer(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="The host that asks.", show_default=False)],
) -> None:
    """Relay one request of another host to the controller. What sshd runs is the same without a command line."""
    from containarium.host.peering.relay import relay

    raise typer.Exit(relay(name, str(wiring(context).settings.peer_socket)))


def declared(wired: Wiring) -> tuple[DeclaredHost, ...]:
    """The hosts that the manifests of this one declare; none where there are no manifests."""
    return _load(wired).hosts


@dataclass(frozen=True, slots=True)
class Whereabouts:
    """Which other host has an environment, its address there and its guest's host keys; empty where nobody tells of it.

    ``silent`` are the reasons of those who do not answer.
    """

    host: str = ""
    address: str = ""
    keys: tuple[str, ...] = ()
    silent: tuple[str, ...] = ()


def placed(wired: Wiring, name: str) -> str:
    """The host on which its manifest places an environment; empty where it places it on none."""
    return _placed(_load(wired), name)


def whereabouts(wired: Wiring, name: str) -> Whereabouts:
    """Ask the other hosts for an environment.

    A host that says it has what is placed on another is believed only where that one answers, and has it not yet.
    Raises CommandError where two hosts have one that is placed on none; HostError where the one that has it does not
    tell its keys.
    """
    from containarium.cli.errors import CommandError

    load = _load(wired)
    if len(load.hosts) < 2:
        return Whereabouts()
    neighbours = wired.neighbours(wired.settings)
    answers = neighbours.answers(load.hosts)
    here, target = _having(answers, name), _placed(load, name)
    if target in here:
        here = {target: here[target]}
    elif target and (answer := answers.get(target)) is not None and answer.told is None:
        return Whereabouts(silent=(str(answer.error),))
    if len(here) > 1:
        who = " and ".join(sorted(here))
        raise CommandError(f"{who} both say that they have {name}", "say with placement.host whose data counts")
    for host, address in here.items():
        return Whereabouts(host, address, tuple(neighbours.keys(host, name)))
    return Whereabouts(silent=tuple(str(answer.error) for answer in answers.values() if answer.error is not None))


def _placed(load: Load, name: str) -> str:
    manifest = next((manifest for manifest in load.manifests if manifest.name == name), None)
    placement = manifest.environment.spec.placement if manifest is not None else None
    return placement.host if placement is not None else ""


def _having(answers: Mapping[str, Answer], name: str) -> dict[str, str]:
    """Who says that it lives there, and under which address."""
    from containarium.model.fleet import Presence

    told = {host: answer.told.boxes.get(name) for host, answer in answers.items() if answer.told is not None}
    return {
        host: box.address
        for host, box in told.items()
        if box is not None and box.presence is Presence.HERE and box.address
    }


def _rows(wired: Wiring, hosts: tuple[DeclaredHost, ...]) -> list[dict[str, Any]]:
    neighbours = wired.neighbours(wired.settings)
    answers = neighbours.answers(hosts) if hosts else {}
    return [_row(wired, host, neighbours.name, answers.get(host.name)) for host in hosts]


def _row(wired: Wiring, host: DeclaredHost, own: str, answer: Answer | None) -> dict[str, Any]:
    spec = host.manifest.spec
    row: dict[str, Any] = {
        "name": host.name,
        "reachable": host.name == own,
        "environments": None,
        "version": "",
        "subnet": str(host.manifest.network),
        "address": str(spec.network.address or ""),
        "login": spec.login.address if spec.login is not None else "",
        "state": "this host",
    }
    if host.name == own:
        return row | {"environments": _here(wired), "version": containarium.__version__}
    if answer is None or answer.told is None:
        why = str(answer.error) if answer is not None and answer.error is not None else "it was not asked"
        return row | {"state": why}
    state = "answers" if abs(answer.skew) < _SKEW else f"answers; its clock is {answer.skew:+.0f} s off"
    told = answer.told
    carried = sum(box.presence.value in ("here", "retired", "leaving") for box in told.boxes.values())
    return row | {"reachable": True, "environments": carried, "version": told.version, "state": state}


def _here(wired: Wiring) -> int | None:
    from containarium.model.fleet import Presence
    from containarium.model.host import HostError
    from containarium.model.observed import Look
    from containarium.plan.presence import boxes

    try:
        observed: Observed = wired.host(wired.settings).observe(Look.SHALLOW)
    except HostError:
        return None
    carried = (Presence.HERE, Presence.RETIRED, Presence.LEAVING)
    return sum(box.presence in carried for box in boxes(observed).values())


def _load(wired: Wiring) -> Load:
    from containarium.model.manifest import Load as Nothing
    from containarium.sources.directory import load

    folder = wired.settings.manifests
    return load(folder) if folder.is_dir() else Nothing()


def _cell(value: Any) -> str:
    return "-" if value in (None, "") else str(value)
