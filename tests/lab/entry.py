"""The way into a disposable machine: into its namespaces and control groups, with its capabilities.

`incus exec` does the same for a tenth of a second of processor time for each command, and a run of all tests gives
thousands. What it does besides (the machine's seccomp filter and limits) makes no difference to a command of a test.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

from tests.lab.command import CommandError
from tests.lab.leftovers import start_time

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from tests.lab.outer import Outer

_CGROUPS = Path("/sys/fs/cgroup")
_NAMESPACES = ("--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup")
# Takes files, --, and a command, which it becomes after it has written its own process id into the files.
_JOIN = 'while [ "$1" != -- ]; do echo $$ > "$1"; shift; done; shift; exec "$@"'
_ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/root",
    "USER": "root",
    "LANG": "C.UTF-8",
    "container": "lxc",
}


class Entry:
    """The way into one machine. The process that it leads to is looked for again after every boot."""

    def __init__(self, outer: Outer, name: str) -> None:
        """Nothing happens before the first ``command``."""
        self._outer = outer
        self._name = name
        self._found = (0, -1)
        self._way: list[str] = []
        self._less: list[str] = []

    def command(self, argv: list[str], env: Mapping[str, str]) -> list[str] | None:
        """The command that runs ``argv`` as root on the machine; None while the machine is off."""
        pid, started = self._found
        if start_time(pid) != started and not self._look():
            return None
        variables = [f"{key}={value}" for key, value in {**_ENVIRONMENT, **env}.items()]
        return [*self._way, "env", "-i", "--chdir=/root", *variables, *self._less, *argv]

    def _look(self) -> bool:
        try:
            pid = int(self._outer.query(f"/1.0/instances/{self._name}/state")["pid"])
        except CommandError:  # there is none
            return False
        started = start_time(pid) if pid > 0 else None
        if started is None:
            return False
        groups = [str(file) for file in _groups(pid)]
        self._way = ["sh", "-euc", _JOIN, "join", *groups, "--", "nsenter", f"--target={pid}", *_NAMESPACES, "--"]
        self._less = ["setpriv", f"--bounding-set={','.join(_withheld(pid))}"]
        self._found = (pid, started)
        return True


def _groups(pid: int) -> Iterator[Path]:
    """The files that take processes into the machine's control groups, one for each hierarchy."""
    own = re.search(r"/(lxc\.payload\.[^/\n]+)", Path(f"/proc/{pid}/cgroup").read_text())
    if own is None:
        return
    for folder in (*_CGROUPS.glob(own[1]), *_CGROUPS.glob(f"*/{own[1]}")):
        leaf = folder
        if (folder / "cgroup.controllers").exists():  # version 2: no process in a group with groups below it
            leaf = folder / ".lxc"  # as Incus calls it
            leaf.mkdir(exist_ok=True)
        yield leaf / "cgroup.procs"


def _withheld(pid: int) -> Iterator[str]:
    """What the machine's processes may not do and ours may, as `setpriv` takes it away."""
    theirs, ours = _bounding(pid), _bounding(os.getpid())
    yield from (f"-cap_{number}" for number in range(ours.bit_length()) if ours & ~theirs & 1 << number)


def _bounding(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("CapBnd:")[2].split()[0], 16)
