"""Incus over its unix socket, as barely as it can be asked."""

from __future__ import annotations

import http.client
import json
import os
import socket
import subprocess
from typing import Any

SOCKET = os.environ.get("INCUS_SOCKET") or f"{os.environ.get('INCUS_DIR', '/var/lib/incus')}/unix.socket"
LIST = "/1.0/instances?recursion=1"
_TIMEOUT = 120.0


class _Unix(http.client.HTTPConnection):
    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(_TIMEOUT)
        self.sock.connect(SOCKET)


def raw_get(path: str = LIST) -> bytes:
    """One GET on a new connection: the answer's bytes."""
    connection = _Unix("incus")
    try:
        connection.request("GET", path)
        return connection.getresponse().read()
    finally:
        connection.close()


def get(path: str = LIST) -> Any:
    """One GET on a new connection, decoded: what the answer is about."""
    return json.loads(raw_get(path)).get("metadata")


def instances() -> dict[str, Any]:
    """Every instance by name."""
    return {instance["name"]: instance for instance in get()}


def client(*args: str, input: str = "", check: bool = True) -> subprocess.CompletedProcess[str]:
    """Run the ``incus`` command. What fails ends the bench with its words."""
    command = ["incus", *args]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=_TIMEOUT, input=input)
    if check and done.returncode != 0:
        raise SystemExit(f"incus {' '.join(args)}: exit code {done.returncode}: {done.stderr.strip()[-500:]}")
    return done
