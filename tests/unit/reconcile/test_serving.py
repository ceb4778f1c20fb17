"""Metrics are served as soon as they can be, and never keep the loop from its work."""

from __future__ import annotations

import socket
import threading
import urllib.request

import pytest

from containarium.model.host import TerminalError
from containarium.reconcile.serving import Serving
from containarium.report.health import Answers, Health

ANSWERS = Answers(metrics=lambda: b"", metrics_type="text/plain", stale=lambda: "", unready=lambda: "")


class Told:
    """Keeps what is told, and can be waited for."""

    def __init__(self) -> None:
        self.served: list[str] = []
        self.refused: list[str] = []
        self.serves = threading.Event()

    def address(self, address: str) -> None:
        self.served.append(address)
        self.serves.set()

    def refusal(self, line: str) -> None:
        self.refused.append(line)


def _serving(address: str, told: Told) -> Serving:
    return Serving(lambda: Health(address, ANSWERS), told.address, told.refusal, pause=0.02)


def test_an_address_that_somebody_else_has_is_taken_when_it_is_free() -> None:
    told = Told()
    with socket.socket() as squatter:
        squatter.bind(("127.0.0.1", 0))
        squatter.listen()
        address = f"127.0.0.1:{squatter.getsockname()[1]}"
        serving = _serving(address, told)
        serving.start()
        assert not told.serves.wait(0.2)
    assert told.serves.wait(30)
    with urllib.request.urlopen(f"http://{address}/healthz", timeout=10) as answer:
        assert answer.read() == b"ok\n"
    serving.stop()
    assert told.served == [address]
    assert len(told.refused) == 1, "it is said once"
    assert "see who has it" in told.refused[0]


def test_it_can_be_stopped_while_it_waits() -> None:
    told = Told()
    with socket.socket() as squatter:
        squatter.bind(("127.0.0.1", 0))
        squatter.listen()
        serving = _serving(f"127.0.0.1:{squatter.getsockname()[1]}", told)
        serving.start()
        serving.stop()
    assert told.served == []


def test_what_is_no_address_is_an_error_at_once() -> None:
    with pytest.raises(TerminalError):
        _serving("localhost:http", Told()).start()
