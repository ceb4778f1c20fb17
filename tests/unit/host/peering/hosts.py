"""Declared hosts: jump-1 has 10.128.0.1 and 10.0.11.1/24, jump-2 has 10.128.0.2 and 10.0.12.1/24, and so on."""

from __future__ import annotations

from typing import Any

from containarium.model.hostmanifest import HostManifest
from containarium.model.manifest import DeclaredHost
from containarium.model.problem import Origin
from tests.builders import public_key


def host(number: int, **spec: Any) -> HostManifest:
    """A manifest; ``spec`` replaces parts of it, None takes one away."""
    parts: dict[str, Any] = {
        "network": {"subnet": f"10.0.{10 + number}.1/24", "address": f"10.128.0.{number}"},
        "identity": {"hostKeys": [public_key(f"host-{number}")], "peerKey": public_key(f"peer-{number}")},
        **spec,
    }
    return HostManifest.model_validate(
        {
            "apiVersion": "containarium.dev/v1",
            "kind": "Host",
            "metadata": {"name": f"jump-{number}"},
            "spec": {key: value for key, value in parts.items() if value is not None},
        }
    )


def declared(*hosts: HostManifest) -> tuple[DeclaredHost, ...]:
    """As ``sources`` would have read them."""
    return tuple(DeclaredHost(each, {}, Origin(f"{each.name}.yaml")) for each in hosts)
