"""What the kernel really holds running guests to: control groups, disk limit, spoof filters. No request to Incus.

Whatever cannot be read is left None, which is never a difference.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

from containarium.host.cgroups import CGROUPS, Limits, Payloads
from containarium.host.command import Run
from containarium.host.incus import Incus
from containarium.host.look import ENVIRONMENT_NAME
from containarium.host.netfilter import BridgeRules
from containarium.host.quotas import Quotas
from containarium.host.settings import HostSettings
from containarium.model import marks
from containarium.model.host import HostError
from containarium.model.observed import Enforcement, Instance, InstanceStatus
from containarium.plan.desired import NIC_DEVICE
from containarium.plan.enforce import FILTERS, is_true

_TABLE = "incus"
_DIRECTIONS = ("in", "fwd")


class Rules(Protocol):
    """The rules of a firewall's table."""

    def of(self, chain: str) -> bytes: ...


OpenRules = Callable[[], AbstractContextManager[Rules]]


def _bridge_rules() -> BridgeRules:
    return BridgeRules(_TABLE)


class EnforcementLook:
    """Reads what is in force. At most one process per look, and that only where the pool is ZFS."""

    def __init__(
        self,
        incus: Incus,
        settings: HostSettings,
        run: Run,
        *,
        cgroups: Path = CGROUPS,
        rules: OpenRules = _bridge_rules,
    ) -> None:
        self._incus = incus
        self._pools = settings.incus_dir / "storage-pools"
        self._pool = settings.pool
        self.quotas = Quotas(run)
        self._cgroups = cgroups
        self._rules = rules

    def running(self, instances: Mapping[str, Instance], only: frozenset[str] | None = None) -> dict[str, Enforcement]:
        """What holds for every running instance that carries our mark, by name.

        Where ``only`` names environments, for theirs alone.
        """
        ours = [
            instance
            for instance in instances.values()
            if instance.status is InstanceStatus.RUNNING
            and ENVIRONMENT_NAME.fullmatch(user := instance.config.get(marks.ENVIRONMENT, ""))
            and (only is None or user in only)
        ]
        return self.of(ours) if ours else {}

    def of(self, instances: Iterable[Instance]) -> dict[str, Enforcement]:
        """What holds for these instances, all of them running."""
        looked = {instance.name: instance for instance in instances}
        folders = {name: self.folder(instance) for name, instance in looked.items()}
        limits = self._limits(folders)
        disks = self._disks(folders)
        filters = self._filters(looked)
        return {
            name: Enforcement(
                memory=limits[name].memory,
                processes=limits[name].processes,
                cpus=limits[name].cpus,
                disk=disks.get(name),
                filters=filters.get(name),
            )
            for name in looked
        }

    def folder(self, instance: Instance) -> Path:
        """Where the instance lies in its pool."""
        return self.pool(instance) / "containers" / instance.name

    def pool(self, instance: Instance) -> Path:
        """Where the instance's pool is mounted."""
        root = next((d for d in instance.devices.values() if d.get("type") == "disk" and d.get("path") == "/"), {})
        return self._pools / root.get("pool", self._pool)

    def _limits(self, folders: Mapping[str, Path]) -> dict[str, Limits]:
        try:
            payloads = Payloads(self._cgroups)
        except OSError:
            return dict.fromkeys(folders, Limits())
        return {name: payloads.limits(name, folder / "rootfs") for name, folder in folders.items()}

    def _disks(self, folders: Mapping[str, Path]) -> Mapping[str, int | None]:
        try:
            return self.quotas.limits(folders)
        except HostError:
            return {}

    def _filters(self, instances: Mapping[str, Instance]) -> dict[str, bool]:
        """Whether each has all its filters; one that is to have none, or cannot be asked about, is left out."""
        found: dict[str, bool] = {}
        if self._firewall() != "nftables":
            return found
        try:
            with self._rules() as rules:
                for name, instance in instances.items():
                    nic = instance.devices.get(NIC_DEVICE, {})
                    if any(is_true(nic.get(key, "")) for key in FILTERS):
                        found[name] = _in_force(rules, name, nic)
        except OSError:  # no right to ask, or no such firewall
            return found
        return found

    def _firewall(self) -> str:
        try:
            return str(self._incus.server().get("environment", {}).get("firewall", ""))
        except HostError:
            return ""


def _in_force(rules: Rules, instance: str, nic: Mapping[str, str]) -> bool:
    """Whether both chains have rules, and these speak of its own hardware address; a flushed chain is empty."""
    own = b""
    if is_true(nic.get("security.mac_filtering", "")):
        own = bytes.fromhex(nic.get("hwaddr", "").replace(":", ""))
    chains = (rules.of(f"{direction}.{instance}.{NIC_DEVICE}") for direction in _DIRECTIONS)
    return all(chain and own in chain for chain in chains)
