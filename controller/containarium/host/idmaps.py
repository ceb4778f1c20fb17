"""Ids of each guest's own: Incus hands the same ones to two guests that are made at the same moment.

It looks which are taken, and writes down which it gave only later. So creations begin one after the other, and each is
checked when it is over.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from typing import Any

from containarium.host.incus import Incus
from containarium.model.host import HostError, TerminalError

BASE = "volatile.idmap.base"
"""The first of a guest's ids, on the instance."""
ISOLATED = "security.idmap.isolated"
_PATIENCE = 5.0
"""Seconds; a row that is not there by then waits for something else, such as the image to be unpacked."""
_PAUSE = 0.02


class Idmaps:
    """Lets creations begin one after the other. Safe to share between threads."""

    def __init__(self, incus: Incus) -> None:
        self._incus = incus
        self._lock = threading.Lock()

    def begin(self, body: Mapping[str, Any]) -> str:
        """Begin to create an instance; returns the operation as soon as the ids of the instance are written down."""
        with self._lock:
            operation = str(self._incus.begin("instances", body=body)["id"])
            if str(body["config"].get(ISOLATED)).lower() != "true":
                return operation
            deadline = time.monotonic() + _PATIENCE
            while not self._written(str(body["name"]), operation) and time.monotonic() < deadline:
                time.sleep(_PAUSE)
        return operation

    def shared_with(self, name: str) -> str:
        """Another instance that was given the same ids; empty where there is none, as there ought to be."""
        bases = {raw["name"]: _base(raw) for raw in self._incus.get("instances", recursion="1")}
        own = bases.pop(name, "")
        return next((other for other, base in sorted(bases.items()) if own and base == own), "")

    def _written(self, name: str, operation: str) -> bool:
        try:
            return bool(_base(self._incus.get("instances", name)))
        except TerminalError as error:
            if error.reason != "NotFound":
                raise
        try:
            return int(self._incus.get("operations", operation)["status_code"]) >= 200  # over, and there is none
        except HostError:
            return True


def _base(raw: Mapping[str, Any]) -> str:
    """Where its own ids begin; empty where it has none yet, or is not to have any of its own."""
    config = {**(raw.get("config") or {}), **(raw.get("expanded_config") or {})}
    return str(config.get(BASE, "")) if str(config.get(ISOLATED)).lower() in ("true", "1", "yes", "on") else ""
