"""A disposable host on which the controller runs as a service, for figures of its life."""

from __future__ import annotations

import json
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.lab.command import LabError, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.lab.host import LabHost

HERE = Path(__file__).parent
PYTHON = "/opt/containarium/venv/bin/python"
UNIT = "containarium.service"
OPTIONS = "/etc/default/containarium"


class BenchSite:
    """The host, prepared, with the image ``guest``; what runs inside comes from the ``inside_*`` modules."""

    def __init__(self, host: LabHost) -> None:
        """Prepares it. The host has been created."""
        self.host = host
        host.install_project()
        # An installation by pip is compiled, and the service could not write that down: it may not write there.
        host.run([PYTHON, "-m", "compileall", "-q", "/opt/containarium/src/controller"], timeout=120)
        host.run(["containarium", "host", "prepare"], timeout=300)
        host.import_guest_image("guest")
        for script in sorted(HERE.glob("inside_*.py")):
            host.push(f"/root/{script.name}", script.read_text())

    def declare(self, count: int, running: int) -> None:
        """Write so many manifests, the first ``running`` of them for environments that run."""
        self.host.run([PYTHON, "/root/inside_host.py", "declare", str(count), str(running)], timeout=60)

    def serve(self, options: str = "") -> None:
        """Run the controller as a service, with these options and no others, and wait for its first pass."""
        self.host.push(OPTIONS, f"CONTAINARIUM_OPTIONS={options}\n")
        self.host.run(["containarium", "host", "prepare", "--service"], timeout=300)
        self.host.run(["systemctl", "restart", UNIT], timeout=300)

    def wait_settled(self, count: int, timeout: float = 1800) -> None:
        """Wait until so many environments are ready and nothing is worked on."""

        def settled() -> bool:
            status = self.status()
            busy = any(environment.get("work") for environment in status.get("environments", []))
            return not busy and status.get("counts", {}).get("Ready=True") == count

        wait_until(f"{count} environments", settled, timeout=timeout, interval=1)

    def status(self) -> dict[str, Any]:
        """What the controller wrote down last."""
        with suppress(LabError, ValueError):
            found: dict[str, Any] = json.loads(self.host.run(["cat", "/run/containarium/status.json"]).stdout)
            return found
        return {}

    def inside(self, script: str, *args: str, timeout: float) -> Any:
        """Run one of the ``inside_*`` modules; what it prints."""
        done = self.host.run([PYTHON, f"/root/{script}.py", *args], timeout=timeout)
        said = done.stdout.splitlines()[-1]
        print(f"{script} {args[0]}: {said[:4000]}", file=sys.stderr)  # a long bench that fails late has told the rest
        return json.loads(said)


def load() -> float:
    """Processes that wanted to run on this machine during the last minute, on average."""
    return float(Path("/proc/loadavg").read_text().split()[0])


def calm(patience: float = 60) -> float:
    """Wait a while for the machine to have nothing else to do; the load that is left."""
    end = time.monotonic() + patience
    while load() > 1 and time.monotonic() < end:
        time.sleep(5)
    return load()


def lab_host(name: str) -> Iterator[LabHost]:
    """Give a host and delete it, whatever happens; for ``contextlib.contextmanager``."""
    from tests.lab import images, recipes
    from tests.lab.host import LabHost
    from tests.lab.outer import Outer

    outer = Outer()
    outer.up()
    images.ImageStore(outer).ensure_all([recipes.host(), recipes.GUEST])
    host = LabHost(outer, name)
    host.create()
    try:
        yield host
    finally:
        host.delete()
