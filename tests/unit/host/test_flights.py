"""Work that several want and one does."""

from __future__ import annotations

import multiprocessing
import threading
from pathlib import Path

import pytest

from containarium.host.cancel import CancelledError
from containarium.host.flights import Flights
from containarium.model.host import BuildingError, RetryableError, TerminalError, WaitingError


class Ticks:
    """A clock that goes when it is told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def ticks() -> Ticks:
    return Ticks()


@pytest.fixture
def flights(tmp_path: Path, ticks: Ticks) -> Flights:
    return Flights(tmp_path / "locks", at_once=2, ticks=ticks)


def fail(flights: Flights, error: Exception, key: str = "a") -> None:
    with pytest.raises(type(error)), flights.claim(key, "the image a"):
        raise error


def claimed(flights: Flights, key: str, what: str) -> None:
    with flights.claim(key, what):
        pytest.fail(f"{what}: more of them at work than there may be")


def test_the_second_is_told_to_come_back(flights: Flights) -> None:
    with flights.claim("a", "a"), pytest.raises(BuildingError, match="image a is being built") as found:
        claimed(flights, "a", "image a")
    assert found.value.reason == "ImageBuilding"
    with flights.claim("a", "the image a"):
        pass


def test_other_work_goes_on_beside_it_but_not_all_of_it(flights: Flights) -> None:
    with (
        flights.claim("a", "a"),
        flights.claim("b", "b"),
        pytest.raises(BuildingError, match="other images are being built before image c"),
    ):
        claimed(flights, "c", "image c")
    with flights.claim("c", "c"):
        pass


def hold(folder: Path, held: threading.Event, over: threading.Event) -> None:
    with Flights(folder).claim("a", "a"):
        held.set()
        over.wait(30)


def test_another_process_counts_and_its_death_ends_its_claim(tmp_path: Path, flights: Flights) -> None:
    context = multiprocessing.get_context("fork")
    held, over = context.Event(), context.Event()
    process = context.Process(target=hold, args=(tmp_path / "locks", held, over))
    process.start()
    try:
        assert held.wait(30)
        with pytest.raises(BuildingError), flights.claim("a", "a"):
            pytest.fail("two processes at the same work")
    finally:
        process.kill()
        process.join()
    with flights.claim("a", "a"):
        pass


def test_what_failed_is_not_begun_anew_by_each_who_waits(flights: Flights, ticks: Ticks) -> None:
    fail(flights, RetryableError("no mirror", reason="MirrorUnreachable"))
    with pytest.raises(WaitingError, match="no mirror") as found, flights.claim("a", "a"):
        pytest.fail("begun anew at once")
    assert (found.value.reason, found.value.retry_after) == ("MirrorUnreachable", 2.0)
    ticks.now += 2.0
    fail(flights, RetryableError("no mirror", reason="MirrorUnreachable"))
    with pytest.raises(WaitingError) as again, flights.claim("a", "a"):
        pytest.fail("begun anew at once")
    assert again.value.retry_after == 4.0


def test_what_only_a_person_can_mend_is_said_as_such_again(flights: Flights) -> None:
    fail(flights, TerminalError("no package gti", remedy="fix it", reason="PackageUnknown"))
    with pytest.raises(TerminalError, match="no package gti; fix it") as found, flights.claim("a", "a"):
        pytest.fail("begun anew at once")
    assert found.value.reason == "PackageUnknown"
    with flights.claim("b", "b"):
        pass


def test_success_and_cancellation_leave_nothing_behind(flights: Flights, ticks: Ticks) -> None:
    fail(flights, CancelledError())
    with flights.claim("a", "a"):
        pass
    fail(flights, RetryableError("no mirror"))
    ticks.now += 2.0
    with flights.claim("a", "a"):
        pass
    fail(flights, RetryableError("no mirror"))
    ticks.now += 2.0  # the first pause again, not the second
    with flights.claim("a", "a"):
        pass
