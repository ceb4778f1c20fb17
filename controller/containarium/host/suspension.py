"""Leaving an environment alone for a while, by an admin's word on the container itself."""

from __future__ import annotations

from datetime import datetime

from containarium.host.incus import Incus
from containarium.host.instances import Instances
from containarium.host.nicfilters import NicFilters
from containarium.host.settings import HostSettings
from containarium.model import marks
from containarium.model.action import UpdateInstance
from containarium.model.host import TerminalError


class Suspension:
    """Puts the mark on a container of ours, and takes it off. Nothing else of it is touched."""

    def __init__(self, settings: HostSettings) -> None:
        from containarium.host import command

        incus = Incus(settings)
        self._instances = Instances(incus, NicFilters(incus, command.run), settings)

    def suspend(self, name: str, now: datetime) -> bool:
        """Leave it alone from now on. Returns False where it was so already.

        Raises TerminalError where there is no such environment, or the container is not ours.
        """
        if marks.SUSPENDED in self._config(name):
            return False
        self._write(name, now.isoformat(timespec="seconds"))
        return True

    def resume(self, name: str) -> bool:
        """Look after it again. Returns False where it was not suspended on the host."""
        if marks.SUSPENDED not in self._config(name):
            return False
        self._write(name, "")
        return True

    def _config(self, name: str) -> dict[str, str]:
        try:
            config: dict[str, str] = self._instances.owned(marks.instance_name(name), name).value.get("config") or {}
        except TerminalError as error:
            if error.reason != "NotFound":
                raise
            raise TerminalError(
                f"there is no container of {name} on this host",
                remedy="containarium list shows those there are; before it is made, annotate its manifest "
                'with containarium.dev/suspend: "true"',
                reason="NotFound",
            ) from error
        return config

    def _write(self, name: str, value: str) -> None:
        self._instances.update(
            UpdateInstance(environment=name, instance=marks.instance_name(name), config={marks.SUSPENDED: value})
        )
