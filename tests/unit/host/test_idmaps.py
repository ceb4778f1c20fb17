"""No two guests with the same ids, although Incus looks and writes at different moments."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest

from containarium.host.idmaps import BASE, ISOLATED, Idmaps
from containarium.host.instances import Instances
from containarium.host.settings import HostSettings
from containarium.model import marks
from containarium.model.action import CreateInstance
from containarium.model.host import RetryableError, TerminalError


class Hasty:
    """An Incus that chooses the ids of an instance at once and writes them down a moment later."""

    def __init__(self) -> None:
        self.rows: dict[str, dict[str, Any]] = {}
        self._lock = threading.Lock()

    def begin(self, *_path: str, body: Mapping[str, Any]) -> Mapping[str, Any]:
        with self._lock:
            taken = {row["config"].get(BASE) for row in self.rows.values()}
            self.rows[body["name"]] = {"name": body["name"], "status": "Stopped", "config": dict(body["config"])}
        base = next(str(n) for n in range(1, 100) if str(n) not in taken)
        threading.Timer(0.05, self._write, [body["name"], base]).start()
        return {"id": body["name"]}

    def _write(self, name: str, base: str) -> None:
        self.rows[name]["config"][BASE] = base

    def get(self, *path: str, **_params: str) -> Any:
        if path == ("instances",):
            return list(self.rows.values())
        if path[0] == "instances" and path[1] in self.rows:
            return self.rows[path[1]]
        raise TerminalError("not found", reason="NotFound")


def test_creations_that_begin_together_get_ids_of_their_own() -> None:
    incus = Hasty()
    idmaps = Idmaps(incus)  # type: ignore[arg-type]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: idmaps.begin({"name": f"g{n}", "config": {ISOLATED: "true"}}), range(8)))
    time.sleep(0.1)
    bases = [row["config"][BASE] for row in incus.rows.values()]
    assert len(set(bases)) == 8
    assert idmaps.shared_with("g3") == ""


def test_one_that_was_given_anothers_ids_is_removed_before_anybody_is_in_it() -> None:
    box = "alice-container"
    rows = [
        {"name": box, "status": "Stopped", "config": {BASE: "7", ISOLATED: "true", marks.ENVIRONMENT: "alice"}},
        {"name": "bob-container", "status": "Running", "config": {BASE: "7", ISOLATED: "true"}},
    ]
    incus = Mock()
    incus.begin.return_value = {"id": "op"}
    incus.get.side_effect = lambda *path, **_params: (
        rows if path == ("instances",) else [] if path[0] == "operations" else rows[0]
    )
    incus.get_versioned.return_value = Mock(value=rows[0], etag="e")
    action = CreateInstance(environment="alice", instance=box, image="guest", config={}, devices={})
    with pytest.raises(RetryableError, match="the ids of bob-container"):
        Instances(incus, Mock(), HostSettings(incus_dir=Path("/nonexistent"))).create(action, {"type": "image"})
    incus.delete.assert_called_once()
