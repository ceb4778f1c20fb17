"""What is there already, read from an Incus of a few lines and from homes in which anything may stand."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import pytest

from containarium.host.importing import Importer, looks_like_jump
from containarium.host.incus import Incus
from containarium.host.settings import HostSettings
from containarium.model import marks
from containarium.model.observed import Account
from containarium.plan.inventory import Seen
from tests.builders import public_key
from tests.unit.host.unixhttp import UnixHandler, UnixServer, serving

BOX = "alice-container"
NOLOGIN = "/usr/sbin/nologin"
PASSWD = b"root:x:0:0::/root:/bin/sh\nalice:x:1000:1000::/home/alice:/bin/bash\n"
KEYS = f"# mine\n{public_key('alice')}\n".encode()


class FakeIncus(UnixServer):
    """Instances, leases, and files inside of one."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, _Handler)
        nic = {"type": "nic", "name": "eth0", "network": "incusbr0"}
        root = {"type": "disk", "path": "/", "pool": "default", "size": "50GB"}
        self.instances: dict[str, dict[str, Any]] = {}
        self.put(BOX, {"volatile.eth0.hwaddr": "00:16:3E:00:00:01"}, {"eth0": nic, "root": root})
        self.files: dict[str, tuple[str, bytes]] = {
            "/etc/passwd": ("file", PASSWD),
            "/home/alice/.ssh/authorized_keys": ("file", KEYS),
        }
        self.read: list[str] = []

    def put(
        self, name: str, config: dict[str, str], devices: dict[str, dict[str, str]], kind: str = "container"
    ) -> None:
        """There is an instance, all of whose devices come from a profile."""
        self.instances[name] = {
            "name": name,
            "type": "container",
            "status": "Running",
            "config": config,
            "expanded_config": {"limits.cpu": "2", **config},
            "devices": {},
            "expanded_devices": devices,
        }

    def answer(self, path: str) -> Any:
        match path:
            case "/1.0":
                return {"auth": "trusted", "api_extensions": []}
            case "/1.0/instances":
                return list(self.instances.values())
            case "/1.0/networks/incusbr0/leases":
                return [
                    {"hwaddr": "00:16:3e:00:00:01", "address": "10.0.3.57", "hostname": "whatever-it-says"},
                    {"hwaddr": "00:16:3e:00:00:01", "address": "fd42::1"},
                ]
        if path.endswith("/state"):
            return {"disk": {"root": {"usage": 7}}, "memory": {"usage": 9}}
        return None


class _Handler(UnixHandler):
    def _answer(self) -> None:
        daemon = self.server
        assert isinstance(daemon, FakeIncus)
        split = urlsplit(self.path)
        if split.path.endswith("/files"):
            self._file(daemon, parse_qs(split.query)["path"][0])
            return
        found = daemon.answer(unquote(split.path))
        said = {"type": "sync", "metadata": found} if found is not None else {"type": "error", "error_code": 404}
        self._send(json.dumps(said).encode(), {})

    def _file(self, daemon: FakeIncus, path: str) -> None:
        daemon.read.append(path)
        kind, data = daemon.files.get(path, ("", b""))
        if not kind:
            self.send_response(404)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self._send(data, {"X-Incus-type": kind, "X-Incus-uid": "1000", "X-Incus-mode": "0600"})

    def _send(self, data: bytes, headers: dict[str, str]) -> None:
        self.send_response(200)
        for name, value in {**headers, "Content-Length": str(len(data))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)


class FakeAccounts:
    """Accounts that a test wrote down; nothing is ever done to them."""

    def __init__(self) -> None:
        self.there: dict[str, Account] = {}

    def observe(self) -> tuple[dict[str, Account], frozenset[str]]:
        return self.there, frozenset()

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(f"{name} was called")


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[FakeIncus]:
    with serving(FakeIncus(tmp_path / "unix.socket")) as server:
        yield server


@pytest.fixture
def accounts() -> FakeAccounts:
    return FakeAccounts()


@pytest.fixture
def importer(daemon: FakeIncus, accounts: FakeAccounts, tmp_path: Path) -> Iterator[Importer]:
    settings = HostSettings(incus_dir=tmp_path, incus_socket=tmp_path / "unix.socket")
    incus = Incus(settings, timeout=5.0)
    yield Importer(incus, accounts, settings)
    incus.close()


def only(found: tuple[Seen, ...]) -> Seen:
    (one,) = found
    return one


def test_everything_that_a_manifest_could_say(importer: Importer) -> None:
    found = only(importer.seen(["alice"]))
    assert (found.instance, found.kind, found.running, found.ours) == (BOX, "container", True, False)
    assert (found.address, found.disk_used, found.memory_used) == ("10.0.3.57", 7, 9)
    assert found.config["limits.cpu"] == "2", "what a profile brings counts"
    assert found.own_devices == {}
    assert found.guest_keys == ("# mine", public_key("alice"))
    assert found.account is None
    assert importer.seen([BOX]) == (found,)
    assert importer.seen(["bob"]) == ()


def test_what_is_ours_for_a_while_is_nobodys(daemon: FakeIncus, importer: Importer) -> None:
    daemon.put("builder", {marks.BUILDER: "x"}, {})
    daemon.put("bob-restore", {marks.ENVIRONMENT: "bob"}, {})
    daemon.put("web", {}, {})
    assert [one.instance for one in importer.seen()] == [BOX, "web"]
    assert [one.instance for one in importer.seen(["web"])] == ["web"]


@pytest.mark.parametrize(
    "files",
    [
        {},
        {"/etc/passwd": ("symlink", b"")},
        {"/etc/passwd": ("file", b"alice:x:1000:1000::../../root:/bin/sh\n")},
        {"/etc/passwd": ("file", PASSWD), "/home/alice/.ssh/authorized_keys": ("symlink", b"/etc/shadow")},
        {"/etc/passwd": ("file", PASSWD), "/home/alice/.ssh/authorized_keys": ("file", b"x" * (300 << 10))},
        {"/etc/passwd": ("file", PASSWD), "/home/alice/.ssh/authorized_keys": ("directory", b"")},
    ],
)
def test_an_odd_guest_has_no_keys(daemon: FakeIncus, importer: Importer, files: dict[str, tuple[str, bytes]]) -> None:
    daemon.files = files
    assert only(importer.seen(["alice"])).guest_keys == ()
    assert set(daemon.read) <= {"/etc/passwd", "/home/alice/.ssh/authorized_keys"}


def account(home: Path, **known: Any) -> Account:
    uid, comment = known.pop("uid", 1001), known.pop("comment", "")
    return Account("alice", uid, "alice", comment, str(home), NOLOGIN, **known)


def test_the_keys_of_an_account_are_read_and_no_link_is_followed(
    importer: Importer, accounts: FakeAccounts, tmp_path: Path
) -> None:
    home = tmp_path / "home"
    (home / ".ssh").mkdir(parents=True, mode=0o700)
    home.chmod(0o755)
    keys = home / ".ssh" / "authorized_keys"
    keys.write_bytes(KEYS)
    keys.chmod(0o600)
    accounts.there["alice"] = account(home)
    assert only(importer.seen(["alice"])).account_keys == ("# mine", public_key("alice"))
    keys.unlink()
    (tmp_path / "secret").write_bytes(KEYS)
    keys.symlink_to(tmp_path / "secret")
    assert only(importer.seen(["alice"])).account_keys == ()
    keys.unlink()
    os.mkfifo(keys)
    assert only(importer.seen(["alice"])).account_keys == ()
    accounts.there["alice"] = account(tmp_path / "nowhere")
    assert only(importer.seen(["alice"])).account_keys == ()


def test_the_keys_of_a_jump_account_of_ours_come_without_their_options(
    importer: Importer, accounts: FakeAccounts
) -> None:
    line = f'restrict,port-forwarding,permitopen="10.0.3.2:22" {public_key("alice")}'
    own = account(Path(marks.JUMP_HOME), comment=marks.account_comment("alice"), keys=(line,))
    accounts.there["alice"] = own
    assert only(importer.seen(["alice"])).account_keys == (public_key("alice"),)


def test_old_accounts_without_a_container(importer: Importer, accounts: FakeAccounts, tmp_path: Path) -> None:
    (tmp_path / ".ssh").mkdir(mode=0o700)
    (tmp_path / ".ssh" / "authorized_keys").write_bytes(KEYS)
    (tmp_path / ".ssh" / "authorized_keys").chmod(0o600)
    tmp_path.chmod(0o700)
    for name, shell, uid in (("dave", NOLOGIN, 1002), ("erin", "/bin/bash", 1003), ("sys", NOLOGIN, 3)):
        accounts.there[name] = Account(name, uid, name, "", str(tmp_path), shell)
    accounts.there["frank"] = Account("frank", 1004, "frank", "", "/nonexistent", NOLOGIN)
    accounts.there["alice"] = account(tmp_path)
    assert importer.orphans() == ("dave",)


@pytest.mark.parametrize(
    ("change", "jump"),
    [({}, True), ({"uid": 999}, False), ({"groups": frozenset({"sudo"})}, False)],
)
def test_who_can_work_on_the_host_is_no_jump_account(change: dict[str, Any], jump: bool) -> None:
    assert looks_like_jump(account(Path("/home/alice"), **change)) is jump
