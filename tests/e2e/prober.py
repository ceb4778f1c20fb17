"""Runs tests/e2e/probe.py where it is wanted: on the host, at the laptop, or with the powers of a guest's root."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.lab.command import wait_until

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.e2e.site import Site

_HERE = Path(__file__).with_name("probe.py")
_THERE = "/usr/local/lib/containarium-probe.py"
HOST, LAPTOP = "the host", "the laptop"


class Prober:
    """Probes and listeners at several places. A place is HOST, LAPTOP or the name of an environment."""

    def __init__(self, site: Site) -> None:
        """Put the program onto the host; guests run the host's Python in namespaces of their own."""
        self.site = site
        self._units: list[str] = []
        site.host.push(_THERE, _HERE.read_text(), mode=0o755)

    def __call__(self, where: str, *call: str, timeout: float = 3) -> dict[str, Any]:
        """Run one probe there and return its answer."""
        return self.all(where, [call], timeout=timeout)[0]

    def all(self, where: str, calls: Sequence[Sequence[str]], timeout: float = 3) -> list[dict[str, Any]]:
        """Run several probes there, all at once, and return their answers in order."""
        given, patience = json.dumps(calls), timeout + 20
        if where == LAPTOP:
            argv = [sys.executable, str(_HERE), str(timeout)]
            done = self.site.laptop.run(argv, timeout=patience, input=given)
        else:
            argv = [*self._prefix(where), "python3", _THERE, str(timeout)]
            done = self.site.host.run(argv, timeout=patience, input=given)
        answers: list[dict[str, Any]] = json.loads(done.stdout)
        return answers

    def start(self, where: str, what: str, *args: str) -> str:
        """Start a listener or sniffer on the host or in a guest; returns its log on the host, once it is ready."""
        unit = f"probe{len(self._units)}-{what}"
        log = f"/run/{unit}.log"
        self.site.host.run(["install", "-m", "0666", "/dev/null", log])  # a guest's root has to write there
        options = [log, *args] if what == "listen" else [*args, log]
        command = [*self._prefix(where), "/usr/bin/python3", _THERE, what, *options]
        self.site.host.run(["systemd-run", "--quiet", "--collect", f"--unit={unit}", *command])
        self._units.append(unit)
        wait_until(f"{what} in {where}", lambda: "ready\n" in self.site.host.run(["cat", log]).stdout, timeout=15)
        return log

    def log(self, path: str) -> list[str]:
        """What a listener or sniffer has noted so far."""
        return self.site.host.run(["cat", path]).stdout.splitlines()[1:]

    def close(self) -> None:
        """Stop all that was started."""
        for unit in self._units:
            self.site.host.run(["systemctl", "stop", unit], check=False)
        self._units.clear()

    def _prefix(self, where: str) -> list[str]:
        """Enter a guest's network as its root: its user namespace, hence its capabilities; files are the host's."""
        if where == HOST:
            return []
        pid = self.site.environment(where).pid
        return ["/usr/bin/nsenter", f"--target={pid}", "--net", "--user", "--setuid=0", "--setgid=0", "--"]
