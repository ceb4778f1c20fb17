"""snapshot and backup: what is asked for, of whom, and with nobody else at work on it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from containarium.cli.alone import alone_with
from containarium.cli.wiring import Wiring
from containarium.host.backupnow import Made
from containarium.host.control import ControlServer
from containarium.host.holds import held
from containarium.host.lock import only_controller
from containarium.host.snapshots import Snapshot
from containarium.model.host import Progress, TerminalError
from containarium.report import statusfile
from containarium.report.snapshot import Work
from tests.builders import NOW, Site, manifest
from tests.unit.cli.conftest import Shell
from tests.unit.report.passes import status


@dataclass
class FakeSnapshots:
    """Snapshots that are only written down."""

    shell: Shell
    there: list[Snapshot] = field(default_factory=list)
    asked: list[tuple[Any, ...]] = field(default_factory=list)
    held: list[frozenset[str]] = field(default_factory=list)
    """Who was held while something was restored."""

    def all(self, name: str) -> tuple[Snapshot, ...]:
        """Those that are there."""
        return tuple(self.there)

    def create(self, name: str, snapshot: str, expires: datetime | None, progress: Progress) -> None:
        """Write one down."""
        self.asked.append(("create", name, snapshot, expires))

    def delete(self, name: str, snapshot: str) -> None:
        """Refuse, as for one that is not there."""
        raise TerminalError(f"{name} has no snapshot {snapshot}", remedy="see list", reason="NotFound")

    def restore(self, name: str, snapshot: str, safety: str, safety_until: datetime | None, progress: Progress) -> None:
        """Write down who is held meanwhile."""
        self.held.append(held(self.shell.settings.runtime))
        self.asked.append(("restore", name, snapshot, safety, safety_until))


@dataclass
class FakeBackups:
    """Backups that are only written down."""

    asked: list[tuple[Any, ...]] = field(default_factory=list)

    def save(self, name: str, output: Path | None, *, stop: bool, progress: Progress) -> Made:
        """Write one down."""
        self.asked.append((name, output, stop))
        return Made(Path("/backups/alice.tar.zst"), 3 << 20)


@pytest.fixture
def snapshots(shell: Shell) -> FakeSnapshots:
    found = FakeSnapshots(shell)
    shell.more["snapshots"] = lambda _settings: found
    return found


@pytest.fixture
def controller(shell: Shell) -> Iterator[list[Any]]:
    """Give a controller that holds its lock and answers; what it was asked."""
    asked: list[Any] = []

    def answer(request: Mapping[str, Any]) -> Mapping[str, Any]:
        asked.append(dict(request))
        return {"error": ""}

    with only_controller(shell.settings.runtime):
        server = ControlServer(shell.settings.control, answer)
        yield asked
        server.close()


def test_one_is_taken_with_its_time(shell: Shell, snapshots: FakeSnapshots) -> None:
    ended = shell("snapshot", "create", "alice", "before", "--expires", "30d")
    assert ended.code == 0, ended.err
    assert snapshots.asked == [("create", "alice", "before", NOW + timedelta(days=30))]
    assert shell("snapshot", "create", "alice").code == 0
    assert snapshots.asked[-1] == ("create", "alice", "manual-20261122T120000Z", None)
    assert [line["action"] for line in shell.trailed] == ["snapshot create", "snapshot create"]


def test_they_are_listed(shell: Shell, snapshots: FakeSnapshots) -> None:
    assert "has no snapshots" in shell("snapshot", "list", "alice").out
    snapshots.there = [Snapshot("evil\x1b[31m", NOW, None, 5 << 20), Snapshot("snap0", NOW, NOW + timedelta(days=1))]
    text = shell("snapshot", "list", "alice").out
    assert "\x1b" not in text
    assert "never" in text
    first, second = shell("snapshot", "list", "alice", "-o", "json").json
    assert (first["size"], first["expires"]) == (5 << 20, None)
    assert (second["name"], second["size"]) == ("snap0", None)
    assert "name: snap0" in shell("snapshot", "list", "alice", "-o", "yaml").out


def test_going_back_keeps_what_is_there(shell: Shell, snapshots: FakeSnapshots) -> None:
    ended = shell("snapshot", "restore", "alice", "before")
    assert ended.code == 0, ended.err
    safety = "before-restore-20261122T120000Z"
    assert snapshots.asked == [("restore", "alice", "before", safety, NOW + timedelta(days=7))]
    assert f"containarium snapshot restore alice {safety}" in ended.out
    assert "containarium apply" in ended.out, "no controller runs that would mend the rest"
    assert snapshots.held == [frozenset()], "the controller's own lock is held instead"
    assert shell("snapshot", "restore", "alice", "before", "--no-safety").code == 0
    assert snapshots.asked[-1][3] == ""


def test_a_running_controller_leaves_it_alone_meanwhile(
    shell: Shell, snapshots: FakeSnapshots, controller: list[Any]
) -> None:
    ended = shell("snapshot", "restore", "alice", "before")
    assert ended.code == 0, ended.err
    assert snapshots.held == [{"alice"}]
    assert controller == [{"do": "reconcile"}, {"do": "reconcile"}], "before, so that it knows; after, so that it mends"
    assert held(shell.settings.runtime) == frozenset()


def test_another_command_at_work_is_not_disturbed(shell: Shell, snapshots: FakeSnapshots) -> None:
    with only_controller(shell.settings.runtime):
        ended = shell("snapshot", "restore", "alice", "before")
    assert ended.code == 1
    assert "another containarium" in ended.err
    assert snapshots.asked == []


def test_a_controller_that_is_at_work_on_it_is_waited_for(shell: Shell, controller: list[Any]) -> None:
    site = Site(manifest("alice"))
    site.run()
    work, naps = Work("update", "InstallPackages", NOW), 0

    def sleep(_seconds: float) -> None:
        nonlocal naps
        naps += 1
        if naps == 2:
            statusfile.write(status(site), shell.settings.status)

    statusfile.write(status(site, working={"alice": work}), shell.settings.status)
    with alone_with(Wiring(settings=shell.settings), "alice", sleep):
        assert held(shell.settings.runtime) == {"alice"}
    assert naps == 2
    statusfile.write(status(site, working={"alice": work}), shell.settings.status)
    with alone_with(Wiring(settings=shell.settings), "bob", sleep):
        assert naps == 2, "who works on somebody else is in nobody's way"


@pytest.mark.parametrize("arguments", [("create",), ("list",), ("restore", "x"), ("delete", "x")])
def test_what_is_no_name_reaches_nobody(shell: Shell, snapshots: FakeSnapshots, arguments: tuple[str, ...]) -> None:
    verb, *rest = arguments
    assert shell("snapshot", verb, "../alice", *rest).code == 1
    assert snapshots.asked == []


def test_only_root_changes_any(shell: Shell, snapshots: FakeSnapshots) -> None:
    shell.root = False
    for arguments in (("create", "alice"), ("restore", "alice", "x"), ("delete", "alice", "x")):
        ended = shell("snapshot", *arguments)
        assert (ended.code, "needs root" in ended.err) == (1, True)
    assert snapshots.asked == []


def test_one_that_is_not_there_is_told(shell: Shell, snapshots: FakeSnapshots) -> None:
    ended = shell("snapshot", "delete", "alice", "x")
    assert (ended.code, ended.err) == (1, "containarium: error: alice has no snapshot x; see list\n")
    assert shell.trailed[-1]["result"] == "failed"


# -- backup


def test_a_backup_tells_how_it_comes_back(shell: Shell) -> None:
    backups = FakeBackups()
    shell.more["backups"] = lambda _settings: backups
    ended = shell("backup", "alice", "--output", "/mnt")
    assert ended.code == 0, ended.err
    assert backups.asked == [("alice", Path("/mnt"), False)]
    assert "containarium restore alice --from /backups/alice.tar.zst" in ended.out
    assert shell("backup", "alice", "--stop").code == 0
    assert backups.asked[-1] == ("alice", None, True)
    assert shell("backup", "../alice").code == 1


def test_a_stop_for_a_backup_is_nothing_for_a_controller_to_mend(shell: Shell, controller: list[Any]) -> None:
    backups = FakeBackups()
    shell.more["backups"] = lambda _settings: backups
    assert shell("backup", "alice").code == 0
    assert controller == []
    assert shell("backup", "alice", "--stop").code == 0
    assert len(controller) == 2
