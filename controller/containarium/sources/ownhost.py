"""Which Host manifest is this machine's own: that of its name among the manifests, else that of its start-up script.

Of its admins alone the preparation keeps a copy on the data disk (host/prepare/vault.py). Those whom the manifests
named last count before the start-up script's: a new boot disk, which has no manifests yet, gives nobody root again.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from containarium.model.manifest import Declaration, DeclaredHost, Load
from containarium.model.problem import Location, Problem
from containarium.sources.directory import load_file

_HOST = re.compile(r"^\s*[\"']?kind[\"']?\s*:\s*[\"']?Host\b", re.MULTILINE | re.IGNORECASE)
_LARGEST = 1 << 20


class RefusedError(Exception):
    """This machine's own manifest cannot be told. ``problems`` say why, one line each."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("; ".join(str(problem) for problem in self.problems))


def declaration(load: Load, fallback: Path, name: str) -> Declaration:
    """What the machine ``name`` (host name up to the first dot) is declared to be.

    ``load`` is that of the folder of manifests, ``fallback`` the file that counts where that has none of this name.
    Raises RefusedError where the own one is broken, or where a broken one in the folder may be it.
    """
    broken = tuple(problem for problem in load.problems if _of_host(problem.location.file))
    own = load.host(name)
    if own is None and broken:
        raise RefusedError(broken)
    if own is None and fallback.exists():
        own = only_host(fallback, name)
    hosts = {host.name: host for host in load.hosts}
    unread = not load.complete and any(problem.reason != "SourceEmpty" for problem in load.problems)
    return Declaration(own, tuple(hosts[key] for key in sorted(hosts)), whole=not (broken or unread))


def declared_by(file: Path, load: Load, name: str) -> Declaration:
    """The same, with ``file`` in place of whatever else would be the own one. Raises RefusedError."""
    own = only_host(file, name)
    others = tuple(host for host in load.hosts if host.name != name)
    whole = not any(_of_host(problem.location.file) for problem in load.problems)
    return Declaration(own, tuple(sorted((*others, own), key=lambda host: host.name)), whole=whole)


def only_host(file: Path, name: str) -> DeclaredHost:
    """The one Host manifest in a file, which has to be that of the machine ``name``. Raises RefusedError."""
    found = load_file(file)
    if found.problems:
        raise RefusedError(found.problems)
    if len(found.hosts) != 1:
        message = f"there are {len(found.hosts)} Host manifests in this file"
        raise RefusedError([Problem(Location(str(file)), "", message, "write exactly one, with kind: Host")])
    host = found.hosts[0]
    if host.name != name:
        field = "metadata.name"
        message = f"this is the manifest of {host.name}, and this machine is {name}"
        remedy = f"write {name}, or name the machine so: hostnamectl set-hostname {host.name}"
        raise RefusedError([Problem(host.origin.locate(field), field, message, remedy)])
    return host


def _of_host(file: str) -> bool:
    """Whether a file that was refused has a Host in it; one that cannot be read may have."""
    try:
        with Path(file).open("rb") as opened:
            return _HOST.search(opened.read(_LARGEST).decode(errors="replace")) is not None
    except IsADirectoryError:
        return False
    except FileNotFoundError:
        return False
    except OSError:
        return True
