"""What lies beside the unix socket: ours is made and removed, and nothing of anybody else's."""

from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from containarium.api.containers import Containers
from containarium.api.controller import Controller
from containarium.api.server import Server
from containarium.cli.remote_server import operations_on
from containarium.model.host import TerminalError
from tests.unit.api.conftest import FakeLog, Site

Open = Callable[[Path], Server]


@pytest.fixture
def opened(site: Site) -> Open:
    """Give a function that makes another server, on a socket alone."""
    operations = operations_on(site.wired)

    def server(unix: Path) -> Server:
        return Server(Containers(operations), Controller(operations), lambda *_: None, FakeLog(), unix=unix)

    return server


def test_a_folder_that_shares_its_name_stays(opened: Open, tmp_path: Path) -> None:
    kept = tmp_path / "service" / "kept"
    kept.parent.mkdir()
    kept.write_text("for ever")
    server = opened(tmp_path / "service.sock")
    server.start()
    server.stop(0.1)
    assert kept.read_text() == "for ever"
    assert sorted(path.name for path in tmp_path.glob("*service*")) == ["service"]


def test_what_a_killed_server_left_is_taken_over(opened: Open, tmp_path: Path) -> None:
    left = tmp_path / ".s.sock.private"
    left.mkdir(0o755)
    for path in (left / "grpc.sock", left / "listening.sock", tmp_path / "s.sock"):
        with socket.socket(socket.AF_UNIX) as gone:
            gone.bind(str(path))
    server = opened(tmp_path / "s.sock")
    server.start()
    assert left.stat().st_mode & 0o777 == 0o700
    server.stop(0.1)
    assert not left.exists()


@pytest.mark.parametrize("name", ["photo", "grpc.sock"])
def test_a_folder_with_anything_else_is_refused_and_stays(opened: Open, tmp_path: Path, name: str) -> None:
    strange = tmp_path / ".s.sock.private" / name
    strange.parent.mkdir()
    strange.write_text("mine")
    with pytest.raises(TerminalError, match=r"\.s\.sock\.private holds .* not the service's; .*--socket"):
        opened(tmp_path / "s.sock").start()
    assert strange.read_text() == "mine"


def test_a_link_in_the_place_of_the_folder_is_refused(opened: Open, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / ".s.sock.private").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(TerminalError, match="cannot use the folder"):
        opened(tmp_path / "s.sock").start()


def test_what_came_into_the_folder_meanwhile_stays(opened: Open, tmp_path: Path) -> None:
    server = opened(tmp_path / "s.sock")
    server.start()
    (tmp_path / ".s.sock.private" / "photo").write_text("mine")
    server.stop(0.1)
    assert [path.name for path in (tmp_path / ".s.sock.private").iterdir()] == ["photo"]


def test_a_file_in_the_place_of_the_socket_stays(opened: Open, tmp_path: Path) -> None:
    (tmp_path / "passwd").write_text("root:x:0:0")
    server = opened(tmp_path / "passwd")
    with pytest.raises(TerminalError, match="is there already and is no socket; name another --socket"):
        server.start()
    server.stop(0.1)
    assert (tmp_path / "passwd").read_text() == "root:x:0:0"


def test_one_connections_address_tells_nothing_of_the_next(site: Site) -> None:
    found = []
    for _ in range(2):
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(str(site.settings.runtime / "api.sock"))
            connection.settimeout(5)
            assert connection.recv(9), "the server's settings"
            lines = Path("/proc/net/unix").read_text().splitlines()
            found.append({line.rpartition("@containarium-")[2] for line in lines if "@containarium-" in line})
    fresh = found[1] - found[0]
    assert fresh
    assert all(len(one) == 32 and not one.startswith(tuple(other[:8] for other in found[0])) for one in fresh)
