"""The metadata servers of GCE and AWS, as far as they tell of preemption: real HTTP servers, as documented.

Run by itself it needs nothing but Python, so that it can be put onto any machine:
``python -m tests.unit.host.metadata --provider gce --port 0`` prints its address, and
``curl -X POST ADDRESS/control/preempt`` (or ``withdraw``, ``maintain``, ``trouble/hang``, ``trouble/none``) steers it.
"""

from __future__ import annotations

import argparse
import json
import secrets
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit

TROUBLES = ("none", "hang", "drip", "close", "503", "rubbish", "huge", "impostor")
"""What may be wrong with the server; ``hang`` accepts and keeps silent, ``drip`` sends its headers byte by byte."""
TOKEN_TTL = "X-aws-ec2-metadata-token-ttl-seconds"
TOKEN = "X-aws-ec2-metadata-token"
_LONGEST_HOLD = 600.0


class Reply(Exception):  # noqa: N818 - it is no error
    """An answer, from wherever it is decided."""

    def __init__(self, status: int, text: str = "", **headers: str) -> None:
        super().__init__(status)
        self.status = status
        self.text = text
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}


class FakeMetadata(ThreadingHTTPServer):
    """What both have in common: a state that may change while questions are open, and troubles."""

    daemon_threads = True

    def __init__(self, address: str = "127.0.0.1", port: int = 0) -> None:
        super().__init__((address, port), _Handler)
        self.changed = threading.Condition()
        self.trouble = "none"
        self.asked: list[str] = []
        self.closing = False
        self._thread: threading.Thread | None = None

    @property
    def endpoint(self) -> str:
        """Its address as a URL without a path."""
        host, port = self.server_address[:2]
        return f"http://{host!s}:{port}"

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self.changed:
            self.closing = True
            self.changed.notify_all()
        self.shutdown()
        self.server_close()
        if self._thread is not None:
            self._thread.join()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that gave up is no news."""

    def suffer(self, trouble: str) -> None:
        """From now on something is wrong, or nothing any more (``none``)."""
        assert trouble in TROUBLES
        with self.changed:
            self.trouble = trouble
            self.changed.notify_all()

    def steer(self, words: list[str]) -> None:
        """Carry out what came to ``/control/``."""
        match words:
            case ["preempt"]:
                self.preempt()
            case ["withdraw"]:
                self.withdraw()
            case ["trouble", trouble] if trouble in TROUBLES:
                self.suffer(trouble)
            case _:
                raise Reply(404, "unknown control")
        raise Reply(200, "done\n")

    def preempt(self) -> None:
        """Take the machine away."""
        raise NotImplementedError

    def withdraw(self) -> None:
        """Take that back."""
        raise NotImplementedError

    def answer(self, method: str, path: str, query: dict[str, str], headers: dict[str, str]) -> Reply:
        """Answer one question; header names are in lower case."""
        raise NotImplementedError


class FakeGce(FakeMetadata):
    """GCE: every question needs ``Metadata-Flavor: Google``, and may be held open until a value changes."""

    def __init__(self, address: str = "127.0.0.1", port: int = 0) -> None:
        super().__init__(address, port)
        self._values = {"preempted": "FALSE", "maintenance-event": "NONE"}
        self._etags = {name: secrets.token_hex(8) for name in self._values}

    def preempt(self) -> None:
        """Take the machine away within 30 s."""
        self.set("preempted", "TRUE")

    def withdraw(self) -> None:
        """Take that back, and any maintenance too."""
        self.set("preempted", "FALSE")
        self.set("maintenance-event", "NONE")

    def maintain(self, event: str = "TERMINATE_ON_HOST_MAINTENANCE") -> None:
        """Announce a maintenance of the machine's host."""
        self.set("maintenance-event", event)

    def steer(self, words: list[str]) -> None:
        """Know ``maintain`` too."""
        if words == ["maintain"]:
            self.maintain()
            raise Reply(200, "done\n")
        super().steer(words)

    def set(self, name: str, value: str) -> None:
        """Change a value, which ends every question that waits for that."""
        with self.changed:
            if self._values[name] != value:
                self._values[name] = value
                self._etags[name] = secrets.token_hex(8)
                self.changed.notify_all()

    def answer(self, method: str, path: str, query: dict[str, str], headers: dict[str, str]) -> Reply:
        """Refuse what is not asked as it should be, and what came through a proxy."""
        if headers.get("metadata-flavor") != "Google" or "x-forwarded-for" in headers:
            return Reply(403, "<html>Your client does not have permission to get this URL", Content_Type="text/html")
        name = path.removeprefix("/computeMetadata/v1/instance/")
        if name not in self._values:
            return Reply(404, "<html>not found", Metadata_Flavor="Google")
        if method != "GET":
            return Reply(405, "", Metadata_Flavor="Google")
        with self.changed:
            if query.get("wait_for_change") == "true":
                self._hold(name, query)
            return Reply(200, self._values[name], Metadata_Flavor="Google", ETag=self._etags[name])

    def _hold(self, name: str, query: dict[str, str]) -> None:
        known = query.get("last_etag", self._etags[name])
        patience = min(_LONGEST_HOLD, float(query.get("timeout_sec", _LONGEST_HOLD)))
        troubled = self.trouble
        self.changed.wait_for(
            lambda: self._etags[name] != known or self.closing or self.trouble != troubled, timeout=patience
        )


class FakeAws(FakeMetadata):
    """AWS with IMDSv2 required: a token first, by PUT and never through a proxy; then the questions."""

    def __init__(self, address: str = "127.0.0.1", port: int = 0, longest_ttl: float = 21600) -> None:
        super().__init__(address, port)
        self.action: dict[str, str] | None = None
        self.tokens: dict[str, float] = {}
        self._longest_ttl = longest_ttl

    def preempt(self, action: str = "terminate", at: str = "") -> None:
        """Take the machine away in two minutes, or when ``at`` says."""
        at = at or time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 120))
        self.action = {"action": action, "time": at}

    def withdraw(self) -> None:
        """Take that back."""
        self.action = None

    def forget(self) -> None:
        """Every token that was given is void."""
        self.tokens.clear()

    def answer(self, method: str, path: str, query: dict[str, str], headers: dict[str, str]) -> Reply:
        """Give a token, or what a valid token asks for."""
        if (method, path) == ("PUT", "/latest/api/token"):
            return self._give(headers)
        if method != "GET":
            return Reply(405)
        if self.tokens.get(headers.get(TOKEN.lower(), ""), 0.0) <= time.monotonic():
            return Reply(401, "<html>401 - Unauthorized")
        if path != "/latest/meta-data/spot/instance-action" or self.action is None:
            return Reply(404, "<html>404 - Not Found")
        return Reply(200, json.dumps(self.action), Content_Type="application/json")

    def _give(self, headers: dict[str, str]) -> Reply:
        if "x-forwarded-for" in headers:
            return Reply(403)
        wanted = headers.get(TOKEN_TTL.lower(), "")
        if not wanted.isdigit() or not 1 <= int(wanted) <= 21600:
            return Reply(400, "<html>400 - Bad Request")
        token, lasts = secrets.token_urlsafe(40) + "==", min(float(wanted), self._longest_ttl)
        self.tokens[token] = time.monotonic() + lasts
        return Reply(200, token, **{TOKEN_TTL: str(round(lasts))})


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def _serve(self) -> None:
        server = self.server
        assert isinstance(server, FakeMetadata)
        parts = urlsplit(self.path)
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.close_connection = headers.get("connection") == "close"
        try:
            if parts.path.startswith("/control/"):
                server.steer(parts.path.split("/")[2:])
            server.asked.append(f"{self.command} {self.path}")
            query = {name: values[-1] for name, values in parse_qs(parts.query, keep_blank_values=True).items()}
            if server.trouble == "none":
                reply = server.answer(self.command, parts.path, query, headers)
            # a question that was held open while trouble began suffers from it, too
            self._suffer(server)
        except Reply as decided:
            reply = decided
        self._send(reply)

    def _suffer(self, server: FakeMetadata) -> None:
        match server.trouble:
            case "503":
                raise Reply(503, "<html>try again", Metadata_Flavor="Google")
            case "rubbish":
                raise Reply(200, "\x00<b>&&&", Metadata_Flavor="Google", ETag="\x7f")
            case "huge":
                raise Reply(200, "TRUE" * 100_000, Metadata_Flavor="Google")
            case "impostor":
                raise Reply(200, "TRUE")
            case "close":
                self.close_connection = True
                raise Reply(0)
            case "hang" | "drip":
                with server.changed:
                    kind = server.trouble
                    while server.trouble == kind and not server.closing:
                        if kind == "drip":
                            self.wfile.write(b"H")
                        server.changed.wait(0.05)
                self.close_connection = True
                raise Reply(0)

    def _send(self, reply: Reply) -> None:
        if not reply.status:
            return
        body = reply.text.encode()
        self.send_response(reply.status)
        for name, value in {"Content-Length": str(len(body)), **reply.headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_PUT = do_POST = do_HEAD = _serve  # noqa: N815 - the library's names


def main() -> None:
    """Serve until killed."""
    options = argparse.ArgumentParser(description="a cloud's metadata server, for tests")
    options.add_argument("--provider", choices=("gce", "aws"), required=True)
    options.add_argument("--address", default="127.0.0.1")
    options.add_argument("--port", type=int, default=0)
    chosen = options.parse_args()
    fake = (FakeGce if chosen.provider == "gce" else FakeAws)(chosen.address, chosen.port)
    print(fake.endpoint, flush=True)
    fake.serve_forever()


if __name__ == "__main__":
    main()
