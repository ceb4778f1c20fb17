"""The client against a daemon of a few lines on a real socket, with answers recorded from Incus 6.0."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from containarium.host.incus import Incus
from containarium.host.settings import HostSettings
from containarium.model.host import HostError, RetryableError, TerminalError, WaitingError
from tests.unit.host.unixhttp import UnixHandler, UnixServer, serving

Answer = tuple[int, dict[str, str], bytes]
ROOT = {
    "metadata": {"environment": {"storage": "btrfs", "firewall": "nftables"}, "api_extensions": [], "auth": "trusted"}
}


def sync(metadata: Any) -> Answer:
    body = {"type": "sync", "status_code": 200, "error_code": 0, "error": "", "metadata": metadata}
    return 200, {"ETag": "abc"}, json.dumps(body).encode()


def error(status: int, message: str, http: int = 0) -> Answer:
    body = {"type": "error", "error_code": status, "error": message, "metadata": None}
    return http or status, {}, json.dumps(body).encode()


def running(description: str = "Creating instance") -> Answer:
    body = {
        "type": "async",
        "status_code": 100,
        "metadata": {"id": "op1", "status_code": 103, "description": description},
    }
    return 202, {}, json.dumps(body).encode()


class Daemon(UnixServer):
    """Answers each request from a table of functions; whatever is not in it is not found."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, _Handler)
        self.answers: dict[tuple[str, str], Callable[[], Answer]] = {("GET", "/1.0"): lambda: sync(ROOT["metadata"])}
        self.asked: list[str] = []
        self.headers: list[dict[str, str]] = []


class _Handler(UnixHandler):
    def _answer(self) -> None:
        daemon = self.server
        assert isinstance(daemon, Daemon)
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        path = urlsplit(self.path).path
        daemon.asked.append(f"{self.command} {self.path}")
        daemon.headers.append(dict(self.headers))
        found = daemon.answers.get((self.command, path), lambda: error(404, "Not Found"))
        status, headers, body = found()
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    with serving(Daemon(tmp_path / "unix.socket")) as server:
        yield server


@pytest.fixture
def incus(daemon: Daemon) -> Iterator[Incus]:
    client = Incus(HostSettings(incus_socket=Path(str(daemon.server_address))), timeout=1.0)
    yield client
    client.close()


def test_get(incus: Incus, daemon: Daemon) -> None:
    daemon.answers["GET", "/1.0/instances"] = lambda: sync([{"name": "a"}])
    assert incus.get("instances", recursion="1") == [{"name": "a"}]
    assert incus.get_versioned("instances").etag == "abc"
    assert daemon.asked == ["GET /1.0/instances?recursion=1", "GET /1.0/instances"]


def test_an_etag_is_found_as_go_spells_it(incus: Incus, daemon: Daemon) -> None:
    daemon.answers["GET", "/1.0/instances/a"] = lambda: (200, {"Etag": "abc"}, sync({})[2])
    assert incus.get_versioned("instances", "a").etag == "abc"


def test_reading_needs_no_pylxd(daemon: Daemon) -> None:
    """A cold list has to answer at once, and pylxd with what it imports takes longer than all the rest."""
    code = (
        "import sys; from pathlib import Path; from containarium.host.incus import Incus; "
        "from containarium.host.settings import HostSettings; "
        "Incus(HostSettings(incus_socket=Path(sys.argv[1]))).server(); "
        "sys.exit('pylxd' in sys.modules or 'requests' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code, str(daemon.server_address)], check=True, timeout=30)


def test_segments_are_quoted(incus: Incus, daemon: Daemon) -> None:
    daemon.answers["GET", "/1.0/images/aliases/a%2Fb"] = lambda: sync("found")
    assert incus.get("images", "aliases", "a/b") == "found"
    assert not incus.exists("instances", "../certificates")
    assert daemon.asked[-1] == "GET /1.0/instances/..%2Fcertificates"


def test_patch_is_bound_to_its_etag(incus: Incus, daemon: Daemon) -> None:
    daemon.answers["PATCH", "/1.0/instances/a"] = lambda: error(412, "ETag doesn't match: x vs y")
    with pytest.raises(RetryableError) as caught:
        incus.patch("instances", "a", body={}, etag="abc")
    assert caught.value.reason == "Conflict"
    assert daemon.headers[-1]["If-Match"] == "abc"


def test_an_operation_that_fails_answers_200(incus: Incus, daemon: Daemon) -> None:
    daemon.answers["PUT", "/1.0/instances/a/state"] = running
    daemon.answers["GET", "/1.0/operations/op1/wait"] = lambda: error(
        500, "setting cgroup item for the container failed", 200
    )
    with pytest.raises(WaitingError) as caught:
        incus.put("instances", "a", "state", body={})
    assert caught.value.reason == "MemoryInUse"


def test_a_wait_that_expires_is_no_failure(incus: Incus, daemon: Daemon) -> None:
    ends = iter(
        [error(500, "context deadline exceeded", 200), sync({"id": "op1", "status_code": 200, "metadata": {"x": 1}})]
    )
    states = iter([sync({"id": "op1", "status_code": 103, "metadata": {"download_progress": "rootfs: 40%"}})])
    daemon.answers["POST", "/1.0/instances"] = running
    daemon.answers["GET", "/1.0/operations/op1/wait"] = lambda: next(ends)
    daemon.answers["GET", "/1.0/operations/op1"] = lambda: next(states)
    told: list[str] = []
    assert incus.post("instances", body={}, progress=told.append) == {"x": 1}
    assert told == ["fetching the image: rootfs: 40%"]


def test_an_operation_that_never_ends_is_cancelled(incus: Incus, daemon: Daemon) -> None:
    def expire() -> Answer:
        time.sleep(0.1)
        return error(500, "context deadline exceeded", 200)

    daemon.answers["GET", "/1.0/operations/op1/wait"] = expire
    daemon.answers["GET", "/1.0/operations/op1"] = lambda: sync(
        {"id": "op1", "status_code": 103, "description": "Work"}
    )
    with pytest.raises(RetryableError) as caught:
        incus.wait("op1", 0.3)
    assert caught.value.reason == "IncusTimeout"
    assert daemon.asked[-1] == "DELETE /1.0/operations/op1"


def test_an_operation_lost_in_a_restart(incus: Incus, daemon: Daemon) -> None:
    daemon.answers["GET", "/1.0/operations/op1/wait"] = lambda: error(404, "Operation not found")
    with pytest.raises(RetryableError) as caught:
        incus.wait("op1", 1)
    assert caught.value.reason == "OperationLost"


def test_a_daemon_that_keeps_silent(incus: Incus, daemon: Daemon) -> None:
    incus.server()

    def silence() -> Answer:
        time.sleep(0.6)
        return sync(None)

    daemon.answers["GET", "/1.0/instances"] = silence
    with pytest.raises(RetryableError) as caught:
        incus.get("instances", timeout=0.2)
    assert caught.value.reason == "IncusTimeout"


def test_nobody_listens(tmp_path: Path) -> None:
    client = Incus(HostSettings(incus_socket=tmp_path / "no.socket"))
    for _ in range(2):
        with pytest.raises(HostError) as caught:
            client.get("instances")
        assert caught.value.reason == "IncusUnreachable"
        assert "systemctl start incus" in str(caught.value)


class TestFiles:
    META = {"X-Incus-type": "file", "X-Incus-uid": "5", "X-Incus-gid": "6", "X-Incus-mode": "0640"}  # noqa: RUF012

    def test_read(self, incus: Incus, daemon: Daemon) -> None:
        for method in ("HEAD", "GET"):
            daemon.answers[method, "/1.0/instances/a/files"] = lambda: (200, self.META, b"hello")
        file = incus.read_file("a", "/etc/x", 5)
        assert file is not None
        assert (file.data, file.uid, file.gid, file.mode, file.whole) == (b"hello", 5, 6, 0o640, True)
        cut = incus.read_file("a", "/etc/x", 4)
        assert cut is not None
        assert (cut.data, cut.whole) == (b"hell", False)

    def test_what_has_no_size_is_not_opened(self, incus: Incus, daemon: Daemon) -> None:
        daemon.answers["HEAD", "/1.0/instances/a/files"] = lambda: (200, self.META, b"")
        file = incus.read_file("a", "/pipe", 100)
        assert file is not None
        assert file.data == b""
        assert not any(asked.startswith("GET /1.0/instances") for asked in daemon.asked)

    def test_missing(self, incus: Incus) -> None:
        assert incus.read_file("a", "/none", 100) is None
        incus.remove_file("a", "/none")

    def test_write_says_that_it_is_no_form(self, incus: Incus, daemon: Daemon) -> None:
        daemon.answers["POST", "/1.0/instances/a/files"] = lambda: sync({})
        incus.write_file("a", "/etc/x", b"data", uid=1, gid=2, mode=0o440)
        sent = daemon.headers[-1]
        assert sent["Content-Type"] == "application/octet-stream"
        assert (sent["X-Incus-uid"], sent["X-Incus-gid"], sent["X-Incus-mode"]) == ("1", "2", "0440")


def test_forbidden(incus: Incus, daemon: Daemon) -> None:
    daemon.answers["GET", "/1.0/instances"] = lambda: error(403, "not authorized")
    with pytest.raises(TerminalError) as caught:
        incus.get("instances")
    assert caught.value.reason == "IncusForbidden"
