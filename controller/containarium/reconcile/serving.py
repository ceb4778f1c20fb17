"""Metrics and health are served beside the loop: whoever has their port must not keep the host from being repaired.

Any account of the host can take a port before a controller that starts again, and a bridge's address may come later.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from containarium.model.host import TerminalError
from containarium.report.health import Health

PAUSE = 10.0
"""Seconds between two tries to listen."""


class Serving:
    """Serves from ``start`` to ``stop``, or from when it can."""

    def __init__(
        self,
        make: Callable[[], Health],
        served: Callable[[str], None],
        refused: Callable[[str], None],
        *,
        pause: float = PAUSE,
    ) -> None:
        """``served`` is told the address, ``refused`` once why there is none yet."""
        self._make = make
        self._served = served
        self._refused = refused
        self._pause = pause
        self._health: Health | None = None
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Listen now, or try again and again in a thread. Raises TerminalError (BadAddress)."""
        refusal = self._listen()
        if refusal:
            self._refused(refusal)
            self._thread = threading.Thread(target=self._try_again, name="serving", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """Stop listening."""
        self._stopped.set()
        if self._thread is not None:
            self._thread.join()
        if self._health is not None:
            self._health.close()

    def _try_again(self) -> None:
        while not self._stopped.wait(self._pause):
            if not self._listen():
                return

    def _listen(self) -> str:
        """Why it cannot; empty when it does."""
        health = self._make()
        try:
            address = health.start()
        except TerminalError as error:
            return str(error)
        self._health = health
        self._served(address)
        return ""
