"""Where a part measures: a disposable host of the lab's, or, where somebody asks for that, this very machine."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from tests.bench.site import HERE, PYTHON, UNIT, BenchSite, lab_host
from tests.lab.command import CommandError, LabError, run

REPOSITORY = HERE.parents[1]
IMAGE = "images:debian/12"
"""What environments on somebody's own host are made from, where nothing else is asked for."""


class Place(Protocol):
    """A prepared host, seen by a part of the bench."""

    image: str
    """What manifests name."""

    @property
    def socket(self) -> str:
        """The Incus socket, as a path of this machine."""
        ...

    def do(self, what: str, *args: object, timeout: float = 1200) -> Any:
        """Run ``onhost`` there; what it found. Raises LabError."""
        ...


class LabPlace:
    """A disposable host."""

    image = "guest"

    def __init__(self, site: BenchSite) -> None:
        """Puts ``onhost`` there."""
        self.site = site
        for module in sorted((HERE / "onhost").glob("*.py")):
            site.host.push(f"/root/onhost/{module.name}", module.read_text())

    @property
    def socket(self) -> str:
        host = self.site.host
        pid = host.outer.query(f"/1.0/instances/{host.name}/state")["pid"]
        return f"/proc/{pid}/root/var/lib/incus/unix.socket"

    def do(self, what: str, *args: object, timeout: float = 1200) -> Any:
        command = ["env", "-C", "/root", PYTHON, "-m", "onhost", what, *map(str, args)]
        return _told(what, lambda: self.site.host.run(command, timeout=timeout).stdout)


class HerePlace:
    """This machine, with the Incus and the Containarium that it has."""

    def __init__(self, image: str) -> None:
        self.image = image

    @property
    def socket(self) -> str:
        return os.environ.get("INCUS_SOCKET") or f"{os.environ.get('INCUS_DIR', '/var/lib/incus')}/unix.socket"

    def do(self, what: str, *args: object, timeout: float = 1200) -> Any:
        command = [sys.executable, "-m", "tests.bench.onhost", what, *map(str, args)]
        return _told(what, lambda: run(command, timeout=timeout, cwd=REPOSITORY).stdout)


@contextmanager
def lab_place(name: str, options: str = "", *, served: bool = True) -> Iterator[LabPlace]:
    """A disposable host with the controller's service; deleted whatever happens."""
    with contextmanager(lab_host)(name) as host:
        site = BenchSite(host)
        if served:
            site.serve(options)
        yield LabPlace(site)


@contextmanager
def own_host(image: str) -> Iterator[HerePlace]:
    """This machine, if it is prepared; what the bench made is taken away whatever happens. Raises LabError."""
    refuse_unready(
        root=os.geteuid() == 0,
        folder=Path("/etc/containarium/environments"),
        running=run(["systemctl", "is-active", "--quiet", UNIT], timeout=30, check=False).returncode == 0
        if Path("/run/systemd/system").is_dir()
        else False,
    )
    place = HerePlace(image)
    place.do("purge")
    try:
        yield place
    finally:
        place.do("purge")


def refuse_unready(*, root: bool, folder: Path, running: bool) -> None:
    """Say in one line why a machine cannot be measured, and what to do. Raises LabError."""
    if not root:
        raise LabError("this needs root: sudo make bench HERE=1")
    if folder.is_symlink():
        raise LabError(
            f"{folder} is brought by containarium sync, and the bench writes nothing there: use another host"
        )
    if not folder.is_dir():
        raise LabError(
            f"there is no {folder}: this host is not prepared; containarium host prepare --service does that"
        )
    if not running:
        raise LabError(f"{UNIT} does not run here: containarium host prepare --service starts it")


def _told(what: str, ran: Callable[[], str]) -> Any:
    try:
        lines = ran().splitlines()
    except CommandError as error:
        said = error.result.stderr.strip() or str(error)
        raise LabError(f"{what}: {said.splitlines()[-1]}") from error
    if not lines:
        raise LabError(f"{what} said nothing")
    print(f"{what}: {lines[-1][:2000]}", file=sys.stderr)  # a long bench that fails late has told the rest
    return json.loads(lines[-1])
