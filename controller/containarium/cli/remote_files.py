"""Commands about an environment's files, carried out on a server: backups and snapshots stay there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from containarium.api.v1 import controller_pb2 as pb
from containarium.cli import errors
from containarium.cli.output import ListFormat, say
from containarium.cli.remote_look import TIMEOUT

if TYPE_CHECKING:
    from containarium.cli.remote import Backend

LONGEST = 3600.0
"""Seconds for what reads or writes a whole environment; the server goes on after it."""


def backup(backend: Backend, name: str, stop: bool) -> None:
    """As ``backup``, into the server's own folder."""
    _follow(backend, "Backup", pb.BackupRequest(name=name, stop=stop))


def restore(backend: Backend, name: str, source: Path | None) -> None:
    """As ``restore``; the file is one of the server's own."""
    _follow(backend, "Restore", pb.RestoreRequest(name=name, backup=str(source or "")))


def undelete(backend: Backend, name: str) -> None:
    """As ``undelete``."""
    _follow(backend, "Undelete", pb.UndeleteRequest(name=name))


def snapshot_create(backend: Backend, name: str, snapshot: str | None, expires: str | None) -> None:
    """As ``snapshot create``."""
    _follow(backend, "CreateSnapshot", pb.CreateSnapshotRequest(name=name, snapshot=snapshot, expires=expires))


def snapshot_list(backend: Backend, name: str, output: ListFormat) -> None:
    """As ``snapshot list``."""
    from containarium.cli.snapshot import show

    with backend.connected() as client:
        found = client.ask("ListSnapshots", pb.ListSnapshotsRequest(name=name), TIMEOUT)
    show(json.loads(found.document), name, output)


def snapshot_restore(backend: Backend, name: str, snapshot: str, no_safety: bool) -> None:
    """As ``snapshot restore``."""
    request = pb.RestoreSnapshotRequest(name=name, snapshot=snapshot, no_safety=no_safety)
    _follow(backend, "RestoreSnapshot", request)


def snapshot_delete(backend: Backend, name: str, snapshot: str) -> None:
    """As ``snapshot delete``."""
    _follow(backend, "DeleteSnapshot", pb.DeleteSnapshotRequest(name=name, snapshot=snapshot))


def _follow(backend: Backend, call: str, request: Any) -> None:
    """Tell what the server says until it is through."""
    code = errors.FAILED
    with backend.connected() as client:
        for step in client.follow(call, request, LONGEST):
            if step.message:
                say(step.message, "green" if step.state == pb.Progress.STATE_DONE else None)
            if step.state == pb.Progress.STATE_END:
                code = step.exit_code
    raise typer.Exit(code)
