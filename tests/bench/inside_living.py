"""Runs inside the disposable host, beside the controller: edits, meddles, rests. Prints JSON: samples in seconds."""

from __future__ import annotations

import http.client
import json
import os
import queue
import random
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

FOLDER = Path("/etc/containarium/environments")
INCUS = "/var/lib/incus/unix.socket"
UNIT = "containarium.service"
PASSWD = Path("/etc/passwd")
NOLOGIN = "/usr/sbin/nologin"
LONGEST = 30.0
"""Seconds after which something that was to happen counts as not happening at all."""
PAUSE = (0.8, 1.6)
"""Seconds between two samples: the loop is at rest again, at no particular moment of its own."""
TICK = os.sysconf("SC_CLK_TCK")


class _Unix(http.client.HTTPConnection):
    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(30)
        self.sock.connect(INCUS)


class Incus:
    """One kept connection, so that asking often costs little."""

    def __init__(self) -> None:
        self._connection = _Unix("incus")

    def ask(self, method: str, path: str, body: object = None) -> Any:
        """One request, and what its answer is about."""
        self._connection.request(method, path, json.dumps(body) if body is not None else None)
        return json.loads(self._connection.getresponse().read())["metadata"]

    def memory(self, name: str) -> str:
        """The memory limit that is configured."""
        return str(self.ask("GET", f"/1.0/instances/{name}-container")["config"].get("limits.memory", ""))

    def holds(self, name: str, memory: str) -> bool:
        """Whether that is the memory limit."""
        return self.memory(name) == memory


class Log:
    """The controller's lines, as they come."""

    def __init__(self) -> None:
        command = ["journalctl", "--unit", UNIT, "--follow", "--lines=0", "--output=cat"]
        self._reader = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self._lines: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
        threading.Thread(target=self._read, daemon=True).start()
        time.sleep(1)

    def _read(self) -> None:
        assert self._reader.stdout is not None
        for line in self._reader.stdout:
            if line.startswith("{"):
                self._lines.put(json.loads(line))

    def forget(self) -> None:
        """Pass over what came until now."""
        while not self._lines.empty():
            self._lines.get()

    def wait(self, event: str, environment: str) -> float:
        """The time that the next line of this kind bears, in seconds since 1970, on this host's clock."""
        end = time.monotonic() + LONGEST
        while (left := end - time.monotonic()) > 0:
            try:
                line = self._lines.get(timeout=left)
            except queue.Empty:
                break
            if line.get("event") == event and line.get("environment") == environment:
                return datetime.fromisoformat(line["timestamp"]).timestamp()
        raise SystemExit(f"no line {event} of {environment} in {LONGEST:.0f} s")

    def close(self) -> None:
        """Stop reading."""
        self._reader.kill()
        self._reader.wait()


def until(what: str, true: Callable[[], bool], every: float) -> float:
    """The moment at which something is so, in seconds since 1970."""
    end = time.monotonic() + LONGEST
    while time.monotonic() < end:
        if true():
            return time.time()
        time.sleep(every)
    raise SystemExit(f"{what}: not so after {LONGEST:.0f} s")


def edits(runs: int, names: list[str]) -> dict[str, list[float]]:
    """Change memory limits; from the rename of the manifest until the log has the action, and until Incus has it."""
    incus, log = Incus(), Log()
    began: list[float] = []
    reached: list[float] = []
    for name in _turns(runs, names):
        path = FOLDER / f"{name}.yaml"
        old = path.read_text()
        now, then = ("256MiB", "300MiB") if "256MiB" in old else ("300MiB", "256MiB")
        unseen = FOLDER / f".{name}.new"
        unseen.write_text(old.replace(now, then))
        log.forget()
        start = time.time()
        unseen.rename(path)
        # The log says when it was; it is asked last, since the journal hands its lines on late.
        reached.append(until(name, partial(incus.holds, name, then), 0.02) - start)
        began.append(log.wait("action", name) - start)
    log.close()
    return {"edit: first action begun": began, "edit: Incus has it": reached}


def drift(runs: int, names: list[str]) -> dict[str, list[float]]:
    """Meddle by hand; from the moment that Incus, or usermod, has done it until it is put right again."""
    incus = Incus()
    limits: list[float] = []
    shells: list[float] = []
    for name in _turns(runs, names):
        declared = incus.memory(name)
        command = ["incus", "config", "set", f"{name}-container", "limits.memory=222MiB"]
        made = _meddle(command, partial(incus.holds, name, "222MiB"))
        limits.append(until(name, partial(incus.holds, name, declared), 0.02) - made)
    for name in _turns(runs, names):
        made = _meddle(["usermod", "--shell", "/bin/bash", name], partial(meddled, name))
        shells.append(until(name, partial(mended, name), 0.002) - made)
    return {"drift of a limit: repaired": limits, "drift of an account: repaired": shells}


def _meddle(command: list[str], seen: Callable[[], bool]) -> float:
    """Run a command; the moment at which what it does was there, which may be before its end."""
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        end = time.monotonic() + LONGEST
        while not seen():
            if process.poll() is not None or time.monotonic() > end:
                return time.time()  # done and undone between two questions
            time.sleep(0.002)
        return time.time()


def mended(name: str) -> bool:
    """Whether the account has the shell of a jump account."""
    line = next(line for line in PASSWD.read_text().splitlines() if line.startswith(f"{name}:"))
    return line.rpartition(":")[2] == NOLOGIN


def meddled(name: str) -> bool:
    """Whether it has another."""
    return not mended(name)


def _turns(runs: int, names: list[str]) -> Iterator[str]:
    """Names in turn, with pauses between them."""
    for number in range(runs):
        time.sleep(random.uniform(*PAUSE))
        yield names[number % len(names)]


def pid() -> int:
    """The controller's."""
    command = ["systemctl", "show", "--property=MainPID", "--value", UNIT]
    return int(subprocess.run(command, check=True, capture_output=True, text=True, timeout=30).stdout)


def cpu(process: int) -> tuple[float, float]:
    """Seconds that a process has used, and its children that have ended."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICK, (int(fields[13]) + int(fields[14])) / TICK


def memory(process: int) -> dict[str, float]:
    """What a process holds, in MiB: resident, its own share of it, and what no file backs."""
    text = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()[1:]
    found = {key: int(rest.split()[0]) / 1024 for key, _, rest in (line.partition(":") for line in text)}
    return {"rss": found["Rss"], "pss": found["Pss"], "anonymous": found["Anonymous"]}


def rest(seconds: float) -> dict[str, float]:
    """Do nothing for so long, and see what the controller used meanwhile."""
    process = pid()
    own, others = cpu(process)
    passes, load = passes_of(), float(Path("/proc/loadavg").read_text().split()[0])
    began = time.monotonic()
    time.sleep(seconds)
    took = time.monotonic() - began
    own_after, others_after = cpu(process)
    return {
        "seconds": took, "own": own_after - own, "children": others_after - others, "passes": passes_of() - passes,
        "load": load, **memory(process),
    }  # fmt: skip


def looks(runs: int = 20) -> dict[str, float]:
    """CPU seconds of one look at the host, without the insides of guests and with those of all that run."""
    from containarium.cli.wiring import Wiring
    from containarium.host.settings import HostSettings
    from containarium.model.observed import Look

    host = Wiring().host(HostSettings())
    found = {}
    for look in (Look.SHALLOW, Look.DEEP):
        host.observe(look)
        start = time.process_time()
        for _ in range(runs):
            host.observe(look)
        found[look.value] = (time.process_time() - start) / runs
    return found


def watcher(seconds: float = 60.0) -> float:
    """CPU seconds a second of what watches the files, alone in this process, while none of them changes."""
    from containarium.host.settings import HostSettings
    from containarium.sources.watch import Watch

    settings = HostSettings()
    accounts = [settings.etc / name for name in ("passwd", "shadow", "group", "subuid", "subgid")]
    watch = Watch([settings.manifests, *accounts, settings.jump_keys], lambda _path: None)
    watch.start()
    time.sleep(3)
    used, began = time.process_time(), time.monotonic()
    time.sleep(seconds)
    share = (time.process_time() - used) / (time.monotonic() - began)
    watch.stop()
    return share


def passes_of() -> float:
    """How many passes it has made."""
    connection = http.client.HTTPConnection("127.0.0.1", 9465, timeout=10)
    connection.request("GET", "/metrics")
    text = connection.getresponse().read().decode()
    connection.close()
    return sum(
        float(line.split()[1])
        for line in text.splitlines()
        if line.startswith('containarium_reconcile_total{result="success"}')
    )


def main(what: str, *args: str) -> object:
    """Do one of them."""
    match what:
        case "edits":
            return edits(int(args[0]), list(args[1:]))
        case "drift":
            return drift(int(args[0]), list(args[1:]))
        case "rest":
            return rest(float(args[0]))
        case "looks":
            return looks()
        case "watcher":
            return watcher()
    raise SystemExit(f"{what}?")


if __name__ == "__main__":
    print(json.dumps(main(*sys.argv[1:])))
