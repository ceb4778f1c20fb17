"""Looks inside running guests through the host's file system: no request to Incus, nearly free when nothing changed.

Whatever is odd in a guest counts as not there, so that a repair is planned.
"""

from __future__ import annotations

import hashlib
import re
import stat
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol, TypeVar
from weakref import WeakValueDictionary

from containarium.host import guestfiles
from containarium.host.guestfiles import GuestUser
from containarium.host.incus import Incus
from containarium.host.rooted import Found, Identity, NotSupportedError, Tree
from containarium.host.settings import HostSettings
from containarium.model import marks
from containarium.model.host import HostError
from containarium.model.observed import Guest, Instance, InstanceStatus, Password

ENVIRONMENT_NAME = re.compile(r"[a-z][a-z0-9-]{0,31}")
KEYS_LIMIT = 1024 * 1024
FILE_LIMIT = 1024 * 1024
_STATUS_LIMIT = 32 * 1024 * 1024
_SUDOERS_LIMIT = 4096
_API_WORKERS = 8
_API_DEADLINE = 40.0
"""Seconds for all that have to be asked over the API, together: the service manager's patience is longer."""
_SSH_UNITS = (("multi-user", "ssh.service"), ("sockets", "ssh.socket"), ("multi-user", "sshd.service"))
_DOCKER_UNITS = (("multi-user", "docker.service"),)
_T = TypeVar("_T")
_Cache = dict[str, tuple[Identity, Any]]


def sudoers_path(user: str) -> str:
    """Where the person's sudo rule stands in a guest."""
    return f"/etc/sudoers.d/90-containarium-{user}"


def sudoers_rule(user: str) -> bytes:
    """The rule itself."""
    return f"{user} ALL=(ALL:ALL) NOPASSWD:ALL\n".encode()


class _Reader(Protocol):
    """A way into one guest."""

    def parsed(self, path: str, limit: int, parse: Callable[[bytes, int], _T], default: _T, home: str = "") -> _T:
        """A regular file's content and mode through ``parse``; ``default`` where there is none.

        With ``home`` the path is below it, and only a file that nobody else can have replaced counts.
        """
        ...

    def enabled(self, target: str, unit: str) -> bool:
        """Whether a systemd unit is wanted by a target, and not masked."""
        ...


@dataclass(frozen=True, slots=True)
class Glance:
    """One guest, and the account of its person as passwd has it."""

    guest: Guest
    user: GuestUser | None


class GuestLook:
    """Reads the inside of running guests of ours. Remembers what it parsed of files that have not changed since."""

    def __init__(self, incus: Incus, settings: HostSettings, deadline: float = _API_DEADLINE) -> None:
        self._incus = incus
        self._deadline = deadline
        self._pools = settings.incus_dir / "storage-pools"
        self._pool = settings.pool
        self._caches: dict[str, _Cache] = {}
        self._packages: WeakValueDictionary[bytes, frozenset[str]] = WeakValueDictionary()

    def inside(self, instances: Mapping[str, Instance], only: frozenset[str] | None = None) -> dict[str, Guest]:
        """Every running instance that carries our mark, by name. One that cannot be read is left out.

        Where ``only`` names environments, no other is looked into.
        """
        ours = {}
        for name, instance in instances.items():
            user = instance.config.get(marks.ENVIRONMENT, "")
            if instance.status is InstanceStatus.RUNNING and ENVIRONMENT_NAME.fullmatch(user):
                ours[name] = user
        for gone in self._caches.keys() - ours.keys():
            self._caches.pop(gone, None)
        if only is not None:
            ours = {name: user for name, user in ours.items() if user in only}
        guests: dict[str, Guest] = {}
        hidden: dict[str, str] = {}
        for name, user in ours.items():
            try:
                with Tree(self._rootfs(instances[name])) as tree:
                    reader = _TreeReader(tree, self._caches.setdefault(name, {}))
                    guests[name] = self._guest(reader, user)
            except NotSupportedError:
                hidden[name] = user
            except OSError:  # the pool is mounted elsewhere, or the guest stopped meanwhile
                hidden[name] = user
        if hidden:
            guests.update(self._ask_all(hidden))
        return guests

    def glance(self, instance: Instance, user: str) -> Glance | None:
        """One guest, without a request; None where the host's file system does not show it."""
        try:
            with Tree(self._rootfs(instance)) as tree:
                if tree.file("/etc/passwd") is None:
                    return None
                reader = _TreeReader(tree, self._caches.setdefault(instance.name, {}))
                return Glance(self._guest(reader, user), self._users(reader, user)[0])
        except OSError:
            return None

    def _ask_all(self, hidden: Mapping[str, str]) -> dict[str, Guest]:
        """Those guests that answer in time: however many hang, a look ends."""
        pool = ThreadPoolExecutor(max_workers=_API_WORKERS, thread_name_prefix="look")
        asked = {name: pool.submit(self._asked, name, user) for name, user in hidden.items()}
        wait(asked.values(), timeout=self._deadline)
        pool.shutdown(wait=False, cancel_futures=True)
        answers = {name: answer.result() for name, answer in asked.items() if answer.done() and not answer.cancelled()}
        return {name: guest for name, guest in answers.items() if guest is not None}

    def _asked(self, name: str, user: str) -> Guest | None:
        """The guest as Incus' file API shows it. Slow, so only for what the host's file system does not show."""
        try:
            return self._guest(_ApiReader(self._incus, name), user)
        except HostError:
            return None

    def _rootfs(self, instance: Instance) -> Path:
        root = next((d for d in instance.devices.values() if d.get("type") == "disk" and d.get("path") == "/"), {})
        return self._pools / root.get("pool", self._pool) / "containers" / instance.name / "rootfs"

    def _guest(self, reader: _Reader, name: str) -> Guest:
        def password(shadow: bytes, _mode: int) -> tuple[Password, Password]:
            return guestfiles.find_password(shadow, name), guestfiles.find_password(shadow, "root")

        user, root = self._users(reader, name)
        passwords = reader.parsed("/etc/shadow", FILE_LIMIT, password, (Password.MISSING, Password.MISSING))
        return Guest(
            user=user is not None,
            shell=user.shell if user else "",
            groups=reader.parsed("/etc/group", FILE_LIMIT, partial(_groups, name, user), frozenset()),
            password=guestfiles.effective_password(user, passwords[0]),
            root_password=guestfiles.effective_password(root, passwords[1]),
            sudo=reader.parsed(sudoers_path(name), _SUDOERS_LIMIT, partial(_is_rule, sudoers_rule(name)), False),
            keys=self._keys(reader, user),
            packages=reader.parsed("/var/lib/dpkg/status", _STATUS_LIMIT, self._installed, frozenset()),
            docker=any(reader.enabled(*unit) for unit in _DOCKER_UNITS),
            ssh=any(reader.enabled(*unit) for unit in _SSH_UNITS),
        )

    def _users(self, reader: _Reader, name: str) -> tuple[GuestUser | None, GuestUser | None]:
        """The person's account, and root's."""

        def users(passwd: bytes, _mode: int) -> tuple[GuestUser | None, GuestUser | None]:
            return guestfiles.find_user(passwd, name), guestfiles.find_user(passwd, "root")

        nobody: tuple[GuestUser | None, GuestUser | None] = (None, None)
        return reader.parsed("/etc/passwd", FILE_LIMIT, users, nobody)

    def _keys(self, reader: _Reader, user: GuestUser | None) -> tuple[str, ...] | None:
        if user is None or not user.home:
            return None
        none: tuple[str, ...] | None = None
        return reader.parsed(
            ".ssh/authorized_keys", KEYS_LIMIT, lambda data, _mode: guestfiles.read_block(data), none, home=user.home
        )

    def _installed(self, status: bytes, _mode: int) -> frozenset[str]:
        """Guests made of one image share one set."""
        digest = hashlib.sha256(status).digest()
        known = self._packages.get(digest)
        if known is None:
            known = guestfiles.installed_packages(status)
            self._packages[digest] = known
        return known


class _TreeReader:
    """Through the host's file system."""

    def __init__(self, tree: Tree, cache: _Cache) -> None:
        self._tree = tree
        self._cache = cache

    def parsed(self, path: str, limit: int, parse: Callable[[bytes, int], _T], default: _T, home: str = "") -> _T:
        found = self._tree.private_file(home, path) if home else self._tree.file(path)
        if found is None:
            return default
        known = self._cache.get(path)
        if known is not None and known[0] == found.identity:
            value: _T = known[1]
            return value
        return self._read(found, path, limit, parse, default)

    def enabled(self, target: str, unit: str) -> bool:
        if self._tree.file(f"/etc/systemd/system/{target}.target.wants/{unit}") is None:
            return False
        return self._tree.link_target(f"/etc/systemd/system/{unit}") != "/dev/null"

    def _read(self, found: Found, path: str, limit: int, parse: Callable[[bytes, int], _T], default: _T) -> _T:
        data = self._tree.read(found, limit)
        if data is None:
            return default
        value = parse(data, stat.S_IMODE(found.mode))
        if found.settled:
            self._cache[path] = (found.identity, value)
        return value


class _ApiReader:
    """Through Incus' file API."""

    def __init__(self, incus: Incus, instance: str) -> None:
        self._incus = incus
        self._instance = instance

    def parsed(self, path: str, limit: int, parse: Callable[[bytes, int], _T], default: _T, home: str = "") -> _T:
        if home:
            folder = self._incus.read_file(self._instance, f"{home}/{path.split('/')[0]}", 0)
            if folder is None or folder.kind != "directory" or folder.mode & 0o022:
                return default
        file = self._incus.read_file(self._instance, f"{home}/{path}" if home else path, limit)
        if file is None or file.kind != "file" or not file.whole or (home and file.mode & 0o022):
            return default
        return parse(file.data, file.mode)

    def enabled(self, target: str, unit: str) -> bool:
        wanted = self._incus.read_file(self._instance, f"/etc/systemd/system/{target}.target.wants/{unit}", 0)
        if wanted is None:
            return False
        override = self._incus.read_file(self._instance, f"/etc/systemd/system/{unit}", 0)
        return override is None or override.kind == "file"


def _groups(name: str, user: GuestUser | None, group: bytes, _mode: int) -> frozenset[str]:
    return guestfiles.find_groups(group, name, user.gid if user else None)


def _is_rule(rule: bytes, data: bytes, mode: int) -> bool:
    # sudo ignores a file that others can write to
    return data == rule and not mode & 0o022
