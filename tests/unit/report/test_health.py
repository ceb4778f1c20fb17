"""The HTTP server: right answers for those who ask properly, and patience with nobody."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from containarium.model.host import TerminalError
from containarium.report.health import Answers, Health, parse_address


@dataclass
class Service:
    """A running server, and what it is to answer."""

    stale: str = ""
    unready: str = ""
    broken: bool = False
    address: str = ""

    def metrics(self) -> bytes:
        if self.broken:
            raise RuntimeError("secret detail")
        return b"up 1\n"

    @property
    def place(self) -> tuple[str, int]:
        return parse_address(self.address)

    def connect(self) -> socket.socket:
        return socket.create_connection(self.place, timeout=10)

    def send(self, data: bytes) -> bytes:
        """Everything that comes back until the server closes."""
        with self.connect() as client:
            client.sendall(data)
            return _all(client)

    def get(self, path: str, method: str = "GET") -> tuple[int, bytes]:
        head, _, body = self.send(f"{method} {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode()).partition(b"\r\n\r\n")
        return int(head.split()[1]), body


def _all(client: socket.socket) -> bytes:
    data = b""
    try:
        while chunk := client.recv(65536):
            data += chunk
    except ConnectionResetError:
        pass
    return data


def _serve(address: str, deadline: float = 0.5) -> Iterator[Service]:
    service = Service()
    answers = Answers(service.metrics, "text/plain; version=0.0.4", lambda: service.stale, lambda: service.unready)
    health = Health(address, answers, deadline=deadline)
    service.address = health.start()
    yield service
    health.close()


@pytest.fixture
def service() -> Iterator[Service]:
    """Give a running server that gives each connection half a second."""
    yield from _serve("127.0.0.1:0")


def test_metrics(service: Service) -> None:
    assert service.get("/metrics") == (200, b"up 1\n")
    assert service.get("/metrics?x=1") == (200, b"up 1\n")
    raw = service.send(b"GET /metrics HTTP/1.0\r\n\r\n")
    assert b"Content-Type: text/plain; version=0.0.4\r\n" in raw
    assert b"Content-Length: 5\r\n" in raw


def test_head_has_no_body_and_the_same_length(service: Service) -> None:
    raw = service.send(b"HEAD /metrics HTTP/1.1\r\n\r\n")
    assert b"Content-Length: 5\r\n" in raw
    assert raw.endswith(b"\r\n\r\n")


def test_health_follows_the_loop(service: Service) -> None:
    assert service.get("/healthz") == (200, b"ok\n")
    service.stale = "no pass has ended for 200 s"
    assert service.get("/healthz") == (503, b"no pass has ended for 200 s\n")
    service.stale = ""
    assert service.get("/healthz") == (200, b"ok\n")


def test_ready_after_the_first_whole_pass(service: Service) -> None:
    service.unready = "no pass has seen everything yet"
    assert service.get("/readyz")[0] == 503
    service.unready = ""
    assert service.get("/readyz") == (200, b"ok\n")


@pytest.mark.parametrize("path", ["/", "/metrics/", "//metrics", "/../etc/passwd", "/healthz%00", "/%2e"])
def test_everything_else_is_not_there(service: Service, path: str) -> None:
    assert service.get(path)[0] == 404


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "get", "CONNECT"])
def test_only_reading(service: Service, method: str) -> None:
    assert service.get("/metrics", method)[0] == 405


@pytest.mark.parametrize(
    "request_", [b"\r\n\r\n", b"GET /metrics\r\n\r\n", b"GET  /metrics HTTP/1.1\r\n\r\n", b"\x16\x03\x01\r\n\r\n"]
)
def test_what_is_no_request(service: Service, request_: bytes) -> None:
    assert service.send(request_).startswith(b"HTTP/1.1 400 ")


def test_a_request_that_is_too_long(service: Service) -> None:
    # The answer may be lost on the way, for what was not read is still in it; the content must not come.
    said = service.send(b"GET /metrics HTTP/1.1\r\nX: " + b"x" * 20_000)
    assert said == b"" or said.startswith(b"HTTP/1.1 431 ")
    assert service.get("/metrics")[0] == 200


def test_a_bug_is_an_answer_without_detail(service: Service) -> None:
    service.broken = True
    assert service.get("/metrics") == (500, b"RuntimeError\n")
    assert service.get("/healthz")[0] == 200


def test_whoever_says_nothing_is_dropped(service: Service) -> None:
    with service.connect() as client:
        assert _all(client) == b""


def _dribble(client: socket.socket) -> None:
    for _ in range(600):
        client.sendall(b"x")
        time.sleep(0.05)


def test_whoever_dribbles_is_dropped_too(service: Service) -> None:
    """A byte now and then does not extend the time."""
    with service.connect() as client, pytest.raises((BrokenPipeError, ConnectionResetError)):
        _dribble(client)


def test_the_idle_keep_nobody_out() -> None:
    for service in _serve("127.0.0.1:0", deadline=60):
        idle = [service.connect() for _ in range(200)]
        assert service.get("/healthz")[0] == 200
        for client in idle:
            client.close()


def test_whoever_does_not_read_holds_up_nobody() -> None:
    for service in _serve("127.0.0.1:0", deadline=60):
        with service.connect() as deaf:
            deaf.sendall(b"GET /metrics HTTP/1.1\r\n\r\n")
            assert service.get("/metrics")[0] == 200


def test_closing_ends_it_with_clients_connected() -> None:
    before = threading.active_count()
    for service in _serve("127.0.0.1:0", deadline=60):
        clients = [service.connect() for _ in range(5)]
        assert service.get("/healthz")[0] == 200
    assert threading.active_count() == before
    with pytest.raises(ConnectionRefusedError):
        service.connect()
    for client in clients:
        client.close()


def test_ipv6() -> None:
    for service in _serve("[::1]:0"):
        assert service.address.startswith("[::1]:")
        assert service.get("/healthz") == (200, b"ok\n")


def test_a_port_in_use(service: Service) -> None:
    other = Health(service.address, Answers(lambda: b"", "text/plain", str, str))
    with pytest.raises(TerminalError, match=r"cannot listen on 127\.0\.0\.1 port .* in use; see who has it") as caught:
        other.start()
    assert caught.value.reason == "AddressInUse"
    other.close()
    assert service.get("/healthz")[0] == 200


@pytest.mark.parametrize(
    ("text", "parsed"), [("127.0.0.1:9465", ("127.0.0.1", 9465)), ("[::1]:0", ("::1", 0)), ("[::]:9", ("::", 9))]
)
def test_addresses(text: str, parsed: tuple[str, int]) -> None:
    assert parse_address(text) == parsed


@pytest.mark.parametrize(
    "text",
    [
        "",
        ":9465",
        "127.0.0.1",
        "::1:9465",
        "[127.0.0.1]:1",
        "localhost:9465",
        "127.0.0.1:65536",
        "127.0.0.1:-1",
        "1.2.3:4",
        "127.0.0.1:٣",
    ],
)
def test_what_is_no_address(text: str) -> None:
    with pytest.raises(TerminalError, match="write it like"):
        parse_address(text)
