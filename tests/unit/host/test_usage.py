"""How full the disks are, as far as Incus knows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from containarium.host.incus import Incus
from containarium.host.settings import HostSettings
from containarium.host.usage import Disk, disks
from containarium.model import marks
from tests.unit.host.unixhttp import UnixHandler, UnixServer, serving

GIB = 1 << 30


def instance(name: str, size: str, usage: Any, *, ours: bool = True) -> dict[str, Any]:
    return {
        "name": f"{name}-container",
        "config": {marks.ENVIRONMENT: name} if ours else {},
        "expanded_devices": {"root": {"type": "disk", "path": "/", "size": size}},
        "state": {"disk": {"root": {"usage": usage}}},
    }


class _Handler(UnixHandler):
    def _answer(self) -> None:
        path = self.path.partition("?")[0]
        found: Any = {"space": {"used": 30 * GIB, "total": 100 * GIB}}
        if path == "/1.0/instances":
            assert "recursion=2" in self.path
            found = [
                instance("bob", "10GiB", 9 * GIB),
                instance("alice", "50GiB", 5 * GIB),
                instance("carol", "", 5 * GIB),
                instance("dave", "10GiB", -1),
                instance("erin", "10GiB", None),
                instance("web", "10GiB", 5 * GIB, ours=False),
                {"name": "odd-container", "config": {marks.ENVIRONMENT: "odd"}, "state": None},
            ]
        data = json.dumps({"type": "sync", "metadata": found}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


def test_those_that_have_a_quota_and_are_counted(tmp_path: Path) -> None:
    with serving(UnixServer(tmp_path / "unix.socket", _Handler)):
        settings = HostSettings(incus_dir=tmp_path, incus_socket=tmp_path / "unix.socket")
        found = disks(settings, Incus(settings, timeout=5.0))
    assert found.pool == Disk(30 * GIB, 100 * GIB)
    assert found.environments == {"alice": Disk(5 * GIB, 50 * GIB), "bob": Disk(9 * GIB, 10 * GIB)}
    assert list(found.environments) == ["alice", "bob"]
    assert [disk.share for disk in found.environments.values()] == [0.1, 0.9]


def test_a_disk_of_no_size_is_not_full() -> None:
    assert Disk(5, 0).share == 0
