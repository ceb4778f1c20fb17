"""From the descriptors of the contract to what a server serves and a client calls: no generated service code needed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

import grpc
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.message_factory import GetMessageClass

from containarium.api.v1 import container_pb2, controller_pb2
from containarium.api.who import Role

CONTAINERS: ServiceDescriptor = container_pb2.DESCRIPTOR.services_by_name["ContainerService"]
CONTROLLER: ServiceDescriptor = controller_pb2.DESCRIPTOR.services_by_name["ControllerService"]
SERVICES = (CONTAINERS, CONTROLLER)


LONGEST_LOOK = 120.0
LONGEST_WAIT = 3600.0
"""Seconds that a call gets that has no deadline of its own."""
STANDARD = 300.0
"""Seconds that a call of another standard service may last, in which the server tells or the client keeps asking."""


class Kind(StrEnum):
    """What a call does with its time. Calls of one kind never take the places of another."""

    LOOK = "look"
    FOLLOW = "follow"
    """Told for as long as it wants to be."""
    CHANGE = "change"
    """Changes something and waits until the host has followed."""


@dataclass(frozen=True, slots=True)
class Rule:
    """What a call needs: which role at least, and a place of which kind. ``longest`` is in seconds."""

    role: Role = Role.ADMIN
    kind: Kind = Kind.LOOK
    longest: float = LONGEST_LOOK


_LOOK, _FOLLOW = Rule(Role.VIEWER), Rule(Role.VIEWER, Kind.FOLLOW, LONGEST_WAIT)
_WORD, _CHANGE = Rule(), Rule(Role.ADMIN, Kind.CHANGE, LONGEST_WAIT)
RULES = {
    "ContainerService": {
        "CreateContainer": _CHANGE,
        "ListContainers": _LOOK,
        "GetContainer": _LOOK,
        "DeleteContainer": _CHANGE,
        "StartContainer": _CHANGE,
        "StopContainer": _CHANGE,
        "AddSSHKey": _CHANGE,
        "RemoveSSHKey": _CHANGE,
        "GetMetrics": _LOOK,
        "GetSystemInfo": _LOOK,
        "ResizeContainer": _CHANGE,
    },
    "ControllerService": {
        "WhoAmI": _LOOK,
        "Plan": _LOOK,
        "Apply": _CHANGE,
        "Approve": _WORD,
        "Watch": _FOLLOW,
        "ListEvents": _LOOK,
        "GetStatus": _LOOK,
        "ListEnvironments": _LOOK,
        "GetEnvironment": _LOOK,
        "CreateEnvironment": _CHANGE,
        "DeleteEnvironment": _CHANGE,
        "Suspend": _WORD,
        "Resume": _WORD,
        "Doctor": _LOOK,
        "GetAccess": _LOOK,
        "Backup": _CHANGE,
        "Restore": _CHANGE,
        "Undelete": _CHANGE,
        "ListSnapshots": _LOOK,
        "CreateSnapshot": _CHANGE,
        "RestoreSnapshot": _CHANGE,
        "DeleteSnapshot": _CHANGE,
        # Who was where, and when, is for admins alone, as it is on the host.
        "ListSessions": _WORD,
        "ListAudit": _WORD,
    },
}
"""Every method of ours. What is not among them is refused to everybody."""
_OTHERS = {
    "/grpc.health.v1.Health/Check": _LOOK,
    "/grpc.health.v1.Health/List": _LOOK,
    "/grpc.health.v1.Health/Watch": _FOLLOW,
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo": _FOLLOW,
    "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo": _FOLLOW,
}


def path(method: MethodDescriptor) -> str:
    """``/containarium.v1.ContainerService/ListContainers``."""
    return f"/{method.containing_service.full_name}/{method.name}"


def methods() -> Iterator[MethodDescriptor]:
    """Every method of both services."""
    for service in SERVICES:
        yield from service.methods


def rules(standard: float = STANDARD) -> dict[str, Rule]:
    """The rule of every path that is served. Those of other services last ``standard`` seconds at most."""
    ours = {path(method): RULES[method.containing_service.name][method.name] for method in methods()}
    return ours | {name: replace(rule, longest=min(rule.longest, standard)) for name, rule in _OTHERS.items()}


def handlers(service: ServiceDescriptor, implementation: object) -> grpc.GenericRpcHandler[Any, Any]:
    """Serves every method of ``service`` with the attribute of the same name. Each takes a request and a Call."""
    made = {}
    for method in service.methods:
        behaviour: Callable[..., Any] = getattr(implementation, method.name)
        make = grpc.unary_stream_rpc_method_handler if method.server_streaming else grpc.unary_unary_rpc_method_handler
        made[method.name] = make(
            behaviour,
            GetMessageClass(method.input_type).FromString,
            GetMessageClass(method.output_type).SerializeToString,
        )
    return grpc.method_handlers_generic_handler(service.full_name, made)


def caller(channel: grpc.Channel, service: ServiceDescriptor, name: str) -> Callable[..., Any]:
    """A method of a channel: called with a request it returns the answer, or an iterator of answers."""
    method = service.methods_by_name[name]
    make = channel.unary_stream if method.server_streaming else channel.unary_unary
    return make(
        path(method),
        request_serializer=GetMessageClass(method.input_type).SerializeToString,
        response_deserializer=GetMessageClass(method.output_type).FromString,
    )
