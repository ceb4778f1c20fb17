"""A host on which the controller runs as a service: nobody applies anything, tests only wait for what must happen."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from tests.e2e.site import Site, instance_of
from tests.lab.command import LabError, wait_until

if TYPE_CHECKING:
    from tests.e2e.site import Facts

UNIT = "containarium.service"
STATUS = "/run/containarium/status.json"
PATIENCE = 60.0
"""Seconds. How long something takes is for the bench to say; here it has to happen at all."""


class LivingSite(Site):
    """What an admin does on such a host."""

    def pid(self) -> int:
        """The controller's process, 0 where none runs."""
        return int(self.host.run(["systemctl", "show", "--property=MainPID", "--value", UNIT]).stdout)

    def status(self) -> dict[str, Any]:
        """What the controller wrote down last. From its file: a command, asked as often as here, takes a processor."""
        done = self.host.run(["cat", STATUS], check=False)
        found: dict[str, Any] = json.loads(done.stdout) if done.stdout.startswith("{") else {}
        return found

    def events(self, name: str = "") -> list[dict[str, Any]]:
        """What happened, oldest first."""
        done = self.containarium("events", *([name] if name else []), "--output=json", "--limit=1000")
        found: list[dict[str, Any]] = json.loads(done.stdout)
        return found

    def log(self) -> list[dict[str, Any]]:
        """The controller's lines in the journal since the boot."""
        text = self.host.run(["journalctl", "--boot", "--unit", UNIT, "--output=cat", "--no-pager"], timeout=60).stdout
        return [json.loads(line) for line in text.splitlines() if line.startswith("{")]

    def conditions(self, name: str) -> dict[str, dict[str, str]]:
        """Conditions of an environment by type."""
        environments = self.status().get("environments", [])
        found: dict[str, Any] = next((e for e in environments if e["name"] == name), {"conditions": []})
        return {condition["type"]: condition for condition in found["conditions"]}

    def ready(self, *names: str) -> bool:
        """Whether all of these are as declared, and the controller says so after its last look."""
        environments = {e["name"]: e for e in self.status().get("environments", [])}
        return all(
            name in environments
            and not environments[name].get("work")
            and any(c["type"] == "Ready" and c["status"] == "True" for c in environments[name]["conditions"])
            for name in names
        )

    def wait_ready(self, *names: str, running: bool = True, timeout: float = 240.0) -> None:
        """Wait until they are, with nobody's help.

        Those who are to run have to: for a moment the controller's word is of before somebody's stop.
        """

        def so() -> bool:
            return self.ready(*names) and (not running or {instance_of(name) for name in names} <= self.running())

        try:
            wait_until(f"{', '.join(names)} to be ready", so, timeout=timeout, interval=0.7)
        except LabError as error:
            raise LabError(f"{error}:\n{self.containarium('status', check=False).stdout}") from error

    def running(self) -> set[str]:
        """Instances that run. A guest may say of itself that it is `ready`, which is one way of running."""
        lines = self.host.incus("list", "--format=csv", "--columns=ns", check=False).stdout.splitlines()
        return {name for name, _, status in (line.partition(",") for line in lines) if status in {"RUNNING", "READY"}}

    def until(self, what: str, true: Callable[[], object], timeout: float = PATIENCE) -> None:
        """Wait until something is so."""
        wait_until(what, lambda: bool(true()), timeout=timeout, interval=0.5)

    def until_facts(self, name: str, what: str, true: Callable[[Facts], object], timeout: float = PATIENCE) -> None:
        """Wait until something is so of an environment."""
        self.until(f"{name}: {what}", lambda: true(self.environment(name)), timeout)
