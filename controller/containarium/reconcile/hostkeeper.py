"""Sees that a Host manifest has changed, and has systemd prepare the host anew.

The controller itself may not: in its sandbox there is neither a service manager to ask nor anything to change a host
with. It writes a file, at which ``containarium-host.path`` starts ``containarium-host.service``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from containarium.host.files import write_atomically
from containarium.host.prepare import conditions
from containarium.host.settings import HostSettings
from containarium.model.host import TerminalError
from containarium.model.manifest import Load
from containarium.sources.ownhost import RefusedError, declaration

EVERY: Final = 0.0
"""With each pass, since a manifest that changes makes one, and the next may be a minute away."""
_AGAIN: Final = 900.0
"""Seconds after which it asks once more for what was not carried out."""


class HostKeeper:
    """Compares what is declared with what was carried out last."""

    def __init__(
        self, settings: HostSettings, name: str, load: Callable[[], Load | None], ticks: Callable[[], float]
    ) -> None:
        """``name`` is the machine's host name up to the first dot, ``load`` gives the last load of the manifests."""
        self._settings = settings
        self._name = name
        self._load = load
        self._ticks = ticks
        self._asked: tuple[str, float] | None = None

    def look(self) -> str:
        """Returns what it asked for, in words. Raises TerminalError (ManifestRefused) where it cannot tell."""
        load = self._load()
        if load is None:
            return ""
        try:
            wanted = declaration(load, self._settings.host_manifest, self._name)
        except RefusedError as error:
            raise TerminalError(str(error), reason="ManifestRefused") from error
        digest, now = wanted.digest, self._ticks()
        if wanted.own is None or not wanted.whole or digest == conditions.read(self._settings).digest:
            self._asked = None
            return ""
        if self._asked is not None and self._asked[0] == digest and now - self._asked[1] < _AGAIN:
            return ""
        write_atomically(self._settings.wanted, f"{digest}\n")
        self._asked = (digest, now)
        return "its manifest has changed, and it is prepared anew"
