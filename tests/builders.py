"""Short ways to the values that tests of plan/, reconcile/ and simulate/ start from."""

from __future__ import annotations

import base64
import copy
import hashlib
import struct
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

from containarium.model.environment import Environment
from containarium.model.manifest import Load, Manifest
from containarium.model.problem import Origin, Problem
from containarium.model.sshkey import SSHKey
from containarium.reconcile.cycle import Result, Settings, converge
from containarium.simulate.host import SimulatedHost
from containarium.simulate.world import World

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)


def public_key(seed: str) -> str:
    """A well-formed ed25519 public key, always the same for the same seed."""
    kind = b"ssh-ed25519"
    point = hashlib.sha256(seed.encode()).digest()
    blob = struct.pack(">I", len(kind)) + kind + struct.pack(">I", len(point)) + point
    return f"ssh-ed25519 {base64.b64encode(blob).decode()} {seed}@laptop"


def manifest(
    name: str, *, keys: Iterable[str] = (), annotations: dict[str, str] | None = None, **spec: Any
) -> Manifest:
    """A manifest as ``sources`` would have read it from ``NAME.yaml``; ``spec`` in the spelling of the YAML."""
    texts = list(keys) or [public_key(name)]
    document = {
        "apiVersion": "containarium.dev/v1",
        "kind": "Environment",
        "metadata": {"name": name, "annotations": annotations or {}},
        "spec": {"image": "bootstrap:debian/12", "sshKeys": texts, **copy.deepcopy(spec)},
    }
    environment = Environment.model_validate(document)
    return Manifest(environment, tuple(SSHKey.parse(text) for text in texts), Origin(f"{name}.yaml", {"": (1, 1)}))


def load(*manifests: Manifest, complete: bool = True, problems: Iterable[Problem] = ()) -> Load:
    """A source that was read, whole unless said otherwise."""
    return Load(manifests, tuple(problems), complete, "manifests")


class Site:
    """A simulated host together with the manifests that are declared for it."""

    def __init__(self, *manifests: Manifest) -> None:
        self.world = World()
        self.host = SimulatedHost(self.world)
        self.now = NOW
        self.load = load(*manifests)

    def declare(self, *manifests: Manifest) -> None:
        """Replace the declared manifests."""
        self.load = load(*manifests)

    def wait(self, **duration: float) -> None:
        """Let time go by."""
        self.now += timedelta(**duration)

    def run(self, **settings: Any) -> Result:
        """One pass."""
        return converge(self.load, self.host, lambda: self.now, Settings(**settings))
