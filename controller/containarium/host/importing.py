"""What is on a host already, for manifests to be made of it. Reads, and changes nothing.

Guests are hostile: their files come through Incus' own file API, bounded, and are believed in nothing. So are the homes
of accounts: no link is followed there.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from containarium.host import guestfiles
from containarium.host.incus import Incus
from containarium.host.instances import runs
from containarium.host.leases import is_ipv4
from containarium.host.look import FILE_LIMIT
from containarium.host.observe import Accounts
from containarium.host.rooted import Tree
from containarium.host.settings import HostSettings
from containarium.model import marks
from containarium.model.host import HostError
from containarium.model.observed import Account
from containarium.plan.desired import is_probe_line
from containarium.plan.inventory import SUFFIX, Seen

_KEYS = ".ssh/authorized_keys"
_KEYS_LIMIT = 256 << 10
_WORKERS = 8
_NO_LOGIN = ("/usr/sbin/nologin", "/sbin/nologin", "/bin/false", "/usr/bin/false")


class Importer:
    """Looks at one host."""

    def __init__(self, incus: Incus, accounts: Accounts, settings: HostSettings) -> None:
        self._incus = incus
        self._accounts = accounts
        self._settings = settings

    def seen(self, names: Collection[str] = ()) -> tuple[Seen, ...]:
        """The instances of these names (of environments, or Incus' own), or all; sorted by name.

        Builders and half-restored containers are ours for a while and nobody's environment. Raises HostError.
        """
        accounts = self._accounts.observe()[0]
        listed = sorted(self._incus.get("instances", recursion="1"), key=lambda raw: str(raw["name"]))
        wanted = [raw for raw in listed if _counts(raw) and (not names or _is_one_of(raw, names))]
        leases = self._leases()
        with ThreadPoolExecutor(max_workers=_WORKERS, thread_name_prefix="import") as pool:
            return tuple(pool.map(lambda raw: self._seen(raw, accounts, leases), wanted))

    def orphans(self) -> tuple[str, ...]:
        """Accounts that look like jump accounts of old (no shell, keys in their home) and have no container here."""
        accounts = self._accounts.observe()[0]
        there = {str(raw["name"]).removesuffix(SUFFIX) for raw in self._incus.get("instances", recursion="1")}
        return tuple(
            sorted(
                account.name
                for account in accounts.values()
                if account.name not in there and looks_like_jump(account) and _home_keys(account)
            )
        )

    def _seen(self, raw: Mapping[str, Any], accounts: Mapping[str, Account], leases: Mapping[str, str]) -> Seen:
        instance = str(raw["name"])
        name = instance.removesuffix(SUFFIX)
        config, devices = _texts(raw.get("expanded_config")), _devices(raw.get("expanded_devices"))
        account = accounts.get(name)
        state = self._state(instance)
        own = account is not None and marks.owns_account(account.name, account.group, account.comment, account.home)
        return Seen(
            instance=instance,
            kind=str(raw.get("type", "")),
            running=runs(raw) or raw.get("status") == "Frozen",
            config=config,
            own_config=_texts(raw.get("config")),
            devices=devices,
            own_devices=_devices(raw.get("devices")),
            address=_address(config, devices, leases),
            guest_keys=self._guest_keys(instance, name) if raw.get("type") == "container" else (),
            account=account,
            account_keys=() if account is None else (_door_keys(account) if own else ()) or _home_keys(account),
            disk_used=_number(((state.get("disk") or {}).get("root") or {}).get("usage")),
            memory_used=_number((state.get("memory") or {}).get("usage")),
        )

    def _state(self, instance: str) -> Mapping[str, Any]:
        try:
            state: Mapping[str, Any] = self._incus.get("instances", instance, "state")
        except HostError:
            return {}
        return state

    def _leases(self) -> dict[str, str]:
        """IPv4 addresses by hardware address, as the bridge's DHCP server has given them out."""
        try:
            listed = self._incus.get("networks", self._settings.bridge, "leases")
        except HostError:
            return {}
        return {
            str(lease.get("hwaddr", "")).lower(): str(lease["address"])
            for lease in listed or ()
            if is_ipv4(str(lease.get("address", "")))
        }

    def _guest_keys(self, instance: str, user: str) -> tuple[str, ...]:
        """The lines of the person's own file; none where the guest has no such person or shows something odd."""
        try:
            passwd = self._incus.read_file(instance, "/etc/passwd", FILE_LIMIT)
            if passwd is None or passwd.kind != "file":
                return ()
            found = guestfiles.find_user(passwd.data, user)
            if found is None or not found.home:
                return ()
            keys = self._incus.read_file(instance, f"{found.home}/{_KEYS}", _KEYS_LIMIT)
        except HostError:
            return ()
        return _lines(keys.data) if keys is not None and keys.kind == "file" and keys.whole else ()


def looks_like_jump(account: Account) -> bool:
    """Whether nobody can work on the host with it: no shell, no group that gives anything, a person's user id."""
    return account.uid >= 1000 and account.shell in _NO_LOGIN and not account.groups and account.name != "nobody"


def _door_keys(account: Account) -> tuple[str, ...]:
    """The people's keys in the file of a jump account of ours, without the options that stand before each."""
    lines = (line for line in account.keys or () if not is_probe_line(line))
    return tuple(line.partition(" ")[2] for line in lines)


def _home_keys(account: Account) -> tuple[str, ...]:
    if not account.home.startswith("/") or account.home in ("/", marks.JUMP_HOME):
        return ()
    try:
        with Tree(account.home) as tree:
            found = tree.private_file("/", _KEYS)
            data = tree.read(found, _KEYS_LIMIT) if found is not None else None
    except OSError:
        return ()
    return _lines(data) if data is not None else ()


def _lines(data: bytes) -> tuple[str, ...]:
    return tuple(data.decode(errors="replace").splitlines())


def _counts(raw: Mapping[str, Any]) -> bool:
    config = raw.get("config") or {}
    staging = marks.ENVIRONMENT in config and str(raw["name"]) != marks.instance_name(str(config[marks.ENVIRONMENT]))
    return marks.BUILDER not in config and not staging


def _is_one_of(raw: Mapping[str, Any], names: Collection[str]) -> bool:
    instance = str(raw["name"])
    return instance in names or (instance.endswith(SUFFIX) and instance.removesuffix(SUFFIX) in names)


def _address(config: Mapping[str, str], devices: Mapping[str, Mapping[str, str]], leases: Mapping[str, str]) -> str:
    """The pinned one, or the one that the DHCP server has given it: what a guest says of itself does not count."""
    for name, device in sorted(devices.items()):
        if device.get("type") != "nic":
            continue
        if is_ipv4(device.get("ipv4.address", "")):
            return device["ipv4.address"]
        hardware = device.get("hwaddr") or config.get(f"volatile.{name}.hwaddr", "")
        if address := leases.get(hardware.lower()):
            return address
    return ""


def _texts(found: Any) -> dict[str, str]:
    return {str(key): str(value) for key, value in (found or {}).items()}


def _devices(found: Any) -> dict[str, dict[str, str]]:
    return {str(name): _texts(device) for name, device in (found or {}).items()}


def _number(found: Any) -> int:
    return found if isinstance(found, int) and found > 0 else 0
