"""The file of events: appended, bounded, and readable whatever happened to it."""

from __future__ import annotations

import os
import stat
import threading
from datetime import timedelta
from pathlib import Path

import pytest

from containarium.report.events import Event, Reason
from containarium.report.journal import Journal, old, read
from tests.builders import NOW


def event(number: int, environment: str = "alice") -> Event:
    return Event(Reason.UPDATED, environment, f"number {number}")


def numbers(found: list[dict[str, object]]) -> list[int]:
    return [int(str(entry["message"]).split()[1]) for entry in found]


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    """Give a journal that does not exist yet."""
    return Journal(tmp_path / "events.jsonl", lambda: NOW)


def test_nothing_happened_nothing_is_written(journal: Journal) -> None:
    assert journal.record([]) == 0
    assert not journal.path.exists()
    assert read(journal.path) == []


def test_events_come_back_in_order(journal: Journal) -> None:
    journal.record([event(1), event(2, "bob")], "000007")
    journal.record([event(3)])
    assert numbers(read(journal.path)) == [1, 2, 3]
    assert numbers(read(journal.path, limit=2)) == [2, 3]
    assert numbers(read(journal.path, "alice")) == [1, 3]
    assert read(journal.path, "bob") == [
        {
            "time": NOW.isoformat(timespec="milliseconds"),
            "reason": "Updated",
            "environment": "bob",
            "message": "number 2",
            "pass": "000007",
        }
    ]
    assert read(journal.path, "carol") == []


def test_not_everybody_may_read_it(journal: Journal) -> None:
    mask = os.umask(0)
    try:
        journal.record([event(1)])
    finally:
        os.umask(mask)
    assert stat.S_IMODE(journal.path.stat().st_mode) == 0o640


def test_a_full_one_becomes_the_old_one_and_only_one_is_kept(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "events.jsonl", lambda: NOW, rotate_at=1000)
    for number in range(40):
        journal.record([event(number)])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["events.jsonl", "events.jsonl.1"]
    assert all(path.stat().st_size <= 1000 for path in tmp_path.iterdir())
    found = numbers(read(journal.path))
    assert found == list(range(found[0], 40))
    assert len(found) > 9
    newest = len(journal.path.read_text().splitlines())
    assert numbers(read(old(journal.path)))[-1] == 40 - newest - 1


def test_a_torn_line_takes_no_other_with_it(journal: Journal) -> None:
    journal.record([event(1)])
    with journal.path.open("ab") as file:
        file.write(b'{"reason":"Upda')
    journal.record([event(2)])
    assert numbers(read(journal.path)) == [1, 2]


@pytest.mark.parametrize("line", [b"{", b"[]", b"null", b'{"a": 1}', b"\xff\xfe", b'{"reason": 3}', b"{" * 5000])
def test_what_is_no_event_is_passed_over(journal: Journal, line: bytes) -> None:
    journal.record([event(1)])
    with journal.path.open("ab") as file:
        file.write(line + b"\n")
    journal.record([event(2)])
    assert numbers(read(journal.path)) == [1, 2]


def test_what_cannot_be_written_is_counted_and_stops_nobody(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "absent" / "events.jsonl", lambda: NOW)
    assert journal.record([event(1), event(2)]) == 2
    assert journal.lost == 2
    assert "No such file" in journal.error
    (tmp_path / "absent").mkdir()
    journal.record([event(3)])
    assert (journal.lost, journal.error) == (2, "")
    assert numbers(read(journal.path)) == [3]


def test_a_full_disk_is_no_success() -> None:
    journal = Journal(Path("/dev/full"), lambda: NOW)
    journal.record([event(1)])
    assert journal.lost == 1
    assert journal.error


def test_a_link_in_its_place_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("precious")
    (tmp_path / "events.jsonl").symlink_to(tmp_path / "precious")
    journal = Journal(tmp_path / "events.jsonl", lambda: NOW)
    journal.record([event(1)])
    assert journal.lost == 1
    assert (tmp_path / "precious").read_text() == "precious"


def test_many_writers_at_once(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"

    def write(name: str) -> None:
        journal = Journal(path)
        for number in range(100):
            journal.record([event(number, name)])

    threads = [threading.Thread(target=write, args=(f"p{number}",)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for name in ("p0", "p1", "p2", "p3"):
        assert numbers(read(path, name, 1000)) == list(range(100))


def test_the_time_is_that_of_the_event(tmp_path: Path) -> None:
    times = iter([NOW, NOW + timedelta(seconds=90)])
    journal = Journal(tmp_path / "events.jsonl", lambda: next(times))
    journal.record([event(1)])
    journal.record([event(2)])
    assert [str(entry["time"])[11:19] for entry in read(journal.path)] == ["12:00:00", "12:01:30"]
