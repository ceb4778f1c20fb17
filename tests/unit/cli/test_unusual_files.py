"""Commands that edit manifests which are written, or kept, in a way that few people choose."""

from __future__ import annotations

import json
import os
from datetime import timedelta

from containarium.model.observed import InstanceStatus
from tests.unit.cli.conftest import Shell, document


def test_a_manifest_in_json_is_stopped_and_resized(shell: Shell) -> None:
    shell.write("alice.yaml", json.dumps(document("alice"), indent=2))
    assert shell("apply").code == 0
    for command in (["stop", "alice"], ["resize", "alice", "--cpu", "3", "--memory", "2GiB"]):
        ended = shell(*command)
        assert ended.code == 0, ended.err
    spec = json.loads((shell.folder / "alice.yaml").read_text())["spec"]
    assert (spec["running"], spec["resources"]) == (False, {"cpu": 3, "memory": "2GiB"})
    assert shell.world.instances["alice-container"].config["limits.cpu"] == "3"


def test_who_is_in_a_linked_file_is_deleted_and_others_after_that(shell: Shell) -> None:
    shell.declare("alice", "bob", "carol")
    (shell.folder / ".store").mkdir()
    (shell.folder / "alice.yaml").rename(shell.folder / ".store" / "alice.yaml")
    (shell.folder / "alice.yaml").symlink_to(".store/alice.yaml")
    assert shell("apply").code == 0
    for name in ("alice", "bob"):
        ended = shell("delete", name)
        assert ended.code == 0, ended.err
        assert shell.world.instances[f"{name}-container"].status is InstanceStatus.STOPPED
        assert shell.world.accounts[name].expired
        shell.now += timedelta(minutes=5)
    assert not os.path.lexists(shell.folder / "alice.yaml")
