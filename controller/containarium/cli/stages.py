"""What a person sees while a command waits for the host: numbered steps for a new environment, lines for all else."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

from containarium.model.status import IMAGE_BUILDING

if TYPE_CHECKING:
    from containarium.model.action import Action
    from containarium.plan.decision import Plan
    from containarium.reconcile.execute import Failure
    from containarium.report.statusfile import EnvironmentStatus

TITLES = (
    "manifest",
    "container",
    "start",
    "packages",
    "user and keys",
    "jump account",
    "SSH",
)
"""The steps by which an environment comes to be, in this order."""
_STAGES = {
    "CreateInstance": (2, "making the container"),
    "FetchInstance": (2, "fetching the container from another host"),
    "AdoptInstance": (2, "taking the container over"),
    "StartInstance": (3, "starting the container"),
    "InstallPackages": (4, "installing packages"),
    "SetUpUser": (5, "setting up the user"),
    "WriteGuestKeys": (5, "writing the keys"),
    "EnableService": (5, "enabling services"),
    "LockGuestRoot": (5, "locking root's password"),
    "EnsureAccount": (6, "setting up the jump account"),
    "WriteAccountKeys": (6, "writing the jump account's keys"),
    "AwaitLogin": (7, "waiting for SSH"),
}
_OTHERS = {
    "UpdateInstance": "setting what the manifest says",
    "StopInstance": "stopping the container",
    "RestartInstance": "restarting the container",
    "BackupInstance": "backing the container up",
    "DeleteInstance": "deleting the container",
    "EnforceLimits": "enforcing the limits",
    "LockAccount": "locking the jump account",
    "DeleteAccount": "deleting the jump account",
}
_NUMBERS = re.compile(r"[0-9.]+")


class Stages:
    """Tells steps as they begin, whoever takes them: this process, or a controller that is watched.

    ``numbered`` are the environments that come to be. A step that there is nothing to do for is told as well, so that
    the numbers run on.
    """

    def __init__(self, tell: Callable[[str], None], numbered: frozenset[str] = frozenset()) -> None:
        self._tell = tell
        self._at = dict.fromkeys(numbered, 0)
        self._last: dict[str, str] = {}
        self._lock = threading.RLock()

    def begun(self, name: str, detail: str) -> None:
        """The manifest is written."""
        self._stage(name, 1, detail)

    def saw(self, name: str, kind: str, message: str = "") -> None:
        """An action is under way; ``message`` is the last that it told."""
        number, words = _STAGES.get(kind, (0, _OTHERS.get(kind, "")))
        with self._lock:
            if name in self._at and number:
                self._stage(name, number, words)
            elif name not in self._at:
                self._line(name, words)
            self._line(name, message)

    def waits(self, name: str, why: str) -> None:
        """Nothing goes on for now."""
        with self._lock:
            self._line(name, f"waiting: {why}" if why else "")

    def reached(self, name: str) -> None:
        """It is all done."""
        with self._lock:
            if name in self._at:
                for number in range(self._at[name] + 1, len(TITLES) + 1):
                    self._stage(name, number, "nothing to do" if number < len(TITLES) else "ready")

    # As a Reporter of reconcile.cycle

    def planned(self, plan: Plan) -> None:
        """The steps tell it."""

    def started(self, environment: str, action: Action) -> None:
        """A step begins."""
        self.saw(environment, action.kind)

    def progress(self, environment: str, message: str) -> None:
        """A part of it."""
        with self._lock:
            self._line(environment, message)

    def finished(self, environment: str, failure: Failure | None) -> None:
        """What failed stands in the end; who waits for an image has not failed."""
        if failure is not None and failure.error.reason == IMAGE_BUILDING:
            self.waits(environment, str(failure.error))

    def seen(self, environment: EnvironmentStatus) -> None:
        """What a controller's status says of it."""
        if environment.work is not None:
            self.saw(environment.name, environment.work.action, environment.work.step)
        elif environment.trouble is not None:
            self.waits(environment.name, environment.trouble.message)

    def _stage(self, name: str, number: int, words: str) -> None:
        with self._lock:
            before = self._at.get(name, 0)
            for missed in range(before + 1, number):
                self._tell(f"[{missed}/{len(TITLES)}] {name}: {TITLES[missed - 1]}: nothing to do")
            if number > before:
                self._at[name] = number
                self._tell(f"[{number}/{len(TITLES)}] {name}: {TITLES[number - 1]}: {words}")
                self._last[name] = _NUMBERS.sub("", words)

    def _line(self, name: str, message: str) -> None:
        """A line, unless it is the last one with other numbers in it."""
        gist = _NUMBERS.sub("", message)
        if message and self._last.get(name) != gist:
            self._last[name] = gist
            self._tell(f"      {name}: {message}" if name in self._at else f"{name}: {message}")
