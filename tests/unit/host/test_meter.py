"""What Incus counts, as figures."""

from __future__ import annotations

from pathlib import Path

from containarium.host.incus import Incus
from containarium.host.meter import SAMPLE, Meter
from containarium.host.settings import HostSettings


class FakeIncus(Incus):
    """Answers from a table; the processor's time goes on with every look."""

    def __init__(self) -> None:
        super().__init__(HostSettings(incus_socket=Path("/nonexistent")))
        self.looks = 0

    def get(self, *path: str, timeout: float | None = None, **params: str) -> object:
        """One of the objects that are asked for."""
        match path:
            case ():
                return {"environment": {"server_version": "6.0.4", "os_name": "Debian", "os_version": "12",
                                        "kernel_version": "6.1", "server_name": "jump-1"}}  # fmt: skip
            case ("resources",):
                return {"cpu": {"total": 8}, "memory": {"total": 1000, "used": 400}}
            case ("storage-pools", "default", "resources"):
                return {"space": {"total": 500, "used": 100}}
        self.looks += 1
        state = {
            "cpu": {"usage": 1_000_000_000 * self.looks},
            "memory": {"usage": 10, "total": 20},
            "disk": {"root": {"usage": 30, "total": 40}},
            "network": {
                "lo": {"counters": {"bytes_received": 999, "bytes_sent": 999}},
                "eth0": {"counters": {"bytes_received": 5, "bytes_sent": 6}},
            },
            "processes": 7,
        }
        ours = {"user.containarium.environment": "alice"}
        return [
            {"name": "alice-container", "config": ours, "state": state},
            {"name": "foreign", "config": {}, "state": state},
            {"name": "away-container", "config": ours, "state": None},
        ]


def test_usage_is_of_ours_and_of_the_time_between_two_looks() -> None:
    moments = iter((0.0, 2 * SAMPLE))
    (found,) = Meter(HostSettings(), FakeIncus(), sleep=lambda _: None, ticks=lambda: next(moments)).usage()
    assert found.instance == "alice-container"
    assert found.cpu_percent == 200.0
    assert (found.memory, found.memory_limit, found.disk, found.disk_limit) == (10, 20, 30, 40)
    assert (found.received, found.sent, found.processes) == (5, 6, 7)


def test_the_host() -> None:
    found = Meter(HostSettings(), FakeIncus()).system()
    assert (found.incus, found.os, found.kernel, found.hostname) == ("6.0.4", "Debian 12", "6.1", "jump-1")
    assert (found.cpus, found.memory, found.memory_free, found.disk, found.disk_free) == (8, 1000, 600, 500, 400)
