"""What takes a while and is done beside the controller: in a thread of its own, which goes on when nobody listens."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from queue import Empty, SimpleQueue

import grpc

from containarium.api.errors import CallError
from containarium.api.follow import State, Step
from containarium.api.gate import Call
from containarium.model.host import Progress

AT_ONCE = 4
"""Errands at the same time: each reads or writes whole environments."""
_POLL = 0.2


@dataclass(frozen=True, slots=True)
class _Ended:
    """How it ended: with a sentence, or an error."""

    said: str = ""
    error: Exception | None = None


class Errands:
    """Carries errands out, a bounded number at once."""

    def __init__(self, at_once: int = AT_ONCE) -> None:
        self._room = threading.BoundedSemaphore(at_once)

    def run(self, call: Call, name: str, errand: Callable[[Progress], str]) -> Iterator[Step]:
        """Tell what an errand says, and last of all the sentence that it returns.

        Raises what it raises, CallError where too many are under way, and CallError when the call is over first: the
        errand goes on then.
        """
        if not self._room.acquire(blocking=False):
            raise CallError(
                grpc.StatusCode.RESOURCE_EXHAUSTED, "this host has backups and the like enough to do",
                "try again in a minute", reason="TooManyErrands", retry_after=60.0,
            )  # fmt: skip
        said: SimpleQueue[str | _Ended] = SimpleQueue()

        def work() -> None:
            try:
                ended = _Ended(errand(said.put))
            except Exception as error:  # noqa: BLE001 - whoever listens gets it
                ended = _Ended(error=error)
            finally:
                self._room.release()
            said.put(ended)

        threading.Thread(target=work, name="errand").start()
        return _listen(call, name, said)


def _listen(call: Call, name: str, said: SimpleQueue[str | _Ended]) -> Iterator[Step]:
    while True:
        try:
            found = said.get(timeout=_POLL)
        except Empty:
            if call.over:
                raise CallError(
                    grpc.StatusCode.DEADLINE_EXCEEDED, f"{name}: not through yet", "the host goes on with it",
                    reason="StillWorking",
                ) from None  # fmt: skip
            continue
        if isinstance(found, str):
            yield Step(name, State.WORKING, message=found)
        elif found.error is not None:
            raise found.error
        else:
            yield Step(name, State.DONE, message=found.said)
            return
