"""Backups before deletion, against a daemon of a few lines that hands out an export on a real socket."""

from __future__ import annotations

import hashlib
import json
import os
import re
import resource
import stat
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from containarium.host.backupfiles import checksum, noted_checksum, saved
from containarium.host.backups import Backups
from containarium.host.cancel import Cancellation, CancelledError
from containarium.host.command import Completed
from containarium.host.incus import Incus
from containarium.host.instances import Instances
from containarium.host.nicfilters import NicFilters
from containarium.host.settings import HostSettings
from containarium.model import marks
from containarium.model.action import BackupInstance
from containarium.model.host import HostError, RetryableError, TerminalError
from tests.unit.host.unixhttp import UnixHandler, UnixServer, serving

BOX = "alice-container"
ACTION = BackupInstance(environment="alice", instance=BOX)
NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
PLACE = f"/1.0/instances/{BOX}"
EXPORT = f"{PLACE}/backups/containarium"


class FakeIncus(UnixServer):
    """One retired instance that can be exported, and what is asked of it."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, _Handler)
        self.instance: dict[str, Any] = {
            "name": BOX,
            "status": "Stopped",
            "config": {marks.ENVIRONMENT: "alice", marks.RETIRED: "2026-11-15T12:00:00+00:00"},
            "last_used_at": "2026-11-10T08:00:00.173551125Z",
        }
        self.data = os.urandom(3 << 20)
        self.exports = False
        self.programs = ["gzip"]
        self.failure = ""
        self.usage = 5 << 20
        self.made: list[dict[str, Any]] = []
        self.announced: int | None = None
        self.during: Callable[[], None] = lambda: None
        """Somebody does this while the export is fetched."""

    def answer(self, method: str, path: str, body: Any) -> tuple[int, Any]:
        match method, path:
            case "GET", "/1.0":
                return 200, {"environment": {}, "api_extensions": [], "auth": "trusted"}
            case "GET", place if place == PLACE:
                return 200, self.instance
            case "GET", place if place == f"{PLACE}/state":
                return 200, {"disk": {"root": {"usage": self.usage}}}
            case "GET", "/1.0/operations":
                return 200, {}
            case "GET", place if place == EXPORT:
                return (200, {"name": "containarium"}) if self.exports else (404, "Instance backup not found")
            case "DELETE", place if place == EXPORT:
                self.exports = False
                return 200, None
            case "POST", place if place == f"{PLACE}/backups":
                if body["compression_algorithm"] not in self.programs:
                    return (
                        400,
                        f'Compression algorithm "{body["compression_algorithm"]}" isn\'t supported on this system',
                    )
                self.made.append(body)
                self.exports = True
                return 202, {"id": "op"}
            case "GET", "/1.0/operations/op/wait":
                if self.failure:
                    return 200, {"id": "op", "status_code": 400, "err": self.failure}
                return 200, {"id": "op", "status_code": 200, "metadata": None}
        return 404, "not found"


class _Handler(UnixHandler):
    def _answer(self) -> None:
        daemon = self.server
        assert isinstance(daemon, FakeIncus)
        text = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        path = self.path.partition("?")[0]
        if path == f"{EXPORT}/export":
            self._export(daemon)
            return
        status, found = daemon.answer(self.command, path, json.loads(text) if text else None)
        body: dict[str, Any] = {"type": "async" if status == 202 else "sync", "status_code": status, "metadata": found}
        if status >= 400:
            body = {"type": "error", "error_code": status, "error": found}
        self._send(status, json.dumps(body).encode())

    def _export(self, daemon: FakeIncus) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(daemon.announced or len(daemon.data)))
        self.end_headers()
        self.wfile.write(daemon.data[: len(daemon.data) // 2])
        daemon.during()
        self.wfile.write(daemon.data[len(daemon.data) // 2 :])
        self.close_connection = True

    def _send(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[FakeIncus]:
    with serving(FakeIncus(tmp_path / "unix.socket")) as server:
        yield server


class Site:
    """A host with that daemon, on which backups are made at a time of one's choosing."""

    def __init__(self, daemon: FakeIncus, tmp_path: Path) -> None:
        self.daemon = daemon
        self.settings = HostSettings(
            incus_dir=tmp_path / "incus", incus_socket=Path(str(daemon.server_address)), state=tmp_path / "state"
        )
        (self.settings.incus_dir / "backups").mkdir(parents=True)
        self.folder = self.settings.backups
        self.cancellation = Cancellation()
        self.now = NOW
        self.told: list[str] = []
        self.measured = 0
        self.apparent = 0

    def save(self) -> Path:
        incus = Incus(self.settings, timeout=5.0, cancellation=self.cancellation)
        instances = Instances(incus, NicFilters(incus, self._run), self.settings)
        try:
            return Backups(incus, instances, self.settings, self._run, lambda: self.now).save(ACTION, self.told.append)
        finally:
            incus.close()

    def save_now(self, called: str = "", folder: Path | None = None) -> Path:
        """As for somebody who asks for one, whatever the environment does."""
        incus = Incus(self.settings, timeout=5.0, cancellation=self.cancellation)
        instances = Instances(incus, NicFilters(incus, self._run), self.settings)
        backups = Backups(incus, instances, self.settings, self._run, lambda: self.now, folder)
        try:
            return backups.save_now("alice", called, self.told.append)
        finally:
            incus.close()

    def refused(self, kind: type[HostError] = RetryableError) -> str:
        """Its reason; nothing of the attempt is left then."""
        with pytest.raises(kind) as caught:
            self.save()
        assert self.names() == []
        return caught.value.reason

    def names(self) -> list[str]:
        return sorted(path.name for path in self.folder.iterdir()) if self.folder.is_dir() else []

    def _run(self, args: Sequence[str], **_options: Any) -> Completed:
        assert args[0] == "du"
        found = self.apparent if "--apparent-size" in args else self.measured
        return Completed(0, f"{found}\t{args[-1]}\n", "")


@pytest.fixture
def site(daemon: FakeIncus, tmp_path: Path) -> Site:
    return Site(daemon, tmp_path)


def test_a_backup_is_whole_private_and_checked(site: Site) -> None:
    path = site.save()
    assert site.names() == ["alice-20261122T120000Z.tar.gz", "alice-20261122T120000Z.tar.gz.sha256"]
    assert path == site.folder / "alice-20261122T120000Z.tar.gz"
    assert path.read_bytes() == site.daemon.data
    digest = hashlib.sha256(site.daemon.data).hexdigest()
    assert path.with_name(path.name + ".sha256").read_text() == f"{digest}  {path.name}\n"
    assert (noted_checksum(path), checksum(path)) == (digest, digest)
    assert stat.S_IMODE(site.folder.stat().st_mode) == 0o700
    assert {stat.S_IMODE(file.stat().st_mode) for file in site.folder.iterdir()} == {0o600}
    assert not site.daemon.exports, "Incus keeps no copy"


def test_one_that_is_nearly_all_holes_is_not_exported(site: Site) -> None:
    site.apparent = 4 << 40
    assert site.refused() == "BackupTooSparse"
    assert site.daemon.made == []
    site.apparent = 100 << 30
    assert site.save().exists()


def test_any_pool_can_take_it_back_and_incus_forgets_one_that_nobody_fetches(site: Site) -> None:
    site.save()
    (body,) = site.daemon.made
    assert body["optimized_storage"] is False
    assert body["instance_only"] is True
    assert datetime.fromisoformat(body["expires_at"]) > NOW


def test_the_better_compression_is_taken_where_there_is_one(site: Site) -> None:
    site.daemon.programs = ["gzip", "zstd"]
    assert site.save().name.endswith(".tar.zst")


def test_one_that_was_made_since_it_was_retired_is_kept(site: Site) -> None:
    first = site.save()
    site.now += timedelta(hours=1)
    assert site.save() == first
    assert len(site.daemon.made) == 1
    assert f"verifying {first.name}" in site.told


@pytest.mark.parametrize(
    ("field", "value"),
    [("retired", "2026-11-22T12:30:00+00:00"), ("used", "2026-11-22T12:30:00Z"), ("retired", "soon"), ("retired", "")],
)
def test_one_that_may_lack_something_is_not_enough(site: Site, field: str, value: str) -> None:
    first = site.save()
    if field == "retired":
        site.daemon.instance["config"][marks.RETIRED] = value
    else:
        site.daemon.instance["last_used_at"] = value
    site.now += timedelta(hours=1)
    assert site.save() != first
    assert first.exists()


def test_one_of_a_clock_that_was_ahead_is_not_enough(site: Site) -> None:
    site.now += timedelta(days=800)
    first = site.save()
    site.now = NOW
    assert site.save() != first


def test_a_damaged_one_is_not_enough(site: Site) -> None:
    first = site.save()
    with first.open("r+b") as file:
        file.seek(100_000)
        file.write(b"damage")
    site.now += timedelta(hours=1)
    assert site.save() != first


def test_what_a_killed_one_left_is_cleared_and_nothing_else(site: Site) -> None:
    site.folder.mkdir(parents=True, mode=0o700)
    leftovers = ("alice-20261122T110000Z.tar.gz.partial", "alice-20261122T100000Z.tar.zst.sha256")
    others = ("alice-b-20261122T110000Z.tar.gz.partial", "alice.tar.gz.partial", "notes")
    for name in (*leftovers, *others, ".alice-20261122T100000Z.tar.gz.sha256.x1y2"):
        (site.folder / name).write_text("x")
    (site.folder / "bob-20261122T110000Z.tar.gz.partial").write_text("x")
    site.daemon.exports = True
    site.save()
    assert site.names() == sorted(
        (
            *others,
            "bob-20261122T110000Z.tar.gz.partial",
            "alice-20261122T120000Z.tar.gz",
            "alice-20261122T120000Z.tar.gz.sha256",
        )
    )


def test_a_running_one_is_not_backed_up(site: Site) -> None:
    site.daemon.instance["status"] = "Running"
    assert site.refused() == "Running"


def test_one_that_is_started_meanwhile_is_not_taken_for_backed_up(site: Site) -> None:
    site.daemon.during = lambda: site.daemon.instance.update(last_used_at="2026-11-22T12:00:01Z")
    assert site.refused() == "Running"


def test_a_foreign_one_is_not_touched(site: Site) -> None:
    site.daemon.instance["config"] = {}
    assert site.refused(TerminalError) == "Conflict"
    assert site.daemon.made == []


@pytest.mark.parametrize("where", ["told by Incus", "counted", "announced"])
def test_where_there_is_no_room_nothing_is_begun(site: Site, where: str) -> None:
    huge = 1 << 60
    if where == "announced":
        site.daemon.announced = huge
    elif where == "counted":
        site.measured = huge
    else:
        site.daemon.usage = huge
    assert site.refused() == "BackupNoSpace"
    assert not site.daemon.exports
    assert len(site.daemon.made) == (1 if where == "announced" else 0)


def test_a_disk_that_fills_up_at_incus_is_told_as_that(site: Site) -> None:
    site.daemon.failure = "Failed to write tarball: write: no space left on device"
    assert site.refused() == "BackupNoSpace"
    assert not site.daemon.exports


def test_a_disk_that_fills_up_while_it_is_written_is_told_as_that(site: Site) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, before[1]))
    try:
        assert site.refused() == "BackupNoSpace"
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not site.daemon.exports


def test_an_export_that_breaks_off_is_no_backup(site: Site) -> None:
    site.daemon.announced = len(site.daemon.data) + 1
    assert site.refused() == "IncusUnreachable"
    assert not site.daemon.exports


def test_it_ends_early_when_nothing_is_to_go_on(site: Site) -> None:
    site.daemon.during = site.cancellation.cancel
    with pytest.raises(CancelledError):
        site.save()
    assert site.names() == []


def test_a_folder_that_cannot_be_written_to_is_told(site: Site) -> None:
    site.folder.parent.mkdir(parents=True)
    site.folder.write_text("a file")
    with pytest.raises(HostError) as caught:
        site.save()
    assert caught.value.reason == "BackupFailed"


def test_whole_backups_are_found_newest_first(tmp_path: Path) -> None:
    assert saved(tmp_path / "nothing", "alice") == ()
    for name in (
        "alice-20261122T120000Z.tar.gz",
        "alice-20261123T120000Z.tar.zst",
        "alice-20261124T120000Z.tar.gz.partial",
        "alice-b-20261125T120000Z.tar.gz",
        "alice-20269999T999999Z.tar.gz",
    ):
        (tmp_path / name).write_text("x")
        (tmp_path / f"{name}.sha256").write_text("x")
    (tmp_path / "alice-20261126T120000Z.tar.gz").write_text("without a checksum")
    found = [one.path.name for one in saved(tmp_path, "alice")]
    assert found[:2] == ["alice-20261123T120000Z.tar.zst", "alice-20261122T120000Z.tar.gz"]
    assert len(found) == 3


@pytest.mark.parametrize(
    ("text", "known"),
    [
        ("{}  box.tar.gz\n", True),
        ("{} *box.tar.gz\n", True),
        ("{}  other.tar.gz\n{}  box.tar.gz\n", True),
        ("{}  other.tar.gz\n", False),
        ("{}\n", False),
        ("", False),
    ],
)
def test_a_checksum_is_read_as_sha256sum_writes_it(tmp_path: Path, text: str, known: bool) -> None:
    path = tmp_path / "box.tar.gz"
    path.write_text("x")
    digest = checksum(path)
    (tmp_path / "box.tar.gz.sha256").write_text(re.sub(r"\{\}", digest, text))
    assert noted_checksum(path) == (digest if known else None)


# -- now, whoever works in it


def test_one_of_a_running_environment(site: Site) -> None:
    site.daemon.instance |= {"status": "Running", "config": {marks.ENVIRONMENT: "alice"}}
    path = site.save_now()
    assert (path.name, path.read_bytes()) == ("alice-20261122T120000Z.tar.gz", site.daemon.data)
    assert noted_checksum(path) == checksum(path)
    site.now += timedelta(seconds=1)
    assert site.save_now() != path, "each is a new one"
    assert len(saved(site.folder, "alice")) == 2


def test_one_elsewhere_and_under_a_name_of_its_own(site: Site, tmp_path: Path) -> None:
    folder = tmp_path / "offsite"
    folder.mkdir()
    path = site.save_now("mine.tar", folder)
    assert sorted(file.name for file in folder.iterdir()) == ["mine.tar", "mine.tar.sha256"]
    assert noted_checksum(path) == checksum(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert site.names() == []


def test_one_of_somebody_else_is_refused(site: Site) -> None:
    site.daemon.instance["config"][marks.ENVIRONMENT] = "bob"
    with pytest.raises(TerminalError) as caught:
        site.save_now()
    assert caught.value.reason == "Conflict"
    assert site.daemon.made == []


def test_two_at_once_do_not_take_each_others_export_away(site: Site) -> None:
    reasons = []

    def another() -> None:
        with pytest.raises(HostError) as caught:
            site.save()
        reasons.append(caught.value.reason)

    site.daemon.during = another
    path = site.save_now()
    assert reasons == ["Locked"]
    assert noted_checksum(path) == checksum(path)
