"""Restoring a backup, against a daemon of a few lines that imports whatever it is told to."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
import yaml

from containarium.host.incus import Incus
from containarium.host.observe import Accounts
from containarium.host.restore import Restorer
from containarium.host.settings import HostSettings
from containarium.model import marks
from containarium.model.host import HostError
from containarium.model.observed import Account
from tests.unit.host.unixhttp import UnixHandler, UnixServer, serving

BOX, STAGING = "alice-container", "alice-restore"
ADDRESS = "10.0.3.7"


def instance(name: str = BOX, **config: str) -> dict[str, Any]:
    """A retired container, in Incus' own words."""
    found = {marks.ENVIRONMENT: "alice", marks.RETIRED: "2026-01-01T00:00:00+00:00", "boot.autostart": "true", **config}
    devices = {
        "root": {"type": "disk", "path": "/", "pool": "default"},
        "eth0": {"type": "nic", "name": "eth0", "network": "incusbr0", "ipv4.address": ADDRESS},
    }
    return {
        "name": name,
        "type": "container",
        "status": "Stopped",
        "ephemeral": False,
        "config": found,
        "expanded_config": found,
        "devices": devices,
        "expanded_devices": devices,
    }


class FakeIncus(UnixServer):
    """Instances by name, and everything that changed them."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, _Handler)
        self.instances: dict[str, dict[str, Any]] = {}
        self.imported = instance(STAGING)
        """What comes out of any backup."""
        self.snapshots: list[dict[str, Any]] = []
        self.templates: dict[str, Any] = {}
        self.changes: list[str] = []
        self.received = b""
        self.failure = ""

    def change(self, method: str, name: str, headers: Any, data: bytes) -> tuple[int, Any]:
        self.changes.append(f"{method} {name}".strip())
        if name.endswith("/metadata"):
            self.templates = json.loads(data)["templates"]
            return 200, None
        if method == "POST" and not name:
            self.received = data
            if not self.failure:
                self.instances[headers["X-Incus-name"]] = self.imported
            return 202, {"id": "op"}
        if method == "POST":
            there = self.instances.pop(name)
            self.instances[json.loads(data)["name"]] = there
        elif method == "DELETE":
            del self.instances[name]
        else:
            body = json.loads(data)
            self.instances[name]["config"].update(body.get("config", {}))
            self.instances[name]["devices"].update(body.get("devices", {}))
        return 200, None


class _Handler(UnixHandler):
    def _answer(self) -> None:
        daemon = self.server
        assert isinstance(daemon, FakeIncus)
        data = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        path = self.path.partition("?")[0].removeprefix("/1.0").strip("/")
        kind, _, name = path.partition("/")
        status: int = 200
        found: Any
        if kind == "operations":
            found = {"id": "op", "status_code": 400 if daemon.failure else 200, "err": daemon.failure}
        elif self.command != "GET":
            status, found = daemon.change(self.command, name, self.headers, data)
        elif not name:
            found = list(daemon.instances.values()) if kind else {"environment": {}, "api_extensions": []}
        elif name == f"{STAGING}/snapshots":
            found = daemon.snapshots
        elif name == f"{STAGING}/metadata":
            found = {"architecture": "x86_64", "templates": daemon.templates}
        elif name in daemon.instances:
            found = daemon.instances[name]
        else:
            status, found = 404, "Instance not found"
        body: dict[str, Any] = {"type": "async" if status == 202 else "sync", "metadata": found}
        if status >= 400:
            body = {"type": "error", "error_code": status, "error": found}
        text = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)


class Site:
    """A host with that daemon, and a folder of backups."""

    def __init__(self, daemon: FakeIncus, tmp_path: Path) -> None:
        self.daemon = daemon
        self.folder = tmp_path
        self.settings = HostSettings(
            incus_dir=tmp_path / "incus", incus_socket=Path(str(daemon.server_address)), runtime=tmp_path / "run"
        )
        self.accounts: dict[str, Account] = {}

    def backup(
        self, index: dict[str, Any] | None = None, *, noted: bool = True, also: tuple[tarfile.TarInfo, ...] = ()
    ) -> Path:
        """A file like those that Incus exports, with an index that says this, and empty members besides."""
        path = self.folder / "alice-20261122T120000Z.tar.gz"
        text = yaml.safe_dump({"name": BOX, "config": {"container": index or instance()}}).encode()
        with tarfile.open(path, "w:gz") as archive:
            member = tarfile.TarInfo("backup/index.yaml")
            member.size = len(text)
            archive.addfile(member, io.BytesIO(text))
            for other in also:
                archive.addfile(other)
        if noted:
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
            path.with_name(f"{path.name}.sha256").write_text(f"{digest}  {path.name}\n")
        return path

    def restore(self, path: Path, **options: Any) -> None:
        accounts = Mock(spec=Accounts)
        accounts.observe.return_value = (self.accounts, frozenset())
        incus = Incus(self.settings, timeout=5.0)
        try:
            Restorer(incus, accounts, self.settings).restore("alice", path, **options)
        finally:
            incus.close()

    def refused(self, path: Path, **options: Any) -> HostError:
        with pytest.raises(HostError) as caught:
            self.restore(path, **options)
        return caught.value


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with serving(FakeIncus(tmp_path / "unix.socket")) as server:
        yield Site(server, tmp_path)


def test_it_gets_its_name_last_of_all_and_starts_by_no_means(site: Site) -> None:
    path = site.backup()
    site.restore(path)
    assert site.daemon.received == path.read_bytes()
    assert site.daemon.changes == ["POST", f"PATCH {STAGING}", f"POST {STAGING}", f"PATCH {BOX}"]
    assert list(site.daemon.instances) == [BOX]
    config = site.daemon.instances[BOX]["config"]
    assert config["boot.autostart"] == "false"
    assert config[marks.RETIRED] == config[marks.PRUNE_AFTER] == ""
    assert config[marks.APPLIED] == "retired"
    assert site.daemon.instances[BOX]["devices"]["eth0"]["ipv4.address"] == ADDRESS


@pytest.mark.parametrize(
    ("wish", "now"),
    [
        ("Retire;1s;backup", "Retire;7d;backup"),
        ("Retire;1h", "Retire;7d"),
        ("Retire;30d", "Retire;30d"),
        ("Retain;1s", "Retain;1s"),
    ],
)
def test_what_was_to_be_deleted_at_once_stays_for_a_while(site: Site, wish: str, now: str) -> None:
    site.daemon.imported = instance(STAGING, **{marks.DELETION: wish})
    site.restore(site.backup(site.daemon.imported))
    assert site.daemon.instances[BOX]["config"][marks.DELETION] == now


def test_an_address_that_somebody_has_by_now_is_left_to_them(site: Site) -> None:
    site.daemon.instances["bob-container"] = instance("bob-container")
    site.restore(site.backup())
    assert site.daemon.instances[BOX]["devices"]["eth0"] == {"type": "none"}


@pytest.mark.parametrize("config", [{"security.privileged": "true"}, {"raw.lxc": "x"}, {marks.ENVIRONMENT: "bob"}])
def test_an_index_that_asks_for_too_much_is_not_even_imported(site: Site, config: dict[str, str]) -> None:
    assert site.refused(site.backup(instance(**config))).reason == "BackupRefused"
    assert site.daemon.changes == []


def test_what_comes_out_is_looked_at_whatever_the_index_says(site: Site) -> None:
    site.daemon.imported = instance(
        STAGING, **{"raw.lxc": "lxc.hook.start=/bin/true", "security.protection.delete": "true"}
    )
    error = site.refused(site.backup())
    assert error.reason == "BackupRefused"
    assert "raw.lxc" in error.message
    assert site.daemon.instances == {}
    assert f"POST {STAGING}" not in site.daemon.changes, "it never had the name of the environment's container"


@pytest.mark.parametrize("config", [{"security.privileged": "true"}, {"raw.lxc": "x"}, {marks.ENVIRONMENT: "bob"}])
def test_a_snapshot_may_ask_for_no_more_either(site: Site, config: dict[str, str]) -> None:
    site.daemon.snapshots = [instance("snap0"), instance("snap1", **config)]
    assert site.refused(site.backup()).reason == "BackupRefused"
    assert site.daemon.instances == {}


def test_snapshots_of_our_own_come_back(site: Site) -> None:
    snapshot = instance("snap0")
    del snapshot["type"], snapshot["status"]  # Incus does not say them of a snapshot
    site.daemon.snapshots = [snapshot]
    site.restore(site.backup())
    assert list(site.daemon.instances) == [BOX]


def test_nothing_is_written_by_templates_of_a_backup(site: Site) -> None:
    site.daemon.templates = {"/../../root/x": {"when": ["start"], "template": "x.tpl"}}
    site.restore(site.backup())
    assert site.daemon.templates == {}


def member(name: str, kind: bytes = tarfile.REGTYPE, target: str = "") -> tarfile.TarInfo:
    """An empty member of an archive."""
    found = tarfile.TarInfo(name)
    found.type, found.linkname = kind, target
    return found


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("backup/container/metadata.yaml", tarfile.SYMTYPE),
        ("backup/container/metadata.yaml", tarfile.LNKTYPE),
        ("./backup/container/templates/x.tpl", tarfile.SYMTYPE),
        ("backup/container/rootfs", tarfile.SYMTYPE),
        ("backup/container//templates", tarfile.SYMTYPE),
        ("backup/snapshots/s1/metadata.yaml", tarfile.SYMTYPE),
        ("backup/container/x\nbackup", tarfile.SYMTYPE),
        ("backup/container/disk", tarfile.BLKTYPE),
        ("backup/container/pipe", tarfile.FIFOTYPE),
    ],
)
def test_nothing_beside_the_guests_files_is_a_link(site: Site, name: str, kind: bytes) -> None:
    error = site.refused(site.backup(also=(member(name, kind, "/etc/passwd"),)))
    assert error.reason == "BackupRefused"
    assert "link or a device" in error.message
    assert "\n" not in error.message
    assert site.daemon.changes == []


def test_a_guests_files_may_be_what_they_like(site: Site) -> None:
    inside = ("backup/container/rootfs/bin", "backup/snapshots/s1/rootfs/lib", "backup/container/rootfs/a b\n/c")
    links = tuple(member(name, tarfile.SYMTYPE, "/etc") for name in inside)
    plain = member("backup/container/metadata.yaml"), member("backup/container", tarfile.DIRTYPE)
    site.restore(site.backup(also=(*plain, *links, member("backup/container/rootfs/dev/x", tarfile.CHRTYPE))))
    assert list(site.daemon.instances) == [BOX]


def test_a_failed_import_is_told_and_leaves_nothing(site: Site) -> None:
    site.daemon.failure = "Failed importing backup: no space left on device"
    assert site.refused(site.backup()).reason == "QuotaExceeded"
    assert site.daemon.instances == {}


def test_a_file_that_was_changed_is_refused(site: Site) -> None:
    path = site.backup()
    path.write_bytes(path.read_bytes() + b"x")
    assert site.refused(path).reason == "BackupDamaged"
    assert site.refused(path, unchecked=True).reason == "BackupDamaged", "a checksum that is there counts"
    assert site.daemon.changes == []


def test_a_file_without_a_checksum_needs_somebodys_word(site: Site) -> None:
    path = site.backup(noted=False)
    assert site.refused(path).reason == "BackupUnchecked"
    site.restore(path, unchecked=True)
    assert list(site.daemon.instances) == [BOX]


@pytest.mark.parametrize("text", [b"", b"no archive", b"\x1f\x8b broken"])
def test_what_is_no_backup_is_told(site: Site, text: bytes) -> None:
    path = site.folder / "x.tar.gz"
    path.write_bytes(text)
    assert site.refused(path, unchecked=True).reason == "BackupUnreadable"
    assert site.refused(site.folder, unchecked=True).reason == "BackupUnreadable"
    assert site.refused(site.folder / "nothing", unchecked=True).reason == "BackupUnreadable"


def test_nothing_takes_the_place_of_another(site: Site) -> None:
    path = site.backup()
    site.daemon.instances[BOX] = instance()
    assert site.refused(path).reason == "Conflict"
    site.daemon.instances.clear()
    site.accounts["alice"] = Account("alice", 1000, "users", comment="Alice Example")
    assert site.refused(path).reason == "Conflict"
    assert site.daemon.changes == []


def test_what_a_killed_restore_left_is_removed_where_it_is_ours(site: Site) -> None:
    path = site.backup()
    site.daemon.instances[STAGING] = instance(STAGING)
    site.restore(path)
    assert list(site.daemon.instances) == [BOX]
    site.daemon.instances = {STAGING: instance(STAGING, **{marks.ENVIRONMENT: "somebody"})}
    assert site.refused(path).reason == "Conflict"
    assert list(site.daemon.instances) == [STAGING]
