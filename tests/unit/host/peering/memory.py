"""An Incus that is a dictionary: what the hands over it do is seen in ``instances`` and ``done``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from containarium.host.incus import Incus, Versioned
from containarium.host.instances import Instances
from containarium.host.nicfilters import NicFilters
from containarium.host.settings import HostSettings
from containarium.model import marks
from containarium.model.host import Progress, RetryableError, TerminalError, silent
from tests.unit.host.etcfiles import FakeRun

BOX = "alice-container"
DEVICES = {
    "root": {"type": "disk", "path": "/", "pool": "default", "size": "2GiB"},
    "eth0": {"type": "nic", "name": "eth0", "network": "incusbr0", "ipv4.address": "10.0.11.2"},
}


def instance(name: str = BOX, status: str = "Stopped", **config: str) -> dict[str, Any]:
    """An instance of alice's, in Incus' own words."""
    return {
        "name": name,
        "type": "container",
        "architecture": "x86_64",
        "status": status,
        "ephemeral": False,
        "config": {marks.ENVIRONMENT: "alice", marks.APPLIED: "abc", **config},
        "devices": {key: dict(device) for key, device in DEVICES.items()},
    }


class MemoryIncus(Incus):
    """One Incus. ``arriving`` is called when something is fetched, and may raise."""

    def __init__(self, settings: HostSettings, *instances: dict[str, Any]) -> None:
        super().__init__(settings)
        self.instances = {each["name"]: each for each in instances}
        self.snapshots: list[dict[str, Any]] = []
        self.templates: dict[str, Any] = {"/etc/hosts": {"when": ["copy"]}}
        self.config: dict[str, str] = {}
        self.done: list[str] = []
        self.bodies: list[dict[str, Any]] = []
        self.operations: dict[str, list[dict[str, Any]]] = {}
        self.arriving: Callable[[], None] = lambda: None

    def get(self, *path: str, timeout: float | None = None, **params: str) -> Any:
        match path:
            case ():
                return {"config": dict(self.config), "environment": {"certificate": "PEM"}}
            case ("operations",):
                return self.operations
            case ("instances",):
                return list(self.instances.values())
            case ("instances", name, "snapshots"):
                return self.snapshots
            case ("instances", name, "metadata"):
                return {"architecture": "x86_64", "templates": dict(self.templates)}
            case ("instances", name) if name in self.instances:
                return self.instances[name]
        raise TerminalError("Instance not found", reason="NotFound")

    def get_versioned(self, *path: str) -> Versioned:
        return Versioned(self.get(*path), "etag")

    def patch(self, *path: str, body: Any, etag: str = "", timeout: float | None = None) -> None:
        there = self.config if not path else self.instances[path[1]]["config"]
        for key, value in body.get("config", {}).items():
            self.done.append(f"{key}={value}")
            if value == "":
                there.pop(key, None)
            else:
                there[key] = value

    def put(self, *path: str, body: Any, timeout: float | None = None, etag: str = "") -> Any:
        if path[-1] == "metadata":
            self.templates = body["templates"]
        elif path[-1] == "state":
            self.done.append(body["action"])
            self.instances[path[1]]["status"] = "Stopped"

    def delete(self, *path: str, timeout: float | None = None) -> None:
        self.done.append(f"delete {path[1]}")
        del self.instances[path[1]]

    def begin(self, *path: str, body: Any) -> Mapping[str, Any]:
        self.bodies.append(body)
        if path == ("instances",):
            self.done.append("fetch")
            fresh = instance(body["name"])
            fresh["config"] = {**body["config"], "volatile.idmap.base": "1000000", "volatile.apply_template": "copy"}
            self.instances[body["name"]] = {**fresh, "devices": body["devices"]}
        else:
            self.done.append("offer")
        return {"id": "e0c07775-f30b-4603-b9aa-fd3ca17b6b4c", "metadata": {"control": "c" * 64, "fs": "f" * 64}}

    def wait(
        self, operation: str, timeout: float, progress: Progress = silent, check: Callable[[], None] = lambda: None
    ) -> Mapping[str, Any]:
        self.arriving()
        check()
        return {}

    def cancel(self, operation: str) -> None:
        self.done.append("cancel")

    def hands(self, settings: HostSettings) -> Instances:
        """What works on it."""
        return Instances(self, NicFilters(self, FakeRun()), settings)


def lost() -> None:
    """A transfer that breaks."""
    raise RetryableError("the connection broke", reason="IncusError")
