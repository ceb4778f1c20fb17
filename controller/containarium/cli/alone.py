"""Working on one environment with nobody else at it: neither another command nor the running controller."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator

from containarium.cli.errors import CommandError
from containarium.cli.output import say
from containarium.cli.wiring import Wiring
from containarium.model.host import Progress, silent

_PATIENCE = 900.0
"""Seconds for which the controller may be busy with an environment before a command gives up."""
_POLL = 0.5
_ANSWER = 90.0


@contextlib.contextmanager
def alone_with(
    wired: Wiring, name: str, sleep: Callable[[float], None] = time.sleep, tell: Progress = say
) -> Iterator[None]:
    """While the block runs, nobody else works on the environment. Whoever is through lets the controller know (nudge).

    Where no controller runs, none can begin. Raises RetryableError (Locked, Held) where another command is at work,
    CommandError where the controller does not come to an end with it.
    """
    from containarium.host.holds import hold
    from containarium.host.lock import only_controller
    from containarium.model.host import RetryableError

    settings = wired.settings
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(only_controller(settings.runtime))
        except RetryableError as error:
            if error.reason != "Locked" or not settings.control.exists():
                raise
        else:
            yield
            return
        failed = stack.enter_context(contextlib.ExitStack())
        failed.callback(nudge, wired, "", silent)  # what a command leaves that fails is mended now, not in a minute
        stack.enter_context(hold(settings.runtime, name))
        _until_it_lets_go(wired, name, sleep, tell)
        yield
        failed.pop_all()  # whoever is through says so when there is nothing more to come


def nudge(wired: Wiring, otherwise: str, tell: Progress = say) -> None:
    """Let a running controller look now; without one, say what to do."""
    from containarium.host.control import ask
    from containarium.model.host import HostError, TerminalError

    try:
        ask(wired.settings.control, {"do": "reconcile"}, timeout=30.0)
    except TerminalError:
        if otherwise:
            tell(otherwise)
    except HostError as error:
        tell(f"The controller will see it at its next pass: {error}")


def _until_it_lets_go(wired: Wiring, name: str, sleep: Callable[[float], None], tell: Progress) -> None:
    """A pass that began after now knows that the environment is held; what an earlier one began has to end."""
    from containarium.host.control import ask
    from containarium.report import statusfile

    ask(wired.settings.control, {"do": "reconcile"}, timeout=_ANSWER)
    for turn in range(round(_PATIENCE / _POLL)):
        status = statusfile.read(wired.settings.status)
        work = next((e.work for e in status.environments if e.name == name), None) if status is not None else None
        if work is None:
            return
        if turn == 0:
            tell(f"Waiting for the controller, which works on {name}: {work.action}")
        sleep(_POLL)
    raise CommandError(
        f"the controller has been working on {name} for {_PATIENCE:.0f} s", f"see containarium events {name}"
    )
