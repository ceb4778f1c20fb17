"""Snapshots, against a daemon of a few lines that restores as Incus does: settings and all."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest

from containarium.host.command import run
from containarium.host.incus import Incus
from containarium.host.instances import Instances
from containarium.host.nicfilters import NicFilters
from containarium.host.power import Power
from containarium.host.settings import HostSettings
from containarium.host.snapshots import REACHED_SNAPSHOT, Snapshots
from containarium.model import marks
from containarium.model.host import HostError, TerminalError
from tests.unit.host.unixhttp import UnixHandler, UnixServer, serving

BOX = "alice-container"
NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
NEVER = "0001-01-01T00:00:00Z"


class FakeIncus(UnixServer):
    """One running container with files and snapshots, and everything that was asked of it."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, _Handler)
        self.instance: dict[str, Any] = {
            "name": BOX,
            "type": "container",
            "status": "Running",
            "architecture": "x86_64",
            "profiles": [],
            "config": {
                marks.ENVIRONMENT: "alice",
                marks.APPLIED: "digest",
                "limits.memory": "1GiB",
                "volatile.idmap.base": "1065536",
            },
            "devices": {"root": {"type": "disk", "path": "/", "pool": "default", "size": "4GiB"}},
        }
        self.files = "of now"
        self.snapshots: dict[str, dict[str, Any]] = {}
        self.driver = "btrfs"
        self.full = False
        self.broken = False
        self.conflicts = 0
        self.log: list[str] = []

    def take(self, name: str, files: str, **config: str) -> None:
        """There is a snapshot of these files, with these settings of then."""
        raw = copy.deepcopy(self.instance)
        raw["config"] |= config
        number = len(self.snapshots)
        created = (NOW - timedelta(days=10 - number)).isoformat()
        self.snapshots[name] = {**raw, "name": name, "files": files, "created_at": created, "expires_at": NEVER}

    def answer(self, method: str, path: str, body: Any, etag: str) -> tuple[int, Any]:
        place = f"/1.0/instances/{BOX}"
        match method, path:
            case "GET", "/1.0":
                return 200, {"auth": "trusted", "api_extensions": []}
            case "GET", "/1.0/storage-pools/default":
                return 200, {"driver": self.driver}
            case "GET", found if found == place:
                return 200, self.instance
            case "GET", found if found == f"{place}/snapshots":
                return 200, list(self.snapshots.values())
            case "GET", "/1.0/operations":
                return 200, {}
            case "POST", found if found == f"{place}/snapshots":
                if self.full:
                    return 500, "Failed creating snapshot: disk quota exceeded"
                self.log.append(f"snapshot {body['name']}")
                self.take(body["name"], self.files)
                self.snapshots[body["name"]]["expires_at"] = body["expires_at"]
                return 200, {}
            case "DELETE", found if found.startswith(f"{place}/snapshots/"):
                self.log.append(f"delete {found.rpartition('/')[2]}")
                del self.snapshots[found.rpartition("/")[2]]
                return 200, {}
            case "PUT", _:
                return self.put(path, body, etag)
        return 404, f"not found: {method} {path}"

    def put(self, path: str, body: Any, etag: str) -> tuple[int, Any]:
        """Stop, start, go back, or take settings."""
        place = f"/1.0/instances/{BOX}"
        match path:
            case found if found == f"{place}/state":
                self.log.append(body["action"])
                self.instance["status"] = "Running" if body["action"] == "start" else "Stopped"
                return 200, {}
            case found if found == place and "restore" in body:
                self.log.append(f"restore {body['restore']}")
                if self.broken:
                    return 500, "the pool is broken"
                kept = self.snapshots[body["restore"]]
                self.files = kept["files"]
                self.instance |= copy.deepcopy({key: kept[key] for key in ("config", "devices")})
                return 200, {}
            case found if found == place:
                if self.conflicts:
                    self.conflicts -= 1
                    return 412, "ETag doesn't match"
                assert etag == "etag"
                self.log.append("settings")
                self.instance |= body
                return 200, {}
        return 404, f"not found: PUT {path}"


class _Handler(UnixHandler):
    def _answer(self) -> None:
        assert isinstance(self.server, FakeIncus)
        length = int(self.headers.get("Content-Length") or 0)
        body = json.loads(self.rfile.read(length)) if length else None
        path = unquote(urlsplit(self.path).path)
        status, found = self.server.answer(self.command, path, body, self.headers.get("If-Match", ""))
        ok = status == 200
        said = {"type": "sync", "metadata": found} if ok else {"type": "error", "error_code": status, "error": found}
        data = json.dumps(said).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.send_header("ETag", "etag")
        self.end_headers()
        self.wfile.write(data)


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[FakeIncus]:
    with serving(FakeIncus(tmp_path / "incus.socket")) as server:
        yield server


@pytest.fixture
def snapshots(daemon: FakeIncus, tmp_path: Path) -> Iterator[Snapshots]:
    settings = HostSettings(incus_dir=tmp_path / "incus", incus_socket=tmp_path / "incus.socket")
    incus = Incus(settings, timeout=5.0)
    instances = Instances(incus, NicFilters(incus, run), settings)
    yield Snapshots(incus, instances, settings, Power(incus, instances, grace=1))
    incus.close()


def refused(act: Any, *arguments: Any) -> HostError:
    with pytest.raises(HostError) as caught:
        act(*arguments)
    return caught.value


def test_one_is_taken_and_listed(daemon: FakeIncus, snapshots: Snapshots) -> None:
    snapshots.create("alice", "before", None)
    snapshots.create("alice", "after", NOW + timedelta(days=1))
    before, after = snapshots.all("alice")
    assert (before.name, before.expires) == ("before", None), "and not after what the schedule's own would be"
    assert (after.name, after.expires) == ("after", NOW + timedelta(days=1))
    assert daemon.snapshots["before"]["expires_at"] == NEVER
    assert daemon.log == ["snapshot before", "snapshot after"], "and nothing was stopped"
    assert refused(snapshots.create, "alice", "after", None).reason == "Conflict"
    snapshots.delete("alice", "before")
    assert [one.name for one in snapshots.all("alice")] == ["after"]
    assert refused(snapshots.delete, "alice", "before").reason == "NotFound"


@pytest.mark.parametrize("name", ["", "../x", "a/b", "-x", "a b", "x" * 64, "x\n"])
def test_a_name_that_is_none_reaches_nobody(daemon: FakeIncus, snapshots: Snapshots, name: str) -> None:
    assert refused(snapshots.create, "alice", name, None).reason == "InvalidName"
    assert daemon.log == []


def test_files_come_back_and_settings_do_not(daemon: FakeIncus, snapshots: Snapshots) -> None:
    old = {"limits.memory": "512MiB", marks.APPLIED: "older", "volatile.idmap.base": "99", "user.note": "of then"}
    daemon.take("before", "of then", **{**old, marks.SUSPENDED: "then", "volatile.last_state.idmap": "[]"})
    daemon.instance["config"]["user.note"] = "of now"
    daemon.instance["devices"]["root"]["size"] = "8GiB"
    snapshots.restore("alice", "before", "safety", NOW + timedelta(days=7))
    assert daemon.files == "of then"
    assert daemon.log == ["stop", "snapshot safety", "restore before", "settings", "start"]
    config = daemon.instance["config"]
    assert config == {
        marks.ENVIRONMENT: "alice",
        marks.APPLIED: REACHED_SNAPSHOT,
        "limits.memory": "1GiB",
        "user.note": "of now",
        "volatile.idmap.base": "1065536",
        "volatile.last_state.idmap": "[]",
    }
    assert daemon.instance["devices"]["root"]["size"] == "8GiB"
    assert daemon.snapshots["safety"]["files"] == "of now"
    assert daemon.instance["status"] == "Running"


def test_one_that_was_stopped_stays_so(daemon: FakeIncus, snapshots: Snapshots) -> None:
    daemon.take("before", "of then")
    daemon.instance["status"] = "Stopped"
    snapshots.restore("alice", "before", "safety")
    assert daemon.instance["status"] == "Stopped"
    assert daemon.files == "of then"


def test_without_a_safety_nothing_is_kept_and_nothing_else_is_different(
    daemon: FakeIncus, snapshots: Snapshots
) -> None:
    daemon.take("before", "of then")
    snapshots.restore("alice", "before")
    assert daemon.log == ["stop", "restore before", "settings", "start"]


def test_a_full_disk_keeps_everything_and_it_runs_again(daemon: FakeIncus, snapshots: Snapshots) -> None:
    daemon.take("before", "of then")
    daemon.full = True
    assert refused(snapshots.restore, "alice", "before", "safety").reason == "SnapshotNoSpace"
    assert (daemon.files, daemon.instance["status"]) == ("of now", "Running")
    assert daemon.log == ["stop", "start"]


def test_a_pool_that_fails_leaves_the_settings_and_it_runs_again(daemon: FakeIncus, snapshots: Snapshots) -> None:
    daemon.take("before", "of then", **{"limits.memory": "512MiB"})
    daemon.broken = True
    with pytest.raises(HostError, match="the pool is broken"):
        snapshots.restore("alice", "before", "safety")
    assert daemon.instance["status"] == "Running"
    assert daemon.instance["config"]["limits.memory"] == "1GiB"


def test_somebody_who_changes_it_at_that_moment_is_no_obstacle(daemon: FakeIncus, snapshots: Snapshots) -> None:
    daemon.take("before", "of then")
    daemon.conflicts = 2
    snapshots.restore("alice", "before", "safety")
    assert daemon.log[-2:] == ["settings", "start"]


@pytest.mark.parametrize(("status", "broken"), [("Running", False), ("Running", True), ("Stopped", False)])
def test_with_settings_of_then_nothing_starts(
    daemon: FakeIncus, snapshots: Snapshots, status: str, broken: bool
) -> None:
    daemon.take("before", "of then", **{"limits.memory": "512MiB"})
    daemon.instance["status"] = status
    daemon.conflicts, daemon.broken = 1000, broken
    error = refused(snapshots.restore, "alice", "before", "safety")
    assert error.reason == "SettingsNotBack"
    assert "alice stays stopped" in error.message
    assert "containarium apply" in error.remedy
    assert "start" not in daemon.log
    assert daemon.instance["status"] == "Stopped"
    assert daemon.snapshots["safety"]["files"] == "of now"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"config": {marks.ENVIRONMENT: "bob"}}, "Conflict"),
        ({"config": {}}, "Conflict"),
        ({"config": {marks.ENVIRONMENT: "alice", marks.RETIRED: "2026-01-01T00:00:00+00:00"}}, "Retired"),
    ],
)
def test_what_is_not_alices_or_retired_is_left_alone(
    daemon: FakeIncus, snapshots: Snapshots, change: dict[str, Any], reason: str
) -> None:
    daemon.take("before", "of then")
    daemon.instance |= change
    assert refused(snapshots.restore, "alice", "before", "safety").reason == reason
    assert (daemon.log, daemon.files) == ([], "of now")


@pytest.mark.parametrize(
    "config", [{marks.ENVIRONMENT: "bob"}, {"security.privileged": "true"}, {"raw.lxc": "lxc.hook = /bin/sh"}]
)
def test_a_snapshot_that_would_bring_more_than_an_environment_may_have_is_refused(
    daemon: FakeIncus, snapshots: Snapshots, config: dict[str, str]
) -> None:
    daemon.take("before", "of then", **config)
    assert refused(snapshots.restore, "alice", "before", "safety").reason == "SnapshotRefused"
    assert daemon.log == []


def test_on_zfs_nothing_is_lost_by_going_back(daemon: FakeIncus, snapshots: Snapshots) -> None:
    daemon.driver = "zfs"
    daemon.take("one", "first")
    daemon.take("two", "second")
    older = refused(snapshots.restore, "alice", "one", "")
    assert (older.reason, "two" in older.message) == ("SnapshotNotLatest", True)
    latest = refused(snapshots.restore, "alice", "two", "safety")
    assert "containarium backup alice" in latest.remedy
    assert daemon.log == []
    snapshots.restore("alice", "two", "")
    assert daemon.files == "second"


def test_an_unknown_one_is_told(daemon: FakeIncus, snapshots: Snapshots) -> None:
    error = refused(snapshots.restore, "alice", "nothing", "safety")
    assert isinstance(error, TerminalError)
    assert "containarium snapshot list alice" in error.remedy
    assert daemon.log == []
