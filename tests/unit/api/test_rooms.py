"""Places for calls: taken in turn, and never all by one."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from containarium.api.errors import CallError
from containarium.api.rooms import Room, Size
from containarium.api.who import Role, Who

VERA, OLGA = (Who(name, Role.VIEWER, fingerprint=name) for name in ("vera", "olga"))


def never(_over: Callable[[], None]) -> bool:
    """Nobody hangs up."""
    return True


def entered(pool: ThreadPoolExecutor, room: Room, who: Who) -> Future[float]:
    """Somebody who looks for an instant; when they had their turn."""

    def look() -> float:
        with room.place(who, 10.0, never):
            return time.monotonic()

    return pool.submit(look)


def test_who_waits_gets_a_turn_and_who_is_too_many_is_refused() -> None:
    room = Room(Size(2, 1, waiting=4, waiting_per_caller=1, patience=10.0))
    with ThreadPoolExecutor(4) as pool:
        with room.place(VERA, 10.0, never):
            waiting = entered(pool, room, VERA)
            while not room._queue:
                time.sleep(0.01)
            with pytest.raises(CallError, match="you have 2 such calls") as refused, room.place(VERA, 10.0, never):
                pass
            assert refused.value.retry_after
            assert entered(pool, room, OLGA).result(5), "another caller has places of their own"
            assert not waiting.done()
        assert waiting.result(5)


def test_nobody_waits_for_longer_than_their_patience_or_after_the_end() -> None:
    room = Room(Size(1, 1, waiting=4, waiting_per_caller=4, patience=0.2))
    with room.place(VERA, 10.0, never):
        for who in (VERA, OLGA):
            begun = time.monotonic()
            with pytest.raises(CallError, match="1 such calls"), room.place(who, 10.0, never):
                pass
            assert 0.2 <= time.monotonic() - begun < 5
        with pytest.raises(CallError), room.place(OLGA, 10.0, lambda _over: False):
            pass
    assert not room._queue
    with room.place(OLGA, 10.0, never):
        pass
    assert not room._by


def test_who_has_least_is_next() -> None:
    room, order = Room(Size(3, 3, waiting=9, waiting_per_caller=9, patience=10.0)), list[str]()

    def look(who: Who) -> None:
        with room.place(who, 10.0, never):
            order.append(who.name)

    with room.place(VERA, 10.0, never), room.place(VERA, 10.0, never):
        with room.place(VERA, 10.0, never):
            threads = [threading.Thread(target=look, args=(who,)) for who in (VERA, VERA, OLGA)]
            for number, thread in enumerate(threads, 1):
                thread.start()
                while len(room._queue) < number:
                    time.sleep(0.01)
        # One place is free, and each who has had it hands it on.
        for thread in threads:
            thread.join(10)
    assert order[0] == "olga"
    assert sorted(order) == ["olga", "vera", "vera"]
