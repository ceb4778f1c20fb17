"""Puts the server together: sockets, limits, the gate, both services, health and reflection."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from concurrent import futures
from dataclasses import dataclass
from pathlib import Path

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from containarium.api import gate, registry
from containarium.api.errands import Errands
from containarium.api.errors import CallError
from containarium.api.gate import Gate
from containarium.api.privatefolder import INNER, PrivateFolder
from containarium.api.relay import Relay
from containarium.api.rooms import Size
from containarium.api.tls import Tls
from containarium.api.who import Audit, Who
from containarium.model.host import TerminalError
from containarium.report.health import parse_address
from containarium.report.log import Logger

ADDRESS = "0.0.0.0:50051"
LARGEST_REQUEST = 1 << 20
LARGEST_ANSWER = 16 << 20
QUEUED = 512
"""Calls at once, those that wait their turn included; more are refused at once (RESOURCE_EXHAUSTED)."""
AGE = 3600.0
"""Seconds after which a connection ends, once its calls have: then its client proves anew who it is."""
_DOOR = 16
"""Threads beyond those of every place that there is: somebody is always there to say that there is none."""
_GRACE = 5.0
_ERRANDS = 75.0
"""Seconds in which errands may end when the service does; with ``_GRACE`` less than TimeoutStopSec of its unit."""
_OPTIONS = (
    ("grpc.max_receive_message_length", LARGEST_REQUEST),
    ("grpc.max_send_message_length", LARGEST_ANSWER),
    ("grpc.max_metadata_size", 16 * 1024),
    ("grpc.max_concurrent_streams", 100),
    ("grpc.max_allowed_incoming_connections", 1024),
    ("grpc.server_handshake_timeout_ms", 10_000),
    # Whoever has gone without a word is noticed within 40 s; whoever does nothing for five minutes may come again.
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 10_000),
    ("grpc.max_connection_idle_ms", 300_000),
    # Two servers that share a port would share the calls as well.
    ("grpc.so_reuseport", 0),
)


@dataclass(frozen=True, slots=True)
class Limits:
    """How much is served at once, and for how long; see the constants of this module, ``gate`` and ``registry``."""

    changes: Size = gate.CHANGES
    followers: Size = gate.FOLLOWERS
    looks: Size = gate.LOOKS
    queued: int = QUEUED
    first_message: float = gate.FIRST_MESSAGE
    standard: float = registry.STANDARD
    age: float = AGE

    @property
    def threads(self) -> int:
        """One for every place, so that no kind of call takes those of another, and some at the door."""
        return self.changes.threads + self.followers.threads + self.looks.threads + _DOOR

    @property
    def options(self) -> tuple[tuple[str, int], ...]:
        """What grpcio is told of them. A call that runs has its time, however old its connection is."""
        age = int(self.age * 1000)
        grace = int(registry.LONGEST_WAIT * 1000) + age
        return ("grpc.max_connection_age_ms", age), ("grpc.max_connection_age_grace_ms", grace)


class Server:
    """The service, on a unix socket, over mutual TLS, or both. ``start`` listens, ``stop`` ends it."""

    def __init__(
        self,
        containers: object,
        controller: object,
        audit: Audit,
        logger: Logger,
        *,
        unix: Path | None = None,
        address: str = "",
        tls: Tls | None = None,
        limits: Limits | None = None,
        errands: Errands | None = None,
        relay: Callable[[Path, Path, Logger], Relay] = Relay,
    ) -> None:
        """``unix`` is the socket; beside it a hidden folder is made, for root alone (``PrivateFolder``).

        ``address`` and ``tls`` belong together; ``errands`` are waited for at the end.
        """
        limits = limits or Limits()
        self._logger = logger
        self._unix = unix
        self._address = address
        self._tls = tls
        self._errands = errands
        self._folder = PrivateFolder(unix) if unix is not None else None
        self._relay = relay(unix, self._folder.path / INNER, logger) if unix is not None and self._folder else None
        self._gate = Gate(
            self._identify, registry.rules(limits.standard), audit, logger,
            changes=limits.changes, followers=limits.followers, looks=limits.looks, first_message=limits.first_message,
        )  # fmt: skip
        self._pool = futures.ThreadPoolExecutor(limits.threads, thread_name_prefix="call")
        self._server = grpc.server(
            self._pool,
            options=(*_OPTIONS, *limits.options),
            interceptors=[self._gate],
            maximum_concurrent_rpcs=limits.queued,
        )
        for service, implementation in ((registry.CONTAINERS, containers), (registry.CONTROLLER, controller)):
            self._server.add_generic_rpc_handlers((registry.handlers(service, implementation),))
        self._health = health.HealthServicer()
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        names = [service.full_name for service in registry.SERVICES]
        health_name = health_pb2.DESCRIPTOR.services_by_name["Health"].full_name
        reflection.enable_server_reflection((*names, health_name, reflection.SERVICE_NAME), self._server)
        for name in ("", *names):
            self._health.set(name, health_pb2.HealthCheckResponse.SERVING)

    def start(self) -> str:
        """Listen. Returns the address for remote clients with the port that was chosen, empty where there is none.

        Raises TerminalError where that cannot be.
        """
        bound = ""
        if self._folder is not None:
            self._folder.make()
            self._listen(f"unix:{self._folder.path / INNER}", None)
        if self._tls is not None:
            host, port = parse_address(self._address)
            shown = f"[{host}]" if ":" in host else host
            bound = f"{shown}:{self._listen(f'{shown}:{port}', self._tls.credentials())}"
        self._server.start()
        if self._relay is not None:
            self._relay.start()
        return bound

    def stop(self, grace: float = _GRACE, errands: float = _ERRANDS) -> None:
        """Take no new calls, let those that are being answered end within ``grace`` seconds, and end.

        What goes on beside them has ``errands`` seconds more; what has not ended then is told in the log.
        """
        self._health.enter_graceful_shutdown()
        self._server.stop(grace).wait()
        if self._relay is not None:
            self._relay.close()
        self._gate.close()
        self._pool.shutdown(wait=False, cancel_futures=True)
        if self._folder is not None:
            self._folder.remove()
        if self._errands is not None and (left := self._errands.wait(errands)):
            self._logger.warning("errands go on at the end", environments=left)

    def _listen(self, where: str, credentials: grpc.ServerCredentials | None) -> int:
        try:
            if credentials is None:
                # A socket in a folder of root's own: nothing but the relay gets there.
                port = self._server.add_insecure_port(where)
            else:
                port = self._server.add_secure_port(where, credentials)
        except RuntimeError:
            port = 0
        if not port:
            raise TerminalError(
                f"cannot listen on {where}",
                remedy="see who has it (ss -ltnp), or choose another address",
                reason="AddressInUse",
            )
        return int(port)

    def _identify(self, context: grpc.ServicerContext) -> Who:
        peer = context.peer()
        if peer.startswith("unix"):
            found = self._relay.who(peer) if self._relay is not None else None
            if found is None:
                raise CallError(grpc.StatusCode.UNAUTHENTICATED, "nobody knows who calls", reason="NoPeer")
            return found
        if self._tls is None:
            raise CallError(grpc.StatusCode.UNAUTHENTICATED, "nobody knows who calls", reason="NoPeer")
        return self._tls.who(context)


def log_audit(logger: Logger) -> Audit:
    """Writes every change to the log, which is the journal where systemd runs this."""

    def audit(who: Who, call: str, about: Mapping[str, str]) -> None:
        logger.info(
            "audit", call=call, who=who.name, role=who.role.value, uid=who.uid,
            certificate=who.fingerprint, address=who.address, **{f"about_{key}": value for key, value in about.items()},
        )  # fmt: skip

    return audit


def quiet_grpc() -> None:
    """grpcio logs every aborted call with a traceback; what happened is logged by the gate."""
    logging.getLogger("grpc").setLevel(logging.CRITICAL)
