"""What this host answers to the others: who is here, a guest's host keys, and an instance that is to move to them."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from ipaddress import AddressValueError, IPv4Address, IPv4Network
from typing import Any

import containarium
from containarium.host.faults import clean
from containarium.host.holds import hold
from containarium.host.hostkeys import MachineHostKeys
from containarium.host.incus import Incus
from containarium.host.instances import Instances
from containarium.host.peering.wire import KEYS, LIST, OFFER, Request
from containarium.host.power import Power
from containarium.host.settings import HostSettings
from containarium.model import marks
from containarium.model.action import UpdateInstance
from containarium.model.fleet import Peer
from containarium.model.host import RetryableError, TerminalError
from containarium.model.manifest import DeclaredHost, Load
from containarium.model.observed import Observed
from containarium.model.quantity import parse_bytes
from containarium.plan.desired import AUTOSTART, NIC_DEVICE, ROOT_DEVICE
from containarium.plan.offers import why_not
from containarium.plan.presence import boxes
from containarium.plan.restored import objections

_NOT_TOLD = ("volatile.",)
"""Belongs to the place where an instance is, and is made anew at the other."""


class Answers:
    """Answers the other hosts of the fleet. Safe to call from several threads."""

    def __init__(
        self,
        settings: HostSettings,
        name: str,
        observe: Callable[[], Observed],
        incus: Incus,
        instances: Instances,
        power: Power,
        load: Callable[[], Load | None],
        busy: Callable[[], Collection[str]],
        peers: Callable[[Sequence[DeclaredHost]], Mapping[str, Peer]],
        passing: Callable[[str], None] = lambda _host: None,
    ) -> None:
        """``name`` is this host's. ``observe`` looks at it from outside of the guests, ``load`` is what its manifests
        said last, ``busy`` whose environments are being worked on; ``peers`` asks the others now. ``passing`` is told
        of a host when something begins to go over to it, and when that has come to its end: what it said before is out
        of date then.
        """
        self._settings = settings
        self._name = name
        self._observe = observe
        self._incus = incus
        self._instances = instances
        self._power = power
        self._load = load
        self._busy = busy
        self._peers = peers
        self._passing = passing
        self._keys = MachineHostKeys(settings, incus)

    @contextlib.contextmanager
    def answered(self, request: Request) -> Iterator[Mapping[str, Any]]:
        """The answer. What was begun for it goes on while the block runs, and is taken back after it.

        Raises HostError: the other host is told its line.
        """
        load = self._known(request.caller)
        if request.ask == LIST:
            yield self._list(load)
        elif request.ask == KEYS:
            yield self._host_keys(request.name)
        elif request.ask == OFFER:
            self._authorise(request, load)
            with self._offered(request) as offer:
                self._passing(request.caller)
                try:
                    yield offer
                finally:
                    self._passing(request.caller)
        else:
            raise TerminalError("this request makes no sense", reason="BadRequest")

    def _known(self, caller: str) -> Load:
        """The manifests, which have to declare the caller: its key may still stand here for a moment after it left."""
        load = self._load()
        if load is None:
            raise RetryableError(f"{self._name} has not read its manifests yet", remedy="it is asked again")
        if caller == self._name or load.host(caller) is None:
            raise TerminalError(f"the manifests of {self._name} declare no host {caller}", reason="NoPeer")
        return load

    def _list(self, load: Load) -> Mapping[str, Any]:
        own = load.host(self._name)
        subnet = own.manifest.network if own is not None else None
        listed = boxes(self._observe())
        return {
            "version": containarium.__version__,
            "clock": time.time(),
            "boxes": [
                {
                    "name": box.name,
                    "presence": box.presence.value,
                    "address": _inside(box.address, subnet),
                    "other": box.other,
                }
                for box in (listed[name] for name in sorted(listed))
            ],
        }

    def _host_keys(self, name: str) -> Mapping[str, Any]:
        self._instances.owned(marks.instance_name(name), name)
        return {"keys": list(self._keys.of_guest(marks.instance_name(name)))}

    def _authorise(self, request: Request, load: Load) -> None:
        """Only what this host's own manifests place on the caller is given away."""
        name = request.name
        if not load.complete:
            raise RetryableError(f"{self._name} could not read all its manifests", remedy="mend them there")
        observed = self._observe()
        why = why_not(load, observed, name, request.caller)
        if not why:  # a third one may have got it meanwhile; who is refused anyhow makes nobody ask the others
            why = why_not(load, replace(observed, peers=self._peers(load.hosts)), name, request.caller)
        if why:
            raise RetryableError(f"{self._name} keeps it: {why}", remedy="it is asked again when both have one commit")
        if name in self._busy():
            raise RetryableError(f"{self._name} works on {name} at present", remedy="it is tried again")

    @contextlib.contextmanager
    def _offered(self, request: Request) -> Iterator[Mapping[str, Any]]:
        """Stop it, mark it, and let Incus wait for who fetches it. Afterwards it stays stopped and marked: who has it
        then is seen by looking.
        """
        name, instance = request.name, marks.instance_name(request.name)
        with hold(self._settings.runtime, name):
            there = self._instances.owned(instance, name).value
            _refuse(request, there)
            snapshots = self._incus.get("instances", instance, "snapshots", recursion="1") or ()
            if against := _against(name, there, snapshots):
                raise TerminalError(
                    f"{name} is not what {request.caller} may take over: {clean(against, 300)}",
                    remedy=f"take that off on {self._name} (incus config edit {instance}), where it is not needed",
                    reason="FetchRefused",
                )
            leaving = {marks.LEAVING: request.caller, AUTOSTART: "false"}
            self._instances.update(UpdateInstance(environment=name, instance=instance, config=leaving))
            self._power.stop(instance, name)
            there = self._instances.owned(instance, name).value
            operation = self._incus.begin("instances", instance, body={"migration": True, "live": False})
            try:
                # Incus takes the files of what runs, too: those of one moment here, of another there.
                there = self._instances.owned(instance, name).value
                if there.get("status") != "Stopped" or there["config"].get(marks.LEAVING) != request.caller:
                    raise RetryableError(f"{name} was started on {self._name} by somebody", remedy="it is tried again")
                yield self._terms(operation, there)
            finally:
                self._incus.cancel(str(operation["id"]))  # one that has come to its end is not there any more

    def _terms(self, operation: Mapping[str, Any], there: Mapping[str, Any]) -> Mapping[str, Any]:
        config: Mapping[str, str] = there.get("config") or {}
        return {
            "operation": operation["id"],
            "secrets": operation["metadata"],
            "certificate": self._incus.get()["environment"]["certificate"],
            "config": {key: value for key, value in config.items() if not key.startswith(_NOT_TOLD)},
            "architecture": there.get("architecture", ""),
            "image": config.get("volatile.base_image", ""),
            "instance_id": config.get("volatile.cloud-init.instance-id", ""),
        }


def _inside(address: str, subnet: IPv4Network | None) -> str:
    """Nobody would believe an address outside of the declared subnet, nor anything that is told beside it."""
    try:
        return address if subnet is None or IPv4Address(address) in subnet else ""
    except AddressValueError:
        return ""


def _against(name: str, there: Mapping[str, Any], snapshots: Iterable[Mapping[str, Any]]) -> str:
    """What speaks against taking an environment over, as who fetches it will judge; empty: nothing.

    Its devices are not told, for the other host makes them anew; what its profiles bring along stays here. Going back
    to a snapshot takes its settings over, too. One from before an adoption carries no mark of ours.
    """
    config = {key: value for key, value in (there.get("config") or {}).items() if not key.startswith(_NOT_TOLD)}
    found = list(objections(name, {"type": there.get("type"), "ephemeral": there.get("ephemeral"), "config": config}))
    for snapshot in snapshots:
        marked = {marks.ENVIRONMENT: name, **(snapshot.get("config") or {})}
        parts = {**snapshot, "config": marked, "type": "container"}
        found += [f"its snapshot {snapshot.get('name', '')}: {why}" for why in objections(name, parts)]
    return ", ".join(found)


def _refuse(request: Request, there: Mapping[str, Any]) -> None:
    """Raise TerminalError for what cannot move as it is. Nothing has been stopped then."""
    name, config = request.name, there.get("config") or {}
    if marks.SUSPENDED in config or marks.ARRIVING in config:  # since it was looked at
        raise RetryableError(f"{name} has changed there in this moment", remedy="it is asked again")
    others = sorted(set(there.get("devices") or {}) - {ROOT_DEVICE, NIC_DEVICE})
    if others:
        raise TerminalError(
            f"{name} has devices of that machine: {', '.join(others)}",
            remedy=f"remove them first (incus config device remove {marks.instance_name(name)} NAME)",
        )
    size = _bytes((there.get("devices") or {}).get(ROOT_DEVICE, {}).get("size", ""))
    if 0 < request.disk < size:
        raise TerminalError(
            f"the disk of {name} has {size} bytes, and would get {request.disk}",
            remedy="a disk only grows: set resources.disk to at least its present size",
        )


def _bytes(text: str) -> int:
    try:
        return parse_bytes(text)
    except ValueError:
        return 0
