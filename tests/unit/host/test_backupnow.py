"""A backup that somebody asks for: where it may be written, and when the environment has to stop for it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from containarium.host.backupnow import BackupNow
from containarium.host.command import Completed
from containarium.host.incus import Incus
from containarium.host.settings import HostSettings
from containarium.model import marks
from containarium.model.host import HostError
from tests.unit.host.unixhttp import UnixHandler, UnixServer, serving

BOX = "alice-container"
PLACE = f"/1.0/instances/{BOX}"


class FakeIncus(UnixServer):
    """One running container of alice's that can be exported and stopped."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, _Handler)
        self.driver = "btrfs"
        self.status = "Running"
        self.data = b"x" * 100_000
        self.exports = False
        self.broken = False
        self.log: list[str] = []

    def answer(self, method: str, path: str, body: Any) -> tuple[int, Any]:
        match method, path:
            case "GET", "/1.0":
                return 200, {"auth": "trusted", "api_extensions": []}
            case "GET", "/1.0/storage-pools/default":
                return 200, {"driver": self.driver}
            case "GET", found if found == PLACE:
                config = {marks.ENVIRONMENT: "alice", marks.APPLIED: "digest"}
                return 200, {"name": BOX, "status": self.status, "config": config, "devices": {}}
            case "GET", found if found == f"{PLACE}/state":
                return 200, {}
            case "GET", "/1.0/operations":
                return 200, {}
            case "PUT", found if found == f"{PLACE}/state":
                self.log.append(body["action"])
                self.status = "Running" if body["action"] == "start" else "Stopped"
                return 200, {}
            case "GET", found if found == f"{PLACE}/backups/containarium":
                return (200, {}) if self.exports else (404, "not found")
            case "DELETE", found if found == f"{PLACE}/backups/containarium":
                self.exports = False
                return 200, {}
            case "POST", found if found == f"{PLACE}/backups":
                self.log.append(f"export of a {self.status.lower()} one")
                if self.broken:
                    return 500, "the pool is broken"
                self.exports = True
                return 202, {"id": "op"}
            case "GET", "/1.0/operations/op/wait":
                return 200, {"id": "op", "status_code": 200}
        return 404, f"not found: {method} {path}"


class _Handler(UnixHandler):
    def _answer(self) -> None:
        daemon = self.server
        assert isinstance(daemon, FakeIncus)
        length = int(self.headers.get("Content-Length") or 0)
        body = json.loads(self.rfile.read(length)) if length else None
        path = self.path.partition("?")[0]
        if path.endswith("/export"):
            data = daemon.data
        else:
            status, found = daemon.answer(self.command, path, body)
            said = {"type": "async" if status == 202 else "sync", "metadata": found}
            data = json.dumps(
                said if status < 400 else {"type": "error", "error_code": status, "error": found}
            ).encode()
        self.send_response(200 if path.endswith("/export") else status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[FakeIncus]:
    with serving(FakeIncus(tmp_path / "unix.socket")) as server:
        yield server


@pytest.fixture
def backups(daemon: FakeIncus, tmp_path: Path) -> Iterator[BackupNow]:
    settings = HostSettings(
        incus_dir=tmp_path / "incus", incus_socket=tmp_path / "unix.socket", state=tmp_path / "state"
    )
    (settings.incus_dir / "backups").mkdir(parents=True)
    incus = Incus(settings, timeout=5.0)
    yield BackupNow(incus, settings, lambda args, **_options: Completed(0, f"1\t{args[-1]}\n", ""))
    incus.close()


def test_nobody_is_interrupted_where_the_pool_gives_a_frozen_picture(
    daemon: FakeIncus, backups: BackupNow, tmp_path: Path
) -> None:
    made = backups.save("alice")
    assert made.path.parent == tmp_path / "state" / "backups"
    assert (made.size, made.path.read_bytes()) == (100_000, daemon.data)
    assert daemon.log == ["export of a running one"]


def test_elsewhere_it_has_to_stop_and_is_started_again(daemon: FakeIncus, backups: BackupNow) -> None:
    daemon.driver = "dir"
    with pytest.raises(HostError) as caught:
        backups.save("alice")
    assert (caught.value.reason, "--stop" in caught.value.remedy) == ("Running", True)
    assert daemon.log == []
    backups.save("alice", stop=True)
    assert daemon.log == ["stop", "export of a stopped one", "start"]
    daemon.status = "Stopped"
    backups.save("alice")
    assert daemon.log[3:] == ["export of a stopped one"], "one that was stopped stays so"


def test_it_is_started_again_whatever_happens(daemon: FakeIncus, backups: BackupNow, tmp_path: Path) -> None:
    daemon.broken = True
    with pytest.raises(HostError, match="the pool is broken"):
        backups.save("alice", stop=True)
    assert daemon.log[-1] == "start"
    assert list((tmp_path / "state" / "backups").iterdir()) == []


def test_a_file_and_a_folder_of_ones_own(backups: BackupNow, tmp_path: Path) -> None:
    folder = tmp_path / "offsite"
    folder.mkdir()
    assert backups.save("alice", folder).path.name.startswith("alice-2")
    assert backups.save("alice", folder / "mine").path == folder / "mine"
    assert (folder / "mine.sha256").exists()


@pytest.mark.parametrize("taken", ["mine", "mine.sha256", "mine.partial"])
def test_nothing_is_ever_replaced(daemon: FakeIncus, backups: BackupNow, tmp_path: Path, taken: str) -> None:
    (tmp_path / taken).write_text("somebody's")
    with pytest.raises(HostError) as caught:
        backups.save("alice", tmp_path / "mine")
    assert caught.value.reason == "OutputTaken"
    assert (tmp_path / taken).read_text() == "somebody's"
    (tmp_path / taken).unlink()
    (tmp_path / taken).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(HostError):
        backups.save("alice", tmp_path / "mine")
    assert not (tmp_path / "elsewhere").exists()


def test_a_folder_that_is_not_there_is_told(daemon: FakeIncus, backups: BackupNow, tmp_path: Path) -> None:
    with pytest.raises(HostError) as caught:
        backups.save("alice", tmp_path / "nowhere" / "mine")
    assert caught.value.reason == "OutputMissing"
    assert daemon.log == []
