"""Makes the kernel hold what is configured, while the guest runs on.

Incus applies only what changes. So a limit is written once in other letters that mean the same, and then as it was:
it is never looser meanwhile, and a controller that dies in between leaves a limit that holds. A disk limit on btrfs
is set past Incus, which cannot do it for a guest that is over its limit.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from typing import Any

from containarium.host.cancel import NEVER, Never
from containarium.host.enforcement import EnforcementLook
from containarium.host.incus import Incus
from containarium.host.instances import Instances, parse
from containarium.model import marks
from containarium.model.action import EnforceLimits, UpdateInstance
from containarium.model.host import HostError, Progress, RetryableError, TerminalError, WaitingError, silent
from containarium.model.observed import Instance
from containarium.model.quantity import parse_bytes
from containarium.plan.enforce import Lack, lacking, respelled, respelled_device

_ATTEMPTS = 2
_LOOKS = 15
_PAUSE = 0.1
_CONFLICTS = 5


class Enforcer:
    """Applies again what does not hold, and looks whether it holds then."""

    def __init__(self, incus: Incus, instances: Instances, look: EnforcementLook, cancellation: Never = NEVER) -> None:
        self._incus = incus
        self._instances = instances
        self._look = look
        self._cancellation = cancellation

    def enforce(self, action: EnforceLimits, progress: Progress = silent) -> None:
        """Put the action's limits in force. What does not run needs nothing: a start hands everything out.

        Raises RetryableError (EnforcementFailed) where Incus or the kernel refuses, TerminalError of the same reason
        where nobody refuses and it holds none the less; then a restart is noted as due.
        """
        refusal: HostError | None = None
        for attempt in range(_ATTEMPTS):
            instance = self._instance(action)
            left = self._lacks(action, instance)
            if not left:
                return
            if attempt == 0:
                progress(f"enforcing {', '.join(lack.field for lack in left)}")
            # the disk first: a guest that is over its limit makes Incus refuse everything else
            for lack in sorted(left, key=lambda lack: not lack.device):
                try:
                    self._again(action, lack)
                except HostError as error:
                    if error.reason in ("Cancelled", "Changed"):
                        raise
                    refusal = refusal or error
            if self._settled(action):
                return
        raise self._failed(action, refusal)

    def _instance(self, action: EnforceLimits) -> Instance:
        return parse(self._instances.owned(action.instance, action.environment).value)

    def _lacks(self, action: EnforceLimits, instance: Instance) -> list[Lack]:
        """Which of the action's limits still do not hold."""
        held = self._look.running({instance.name: instance}).get(instance.name)
        if held is None:
            return []
        wanted = action.config.keys() | action.devices.keys()
        cpus = len(os.sched_getaffinity(0))
        return [lack for lack in lacking(instance.config, instance.devices, held, cpus) if lack.key in wanted]

    def _settled(self, action: EnforceLimits) -> bool:
        """Whether all of it holds, at once or a little later: Incus hands processors out in a task of its own."""
        for _ in range(_LOOKS):
            if not self._lacks(action, self._instance(action)):
                return True
            self._cancellation.sleep(_PAUSE)
        return False

    def _again(self, action: EnforceLimits, lack: Lack) -> None:
        if not lack.device:
            value = action.config[lack.key]
            self._write(action, "config", lack.key, value, respelled(lack.key, value))
            return
        device = action.devices[lack.key]
        if device.get("type") == "disk" and self._set_quota(action, device):
            return
        self._write(action, "devices", lack.key, device, respelled_device(device))

    def _set_quota(self, action: EnforceLimits, device: Mapping[str, str]) -> bool:
        instance = self._instance(action)
        if instance.devices != {**instance.devices, **action.devices}:
            raise _changed(action.instance)
        folder, pool = self._look.folder(instance), self._look.pool(instance)
        return self._look.quotas.set_btrfs(folder, pool, parse_bytes(device["size"]))

    def _write(self, action: EnforceLimits, section: str, key: str, value: Any, other: Any) -> None:
        """Write the other spelling over the right one, and then the right one over the other."""
        try:
            self._replace(action, section, key, value, other)
        except HostError:
            # Incus may have written it down all the same (it does for a guest that has filled its disk)
            with contextlib.suppress(HostError):
                self._replace(action, section, key, other, value)
            raise
        self._replace(action, section, key, other, value)

    def _replace(self, action: EnforceLimits, section: str, key: str, before: Any, after: Any) -> None:
        """Bound to the state in which it still was as before; another change at the same moment is no obstacle."""
        for attempt in range(1, _CONFLICTS + 1):
            there = self._instances.owned(action.instance, action.environment)
            if there.value[section].get(key) != before:
                raise _changed(action.instance)
            try:
                self._incus.patch("instances", action.instance, body={section: {key: after}}, etag=there.etag)
            except HostError as error:
                if error.reason != "Conflict" or attempt == _CONFLICTS:
                    raise
                self._cancellation.sleep(_PAUSE)
            else:
                return

    def _failed(self, action: EnforceLimits, refusal: HostError | None) -> HostError:
        instance = self._instance(action)
        fields = ", ".join(lack.field for lack in self._lacks(action, instance))
        note = UpdateInstance(
            environment=action.environment,
            instance=action.instance,
            config={marks.RESTART: instance.last_used_at},
        )
        message = f"the kernel does not hold {action.instance} to {fields}"
        remedy = f"restart it: containarium apply --restart --only {action.environment}"
        try:
            self._instances.update(note)
        except HostError as error:
            refusal = refusal or error
        if refusal is None:
            return TerminalError(message, remedy=remedy, reason="EnforcementFailed")
        if isinstance(refusal, WaitingError):
            remedy = f"end what uses it in the environment, or {remedy}"
        return RetryableError(f"{message}: {refusal.message}", remedy=remedy, reason="EnforcementFailed")


def _changed(instance: str) -> RetryableError:
    return RetryableError(f"{instance} was changed meanwhile", remedy="it is looked at again", reason="Changed")
