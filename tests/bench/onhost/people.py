"""Environments of the bench's own: declared, watched until their people can log in, and taken away whole.

All of them are called ``bench-...``; what makes a manifest the bench's own is its first line (``clearing.py``).
"""

from __future__ import annotations

import json
import re
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

PREFIX = "bench-"
RAW = "bench-raw-"
"""What containers are called that are made without Containarium."""
FOLDER = Path("/etc/containarium/environments")
JUMP_KEYS = Path("/etc/ssh/containarium/keys")
PASSWD = Path("/etc/passwd")
STATUS = Path("/run/containarium/status.json")
HOME = Path("/run/containarium-bench")
"""Private keys of the bench's people, gone with the next boot."""
HEADER = "# Written by the bench, which takes it away again"
SUSPEND = "containarium.dev/suspend"
_PERMIT = re.compile(r'permitopen="([0-9.]+):22"')
_SSH = """\
Host box
    HostName {address}
    ProxyJump door
Host door
    HostName 127.0.0.1
Host *
    User {name}
    IdentityFile {home}/{name}
    IdentitiesOnly yes
    BatchMode yes
    ConnectTimeout 5
    StrictHostKeyChecking no
    UserKnownHostsFile /dev/null
    GlobalKnownHostsFile /dev/null
    LogLevel ERROR
"""


def names(count: int) -> list[str]:
    """So many names."""
    return [f"{PREFIX}{number:03}" for number in range(count)]


def public_key(name: str) -> str:
    """The line of somebody's public key, made at the first call."""
    path = HOME / name
    if not path.exists():
        HOME.mkdir(mode=0o700, exist_ok=True)
        command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", str(path)]
        subprocess.run(command, check=True, capture_output=True, timeout=30, stdin=subprocess.DEVNULL)
    return path.with_suffix(".pub").read_text().strip()


def manifest(name: str, image: str, *, running: bool = True) -> str:
    """The YAML of a small environment."""
    return (
        f"{HEADER}\napiVersion: containarium.dev/v1\nkind: Environment\n"
        f'metadata: {{name: {name}, annotations: {{{SUSPEND}: "false"}}}}\n'
        f"spec:\n  image: {image}\n  resources: {{cpu: 1, memory: 256MiB, disk: 2GiB, processes: 512}}\n"
        f"  running: {str(running).lower()}\n  sshKeys:\n  - {public_key(name)}\n"
    )


def declare(wanted: Sequence[str], image: str, *, running: bool = True) -> float:
    """Put their manifests into the folder; the moment before the first, in seconds since 1970."""
    unseen = {name: FOLDER / f".{name}.new" for name in wanted}
    for name in wanted:
        path = FOLDER / f"{name}.yaml"
        if path.exists() and not own(path):
            raise SystemExit(f"{path} is not the bench's, and it needs that name: rename that environment")
    for name, path in unseen.items():
        path.write_text(manifest(name, image, running=running))
    start = time.time()
    for name, path in unseen.items():
        path.rename(FOLDER / f"{name}.yaml")
    return start


def own(path: Path) -> bool:
    """Whether the bench has written a manifest."""
    return path.read_text(errors="replace").startswith(HEADER)


def door(name: str) -> str:
    """The address that somebody's jump account leads to; empty while it leads nowhere."""
    try:
        found = _PERMIT.search((JUMP_KEYS / name).read_text())
    except FileNotFoundError:
        return ""
    return found[1] if found else ""


def has_account(name: str) -> bool:
    """Whether there is an account of this name."""
    return any(line.startswith(f"{name}:") for line in PASSWD.read_text().splitlines())


def wait_door(name: str, end: float) -> tuple[str, float]:
    """The address behind somebody's door, and the moment it was open: before that no login can work."""
    looks = 0
    while time.time() < end:
        if address := door(name):
            return address, time.time()
        looks += 1
        if looks % 200 == 0 and (trouble := _trouble(name)):
            raise SystemExit(f"{name} cannot be made: {trouble}")
        time.sleep(0.01)
    raise SystemExit(f"no keys for {name} at the jump account in time")


def _trouble(name: str) -> str:
    """Why the controller does nothing for somebody until a person acts; empty where that is not so."""
    status = _status()
    refused = [p["message"] for p in status.get("problems", []) if p.get("environment") == name]
    troubles = [e["trouble"] for e in status.get("environments", []) if e["name"] == name and e.get("trouble")]
    return "; ".join([*refused, *(trouble["message"] for trouble in troubles if trouble.get("stalled"))])


def _status() -> dict[str, Any]:
    """What the controller wrote down last; empty where that cannot be read."""
    try:
        found: dict[str, Any] = json.loads(STATUS.read_text())
    except (OSError, ValueError):
        return {}
    return found


def wait_greeting(address: str, end: float) -> float:
    """The moment at which port 22 says what it is."""
    while time.time() < end:
        try:
            with socket.create_connection((address, 22), timeout=0.3) as connection:
                connection.settimeout(2)
                if connection.recv(4) == b"SSH-":
                    return time.time()
        except OSError:
            pass
        time.sleep(0.02)
    raise SystemExit(f"nobody greets at {address}:22")


def wait_settled(count: int, patience: float = 900.0) -> None:
    """Wait until the controller says that so many of the bench's environments are as declared."""
    end = time.time() + patience
    while time.time() < end:
        if sum(map(_settled, _status().get("environments", []))) == count:
            return
        time.sleep(0.5)
    raise SystemExit(f"the controller does not say in time that {count} environments are ready")


def _settled(environment: dict[str, Any]) -> bool:
    ready = any(c["type"] == "Ready" and c["status"] == "True" for c in environment.get("conditions", []))
    return ready and environment["name"].startswith(PREFIX) and not environment.get("work")


def log_in(name: str, address: str) -> str:
    """Log in as a user does, with a key, through the jump account, and run something there; why that failed, if so."""
    config = HOME / f"{name}.config"
    config.write_text(_SSH.format(name=name, address=address, home=HOME))
    command = ["ssh", "-F", str(config), "box", "id -un"]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60, input="")
    well = done.returncode == 0 and done.stdout.strip() == name
    return "" if well else (done.stderr or done.stdout).strip()[-300:] or f"exit code {done.returncode}"


def together(works: Iterable[Callable[[], Any]]) -> list[Any]:
    """Everything at once, each in a thread of its own; the first that failed ends it."""
    results: dict[int, Any] = {}
    failed: list[BaseException] = []

    def run(place: int, work: Callable[[], Any]) -> None:
        try:
            results[place] = work()
        except BaseException as error:  # noqa: BLE001 - told below
            failed.append(error)

    threads = [threading.Thread(target=run, args=pair) for pair in enumerate(works)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failed:
        raise failed[0]
    return [results[place] for place in range(len(threads))]
