"""The relay: one line there, one line back, and it ends when either side does."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

RELAY = "import sys; from containarium.host.peering.relay import relay; sys.exit(relay(*sys.argv[1:]))"


@contextmanager
def controller(path: Path, talk: Callable[[socket.socket], None]) -> Iterator[None]:
    """A controller that has one conversation."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listening:
        listening.bind(str(path))
        listening.listen()

        def serve() -> None:
            connection, _ = listening.accept()
            with connection:
                connection.settimeout(20)
                talk(connection)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield
        thread.join(20)


def start(path: Path, name: str = "jump-2") -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-I", "-c", RELAY, name, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )


def ask(path: Path, request: bytes) -> bytes:
    """What it prints while its caller holds the line."""
    with start(path) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(request)
        process.stdin.flush()
        return process.stdout.read()


def test_one_line_each_way_with_the_name_of_the_key(tmp_path: Path) -> None:
    heard = []

    def talk(connection: socket.socket) -> None:
        heard.append(json.loads(connection.makefile("rb").readline()))
        connection.sendall(b'{"boxes": []}\n')

    with controller(tmp_path / "s", talk):
        out = ask(tmp_path / "s", b'{"ask": "list", "from": "jump-9"}\nmore\n')
    assert out == b'{"boxes": []}\n'
    assert heard == [{"from": "jump-2", "request": {"ask": "list", "from": "jump-9"}}]


def test_the_line_is_held_until_the_caller_goes(tmp_path: Path) -> None:
    ended = threading.Event()

    def talk(connection: socket.socket) -> None:
        connection.makefile("rb").readline()
        connection.sendall(b"{}\n")
        assert connection.recv(10) == b""
        ended.set()

    with controller(tmp_path / "s", talk), start(tmp_path / "s") as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(b'{"ask": "offer"}\n')
        process.stdin.flush()
        assert process.stdout.readline() == b"{}\n"
        assert not ended.is_set()
        process.stdin.close()
        assert process.wait(timeout=20) == 0
    assert ended.is_set()


def test_a_caller_that_goes_before_the_answer_takes_its_request_back(tmp_path: Path) -> None:
    gone = []

    def talk(connection: socket.socket) -> None:
        connection.makefile("rb").readline()
        gone.append(connection.recv(10))

    with controller(tmp_path / "s", talk), start(tmp_path / "s") as process:
        out, _ = process.communicate(b'{"ask": "offer"}\n', timeout=30)
    assert gone == [b""]
    assert b"no answer" in out


@pytest.mark.parametrize("given", [b"", b"\n", b"rm -rf /\n", b"x" * 100_000, b"[" * 4000 + b"\n"])
def test_what_is_no_request_reaches_nobody(tmp_path: Path, given: bytes) -> None:
    process = start(tmp_path / "nobody listens here")
    out, _ = process.communicate(given, timeout=30)
    assert json.loads(out)["error"] == "this request makes no sense"
    assert process.returncode == 1


def test_without_a_controller_it_says_so(tmp_path: Path) -> None:
    out, _ = start(tmp_path / "s").communicate(b'{"ask": "list"}\n', timeout=30)
    assert json.loads(out)["error"] == "its controller does not run"


def test_an_endless_answer_ends(tmp_path: Path) -> None:
    def talk(connection: socket.socket) -> None:
        connection.makefile("rb").readline()
        try:
            while True:
                connection.sendall(b"x" * 65536)
        except OSError:
            pass

    with controller(tmp_path / "s", talk):
        out = ask(tmp_path / "s", b'{"ask": "list"}\n')
    assert json.loads(out)["error"] == "its controller gives no answer"


def test_it_imports_the_standard_library_alone() -> None:
    script = "import sys, containarium.host.peering.relay; print([n for n in sys.modules if n.startswith('contai')])"
    done = subprocess.run([sys.executable, "-I", "-c", script], capture_output=True, text=True, check=True, timeout=30)
    packages = {"containarium", "containarium.host", "containarium.host.peering", "containarium.host.peering.relay"}
    assert set(eval(done.stdout)) == packages  # noqa: S307 - a list of names
    assert os.path.sep not in done.stderr
