"""The status file: whole, readable for everybody, and never believed blindly."""

from __future__ import annotations

import json
import os
import stat
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from containarium.report.snapshot import Probe, Revision, Trouble, Work
from containarium.report.statusfile import Status, read, write
from tests.builders import NOW, Site, manifest
from tests.unit.report.passes import status


@pytest.fixture
def full() -> Status:
    """Give a status in which every field says something."""
    site = Site(*(manifest(f"p{number}") for number in range(6)))
    site.run()
    site.declare(manifest("p0"), manifest("p1", image="images:debian/12"))
    return status(
        site,
        troubles={"p0": Trouble("StartInstance", "Timeout", "it does not come up", 2, NOW, NOW, True)},
        working={"p1": Work("update", "InstallPackages", NOW, "installing git")},
        probes={"p0": Probe(NOW, 0.3, "refused"), "p1": Probe(NOW, 0.1)},
        revision=Revision("abc", "def", "alice.yaml: no", NOW.isoformat()),
        preempted="GCE takes it away",
        recovered=12.5,
        error="Incus does not answer",
    )


def test_what_was_written_is_read(tmp_path: Path, full: Status) -> None:
    write(full, tmp_path / "status.json")
    assert read(tmp_path / "status.json") == full
    assert full.interlocks
    assert full.environments


def test_everybody_may_read_it_and_nothing_is_left_beside_it(tmp_path: Path, full: Status) -> None:
    old = os.umask(0o077)
    try:
        write(full, tmp_path / "status.json")
        write(replace(full, host="other"), tmp_path / "status.json")
    finally:
        os.umask(old)
    assert [path.name for path in tmp_path.iterdir()] == ["status.json"]
    assert stat.S_IMODE((tmp_path / "status.json").stat().st_mode) == 0o644


def test_a_link_in_its_place_is_replaced_and_not_followed(tmp_path: Path, full: Status) -> None:
    (tmp_path / "precious").write_text("precious")
    (tmp_path / "status.json").symlink_to(tmp_path / "precious")
    write(full, tmp_path / "status.json")
    assert (tmp_path / "precious").read_text() == "precious"
    assert read(tmp_path / "status.json") == full


def test_what_killed_controllers_left_does_not_pile_up(tmp_path: Path, full: Status) -> None:
    (tmp_path / ".status.json.new").write_text('{"half')
    write(full, tmp_path / "status.json")
    assert [path.name for path in tmp_path.iterdir()] == ["status.json"]
    assert read(tmp_path / "status.json") == full


def test_a_folder_that_is_not_there_is_an_error_and_no_surprise(tmp_path: Path, full: Status) -> None:
    with pytest.raises(FileNotFoundError):
        write(full, tmp_path / "absent" / "status.json")


def _edited(full: Status, **changes: Any) -> str:
    return json.dumps(full.to_json() | changes)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "null",
        "{}",
        "[" * 100_000,
        '{"host": "x"}',
        '"\\ud800"',
    ],
)
def test_what_is_no_status_is_none(tmp_path: Path, text: str) -> None:
    (tmp_path / "status.json").write_text(text)
    assert read(tmp_path / "status.json") is None


@pytest.mark.parametrize(
    "changes",
    [
        {"environments": None},
        {"environments": [{}]},
        {"environments": "none"},
        {"daemon": {"pid": "x", "started": "2026-11-22T12:00:00+00:00"}},
        {"daemon": {"pid": 1, "started": "2026-11-22T12:00:00"}},
        {"last_pass": {}},
        {"counts": {"Ready": "many"}},
        {"recovered": "soon"},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_a_status_of_another_make_is_none(tmp_path: Path, full: Status, changes: dict[str, Any]) -> None:
    (tmp_path / "status.json").write_text(_edited(full, **changes))
    assert read(tmp_path / "status.json") is None


def test_what_a_newer_controller_adds_is_passed_over(tmp_path: Path, full: Status) -> None:
    (tmp_path / "status.json").write_text(_edited(full, version=99, weather="fine"))
    assert read(tmp_path / "status.json") == full


def test_what_is_no_file_is_none(tmp_path: Path) -> None:
    assert read(tmp_path / "absent.json") is None
    (tmp_path / "folder.json").mkdir()
    assert read(tmp_path / "folder.json") is None
    os.mkfifo(tmp_path / "fifo.json")
    assert read(tmp_path / "fifo.json") is None  # and it does not wait for a writer
