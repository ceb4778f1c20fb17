"""Actions of one environment, and how a test carries them out."""

from __future__ import annotations

import pytest

from containarium.model import marks
from containarium.model.action import (
    Action,
    CreateInstance,
    StartInstance,
    StopInstance,
    UpdateInstance,
)
from containarium.model.host import Host, HostError

ALICE = "alice-container"
ADDRESS = "10.0.3.100"
BASH = "/bin/bash"


def create(name: str = "alice", address: str = ADDRESS, image: str = "guest", **config: str) -> CreateInstance:
    return CreateInstance(
        environment=name,
        instance=marks.instance_name(name),
        image=image,
        config={marks.ENVIRONMENT: name, "limits.memory": "512MiB", "boot.autostart": "true"} | config,
        devices={
            "root": {"type": "disk", "path": "/", "pool": "default", "size": "10GiB"},
            "eth0": {"type": "nic", "name": "eth0", "network": "incusbr0", "ipv4.address": address},
        },
    )


def start(name: str = "alice") -> StartInstance:
    return StartInstance(environment=name, instance=marks.instance_name(name))


def stop(name: str = "alice") -> StopInstance:
    return StopInstance(environment=name, instance=marks.instance_name(name))


def update(config: dict[str, str] | None = None, devices: dict[str, dict[str, str]] | None = None) -> UpdateInstance:
    return UpdateInstance(environment="alice", instance=ALICE, config=config or {}, devices=devices or {})


def run(host: Host, *actions: Action) -> None:
    for action in actions:
        host.execute(action)


def reason_of(host: Host, action: Action) -> tuple[type[HostError], str]:
    with pytest.raises(HostError) as caught:
        host.execute(action)
    return type(caught.value), caught.value.reason
