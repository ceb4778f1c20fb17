"""What takes a while and is done beside the controller: in a thread of its own, which goes on when nobody listens."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from queue import Empty, SimpleQueue

import grpc

from containarium.api.errors import CallError, as_call_error
from containarium.api.follow import State, Step
from containarium.api.gate import Call
from containarium.model.host import Progress
from containarium.report.log import Logger

AT_ONCE = 4
"""Errands at the same time: each reads or writes whole environments."""
_POLL = 0.2


@dataclass(frozen=True, slots=True)
class _Ended:
    """How it ended: with a sentence, or an error."""

    said: str = ""
    error: Exception | None = None


class Errands:
    """Carries errands out, a bounded number at once, and logs how each ends: its client may have gone by then."""

    def __init__(self, at_once: int = AT_ONCE, logger: Logger | None = None) -> None:
        """Without a ``logger``, that of this process (``report.log.configure``)."""
        self._at_once = at_once
        self._logger = logger
        self._changed = threading.Condition()
        self._under_way: list[str] = []

    def run(self, call: Call, name: str, errand: Callable[[Progress], str]) -> Iterator[Step]:
        """Tell what an errand says, and last of all the sentence that it returns.

        Raises what it raises, CallError where too many are under way, and CallError when the call is over first: the
        errand goes on then.
        """
        with self._changed:
            if len(self._under_way) >= self._at_once:
                raise _too_many("this host has backups and the like enough to do")
            self._under_way.append(name)
        said: SimpleQueue[str | _Ended] = SimpleQueue()

        def work() -> None:
            ended = _Ended(error=RuntimeError("it was broken off"))
            try:
                ended = _Ended(errand(said.put))
            except Exception as error:  # noqa: BLE001 - whoever listens gets it
                ended = _Ended(error=error)
            finally:
                try:
                    self._note(call, name, ended)
                finally:
                    self._leave(name)
                    said.put(ended)

        try:
            threading.Thread(target=work, name="errand").start()
        except RuntimeError:  # no thread is to be had
            self._leave(name)
            raise _too_many("this host has no thread left for it") from None
        return _listen(call, name, said)

    def wait(self, timeout: float) -> list[str]:
        """Wait until all have ended, ``timeout`` seconds at most. Returns whose errands still go on."""
        with self._changed:
            self._changed.wait_for(lambda: not self._under_way, timeout)
            return sorted(self._under_way)

    def _leave(self, name: str) -> None:
        with self._changed:
            self._under_way.remove(name)
            self._changed.notify_all()

    def _note(self, call: Call, name: str, ended: _Ended) -> None:
        logger, error = self._logger or _process_logger(), ended.error
        about = {"call": call.method, "who": call.who.name, "environment": name, "unattended": call.over}
        if error is None:
            logger.info("errand ended", **about, said=ended.said)
        elif as_call_error(error) is not None:
            logger.warning("errand failed", **about, error=str(error))
        else:
            logger.error("errand failed", **about, exc_info=error)


def _process_logger() -> Logger:
    import structlog

    logger: Logger = structlog.get_logger()
    return logger


def _too_many(why: str) -> CallError:
    return CallError(
        grpc.StatusCode.RESOURCE_EXHAUSTED, why, "try again in a minute", reason="TooManyErrands", retry_after=60.0
    )


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
