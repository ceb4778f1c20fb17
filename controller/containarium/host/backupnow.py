"""A backup that an admin asks for: of a running environment without stopping it, where its pool allows that."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from containarium.host.backups import Backups
from containarium.host.command import Run, run
from containarium.host.incus import Incus
from containarium.host.instances import Instances, runs
from containarium.host.nicfilters import NicFilters
from containarium.host.power import Power
from containarium.host.settings import HostSettings
from containarium.model import marks
from containarium.model.host import Progress, TerminalError, silent
from containarium.plan.desired import ROOT_DEVICE

_FROZEN_PICTURE = frozenset({"btrfs", "zfs"})
"""Pools of which Incus exports a snapshot: files that change meanwhile are as a power cut would leave them."""


@dataclass(frozen=True, slots=True)
class Made:
    """A backup that was made. ``size`` in bytes."""

    path: Path
    size: int


class BackupNow:
    """Makes backups of one host's environments whenever somebody wants one."""

    def __init__(self, incus: Incus, settings: HostSettings, run: Run = run) -> None:
        self._incus = incus
        self._settings = settings
        self._run = run
        self._instances = Instances(incus, NicFilters(incus, run), settings)

    def save(self, name: str, output: Path | None = None, *, stop: bool = False, progress: Progress = silent) -> Made:
        """Back an environment up, to the usual folder or to ``output``, a folder that is there or a new file.

        With ``stop`` it is stopped for it and started again where it ran; the caller sees to it that nobody else works
        on it then. Raises TerminalError: NotFound, Conflict, Running where it runs on a pool that gives no frozen
        picture, OutputTaken, OutputMissing; RetryableError: BackupNoSpace, BackupDamaged. Then no file is left.
        """
        instance = marks.instance_name(name)
        there: dict[str, Any] = self._instances.owned(instance, name).value
        ran = runs(there) or there.get("status") == "Frozen"
        if ran and not stop:
            self._refuse_without_picture(name, there)
        folder, called = _place(output)
        backups = Backups(self._incus, self._instances, self._settings, self._run, folder=folder)
        if not (ran and stop):
            return _made(backups.save_now(name, called, progress))
        power = Power.on_this_host(self._incus, self._instances, self._settings, self._run)
        try:
            power.stop(instance, name, progress)
            return _made(backups.save_now(name, called, progress))
        finally:
            power.start(instance, name, progress)

    def _refuse_without_picture(self, name: str, there: dict[str, Any]) -> None:
        devices = there.get("expanded_devices") or there.get("devices") or {}
        pool = (devices.get(ROOT_DEVICE) or {}).get("pool", self._settings.pool)
        driver = str(self._incus.get("storage-pools", pool).get("driver", ""))
        if driver not in _FROZEN_PICTURE:
            raise TerminalError(
                f"{name} is running, and a pool of the kind {driver} would be copied while its files change",
                remedy="add --stop: it is stopped for the backup and started again",
                reason="Running",
            )


def _place(output: Path | None) -> tuple[Path | None, str]:
    """The folder and the file's name; empty where it gets the usual one."""
    if output is None:
        return None, ""
    if output.is_dir():
        return output.absolute(), ""
    if not output.parent.is_dir():
        raise TerminalError(
            f"there is no folder {output.parent}", remedy="make it, or name another", reason="OutputMissing"
        )
    for ending in ("", ".sha256", ".partial"):
        taken = output.with_name(output.name + ending)
        if taken.exists() or taken.is_symlink():
            raise TerminalError(
                f"{taken} exists already", remedy="move it away, or choose another name", reason="OutputTaken"
            )
    return output.absolute().parent, output.name


def _made(path: Path) -> Made:
    return Made(path, path.stat().st_size)
