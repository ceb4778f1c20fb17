"""Fetching an environment from another host: marked as a part from its first moment, and as whole only when it is."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

from containarium.host import command
from containarium.host.faults import clean
from containarium.host.firewall import INCUS_PORT
from containarium.host.idmaps import ISOLATED
from containarium.host.incus import Incus
from containarium.host.instances import Instances, refuse_if_busy
from containarium.host.peering.wire import Offer
from containarium.host.settings import HostSettings
from containarium.model import marks
from containarium.model.action import DeleteInstance, FetchInstance, UpdateInstance
from containarium.model.host import Progress, RetryableError, TerminalError, silent
from containarium.model.hostmanifest import HostManifest
from containarium.model.quantity import parse_bytes
from containarium.plan.desired import AUTOSTART, PROTECTION, ROOT_DEVICE
from containarium.plan.presence import PASSING_MARKS, WHOLE, arriving
from containarium.plan.restored import objections

_LONGEST = 24 * 3600.0
_DELETE_TIMEOUT = 180.0
_OF_THERE = (marks.RETIRED, marks.PRUNE_AFTER, marks.SUSPENDED, marks.LEAVING, marks.MOVED, marks.RESTART)
"""Marks that tell of the other host, or of what is over."""
_STAGING = re.compile(r"migration\.[0-9]+")


class Held(Protocol):
    """An offer for as long as the other host keeps to it; ``check`` raises HostError where it does not any more."""

    @property
    def offer(self) -> Offer: ...

    def check(self) -> None: ...


class Source(Protocol):
    """The other hosts, as ``containarium.host.peering.neighbours`` has them."""

    def offered(self, host: str, environment: str, disk: int) -> contextlib.AbstractContextManager[Held]: ...

    def declared(self, host: str) -> HostManifest: ...


class Fetcher:
    """Carries FetchInstance out on one host."""

    def __init__(
        self,
        incus: Incus,
        instances: Instances,
        settings: HostSettings,
        source: Source,
        run: command.Run = command.run,
        refresh: Callable[[str], None] = lambda _host: None,
    ) -> None:
        """``refresh`` has another host asked anew, whose answers of before are out of date.

        ``incus.cancellation`` ends a fetch within a second or two; what it leaves is fetched anew.
        """
        self._incus = incus
        self._instances = instances
        self._settings = settings
        self._source = source
        self._run = run
        self._refresh = refresh

    def fetch(self, action: FetchInstance, progress: Progress = silent) -> None:
        """Fetch it. What is out of date here goes, once the other host holds what takes its place. Raises HostError.

        What came is judged before it counts as whole: it may ask for no more of this host than an environment may.
        """
        left = self._left(action)
        progress(f"asking {action.source} for {action.environment}")
        host = self._source.declared(action.source)
        with self._source.offered(action.source, action.environment, _size(action)) as held:
            self._incus.cancellation.check()
            body = _body(action, held.offer, host)
            _refuse(action, {"config": body["config"], "devices": body["devices"], "type": "container"})
            if left:  # only now is it certain that the other host has all of it
                progress("removing what is here of it, which is out of date")
                self._remove(action)
            self._sweep()
            operation = self._instances.idmaps.begin(body)
            progress(f"fetching {action.environment} from {action.source}")
            self._incus.wait(operation, _LONGEST, progress, held.check)
            self._finish(action, held.offer)
        self._refresh(action.source)  # that it let go is what the next pass has to know

    def _left(self, action: FetchInstance) -> bool:
        """Whether there is something here that is out of date: a part that an earlier attempt left, or what was left
        behind at a move. What arrived counts as a part from now on: nobody knows how old it is.
        """
        if self._incus.find("instances", action.instance) is None:
            return False
        config = self._out_of_date(action)
        refuse_if_busy(self._incus, action.instance)
        mark = config.get(marks.ARRIVING, "")
        if mark.endswith(WHOLE):
            self._mark(action, {marks.ARRIVING: mark.removesuffix(WHOLE)})
        return True

    def _out_of_date(self, action: FetchInstance) -> Mapping[str, str]:
        """The config of what is here. Raises HostError where it is not ours, has no mark of a move, or runs."""
        there = self._instances.owned(action.instance, action.environment).value
        config: Mapping[str, str] = there.get("config") or {}
        if not any(config.get(mark) for mark in PASSING_MARKS):
            raise RetryableError(
                f"{action.instance} is here, and is no part of a copy",
                remedy="it is looked at again",
                reason="Conflict",
            )
        if there.get("status") != "Stopped":
            what = "is not whole" if config.get(marks.ARRIVING) else f"is out of date: {action.source} has a newer one"
            raise TerminalError(
                f"somebody started {action.instance}, which {what}",
                remedy=f"stop it: incus stop --force {action.instance}",
                reason="Running",
            )
        return config

    def _mark(self, action: FetchInstance, config: Mapping[str, str]) -> None:
        self._instances.update(UpdateInstance(environment=action.environment, instance=action.instance, config=config))

    def _remove(self, action: FetchInstance) -> None:
        """Delete what is out of date. A protection on it is for what lives on, and that has its own."""
        part = self._out_of_date(action).get(marks.ARRIVING)
        self._mark(action, {PROTECTION: ""})
        if part:
            self._instances.remove_part(action.instance, action.environment)
        else:
            gone = DeleteInstance(environment=action.environment, instance=action.instance, reason=marks.OUT_OF_DATE)
            self._instances.delete(gone)

    def _finish(self, action: FetchInstance, offer: Offer) -> None:
        """Look at what came, and say last of all that it is whole."""
        if other := self._instances.idmaps.shared_with(action.instance):
            raise RetryableError(
                f"Incus gave {action.instance} the ids of {other}", remedy="it is fetched anew", reason="SharedIds"
            )
        there = self._instances.owned(action.instance, action.environment).value
        _refuse(action, there)
        for snapshot in self._incus.get("instances", action.instance, "snapshots", recursion="1") or ():
            _refuse_snapshot(action, snapshot)
        self._forget_templates(action.instance)
        config = {
            # or the image's templates would write the person's host name and hosts anew at the first start
            "volatile.apply_template": "",
            "volatile.last_state.power": "STOPPED",
            marks.ARRIVING: arriving(action.source, whole=True),
        }
        if offer.instance_id:
            config["volatile.cloud-init.instance-id"] = offer.instance_id
        self._mark(action, config)

    def _forget_templates(self, instance: str) -> None:
        """Files that Incus itself writes at a start, as root. They were used when the environment was made."""
        metadata = self._incus.get("instances", instance, "metadata") or {}
        if metadata.get("templates"):
            self._incus.put("instances", instance, "metadata", body={**metadata, "templates": {}})

    def _sweep(self) -> None:
        """Remove what an Incus that was killed while it received left in a btrfs pool: it never does so itself.

        Only while it works on nothing, and only from a folder that is named as its own are.
        """
        containers = self._settings.incus_dir / "storage-pools" / self._settings.pool / "containers"
        try:
            left = [
                entry for entry in containers.iterdir() if _STAGING.fullmatch(entry.name) and not entry.is_symlink()
            ]
        except OSError:
            return
        if not left or any(self._incus.get("operations", recursion="1", all_projects="true").get("running") or ()):
            return
        for folder in left:
            for subvolume in sorted(_folders(folder, 3), key=lambda path: -len(path.parts)):
                if subvolume.stat().st_ino == _SUBVOLUME:
                    self._quietly(["btrfs", "property", "set", "-ts", str(subvolume), "ro", "false"])
                    self._quietly(["btrfs", "subvolume", "delete", str(subvolume)])
                else:
                    with contextlib.suppress(OSError):
                        subvolume.rmdir()
            with contextlib.suppress(OSError):
                folder.rmdir()

    def _quietly(self, args: list[str]) -> None:
        self._run(args, timeout=60.0, check=False)


_SUBVOLUME = 256
"""Number of the first inode of every subvolume of btrfs."""


def _folders(root: Path, depth: int) -> list[Path]:
    """Folders below ``root``, down to ``depth``, and into no subvolume: those are guests' files."""
    found: list[Path] = []
    with contextlib.suppress(OSError):
        for entry in os.scandir(root):
            if entry.is_dir(follow_symlinks=False):
                path = Path(entry.path)
                found.append(path)
                if depth > 1 and entry.stat(follow_symlinks=False).st_ino != _SUBVOLUME:
                    found += _folders(path, depth - 1)
    return found


def _body(action: FetchInstance, offer: Offer, host: HostManifest) -> dict[str, Any]:
    """What Incus here is asked to make. Where it fetches from is what the host's manifest says, not what it told."""
    kept = {
        key: value for key, value in offer.config.items() if key not in _OF_THERE and not key.startswith("volatile.")
    }
    config = {**kept, **action.config, marks.ENVIRONMENT: action.environment, AUTOSTART: "false"}
    source: dict[str, Any] = {
        "type": "migration",
        "mode": "pull",
        "operation": f"https://{host.spec.network.address}:{INCUS_PORT}/1.0/operations/{offer.operation}",
        "certificate": offer.certificate,
        "secrets": dict(offer.secrets),
    }
    if offer.image:
        source["base-image"] = offer.image
    return {
        "name": action.instance,
        "type": "container",
        "architecture": offer.architecture,
        "profiles": [],
        "config": {key: value for key, value in config.items() if value != ""}
        | {ISOLATED: "true", marks.ARRIVING: arriving(action.source)},
        "devices": {name: dict(device) for name, device in action.devices.items()},
        "source": source,
    }


def _size(action: FetchInstance) -> int:
    try:
        return parse_bytes(action.devices.get(ROOT_DEVICE, {}).get("size", ""))
    except ValueError:
        return 0


def _refuse(action: FetchInstance, found: Mapping[str, Any]) -> None:
    if against := objections(action.environment, found):
        raise _refused(action, ", ".join(against))


def _refuse_snapshot(action: FetchInstance, snapshot: Mapping[str, Any]) -> None:
    """Going back to one takes its settings over, too. One from before an adoption carries no mark of ours."""
    config = {marks.ENVIRONMENT: action.environment, **(snapshot.get("config") or {})}
    if against := objections(action.environment, {**snapshot, "config": config, "type": "container"}):
        raise _refused(action, f"its snapshot {clean(str(snapshot.get('name', '')), 64)}: {', '.join(against)}")


def _refused(action: FetchInstance, why: str) -> TerminalError:
    return TerminalError(
        f"{action.environment} is not taken over from {action.source}, for it is not what an environment may be: "
        f"{clean(why, 300)}",
        remedy=f"take that off on {action.source}, where you trust it",
        reason="FetchRefused",
    )
