"""Instances: listed in one request, created with our mark, changed and deleted only where that mark stands."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator, Mapping
from typing import Any

from containarium.host import processors as limits
from containarium.host.fragments import Fragments, unpacking
from containarium.host.idmaps import Idmaps
from containarium.host.incus import Incus, Versioned
from containarium.host.nicfilters import NicFilters
from containarium.host.settings import HostSettings
from containarium.model import marks
from containarium.model.action import AdoptInstance, CreateInstance, DeleteInstance, UpdateInstance
from containarium.model.host import HostError, Progress, RetryableError, TerminalError, silent
from containarium.model.observed import Instance, InstanceStatus
from containarium.model.quantity import parse_bytes
from containarium.plan.desired import ROOT_DEVICE
from containarium.plan.presence import PASSING_MARKS

CREATE_TIMEOUT = 900.0
"""Seconds; an image may have to be unpacked first."""
_DELETE_TIMEOUT = 180.0
_FORCED_STOP = 30
_ATTEMPTS = 6
_PAUSE = 0.02


class Instances:
    """The instances of one Incus."""

    def __init__(self, incus: Incus, filters: NicFilters, settings: HostSettings) -> None:
        self._incus = incus
        self._pools = settings.incus_dir / "storage-pools"
        self._filters = filters
        self._processors = limits.Processors(incus)
        self._fragments = Fragments(incus, settings)
        self.idmaps = Idmaps(incus)

    def all(self) -> dict[str, Instance]:
        """Every instance, ours and foreign, by name. One request, and one more for each that Incus could not show."""
        return {raw["name"]: parse(raw) for raw in self._listed()}

    def _listed(self) -> Iterator[Mapping[str, Any]]:
        """Of one that changes at this moment a list may have the bare name: without its marks it would pass for a
        stranger's, or for nobody's. So that one is asked for by itself, and is left out if it is gone by then.
        """
        for raw in self._incus.get("instances", recursion="1"):
            if raw.get("config") is not None:
                yield raw
            elif (found := self._incus.find("instances", raw["name"])) is not None:
                yield found

    def owned(self, name: str, environment: str) -> Versioned:
        """The instance as it is now, in Incus' own words, with its ETag.

        Raises TerminalError: NotFound when it is not there, Conflict when it is not this environment's.
        """
        fresh = self._incus.get_versioned("instances", name)
        _check_owner(fresh.value, environment)
        return fresh

    def create(self, action: CreateInstance, source: Mapping[str, Any], progress: Progress = silent) -> None:
        """Create a stopped instance without profiles, marked as ours from its first moment on.

        One that is ours and whole already is left alone, a half-born one of ours is made anew.
        """
        try:
            self._post(action, source, progress)
        except RetryableError as error:
            if error.reason != "Conflict" or not self._incus.exists("instances", action.instance):
                raise
            there = self.owned(action.instance, action.environment)
            if not half_born(there.value):
                return
            progress("removing what an interrupted creation left")
            self._remove(action.instance, there.value)
            self._post(action, source, progress)

    def update(self, action: UpdateInstance) -> None:
        """Merge config keys and replace whole devices, live. Bound to the state whose owner was checked: when somebody
        else changes the instance at the same moment, it is looked at again.
        """
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                self._patch(action, self.owned(action.instance, action.environment))
            except HostError as error:
                if not _is_conflict(error) or attempt == _ATTEMPTS:
                    raise
                time.sleep(random.uniform(0.5, 1.0) * _PAUSE * 2**attempt)  # noqa: S311 - spreads writers, keeps no secret
            else:
                return

    def adopt(self, action: AdoptInstance) -> None:
        """Make an instance ours that nobody has marked, in one change bound to the state that was looked at.

        One that carries this environment's mark already is left alone. Raises Conflict: TerminalError where it is
        another's, RetryableError where somebody changed it at this moment.
        """
        fresh = self._incus.get_versioned("instances", action.instance)
        owner = (fresh.value.get("config") or {}).get(marks.ENVIRONMENT)
        if owner is not None:
            _check_owner(fresh.value, action.environment)
            return
        if action.config.get(marks.ENVIRONMENT) != action.environment:
            raise TerminalError(
                f"{action.instance} cannot be adopted without the mark of {action.environment}",
                remedy="please report it",
                reason="BadRequest",
            )
        self._patch(action, fresh)

    def delete(self, action: DeleteInstance, progress: Progress = silent) -> None:
        """Delete an instance of ours, by force when it runs; one that is gone already is no error.

        Refuses where delete protection stands on the object.
        """
        try:
            there = self.owned(action.instance, action.environment).value
        except TerminalError as error:
            if error.reason == "NotFound":
                return
            raise
        config = there.get("config") or {}
        if action.reason == "half-born" and not half_born(there):
            return  # its creation has come to an end meanwhile, so that it can be gone on with
        if action.reason == "grace period over" and not config.get(marks.RETIRED):
            raise RetryableError(
                f"{action.instance} is not retired any more", remedy="it is looked at again", reason="Changed"
            )
        if action.reason == marks.OUT_OF_DATE and not any(mark in config for mark in PASSING_MARKS):
            raise RetryableError(
                f"{action.instance} is no old copy any more", remedy="it is looked at again", reason="Changed"
            )
        if config.get("security.protection.delete") == "true":
            raise TerminalError(
                f"{action.instance} is protected against deletion",
                remedy="set deletion.protect to false first",
                reason="Protected",
            )
        progress(f"deleting {action.instance}")
        self._remove(action.instance, there)

    def remove_part(self, name: str, environment: str) -> None:
        """Delete what an interrupted fetch left: it carries the mark of an arrival, and the host that it comes from has
        all of it. It was never started.
        """
        there = self.owned(name, environment).value
        if marks.ARRIVING not in there["config"] or there.get("status") != "Stopped":
            raise RetryableError(f"{name} is no part of a copy", remedy="it is looked at again", reason="Changed")
        try:
            self._incus.delete("instances", name, timeout=_DELETE_TIMEOUT)
        except HostError:
            if not self._remove_empty_folder(name, there):
                raise
            self._incus.delete("instances", name, timeout=_DELETE_TIMEOUT)

    def _post(self, action: CreateInstance, source: Mapping[str, Any], progress: Progress) -> None:
        body = {
            "name": action.instance,
            "type": "container",
            "profiles": [],
            "config": {key: value for key, value in action.config.items() if value != ""}
            | {marks.ENVIRONMENT: action.environment},
            "devices": {name: dict(device) for name, device in action.devices.items()},
            "source": dict(source),
        }
        progress(f"creating {action.instance}")
        pool = action.devices.get(ROOT_DEVICE, {}).get("pool", "")
        unpacking(self._incus, pool, lambda: self._incus.wait(self.idmaps.begin(body), CREATE_TIMEOUT, progress))
        if other := self.idmaps.shared_with(action.instance):
            # Nobody was ever in it; better none than one whose root is somebody else's as well.
            self._remove(action.instance, self.owned(action.instance, action.environment).value)
            raise RetryableError(
                f"Incus gave {action.instance} the ids of {other}", remedy="it is made again", reason="SharedIds"
            )

    def _patch(self, action: UpdateInstance | AdoptInstance, before: Versioned) -> None:
        _refuse_shrinking(action, before.value)
        body: dict[str, Any] = {}
        if action.config:
            body["config"] = dict(action.config)
        if action.devices:
            body["devices"] = {name: dict(device) for name, device in action.devices.items()}
        nics = [name for name, device in action.devices.items() if device.get("type") == "nic"]
        if not runs(before.value):
            nics = []
        try:
            self._incus.patch("instances", action.instance, body=body, etag=before.etag)
        except HostError as error:
            if not _is_conflict(error):  # a refused change of a NIC, too, can leave it without its filters
                self._filters.check(action.instance, {name: action.devices[name] for name in nics}, error.message)
            raise
        self._filters.check(action.instance, {name: action.devices[name] for name in nics})
        if limits.KEY in action.config and runs(before.value):
            self._processors.settle(action.instance, action.config[limits.KEY])

    def _remove(self, name: str, there: Mapping[str, Any]) -> None:
        if half_born(there):
            refuse_if_busy(self._incus, name)
            self._fragments.doubt(there)
        if there.get("status") != "Stopped":
            stop = {"action": "stop", "force": True, "timeout": _FORCED_STOP}
            try:
                self._incus.put("instances", name, "state", body=stop, timeout=_FORCED_STOP + 10.0)
            except HostError as error:
                if "already stopped" not in error.message:
                    raise
        try:
            self._incus.delete("instances", name, timeout=_DELETE_TIMEOUT)
        except HostError:
            if not (half_born(there) and self._remove_empty_folder(name, there)):
                raise
            self._incus.delete("instances", name, timeout=_DELETE_TIMEOUT)

    def _remove_empty_folder(self, name: str, there: Mapping[str, Any]) -> bool:
        """A creation killed at its start leaves a plain folder where btrfs wants a subvolume to delete. Only an empty
        folder can be removed this way, so nothing can be lost.
        """
        devices: Mapping[str, Mapping[str, str]] = there.get("devices") or {}
        root = next((device for device in devices.values() if device.get("path") == "/"), {})
        folder = self._pools / root.get("pool", "default") / "containers" / name
        try:
            folder.rmdir()
        except OSError:
            return False
        return True


def refuse_if_busy(incus: Incus, name: str) -> None:
    """Raise RetryableError (Busy) while Incus works on an instance: one that is being created looks as one does whose
    creation was interrupted, and one that is being published as any that is stopped.
    """
    for group in (incus.get("operations", recursion="1") or {}).values():
        for operation in group or ():
            touched = (operation.get("resources") or {}).get("instances") or ()
            if operation.get("status_code") == 103 and any(path.rsplit("/", 1)[-1] == name for path in touched):
                raise RetryableError(
                    f"Incus still works on {name}: {operation.get('description', 'operation')}",
                    remedy="it is tried again",
                    reason="Busy",
                )


def parse(raw: Mapping[str, Any]) -> Instance:
    """An instance of Incus' answer as the model has it."""
    try:
        status = InstanceStatus.RUNNING if runs(raw) else InstanceStatus(raw["status"])
    except ValueError:
        status = InstanceStatus.OTHER
    addresses = [
        device["ipv4.address"]
        for device in (raw.get("expanded_devices") or {}).values()
        if device.get("type") == "nic" and device.get("ipv4.address", "none") not in ("", "none")
    ]
    return Instance(
        name=raw["name"],
        status=status,
        config=raw.get("config") or {},
        devices=raw.get("devices") or {},
        addresses=tuple(addresses),
        created_at=raw.get("created_at", ""),
        last_used_at=raw.get("last_used_at", ""),
    )


def runs(raw: Mapping[str, Any]) -> bool:
    """Whether an instance, or the state of one, is running in Incus' own words.

    Ready is running, too: a guest's root can say so over /dev/incus, and must not get out of sight by it.
    """
    return raw.get("status") in ("Running", "Ready")


def half_born(raw: Mapping[str, Any]) -> bool:
    """Whether the instance's creation was interrupted (or is still under way), so that it can never start.

    Nothing can be lost with it: it was never started.
    """
    config = raw.get("config") or {}
    return (
        raw.get("status") == "Stopped"
        and marks.APPLIED not in config
        and "volatile.apply_template" not in config
        and "volatile.last_state.power" not in config
    )


def _check_owner(raw: Mapping[str, Any], environment: str) -> None:
    owner = (raw.get("config") or {}).get(marks.ENVIRONMENT)
    if owner == environment:
        return
    whose = f"belongs to the environment {owner}" if owner else "was not made by Containarium"
    raise TerminalError(
        f"the instance {raw.get('name')} {whose}",
        remedy="rename one of the two",
        reason="Conflict",
    )


def _refuse_shrinking(action: UpdateInstance | AdoptInstance, there: Mapping[str, Any]) -> None:
    """A disk only grows. A refused shrink is not harmless: Incus keeps the old size, the kernel takes the new."""
    for name, device in action.devices.items():
        old = (there.get("devices") or {}).get(name) or {}
        if device.get("type") != "disk" or not old.get("size"):
            continue
        try:
            shrinks = 0 < parse_bytes(device.get("size", "")) < parse_bytes(old["size"])
        except ValueError:
            continue
        if shrinks:
            raise TerminalError(
                f"the disk {name} of {action.instance} cannot shrink from {old['size']} to {device['size']}",
                remedy="a disk only grows: set resources.disk to at least its present size",
                reason="ShrinkRefused",
            )


def _is_conflict(error: BaseException) -> bool:
    return isinstance(error, RetryableError) and error.reason == "Conflict"
