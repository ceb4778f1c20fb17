"""What every call passes before anything is done for it: who is it, may they, is there room, and who is told of it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import grpc
from grpc_status import rpc_status

from containarium.api.errors import CallError, as_call_error, as_status
from containarium.api.registry import Kind, Rule
from containarium.api.rooms import Room, Size
from containarium.api.who import Audit, Role, Who
from containarium.report.log import Logger

CHANGES = Size(64, 32)
FOLLOWERS = Size(32, 4)
LOOKS = Size(32, 8, waiting=224, waiting_per_caller=192, patience=15.0)
"""Places of each kind of call. Those who look take turns: 200 of one caller at the same moment are all served."""
FIRST_MESSAGE = 10.0
"""Seconds in which a request has to be there once a call has begun: a client that hangs keeps no thread."""
_LINGER = 5.0
"""Seconds that our own methods get to end by themselves when the time of their call is over."""
_LOOK_ROUND = 1.0


@dataclass(slots=True)
class Call:
    """A call that may be carried out. Its end (deadline, cancellation) ends waiting, never work."""

    who: Who
    method: str
    _deadline: float
    _ended: threading.Event
    about: Mapping[str, str] | None = None
    """What is changed, for the audit; None while nothing is."""

    @property
    def left(self) -> float:
        """Seconds until the deadline."""
        return self._deadline - time.monotonic()

    @property
    def over(self) -> bool:
        """Whether nobody waits for the answer any more."""
        return self._ended.is_set() or self.left <= 0

    def wait(self, seconds: float) -> bool:
        """Wait, not past the end of the call. Returns whether it is over."""
        self._ended.wait(max(0.0, min(seconds, self.left)))
        return self.over

    def check(self) -> None:
        """Raise CallError where the call is over: called before anything begins."""
        if self.over:
            raise CallError(grpc.StatusCode.DEADLINE_EXCEEDED, "the time that the client gave is over", reason="Late")

    def audit(self, about: Mapping[str, str]) -> None:
        """This is about to be done: it is written down when the call ends, however it ends."""
        self.about = about


class Gate(grpc.ServerInterceptor):  # type: ignore[type-arg]  # generic in the stubs alone
    """Wraps every handler. ``identify`` raises CallError for whom it does not know."""

    def __init__(
        self,
        identify: Callable[[grpc.ServicerContext], Who],
        rules: Mapping[str, Rule],
        audit: Audit,
        logger: Logger,
        *,
        changes: Size = CHANGES,
        followers: Size = FOLLOWERS,
        looks: Size = LOOKS,
        first_message: float = FIRST_MESSAGE,
    ) -> None:
        self._identify = identify
        self._rules = rules
        self._audit = audit
        self._logger = logger
        self._rooms = {Kind.CHANGE: Room(changes), Kind.FOLLOW: Room(followers), Kind.LOOK: Room(looks)}
        self._hasty = Hasty(first_message)

    def close(self) -> None:
        """End the thread that watches over calls."""
        self._hasty.close()

    def intercept_service(
        self, continuation: Callable[[Any], Any], handler_call_details: grpc.HandlerCallDetails
    ) -> Any:
        """The handler with the gate before it. Every request is taken as a stream, to see when it is there."""
        handler = continuation(handler_call_details)
        if handler is None:
            return None
        method = handler_call_details.method
        behaviour = handler.unary_unary or handler.unary_stream or handler.stream_stream or handler.stream_unary
        if handler.response_streaming:

            def stream(requests: Iterator[Any], context: grpc.ServicerContext) -> Iterator[Any]:
                with self._passed(method, requests, context, streaming=handler.request_streaming) as (request, call):
                    yield from behaviour(request, call)

            return grpc.stream_stream_rpc_method_handler(
                stream, handler.request_deserializer, handler.response_serializer
            )

        def single(requests: Iterator[Any], context: grpc.ServicerContext) -> Any:
            with self._passed(method, requests, context, streaming=handler.request_streaming) as (request, call):
                return behaviour(request, call)

        return grpc.stream_unary_rpc_method_handler(single, handler.request_deserializer, handler.response_serializer)

    @contextmanager
    def _passed(
        self, method: str, requests: Iterator[Any], context: grpc.ServicerContext, *, streaming: bool
    ) -> Iterator[tuple[Any, Any]]:
        """The request, and the call that our own methods get; others get what grpc gave."""
        call: Call | None = None
        try:
            who, rule = self._admit(method, context)
            call = self._call(method, context, who, rule)
            # Before a byte of the request is awaited: who sends none keeps only their own places.
            with self._rooms[rule.kind].place(who, call.left, context.add_callback):
                request = requests if streaming else self._first(requests, context)
                with self._bounded(context, call, rule):
                    yield request, call if method.startswith("/containarium.") else context
        except Exception as error:  # noqa: BLE001 - whatever it is becomes a status
            self._note(call, "unattended" if call is not None and call.over else "failed")
            self._fail(method, context, error)
        except GeneratorExit:  # the client has gone; what was begun goes on
            self._note(call, "unattended")
            raise
        else:
            self._note(call, "ok")

    def _first(self, requests: Iterator[Any], context: grpc.ServicerContext) -> Any:
        with self._hasty.watch(context):
            request = next(requests, None)
        if request is None:
            raise CallError(grpc.StatusCode.INVALID_ARGUMENT, "the call has no request", reason="NoRequest")
        return request

    def _bounded(self, context: grpc.ServicerContext, call: Call, rule: Rule) -> AbstractContextManager[None]:
        """Whoever is told of things is so for a bounded time, also one who stops listening and stays."""
        if rule.kind is not Kind.FOLLOW:
            return nullcontext()
        return self._hasty.watch(context, max(0.0, call.left) + _LINGER)

    def _admit(self, method: str, context: grpc.ServicerContext) -> tuple[Who, Rule]:
        who = self._identify(context)
        rule = self._rules.get(method)
        if rule is None:
            raise CallError(grpc.StatusCode.UNIMPLEMENTED, f"there is no {method}", reason="NoMethod")
        if rule.role is Role.ADMIN and who.role is not Role.ADMIN:
            self._audit(who, method.rpartition("/")[2], {"result": "refused"})
            raise CallError(
                grpc.StatusCode.PERMISSION_DENIED,
                f"{who.name} may look and change nothing (role {who.role})",
                "ask an admin to do it, or for a certificate with the role admin",
                reason="RoleTooLow",
            )
        return who, rule

    def _call(self, method: str, context: grpc.ServicerContext, who: Who, rule: Rule) -> Call:
        given = context.time_remaining()
        ended = threading.Event()
        if not context.add_callback(ended.set):
            ended.set()
        until = time.monotonic() + min(given or rule.longest, rule.longest)
        return Call(who, method.rpartition("/")[2], until, ended)

    def _note(self, call: Call | None, result: str) -> None:
        if call is not None and call.about is not None:
            self._audit(call.who, call.method, {**call.about, "result": result})

    def _fail(self, method: str, context: grpc.ServicerContext, error: Exception) -> None:
        known = as_call_error(error)
        if known is None:
            # Raised by grpc itself where the client has gone, or by abort() further in.
            if not context.is_active() or getattr(context, "code", _none)() is not None:
                raise error
            self._logger.error("internal error", call=method, exc_info=error)
            known = CallError(
                grpc.StatusCode.INTERNAL,
                f"internal error ({type(error).__name__}), please report it",
                "the server's journal has the details",
                reason="InternalError",
            )
        context.abort_with_status(rpc_status.to_status(as_status(known)))


class Hasty:
    """Cancels calls that have not got where they have to be in time. One thread for all of them."""

    def __init__(self, patience: float) -> None:
        self._patience = patience
        self._lock = threading.Lock()
        self._watched: dict[int, tuple[float, grpc.ServicerContext]] = {}
        self._closed = threading.Event()
        threading.Thread(target=self._look, name="hasty", daemon=True).start()

    def close(self) -> None:
        """End the thread."""
        self._closed.set()

    @contextmanager
    def watch(self, context: grpc.ServicerContext, patience: float | None = None) -> Iterator[None]:
        """Cancel the call unless the block ends in time."""
        key = id(context)
        with self._lock:
            self._watched[key] = (time.monotonic() + (patience or self._patience), context)
        try:
            yield
        finally:
            with self._lock:
                del self._watched[key]

    def _look(self) -> None:
        while not self._closed.wait(min(_LOOK_ROUND, self._patience / 4)):
            now = time.monotonic()
            with self._lock:
                late = [context for until, context in self._watched.values() if now >= until]
            for context in late:
                context.cancel()  # type: ignore[no-untyped-call]


def _none() -> None:
    return None
