"""What goes wrong, as gRPC tells it: a status code that programs decide by, one line for a person, and details.

Details are google.rpc.ErrorInfo (a constant reason, and remedy, file, line, column where they apply), BadRequest (which
field) and RetryInfo (when to come again).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import grpc
from google.protobuf import any_pb2, duration_pb2
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2

from containarium.model.host import HostError, RetryableError, WaitingError
from containarium.model.problem import Problem
from containarium.report.events import one_line
from containarium.sources.edit import EditRefusedError, ManifestRefusedError

DOMAIN = "containarium.dev"
_LONGEST = 1000
"""Characters of a message: headers are bounded, and what does not fit is lost whole."""
_MOST = 10
_NOT_FOUND = frozenset({"NotFound", "NoEnvironment"})
_WORD = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")


@dataclass(frozen=True, slots=True)
class Violation:
    """A field of the request, or of the manifest that it asks for, and what is wrong with it."""

    field: str
    description: str


class CallError(Exception):
    """A call that is refused or has failed. ``reason`` is a constant in CamelCase."""

    def __init__(
        self,
        code: grpc.StatusCode,
        message: str,
        remedy: str = "",
        *,
        reason: str,
        details: Mapping[str, str] | None = None,
        violations: Sequence[Violation] = (),
        retry_after: float = 0.0,
    ) -> None:
        super().__init__(f"{message}; {remedy}" if remedy else message)
        self.code = code
        self.remedy = remedy
        self.reason = reason
        self.details = dict(details or {})
        self.violations = tuple(violations)
        self.retry_after = retry_after


def invalid(field: str, message: str, remedy: str = "") -> CallError:
    """A field of the request that cannot be as it is."""
    return CallError(
        grpc.StatusCode.INVALID_ARGUMENT, message, remedy,
        reason="Invalid", violations=[Violation(field, message)],
    )  # fmt: skip


def as_call_error(error: Exception) -> CallError | None:
    """What a known kind of error means to a caller; None for one that nobody thought of."""
    match error:
        case CallError():
            return error
        case ManifestRefusedError(problem=problem):
            return refused(problem)
        case EditRefusedError(message=message, remedy=remedy):
            return CallError(grpc.StatusCode.FAILED_PRECONDITION, message, remedy, reason="EditRefused")
        case HostError(message=message, remedy=remedy, reason=reason):
            return CallError(_code(error), message, remedy, reason=reason)
        case OSError(strerror=str(text)):
            where = f"{error.filename}: " if error.filename else ""
            return CallError(grpc.StatusCode.FAILED_PRECONDITION, f"{where}{text}", reason="OSError")
    return None


def refused(problem: Problem, code: grpc.StatusCode = grpc.StatusCode.INVALID_ARGUMENT) -> CallError:
    """A manifest that would not load, or that this host would refuse, with the place that is to blame."""
    place = problem.location
    return CallError(
        code,
        f"{problem.field}: {problem.message}" if problem.field else problem.message,
        problem.remedy,
        reason=problem.reason,
        details={"file": place.file, "line": str(place.line), "column": str(place.column)},
        violations=[Violation(problem.field, problem.message)],
    )


def as_status(error: CallError) -> status_pb2.Status:
    """The status with its details, bounded."""
    info = {"remedy": error.remedy, **error.details}
    found: list[Message] = [
        error_details_pb2.ErrorInfo(
            reason=_WORD.sub("_", error.reason).upper(),
            domain=DOMAIN,
            metadata={key: one_line(value, _LONGEST) for key, value in info.items() if value},
        )
    ]
    if error.violations:
        found.append(
            error_details_pb2.BadRequest(
                field_violations=[
                    error_details_pb2.BadRequest.FieldViolation(
                        field=one_line(violation.field, _LONGEST), description=one_line(violation.description, _LONGEST)
                    )
                    for violation in error.violations[:_MOST]
                ]
            )
        )
    if error.retry_after:
        delay = duration_pb2.Duration()
        delay.FromMilliseconds(int(error.retry_after * 1000))
        found.append(error_details_pb2.RetryInfo(retry_delay=delay))
    return status_pb2.Status(
        code=error.code.value[0], message=one_line(str(error), _LONGEST), details=[_packed(each) for each in found]
    )


def _packed(message: Message) -> any_pb2.Any:
    packed = any_pb2.Any()
    packed.Pack(message)
    return packed


def _code(error: HostError) -> grpc.StatusCode:
    if error.reason in _NOT_FOUND:
        return grpc.StatusCode.NOT_FOUND
    if error.reason == "NoController" or isinstance(error, RetryableError | WaitingError):
        return grpc.StatusCode.UNAVAILABLE
    return grpc.StatusCode.FAILED_PRECONDITION


@dataclass(frozen=True, slots=True)
class Told:
    """A failed call as a client sees it."""

    code: grpc.StatusCode
    message: str
    reason: str = ""
    """As ErrorInfo has it, such as ``ROLE_TOO_LOW``; empty where the server said nothing of the kind."""
    info: Mapping[str, str] = field(default_factory=dict)
    violations: tuple[Violation, ...] = ()
    retry_after: float | None = None


def told(error: grpc.RpcError) -> Told:
    """What a failed call says, details included."""
    code, message, trailers = error.code(), error.details() or "", error.trailing_metadata() or ()
    found = Told(code, message)
    pairs: Any = trailers  # what grpc calls metadata is pairs
    raw = next((value for key, value in pairs if key == "grpc-status-details-bin"), None)
    status = status_pb2.Status()
    try:
        status.ParseFromString(raw or b"")
    except Exception:  # noqa: BLE001 - whatever another server put there
        return found
    info, bad, retry = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest(), error_details_pb2.RetryInfo()
    for detail in status.details:
        for kind in (info, bad, retry):
            if detail.Is(kind.DESCRIPTOR):
                detail.Unpack(kind)
    return Told(
        code=code,
        message=message,
        reason=info.reason,
        info=dict(info.metadata),
        violations=tuple(Violation(v.field, v.description) for v in bad.field_violations),
        retry_after=retry.retry_delay.ToMilliseconds() / 1000 if retry.HasField("retry_delay") else None,
    )
