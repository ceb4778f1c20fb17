"""Which manifests have changed, and how long it took until the host was as they say."""

from __future__ import annotations

from collections.abc import Mapping


class Edits:
    """Compares the manifests of each pass with those of the one before."""

    def __init__(self) -> None:
        self._known: Mapping[str, str] | None = None
        self._open: dict[str, float] = {}

    def changed(self, revisions: Mapping[str, str], clock: float) -> frozenset[str]:
        """Names whose manifest is new or another one since the last call; none at the first call."""
        known, self._known = self._known, revisions
        if known is None:
            return frozenset()
        new = frozenset(name for name, revision in revisions.items() if known.get(name) != revision)
        self._open.update(dict.fromkeys(new, clock))
        for name in self._open.keys() - revisions.keys():
            del self._open[name]
        return new

    def reached(self, name: str, clock: float) -> float | None:
        """The environment is as declared: seconds since its manifest changed, None where it had not."""
        since = self._open.pop(name, None)
        return clock - since if since is not None else None
