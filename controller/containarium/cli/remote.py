"""Where a command is carried out: here, or on a server that was named. The commands themselves need not know.

``anywhere`` puts this question before every command of the application. What a command does from afar stands in
``remote_look``, ``remote_change`` and ``remote_files`` under the same name and with the same options.
"""

from __future__ import annotations

import functools
import inspect
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from containarium.cli.errors import CommandError
from containarium.cli.wiring import Wiring

if TYPE_CHECKING:
    from collections.abc import Iterator

    from containarium.api.client import Client

SERVER, CERTIFICATES, CONTEXT = "CONTAINARIUM_SERVER", "CONTAINARIUM_CERTS_DIR", "CONTAINARIUM_CONTEXT"
LOCAL = "local"
"""The name of the context that is this host itself."""
_GLOBAL = ("--server", "--certs-dir", "--context")
_REMOTE = {
    **dict.fromkeys(("list", "ls"), "remote_look:list_"),
    "info": "remote_look:info",
    "status": "remote_look:status",
    "events": "remote_look:events",
    "plan": "remote_look:plan",
    "doctor": "remote_look:doctor",
    "export": "remote_look:export",
    "key list": "remote_look:key_list",
    "create": "remote_change:create",
    **dict.fromkeys(("delete", "rm"), "remote_change:delete"),
    "resize": "remote_change:resize",
    "start": "remote_change:start",
    "stop": "remote_change:stop",
    "key add": "remote_change:key_add",
    "key remove": "remote_change:key_remove",
    "apply": "remote_change:apply",
    "approve": "remote_change:approve",
    "suspend": "remote_change:suspend",
    "resume": "remote_change:resume",
    "backup": "remote_files:backup",
    "restore": "remote_files:restore",
    "undelete": "remote_files:undelete",
    "snapshot create": "remote_files:snapshot_create",
    "snapshot list": "remote_files:snapshot_list",
    "snapshot restore": "remote_files:snapshot_restore",
    "snapshot delete": "remote_files:snapshot_delete",
    "sessions": "remote_look:sessions",
    "audit": "remote_look:audit",
}
_ANYHOW = ("validate", "schema", "version", "context ", "cert ")
"""What needs no host, or is about this computer."""


@dataclass(frozen=True, slots=True)
class Backend:
    """A server that was named. ``certificates`` is the folder with ca.crt, client.crt and client.key."""

    server: str
    certificates: Path

    @contextmanager
    def connected(self) -> Iterator[Client]:
        """A client, for the time of the block. Raises HostError."""
        hush()
        from containarium.api.client import Client, Target

        target = Target.parse(self.server, self.certificates)
        client = Client(target)
        try:
            yield client
        finally:
            client.close()
        if not target.local:
            from containarium.api.diagnosis import warning
            from containarium.cli.output import complain

            if said := warning(self.certificates):
                complain(said, "yellow")


def hush() -> None:
    """Keep grpcio from writing to standard error by itself. It has to be said before grpcio is imported."""
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")


def chosen(
    server: str | None, certs_dir: Path | None, context: str | None, environ: Mapping[str, str] | None = None
) -> Backend | None:
    """The server that options, environment or configuration name, in this order; None for this host.

    Raises CommandError for a context that is not there.
    """
    environ = os.environ if environ is None else environ
    from containarium.cli import remote_contexts as contexts

    server = server or (None if context else environ.get(SERVER))
    given = certs_dir or (Path(environ[CERTIFICATES]) if environ.get(CERTIFICATES) else None)
    if server:
        return None if server == LOCAL else Backend(server, given or contexts.default_certificates(environ))
    name = context or environ.get(CONTEXT)
    if name == LOCAL:
        return None
    found = contexts.find(name, environ)
    if found is None:
        return None
    return Backend(found.server, given or Path(found.certs or contexts.default_certificates(environ)).expanduser())


def hoisted(arguments: Sequence[str]) -> list[str]:
    """The options that say where, put before the command: people write them anywhere."""
    front: list[str] = []
    rest: list[str] = []
    left = iter(arguments)
    for argument in left:
        if argument == "--":
            rest += [argument, *left]
        elif argument in _GLOBAL:
            front += [argument, *(value for value in [next(left, None)] if value is not None)]
        elif argument.startswith(tuple(f"{name}=" for name in _GLOBAL)):
            front.append(argument)
        else:
            rest.append(argument)
    return front + rest


def anywhere(app: typer.Typer, prefix: str = "") -> None:
    """Have every command of an application ask first where it is to be. To be called once, when all are registered.

    Each has to take the ``context``, in which that stands.
    """
    for command in app.registered_commands:
        name = f"{prefix}{command.name or ''}"
        if command.callback is not None and not name.startswith(_ANYHOW):
            command.callback = _sent(name, command.callback)
    for group in app.registered_groups:
        if group.typer_instance is not None:
            anywhere(group.typer_instance, f"{prefix}{group.name} ")


def _sent(name: str, here: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(here)
    def command(*args: Any, **kwargs: Any) -> Any:
        wired = kwargs["context"].find_object(Wiring)
        backend = wired.remote if wired is not None else None
        if backend is None:
            return here(*args, **kwargs)
        if name not in _REMOTE:
            raise CommandError(f"{name} works on the host itself", f"log in there, or --context {LOCAL} for this host")
        module, _, function = _REMOTE[name].partition(":")
        there = getattr(import_module(f"containarium.cli.{module}"), function)
        more = {"wired": wired} if "wired" in inspect.signature(there).parameters else {}
        return there(backend, **more, **_understood(here, there, kwargs))

    return command


def _understood(here: Callable[..., Any], there: Callable[..., Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """The options that mean something from afar. Raises CommandError for others that were given."""
    known = inspect.signature(there).parameters
    defaults = {name: parameter.default for name, parameter in inspect.signature(here).parameters.items()}
    for name, value in kwargs.items():
        if name not in known and name != "context" and value != defaults.get(name):
            raise CommandError(f"--{name.replace('_', '-')} means something on the host itself alone", "leave it out")
    return {name: value for name, value in kwargs.items() if name in known}
