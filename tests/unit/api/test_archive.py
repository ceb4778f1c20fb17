"""The service's backups and snapshots: text that is no name is refused in words."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import grpc
import pytest

from containarium.api import registry
from containarium.api.errors import told
from containarium.api.v1 import controller_pb2 as pb
from tests.unit.api.conftest import Site

T = 10.0
Make = Callable[[str], tuple[str, Any]]


@pytest.mark.parametrize("text", ["a\0b", "a\nb", "\x1b[31m", "\u202eb"])
@pytest.mark.parametrize(
    ("field", "make"),
    [
        ("backup", lambda text: ("Restore", pb.RestoreRequest(name="alice", backup=text))),
        ("name", lambda text: ("Restore", pb.RestoreRequest(name=text))),
        ("name", lambda text: ("Backup", pb.BackupRequest(name=text))),
        ("name", lambda text: ("Undelete", pb.UndeleteRequest(name=text))),
        ("name", lambda text: ("ListSnapshots", pb.ListSnapshotsRequest(name=text))),
        ("snapshot", lambda text: ("CreateSnapshot", pb.CreateSnapshotRequest(name="alice", snapshot=text))),
        ("expires", lambda text: ("CreateSnapshot", pb.CreateSnapshotRequest(name="alice", expires=text))),
        ("snapshot", lambda text: ("RestoreSnapshot", pb.RestoreSnapshotRequest(name="alice", snapshot=text))),
        ("snapshot", lambda text: ("DeleteSnapshot", pb.DeleteSnapshotRequest(name="alice", snapshot=text))),
        ("since", lambda text: ("ListAudit", pb.ListAuditRequest(since=text))),
    ],
)
def test_what_cannot_be_printed_is_no_name(site: Site, field: str, make: Make, text: str) -> None:
    method, request = make(text)
    assert _refused(site, method, request) == [field]


def test_a_backup_is_no_folder_above(site: Site) -> None:
    assert _refused(site, "Restore", pb.RestoreRequest(name="alice", backup="..")) == ["backup"]


def _refused(site: Site, method: str, request: Any) -> list[str]:
    """Which fields are to blame."""
    with site.channel() as channel, pytest.raises(grpc.RpcError) as refused:
        _ask(channel, method, request)
    found = told(refused.value)
    assert found.code is grpc.StatusCode.INVALID_ARGUMENT, found
    assert "\n" not in found.message
    return [violation.field for violation in found.violations]


def _ask(channel: grpc.Channel, method: str, request: Any) -> None:
    answer = registry.caller(channel, registry.CONTROLLER, method)(request, timeout=T)
    if registry.CONTROLLER.methods_by_name[method].server_streaming:
        list(answer)
