"""From what was seen to the messages of the original's contract. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime

from containarium.api.operations import Seen
from containarium.api.v1 import container_pb2 as pb
from containarium.host.meter import System, Usage
from containarium.model import marks
from containarium.model.manifest import Manifest
from containarium.model.observed import InstanceStatus
from containarium.plan.addresses import pinned
from containarium.report import environments

_STATES = {
    InstanceStatus.RUNNING: pb.CONTAINER_STATE_RUNNING,
    InstanceStatus.STOPPED: pb.CONTAINER_STATE_STOPPED,
    InstanceStatus.FROZEN: pb.CONTAINER_STATE_FROZEN,
    InstanceStatus.ERROR: pb.CONTAINER_STATE_ERROR,
}
_INTERFACE = "eth0"


def containers(seen: Seen) -> Iterator[pb.Container]:
    """Every environment of this host, sorted by name."""
    manifests = {manifest.name: manifest for manifest in seen.load.manifests}
    for name in environments.names(seen.plan, seen.observed):
        yield container(seen, name, manifests.get(name))


def container(seen: Seen, name: str, manifest: Manifest | None) -> pb.Container:
    """One environment; of one that has no container yet, what its manifest says."""
    instance = environments.owned_instance(seen.observed, name)
    config = instance.config if instance is not None else {}
    facts = environments.facts(seen.observed, name)
    declared = manifest.environment if manifest is not None else None
    limits = declared.spec.resources if declared is not None else None
    address = pinned(seen.observed, name) or ""
    return pb.Container(
        name=marks.instance_name(name),
        username=name,
        state=_STATES.get(instance.status, pb.CONTAINER_STATE_UNSPECIFIED)
        if instance is not None
        else pb.CONTAINER_STATE_CREATING,
        resources=pb.ResourceLimits(
            cpu=config.get("limits.cpu") or (str(limits.cpu) if limits else ""),
            memory=config.get("limits.memory") or (str(limits.memory) if limits else ""),
            disk=facts.quota or (str(limits.disk) if limits else ""),
        ),
        ssh_keys=[key.line for key in manifest.keys] if manifest is not None else [],
        network=pb.NetworkInfo(
            ip_address=address,
            mac_address=marks.hardware_address(address) if address else "",
            interface=_INTERFACE,
            bridge=seen.observed.host.bridge,
        ),
        created_at=_seconds(instance.created_at) if instance is not None else 0,
        updated_at=max(_seconds(instance.created_at), _seconds(instance.last_used_at)) if instance is not None else 0,
        labels=declared.metadata.labels if declared is not None else {},
        image=config.get(marks.IMAGE) or (declared.spec.image if declared is not None else ""),
        docker_enabled=declared.spec.docker if declared is not None else config.get("security.nesting") == "true",
    )


def chosen(found: Iterable[pb.Container], request: pb.ListContainersRequest) -> list[pb.Container]:
    """Those that a request asks for; a label has to have exactly the value that is asked for."""
    return [
        each
        for each in found
        if request.state in (pb.CONTAINER_STATE_UNSPECIFIED, each.state)
        and request.username in ("", each.username)
        and all(key in each.labels and each.labels[key] == value for key, value in request.label_filter.items())
    ]


def metrics(usage: Usage) -> pb.ContainerMetrics:
    """What one container uses."""
    return pb.ContainerMetrics(
        name=usage.instance,
        cpu_usage_percent=usage.cpu_percent,
        memory_usage_bytes=usage.memory,
        memory_limit_bytes=usage.memory_limit,
        disk_usage_bytes=usage.disk,
        disk_limit_bytes=usage.disk_limit,
        network_rx_bytes=usage.received,
        network_tx_bytes=usage.sent,
        process_count=usage.processes,
    )


def system(found: System, seen: Seen) -> pb.SystemInfo:
    """The host, with how many of our containers it runs."""
    states = [each.state for each in containers(seen)]
    return pb.SystemInfo(
        incus_version=found.incus,
        os=found.os,
        kernel_version=found.kernel,
        total_cpus=found.cpus,
        total_memory_bytes=found.memory,
        available_memory_bytes=found.memory_free,
        total_disk_bytes=found.disk,
        available_disk_bytes=found.disk_free,
        containers_running=states.count(pb.CONTAINER_STATE_RUNNING),
        containers_stopped=states.count(pb.CONTAINER_STATE_STOPPED),
        containers_total=sum(state != pb.CONTAINER_STATE_CREATING for state in states),
        hostname=found.hostname,
        uptime_seconds=found.uptime,
    )


def _seconds(text: str) -> int:
    """Seconds since 1970 of a time as Incus writes it; 0 for none."""
    try:
        return max(0, int(datetime.fromisoformat(text).timestamp()))
    except (ValueError, OverflowError):
        return 0
