"""The command that serves others: the same as the commands here can do, for the unix socket and for remote clients."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from containarium.cli.remote import hush
from containarium.cli.wiring import Wiring, wiring

if TYPE_CHECKING:
    from containarium.api.operations import Operations
    from containarium.api.who import Audit, Who
    from containarium.report.log import Logger

CERTIFICATES = "/etc/containarium/certs"
_WHOM = ("environment", "only")
"""What a call is about that are names of environments, separated by spaces."""


def api(
    context: typer.Context,
    mtls: Annotated[bool, typer.Option("--mtls", help="Also serve remote clients, who need a certificate.")] = False,
    address: Annotated[
        str, typer.Option(metavar="ADDRESS:PORT", help="Where remote clients are served, with --mtls.")
    ] = "0.0.0.0:50051",
    certs_dir: Annotated[
        Path, typer.Option("--server-certs", metavar="FOLDER", help="What containarium cert generate has made.")
    ] = Path(CERTIFICATES),
    socket: Annotated[
        Path | None, typer.Option(metavar="PATH", help="The unix socket.", show_default="/run/containarium/api.sock")
    ] = None,
) -> None:
    """Serve the API, for ever: on a unix socket for root and the group containarium-admin, with --mtls to others.

    systemd runs this (containarium-api.service). There is no way to serve it in plain text.
    """
    wired = wiring(context)
    wired.require_root("api")
    hush()
    from containarium.api.containers import Containers
    from containarium.api.controller import Controller
    from containarium.api.server import Server, quiet_grpc
    from containarium.api.tls import Tls
    from containarium.report import log

    logger = log.configure()
    quiet_grpc()
    operations = operations_on(wired)
    server = Server(
        Containers(operations),
        Controller(operations),
        auditing(wired, logger),
        logger,
        unix=socket or wired.settings.runtime / "api.sock",
        address=address,
        tls=Tls(certs_dir, logger, wired.clock) if mtls else None,
        errands=operations.errands,
    )
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    bound = server.start()
    logger.info("serving", socket=str(socket or wired.settings.runtime / "api.sock"), remote=bound)
    _ready()
    ended.wait()
    server.stop()
    logger.info("stopped")


def operations_on(wired: Wiring) -> Operations:
    """What the service can do, on this machine."""
    from containarium.api.follow import Follower, Nudge, StatusFile
    from containarium.api.operations import Operations
    from containarium.cli.remote_archive import HostArchive, HostTrail
    from containarium.cli.remote_edit import Editor
    from containarium.cli.remote_views import AdminWords, HostViews
    from containarium.host.control import ask
    from containarium.host.meter import Meter

    settings = wired.settings

    def look(timeout: float) -> None:
        ask(settings.control, {"do": "reconcile"}, timeout=timeout)

    def restart(names: Sequence[str]) -> None:
        ask(settings.control, {"do": "reconcile", "restart": list(names)}, timeout=60.0)

    status = StatusFile(settings.status)
    return Operations(
        manifests=Editor(wired),
        views=HostViews(wired),
        words=AdminWords(wired, lambda: look(30.0)),
        meter=Meter(settings),
        archive=HostArchive(wired),
        trail=HostTrail(wired),
        follower=Follower(status, Nudge(look)),
        status=status,
        controller=lambda: require_controller(wired),
        restart=restart,
        clock=wired.clock,
    )


def require_controller(wired: Wiring) -> None:
    """Raise TerminalError (NoController) where nobody would carry an edit out."""
    from containarium.cli.known import known
    from containarium.model.host import TerminalError

    found = known(wired)
    if found is None or not found.alive:
        raise TerminalError(
            "no controller runs on this host, so nothing was changed",
            remedy="there: systemctl start containarium",
            reason="NoController",
        )


def auditing(wired: Wiring, logger: Logger) -> Audit:
    """Writes each change to the audit trail; to the log of the service where nobody takes that."""
    from containarium.api.server import log_audit
    from containarium.host import audittrail

    to_log = log_audit(logger)

    def audit(who: Who, call: str, about: Mapping[str, str]) -> None:
        caller = audittrail.Who(
            who.name, "socket" if who.uid is not None else "mtls", uid=who.uid, certificate=who.fingerprint
        )
        details = {key: value for key, value in about.items() if key not in ("environment", "result")}
        details |= {"role": who.role.value} | ({"address": who.address} if who.address else {})
        environments = dict.fromkeys(name for key in _WHOM for name in about.get(key, "").split())
        if not wired.trail(caller, call, details, environments=environments, result=about.get("result", "ok")):
            to_log(who, call, about)

    return audit


def _ready(notify: Callable[[], None] | None = None) -> None:
    from containarium.host.servicemanager import ServiceManager

    (notify or ServiceManager().ready)()
