"""Runs inside the disposable host: declares environments, and measures there. Prints JSON: samples in seconds."""

from __future__ import annotations

import base64
import hashlib
import http.client
import json
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

FOLDER = Path("/etc/containarium/environments")
SOCKET = "/var/lib/incus/unix.socket"


def key(seed: str) -> str:
    """A well-formed ed25519 key that nobody has the other half of."""
    kind, point = b"ssh-ed25519", hashlib.sha256(seed.encode()).digest()
    blob = struct.pack(">I", len(kind)) + kind + struct.pack(">I", len(point)) + point
    return f"ssh-ed25519 {base64.b64encode(blob).decode()} {seed}"


def declare(count: int, running: int) -> None:
    """Write ``count`` manifests, the first ``running`` of them for environments that run."""
    for number in range(count):
        name = f"user{number:03}"
        FOLDER.joinpath(f"{name}.yaml").write_text(
            "apiVersion: containarium.dev/v1\nkind: Environment\n"
            f"metadata: {{name: {name}, labels: {{team: bench}}}}\n"
            f"spec:\n  image: guest\n  resources: {{cpu: 1, memory: 256MiB, disk: 1GiB}}\n"
            f"  running: {'true' if number < running else 'false'}\n  sshKeys:\n  - {key(name)}\n"
        )


class _Unix(http.client.HTTPConnection):
    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(30)
        self.sock.connect(SOCKET)


def bare_get() -> Any:
    """One request for all instances on a new connection, decoded."""
    connection = _Unix("incus")
    connection.request("GET", "/1.0/instances?recursion=1")
    answer = json.loads(connection.getresponse().read())
    connection.close()
    return answer


def seconds(work: Callable[[], object]) -> float:
    """Wall time of one call."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def process(*args: str) -> Callable[[], object]:
    """A whole process."""
    return lambda: subprocess.run(args, check=True, capture_output=True, timeout=60)


def measure(runs: int) -> None:
    """Take every figure in turn, ``runs`` times."""
    from containarium.cli.survey import survey
    from containarium.cli.wiring import Wiring
    from containarium.host.settings import HostSettings
    from containarium.model.observed import Look
    from containarium.plan.planner import make_plan
    from containarium.sources.directory import load

    host = Wiring().host(HostSettings())
    wiring = Wiring(host=lambda _settings: host)

    def plan(look: Look) -> None:
        made = survey(wiring, FOLDER, look).plan
        if made.pending or made.problems:
            raise SystemExit("there was something to do: the benchmark is not a no-op")

    declared, observed = load(FOLDER), host.observe()
    works: dict[str, Callable[[], object]] = {
        "bare GET recursion=1": bare_get,
        "plan, in a warm process": lambda: plan(Look.DEEP),
        "plan, shallow, in a warm process": lambda: plan(Look.SHALLOW),
        "part: read 200 manifests": lambda: load(FOLDER),
        "part: look at the host": lambda: host.observe(Look.DEEP),
        "part: decide": lambda: make_plan(declared, observed, datetime.now(UTC)),
        "interpreter start-up (python -c pass)": process(sys.executable, "-c", "pass"),
        "imports of the command (containarium version)": process("containarium", "version"),
        "containarium plan, whole process": process("containarium", "plan"),
        "containarium list, whole process": process("containarium", "list"),
        "incus list, whole process": process("incus", "list"),
    }
    for work in works.values():
        work()
    samples: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(runs):
        for name, work in works.items():
            samples[name].append(seconds(work))
    samples["requests"] = [float(requests_of(lambda: plan(Look.DEEP)))]
    print(json.dumps(samples))


def requests_of(work: Callable[[], object]) -> int:
    """Count the HTTP requests that this process sends meanwhile, where the standard library sends them."""
    sent: list[str] = []
    original = http.client.HTTPConnection.putrequest

    def counting(connection: http.client.HTTPConnection, method: str, url: str, *args: Any, **options: Any) -> None:
        sent.append(f"{method} {url}")
        original(connection, method, url, *args, **options)

    http.client.HTTPConnection.putrequest = counting  # type: ignore[method-assign,assignment]
    try:
        work()
    finally:
        http.client.HTTPConnection.putrequest = original  # type: ignore[method-assign]
    return len(sent)


if __name__ == "__main__":
    if sys.argv[1] == "declare":
        declare(int(sys.argv[2]), int(sys.argv[3]))
    else:
        measure(int(sys.argv[2]))
