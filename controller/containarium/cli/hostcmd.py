"""Commands about this machine itself: host prepare, host manifest, host mount, doctor."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, replace
from ipaddress import IPv4Interface
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from containarium.cli import errors
from containarium.cli.output import Format, complain, count, say, say_json
from containarium.cli.ownhost import own_declaration
from containarium.cli.wiring import wiring
from containarium.host.hostname import own_name

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from containarium.host.prepare import Step
    from containarium.host.settings import HostSettings
    from containarium.model.manifest import Declaration

_COLOURS = {"ok": None, "warn": "yellow", "fail": "red"}
_WORDS = {"ok": "fine", "warn": "to look at", "fail": "to mend"}
_LARGEST, _SMALLEST = 8, 29
"""Prefix lengths that a bridge can have."""
_TURNS, _PAUSE = 300, 2.0
"""How often, and after how many seconds, a preparation is tried again while another one runs."""

app = typer.Typer(
    help="Make this machine ready for environments.", context_settings={"help_option_names": ["-h", "--help"]}
)


@app.callback(invoke_without_command=True)
def group(context: typer.Context) -> None:
    """Make this machine ready for environments."""
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


@app.command("prepare")
def prepare(
    context: typer.Context,
    install: Annotated[bool, typer.Option("--install", help="Also install the packages that are missing.")] = False,
    subnet: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS/LENGTH",
            help="The bridge's own address, where it has to be made.",
            show_default="10.0.3.1/24",
        ),
    ] = None,
    service: Annotated[
        bool, typer.Option("--service", help="Also have systemd run the controller, now and at every boot.")
    ] = False,
    manifest: Annotated[
        Path | None,
        typer.Option(
            "--manifest",
            metavar="FILE",
            help="This machine's Host manifest. Default: that of its name among the manifests, else "
            "/etc/containarium/host.yaml.",
            show_default=False,
        ),
    ] = None,
    unless_running: Annotated[bool, typer.Option("--unless-running", hidden=True)] = False,
) -> None:
    """Make a bare Debian or Ubuntu ready: disk, Incus, storage, network, sshd, as its Host manifest says.

    As often as you like: what is there stays as it is. containarium doctor checks the same things.
    Exit code 1 when a step could not be done; the others are done all the same.
    """
    from containarium.model.host import RetryableError

    wired = wiring(context)
    wired.require_root("host prepare")

    def attempt() -> Sequence[Step]:
        declaration = own_declaration(wired.settings, manifest)
        settings = _settings(wired.settings, subnet, declaration)
        return wired.prepare(
            settings, install=install, service=service, declaration=declaration, patience=0.0, progress=say
        )

    try:
        steps = attempt() if unless_running else _in_turn(attempt, wired.sleep)
    except RetryableError as error:
        if not (unless_running and error.reason == "PrepareRuns"):
            raise
        say("Another preparation of this host runs, and does the same.")
        return
    _tell(steps)
    if manifest is not None and manifest.resolve() != wired.settings.host_manifest:
        complain(f"  ! the next boot does not read {manifest}: put it at {wired.settings.host_manifest}", "yellow")
    failed = [step for step in steps if step.error is not None]
    if failed:
        complain(f"This host is not ready: {count(len(failed), 'step')} of {len(steps)} could not be done.", "red")
        raise typer.Exit(errors.FAILED)
    changed = sum(step.changed for step in steps)
    what = f"{count(changed, 'step')} of {len(steps)} changed something" if changed else "nothing had to be changed"
    say(f"This host is ready: {what}.", "green")


@app.command("manifest")
def manifest(context: typer.Context) -> None:
    """Print this machine's Host manifest with its identity, ready to commit.

    The identity is public: the keys by which the other hosts of a fleet know this one.
    """
    from containarium.sources.yamltext import as_text

    wired = wiring(context)
    wired.require_root("host manifest")
    own = own_declaration(wired.settings).own
    host_keys, peer_key = wired.host_keys(wired.settings).of_jump_host(), wired.peer_key(wired.settings)
    if not (host_keys and peer_key):
        missing = "no key for its peers" if host_keys else "no SSH host keys"
        raise errors.CommandError(f"this machine has {missing} yet", "containarium host prepare, with a Host manifest")
    data: dict[str, Any] = {
        "apiVersion": "containarium.dev/v1",
        "kind": "Host",
        "metadata": {"name": own_name()},
        "spec": {},
    }
    if own is not None:
        data |= own.manifest.model_dump(mode="json", by_alias=True, exclude_unset=True)
    identity = {"hostKeys": list(host_keys), "peerKey": peer_key}
    data["spec"] = {**data["spec"], "identity": identity}
    say(as_text(data, f"{own_name()}, with its identity: commit it beside the other manifests.").rstrip("\n"))


@app.command("mount", hidden=True)
def mount(
    context: typer.Context,
    wait: Annotated[float, typer.Option("--wait", min=0.0, help="Seconds in which it may still appear.")] = 60.0,
) -> None:
    """Mount this host's data disk, as containarium-disk.service does before Incus starts. It makes nothing anew."""
    wired = wiring(context)
    wired.require_root("host mount")
    say("The data disk is mounted." if wired.mount_disk(wired.settings, wait, say) else "There is no data disk.")


def _in_turn(attempt: Callable[[], Sequence[Step]], sleep: Callable[[float], None]) -> Sequence[Step]:
    """Try until no other preparation runs. Each attempt reads the manifests anew: whoever waited with what they said
    before would undo what the other has carried out.
    """
    from containarium.model.host import RetryableError

    for _ in range(_TURNS):
        try:
            return attempt()
        except RetryableError as error:
            if error.reason != "PrepareRuns":
                raise
            sleep(_PAUSE)
    return attempt()


def _settings(settings: HostSettings, subnet: str | None, declaration: Declaration) -> HostSettings:
    """With the subnet that was asked for, which no Host manifest may contradict."""
    from containarium.model.hostmanifest import HostNetwork

    if subnet is None:
        return settings
    wanted = _subnet(subnet)
    own = declaration.own
    network = own.manifest.spec.network if own is not None else HostNetwork()
    said = "subnet" in network.model_fields_set or network.address is not None  # as prepare/network.py sees it
    if own is not None and said and wanted != (declared := str(network.subnet)):
        where = own.origin.locate("spec.network.subnet")
        raise errors.CommandError(f"--subnet {wanted} contradicts {where}, which says {declared}", "leave --subnet out")
    return replace(settings, subnet=wanted)


def _tell(steps: Sequence[Step]) -> None:
    width = max((len(step.name) for step in steps), default=0)
    for step in steps:
        if step.error is not None:
            complain(f"  x {step.name:<{width}}  {step.error}", "red")
            continue
        mark = "+" if step.changed else " "
        say(f"  {mark} {step.name:<{width}}  {step.detail}".rstrip(), "green" if step.changed else None)
    for step in steps:
        if step.warning:
            say(f"  ! {step.name}: {step.warning}", "yellow")


def _subnet(text: str) -> str:
    """The bridge's own address, as Incus writes it."""
    example = "write the bridge's own address, such as --subnet 10.0.3.1/24"
    try:
        interface = IPv4Interface(text)
    except ValueError:
        raise errors.CommandError(f"{text!r} is no IPv4 address with a prefix length", example) from None
    network = interface.network
    if not interface.is_private or interface.is_loopback or interface.is_link_local:
        raise errors.CommandError(f"{text} is not an address of a private network", example)
    if not _LARGEST <= network.prefixlen <= _SMALLEST:
        raise errors.CommandError(f"/{network.prefixlen} is no size for a bridge", f"write /{_LARGEST} to /{_SMALLEST}")
    if interface.ip in (network.network_address, network.broadcast_address):
        raise errors.CommandError(
            f"{text} is not an address that a bridge can have", f"write --subnet {network[1]}/{network.prefixlen}"
        )
    return str(interface)


def doctor(
    context: typer.Context,
    output: Annotated[Format, typer.Option("--output", "-o", help="How to print it.")] = Format.TEXT,
) -> None:
    """Check this machine and say how to mend what is not as it should be. Exit code 1 when something is not."""
    wired = wiring(context)
    findings = wired.examine(wired.settings)
    if output is Format.JSON:
        say_json([asdict(finding) for finding in findings])
    else:
        for finding in findings:
            say(f"  {finding.level.value:<4}  {finding.check}: {finding.message}", _COLOURS[finding.level.value])
            if finding.remedy:
                say(f"        -> {finding.remedy}")
        levels = Counter(finding.level.value for finding in findings)
        parts = [f"{levels[level]} {words}" for level, words in _WORDS.items() if levels[level]]
        say(f"{count(len(findings), 'check')}: {', '.join(parts) or 'none was carried out'}.")
    if any(finding.level.value == "fail" for finding in findings):
        raise typer.Exit(errors.FAILED)
