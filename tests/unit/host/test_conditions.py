"""Steps that fail stop those that need them; conditions tell how each ended, and since when."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

from containarium.host.incus import Incus
from containarium.host.prepare import conditions
from containarium.host.prepare.receipt import Receipt
from containarium.host.prepare.steps import Context, Part, Step, carry_out
from containarium.model.host import TerminalError, silent
from containarium.model.status import ConditionStatus
from tests.builders import NOW
from tests.unit.host.etcfiles import FakeRun, settings


def _context(root: Path) -> Context:
    host = settings(root)
    return Context(host, FakeRun(), Incus(host), Receipt(root / "state" / "prepared.json"), silent, False)


def _fails(_context: Context) -> Step:
    raise TerminalError("there is no disk", remedy="attach it", reason="DiskMissing")


def _full(_context: Context) -> Step:
    raise OSError(28, "No space left on device", "/etc/x")


def _well(name: str) -> Part:
    return Part(name, lambda _context: Step(name, True, "made"))


def test_only_what_needs_the_failed_one_is_held_up(tmp_path: Path) -> None:
    parts = [
        Part("data disk", _fails),
        Part("Incus", _well("Incus").do, ("data disk",)),
        Part("bridge", _well("bridge").do, ("Incus",)),
        _well("sysctls"),
        Part("logs", _full),
    ]
    steps = {step.name: step for step in carry_out(_context(tmp_path), parts)}
    reasons = {name: step.error.reason if step.error else "" for name, step in steps.items()}
    assert reasons == {
        "data disk": "DiskMissing",
        "Incus": "NotReached",
        "bridge": "NotReached",
        "sysctls": "",
        "logs": "FileNotWritten",
    }
    assert "waits for: data disk" in str(steps["Incus"].error)


def test_a_condition_keeps_its_time_while_its_status_stays(tmp_path: Path) -> None:
    host = settings(tmp_path)
    host.runtime.mkdir()
    missing = TerminalError("there is no disk", remedy="attach it", reason="DiskMissing")
    conditions.write(host, [Step("data disk", False, error=missing)], "d1", NOW)
    later = TerminalError("there is something on it", reason="DiskForeign")
    conditions.write(host, [Step("data disk", False, error=later)], "d1", NOW + timedelta(hours=1))
    last = conditions.read(host)
    (found,) = last.conditions
    assert (found.type, found.status, found.reason) == ("DataDisk", ConditionStatus.FALSE, "DiskForeign")
    assert found.last_transition == NOW.isoformat(timespec="seconds")
    conditions.write(host, [Step("data disk", True, "btrfs on /dev/sdb")], "d2", NOW + timedelta(hours=2))
    last = conditions.read(host)
    assert last.digest == "d2"
    assert [(c.status.value, c.reason, c.message) for c in last.conditions] == [("True", "Done", "btrfs on /dev/sdb")]
    assert last.conditions[0].last_transition == (NOW + timedelta(hours=2)).isoformat(timespec="seconds")


def test_what_works_with_limits_and_what_was_not_reached(tmp_path: Path) -> None:
    host = settings(tmp_path)
    host.runtime.mkdir()
    waits = TerminalError("waits for: data disk", reason="NotReached")
    steps = [Step("sysctls", False, warning="not here"), Step("network ACL", False, error=waits)]
    written = conditions.write(host, steps, "", NOW)
    assert [(c.type, c.status.value, c.reason) for c in written.conditions] == [
        ("Sysctls", "True", "Limited"),
        ("NetworkACL", "Unknown", "NotReached"),
    ]
    assert conditions.read(host) == written


def test_a_file_that_makes_no_sense_is_none(tmp_path: Path) -> None:
    host = settings(tmp_path)
    host.runtime.mkdir()
    for text in ("", "[]", '{"conditions": [{"type": "X"}]}', '{"conditions": [{"type": "X", "status": "Maybe"}]}'):
        host.conditions.write_text(text)
        assert conditions.read(host) == conditions.Last()
