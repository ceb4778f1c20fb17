"""A Terraform provider that knows a schema and nothing else (plugin protocol 5).

With it ``terraform validate`` checks arguments, and ``terraform test`` plans with ``mock_provider``. It refuses to
plan, apply or read for real. Terraform has to run with ``TF_DISABLE_PLUGIN_TLS=1``. The few messages are encoded by
hand: they are a handful of fields, and the protocol's definition is in no package that pip has.
"""

from __future__ import annotations

import json
import os
import tempfile
import threading
from collections.abc import Callable, Iterator
from concurrent import futures
from pathlib import Path
from typing import Any

import grpc

_STREAM = ("/plugin.GRPCBroker/StartStream", "/plugin.GRPCStdio/StreamStdio")
_EMPTY = ("ValidateResourceTypeConfig", "ValidateDataSourceConfig", "Configure", "Stop")
_LENGTH = 2
"""Wire type of what has a length: strings, bytes, messages."""

Answer = Callable[[bytes, grpc.ServicerContext], bytes]


def varint(number: int) -> bytes:
    """Protobuf's variable-length number."""
    encoded = b""
    while True:
        low, number = number & 127, number >> 7
        if not number:
            return encoded + bytes([low])
        encoded += bytes([low | 128])


def flag(field: int, value: int) -> bytes:
    """A number or bool; 0 is not sent."""
    return varint(field << 3) + varint(int(value)) if value else b""


def part(field: int, value: bytes | str) -> bytes:
    """A string or message."""
    raw = value.encode() if isinstance(value, str) else value
    return varint(field << 3 | _LENGTH) + varint(len(raw)) + raw


def parts(raw: bytes) -> Iterator[tuple[int, bytes]]:
    """All strings and messages of a message, with their fields; numbers are passed over."""
    place = 0

    def number() -> int:
        nonlocal place
        value = shift = 0
        while True:
            byte = raw[place]
            place += 1
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value

    while place < len(raw):
        key = number()
        if key & 7 == _LENGTH:
            length = number()
            yield key >> 3, raw[place : place + length]
            place += length
        else:
            number()


def block(described: dict[str, Any]) -> bytes:
    """A Schema.Block."""
    encoded = b""
    for name, attribute in described["attrs"].items():
        flags = [flag(4, attribute["required"]), flag(5, attribute["optional"]), flag(6, attribute["computed"])]
        encoded += part(2, part(1, name) + part(2, json.dumps(attribute["type"])) + b"".join(flags))
    for name, nested in described["blocks"].items():
        limits = flag(3, nested["nesting"]) + flag(4, nested["min"]) + flag(5, nested["max"])
        encoded += part(3, part(1, name) + part(2, block(nested["block"])) + limits)
    return encoded


def whole_schema(schema: dict[str, dict[str, Any]]) -> bytes:
    """The answer to GetSchema."""
    encoded = part(1, part(2, block(next(iter(schema["provider"].values())))))
    for field, kind in ((2, "resource"), (3, "data")):
        for name, described in schema[kind].items():
            encoded += part(field, part(1, name) + part(2, part(2, block(described))))
    return encoded


class _Handler(grpc.GenericRpcHandler):  # type: ignore[type-arg]  # grpc itself is not generic
    def __init__(self, answers: dict[str, Answer], ended: threading.Event) -> None:
        self._answers = answers
        self._ended = ended

    def service(self, call: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[bytes, bytes] | None:
        if call.method == _STREAM[0]:
            return grpc.stream_stream_rpc_method_handler(self._silence)
        if call.method == _STREAM[1]:
            return grpc.unary_stream_rpc_method_handler(self._silence)
        if call.method.endswith("/GetMetadata"):
            return None
        return grpc.unary_unary_rpc_method_handler(self._answers.get(call.method, _refuse))

    def _silence(self, request: Any, context: grpc.ServicerContext) -> Iterator[bytes]:
        self._ended.wait()
        yield from ()


def _refuse(request: bytes, context: grpc.ServicerContext) -> bytes:
    context.abort(grpc.StatusCode.UNIMPLEMENTED, "this provider only knows a schema: use mock_provider")


def _answer(encoded: bytes) -> Answer:
    return lambda _request, _context: encoded


def _prepared(request: bytes, context: grpc.ServicerContext) -> bytes:
    """The configuration as it came."""
    return b"".join(part(1, value) for field, value in parts(request) if field == 1)


def serve(schema_file: str) -> None:
    """Serve one schema until Terraform says that it is enough, or is gone."""
    schema = json.loads(Path(schema_file).read_text())
    ended = threading.Event()

    def shut_down(request: bytes, context: grpc.ServicerContext) -> bytes:
        ended.set()
        return b""

    answers: dict[str, Answer] = {
        "/tfplugin5.Provider/GetSchema": _answer(whole_schema(schema)),
        "/tfplugin5.Provider/PrepareProviderConfig": _prepared,
        "/grpc.health.v1.Health/Check": _answer(flag(1, 1)),
        "/plugin.GRPCController/Shutdown": shut_down,
        **{f"/tfplugin5.Provider/{name}": _answer(b"") for name in _EMPTY},
    }
    server = grpc.server(futures.ThreadPoolExecutor(8), options=[("grpc.max_send_message_length", -1)])
    server.add_generic_rpc_handlers((_Handler(answers, ended),))
    with tempfile.TemporaryDirectory() as folder:
        server.add_insecure_port(f"unix:{folder}/provider.sock")
        server.start()
        print(f"1|5|unix|{folder}/provider.sock|grpc|", flush=True)
        parent = os.getppid()
        while not ended.wait(1):
            if os.getppid() != parent:
                break
        server.stop(0.2).wait()
    os._exit(0)  # streams that wait would keep it
