"""The wire contract by its bytes: messages built by hand from field numbers, and what an existing client would read."""

from __future__ import annotations

import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf import descriptor_pb2
from google.protobuf.unknown_fields import UnknownFieldSet

from containarium.api import registry
from containarium.api.v1 import container_pb2, controller_pb2
from tests.builders import public_key
from tests.unit.api.conftest import Site

SCHEMAS = Path(__file__).parents[3] / "schemas"


def varint(number: int) -> bytes:
    found = b""
    while number > 0x7F:
        found += bytes([number & 0x7F | 0x80])
        number >>= 7
    return found + bytes([number])


def text(field: int, value: str | bytes) -> bytes:
    """A string, or a message within."""
    data = value.encode() if isinstance(value, str) else value
    return varint(field << 3 | 2) + varint(len(data)) + data


def number(field: int, value: int) -> bytes:
    return varint(field << 3) + varint(value)


def double(field: int, value: float) -> bytes:
    return varint(field << 3 | 1) + struct.pack("<d", value)


CASES: dict[str, tuple[bytes, dict[str, Any]]] = {
    "ResourceLimits": (text(1, "4") + text(2, "8GB") + text(3, "50GB"), {"cpu": "4", "memory": "8GB", "disk": "50GB"}),
    "NetworkInfo": (
        text(1, "10.0.3.2") + text(2, "02:63") + text(3, "eth0") + text(4, "incusbr0"),
        {"ip_address": "10.0.3.2", "mac_address": "02:63", "interface": "eth0", "bridge": "incusbr0"},
    ),
    "CreateContainerRequest": (
        text(1, "alice") + text(2, text(1, "4")) + text(3, "k1") + text(3, "k2")
        + text(4, text(1, "team") + text(2, "ml")) + text(5, "images:ubuntu/24.04") + number(6, 1),
        {"username": "alice", "resources": {"cpu": "4"}, "ssh_keys": ["k1", "k2"], "labels": {"team": "ml"},
         "image": "images:ubuntu/24.04", "enable_docker": True},
    ),
    "CreateContainerResponse": (
        text(1, text(1, "alice-container")) + text(2, "made") + text(3, "ssh alice"),
        {"container": {"name": "alice-container"}, "message": "made", "ssh_command": "ssh alice"},
    ),
    "Container": (
        text(1, "alice-container") + text(2, "alice") + number(3, 5) + text(4, text(2, "8GB")) + text(5, "k")
        + text(6, text(1, "10.0.3.2")) + number(7, 1_700_000_000) + number(8, 1_700_000_001)
        + text(9, text(1, "a") + text(2, "b")) + text(10, "debian") + number(11, 1),
        {"name": "alice-container", "username": "alice", "state": 5, "resources": {"memory": "8GB"}, "ssh_keys": ["k"],
         "network": {"ip_address": "10.0.3.2"}, "created_at": 1_700_000_000, "updated_at": 1_700_000_001,
         "labels": {"a": "b"}, "image": "debian", "docker_enabled": True},
    ),
    "ListContainersRequest": (
        number(1, 2) + text(2, "alice") + text(3, text(1, "team") + text(2, "ml")),
        {"state": 2, "username": "alice", "label_filter": {"team": "ml"}},
    ),
    "ListContainersResponse": (
        text(1, text(2, "bob")) + number(2, 7), {"containers": [{"username": "bob"}], "total_count": 7},
    ),
    "GetContainerRequest": (text(1, "alice"), {"username": "alice"}),
    "GetContainerResponse": (
        text(1, text(2, "alice")) + text(2, text(1, "box")),
        {"container": {"username": "alice"}, "metrics": {"name": "box"}},
    ),
    "DeleteContainerRequest": (text(1, "alice") + number(2, 1), {"username": "alice", "force": True}),
    "DeleteContainerResponse": (text(1, "gone") + text(2, "box"), {"message": "gone", "container_name": "box"}),
    "StartContainerRequest": (text(1, "alice"), {"username": "alice"}),
    "StartContainerResponse": (
        text(1, "runs") + text(2, text(1, "b")), {"message": "runs", "container": {"name": "b"}},
    ),
    "StopContainerRequest": (
        text(1, "a") + number(2, 1) + number(3, 30), {"username": "a", "force": True, "timeout": 30},
    ),
    "StopContainerResponse": (text(1, "ok") + text(2, text(1, "b")), {"message": "ok", "container": {"name": "b"}}),
    "AddSSHKeyRequest": (text(1, "a") + text(2, "k"), {"username": "a", "ssh_public_key": "k"}),
    "AddSSHKeyResponse": (text(1, "m") + number(2, 3), {"message": "m", "total_keys": 3}),
    "RemoveSSHKeyRequest": (text(1, "a") + text(2, "k"), {"username": "a", "ssh_public_key": "k"}),
    "RemoveSSHKeyResponse": (text(1, "m") + number(2, 3), {"message": "m", "total_keys": 3}),
    "GetMetricsRequest": (text(1, "a"), {"username": "a"}),
    "GetMetricsResponse": (text(1, text(1, "b")), {"metrics": [{"name": "b"}]}),
    "ContainerMetrics": (
        text(1, "b") + double(2, 12.5) + b"".join(number(n, n * 10) for n in range(3, 10)),
        {"name": "b", "cpu_usage_percent": 12.5, "memory_usage_bytes": 30, "memory_limit_bytes": 40,
         "disk_usage_bytes": 50, "disk_limit_bytes": 60, "network_rx_bytes": 70, "network_tx_bytes": 80,
         "process_count": 90},
    ),
    "GetSystemInfoResponse": (text(1, text(12, "jump-1")), {"info": {"hostname": "jump-1"}}),
    "SystemInfo": (
        text(1, "6.0") + text(2, "Debian") + text(3, "6.1") + b"".join(number(n, n) for n in range(4, 12))
        + text(12, "jump-1") + number(13, 99),
        {"incus_version": "6.0", "os": "Debian", "kernel_version": "6.1", "total_cpus": 4, "total_memory_bytes": 5,
         "available_memory_bytes": 6, "total_disk_bytes": 7, "available_disk_bytes": 8, "containers_running": 9,
         "containers_stopped": 10, "containers_total": 11, "hostname": "jump-1", "uptime_seconds": 99},
    ),
    "ResizeContainerRequest": (
        text(1, "a") + text(2, "0-3") + text(3, "8GB") + text(4, "60GB"),
        {"username": "a", "cpu": "0-3", "memory": "8GB", "disk": "60GB"},
    ),
    "ResizeContainerResponse": (text(1, "m") + text(2, text(1, "b")), {"message": "m", "container": {"name": "b"}}),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_bytes_by_field_number_mean_what_the_original_means(name: str) -> None:
    data, fields = CASES[name]
    kind = getattr(container_pb2, name)
    found = kind.FromString(data)
    assert found == kind(**fields)
    assert len(UnknownFieldSet(found)) == 0
    assert kind.FromString(found.SerializeToString(deterministic=True)) == found
    assert {field.name for field, _ in found.ListFields()} == set(fields)


def test_every_message_with_fields_has_a_case() -> None:
    messages = container_pb2.DESCRIPTOR.message_types_by_name
    assert {name for name, message in messages.items() if message.fields} == set(CASES)


def test_names_of_states_and_methods() -> None:
    states = container_pb2.DESCRIPTOR.enum_types_by_name["ContainerState"].values_by_number
    names = ("UNSPECIFIED", "RUNNING", "STOPPED", "FROZEN", "CREATING", "ERROR")
    assert {n: value.name for n, value in states.items()} == {
        n: f"CONTAINER_STATE_{name}" for n, name in enumerate(names)
    }
    assert [method.name for method in registry.CONTAINERS.methods] == [
        *("CreateContainer", "ListContainers", "GetContainer", "DeleteContainer", "StartContainer", "StopContainer"),
        *("AddSSHKey", "RemoveSSHKey", "GetMetrics", "GetSystemInfo", "ResizeContainer"),
    ]
    for method in registry.CONTAINERS.methods:
        assert (method.input_type.name, method.output_type.name) == (f"{method.name}Request", f"{method.name}Response")
        assert not method.client_streaming
        assert not method.server_streaming


def test_every_method_has_a_rule_and_every_rule_a_method() -> None:
    assert {s.name: {m.name for m in s.methods} for s in registry.SERVICES} == {
        service: set(rules) for service, rules in registry.RULES.items()
    }


def test_a_client_that_knows_only_bytes_is_served(site: Site) -> None:
    with site.channel() as channel:
        create = channel.unary_unary("/containarium.v1.ContainerService/CreateContainer", None, None)
        request = text(1, "alice") + text(3, public_key("alice")) + text(5, "bootstrap:debian/12")
        assert b"alice-container" in create(request, timeout=10)
        listing = channel.unary_unary("/containarium.v1.ContainerService/ListContainers", None, None)
        answer = listing(number(1, 1), timeout=10)
        assert text(2, "alice") in answer
        assert answer.endswith(number(2, 1))
        with pytest.raises(grpc.RpcError) as missing:
            channel.unary_unary("/containarium.v1.ContainerService/GetContainer", None, None)(
                text(1, "bob"), timeout=10
            )
        assert missing.value.code() is grpc.StatusCode.NOT_FOUND


@pytest.mark.parametrize("module", [container_pb2, controller_pb2])
def test_the_generated_messages_are_those_of_the_schema(module: object, tmp_path: Path) -> None:
    found = module.DESCRIPTOR  # type: ignore[attr-defined]
    out = tmp_path / "set"
    command = [sys.executable, "-m", "grpc_tools.protoc", f"--proto_path={SCHEMAS}", f"--descriptor_set_out={out}"]
    subprocess.run([*command, str(SCHEMAS / found.name)], check=True, timeout=60)
    (written,) = descriptor_pb2.FileDescriptorSet.FromString(out.read_bytes()).file
    generated = descriptor_pb2.FileDescriptorProto.FromString(found.serialized_pb)
    for message in _all(written.message_type):
        for field in message.field:
            field.ClearField("json_name")
    assert written == generated, "the messages are stale: run 'make protos'"


def _all(messages: object) -> list[descriptor_pb2.DescriptorProto]:
    found = list(messages)  # type: ignore[call-overload]
    return [*found, *(inner for message in found for inner in _all(message.nested_type))]
