"""The stage on a real machine, which may be changed freely: run as root, after ``containarium host prepare``."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from containarium.host.accounts import Accounts
from containarium.host.machine import Machine
from containarium.host.settings import HostSettings
from containarium.model import marks
from containarium.model.observed import Password
from tests.conformance.stage import Stage

IMAGE_VARIABLE = "CONTAINARIUM_CONFORMANCE_IMAGE"
_TIMEOUT = 60
_CGROUPS = Path("/sys/fs/cgroup")
_HALF_BORN_LACKS = ("volatile.apply_template", "volatile.last_state.power")
_SHADOW = {
    Password.NONE: "*",
    Password.LOCKED: "!",
    Password.EMPTY: "",
    Password.USABLE: "$6$saltsalt$" + 86 * "x",
}


def real_stage() -> Stage:
    """This machine, with the image that the environment names."""
    settings = HostSettings()
    return Stage(Machine(settings, Accounts(settings)), RealOperator(settings), os.environ[IMAGE_VARIABLE])


def _run(*args: str, stdin: str = "", codes: Sequence[int] = (0,)) -> str:
    done = subprocess.run(args, input=stdin, capture_output=True, text=True, timeout=_TIMEOUT, check=False)
    if done.returncode not in codes:
        raise AssertionError(f"{args} ended with {done.returncode}: {done.stderr or done.stdout}")
    return done.stdout


class RealOperator:
    """An admin at a root shell of the machine."""

    def __init__(self, settings: HostSettings) -> None:
        self._settings = settings

    # Instances

    def foreign_instance(self, name: str, *, address: str = "", running: bool = False) -> None:
        nic = {"type": "nic", "name": "eth0", "network": self._settings.bridge}
        body = {
            "name": name,
            "profiles": [],
            "source": {"type": "image", "alias": os.environ[IMAGE_VARIABLE]},
            "devices": {
                "root": {"type": "disk", "path": "/", "pool": self._settings.pool},
                "eth0": nic | ({"ipv4.address": address} if address else {}),
            },
        }
        _run("incus", "query", "--wait", "-X", "POST", "-d", json.dumps(body), "/1.0/instances")
        if running:
            _run("incus", "start", name)

    def half_born(self, name: str, environment: str) -> None:
        """What a daemon leaves that is killed in the middle of a creation: a row without its last volatile keys, and no
        link to its root file system, so that a start fails before it writes anything.
        """
        body = {
            "name": name,
            "profiles": [],
            "source": {"type": "none"},
            "config": {marks.ENVIRONMENT: environment},
            "devices": {"root": {"type": "disk", "path": "/", "pool": self._settings.pool}},
        }
        _run("incus", "query", "--wait", "-X", "POST", "-d", json.dumps(body), "/1.0/instances")
        for key in _HALF_BORN_LACKS:
            _run("incus", "config", "unset", name, key, codes=(0, 1))
        (self._settings.incus_dir / "containers" / name).unlink(missing_ok=True)

    def remove_instance(self, name: str) -> None:
        _run("incus", "config", "unset", name, "security.protection.delete", codes=(0, 1))
        _run("incus", "delete", "--force", name, codes=(0, 1))

    def stop(self, name: str) -> None:
        _run("incus", "stop", "--force", name)

    def freeze(self, name: str) -> None:
        _run("incus", "pause", name)

    def set_config(self, name: str, key: str, value: str) -> None:
        _run("incus", "config", "set", name, f"{key}={value}")

    def unset_config(self, name: str, key: str) -> None:
        _run("incus", "config", "unset", name, key)

    def set_device(self, name: str, device: str, config: Mapping[str, str]) -> None:
        body = json.dumps({"devices": {device: dict(config)}})
        _run("incus", "query", "--wait", "-X", "PATCH", "-d", body, f"/1.0/instances/{name}")

    # What the kernel holds it to

    def loosen_memory(self, name: str, size: int) -> None:
        for file in ("memory.memsw.limit_in_bytes", "memory.limit_in_bytes", "memory.max"):
            _write_limit("memory", name, file, str(size))

    def loosen_processes(self, name: str, count: int) -> None:
        _write_limit("pids", name, "pids.max", str(count))

    def loosen_cpus(self, name: str) -> None:
        _write_limit("cpuset", name, "cpuset.cpus", f"0-{(os.cpu_count() or 1) - 1}")

    def limit_disk(self, name: str, size: int) -> None:
        folder = self._settings.incus_dir / "storage-pools" / self._settings.pool / "containers" / name
        _run("btrfs", "qgroup", "limit", str(size or "none"), str(folder))

    def flush_filters(self, name: str) -> None:
        for chain in (f"in.{name}.eth0", f"fwd.{name}.eth0"):
            _run("nft", "flush", "chain", "bridge", "incus", chain)

    def backups(self, name: str) -> int:
        """How many whole backups of an instance there are."""
        environment = name.removesuffix("-container")
        return len(list(self._settings.backups.glob(f"{environment}-2???????T??????Z.tar.*.sha256")))

    # Guests

    def _inside(self, name: str, *args: str, stdin: str = "", codes: Sequence[int] = (0,)) -> str:
        return _run("incus", "exec", name, "--", *args, stdin=stdin, codes=codes)

    def fill_disk(self, name: str) -> None:
        self._inside(name, "dd", "if=/dev/urandom", "of=/var/fill", "bs=1M", codes=(1,))
        # What did not hold another MiB may well hold what Incus writes.
        self._inside(name, "dd", "if=/dev/urandom", "of=/var/rest", "bs=512", codes=(1,))
        self._inside(name, "sync", codes=(0, 1))

    def remove_guest_user(self, name: str, user: str) -> None:
        self._inside(name, "userdel", "--remove", user, codes=(0, 6, 12))

    def join_group(self, name: str, user: str, group: str) -> None:
        self._inside(name, "gpasswd", "--add", user, group)

    def leave_group(self, name: str, user: str, group: str) -> None:
        self._inside(name, "gpasswd", "--delete", user, group)

    def set_guest_shell(self, name: str, user: str, shell: str) -> None:
        self._inside(name, "usermod", "--shell", shell, user)

    def revoke_sudo(self, name: str, user: str) -> None:
        """Remove every drop-in that speaks of the user."""
        found = self._inside(name, "grep", "--recursive", "--files-with-matches", user, "/etc/sudoers.d", codes=(0, 1))
        for path in found.splitlines():
            self._inside(name, "rm", path)

    def append_guest_line(self, name: str, user: str, line: str) -> None:
        self._inside(name, "tee", "--append", _keys_path(user), stdin=f"{line}\n")

    def remove_guest_key(self, name: str, user: str, line: str) -> None:
        lines = self._inside(name, "cat", _keys_path(user)).splitlines(keepends=True)
        kept = "".join(each for each in lines if each.rstrip("\n") != line)
        self._inside(name, "tee", _keys_path(user), stdin=kept)

    def remove_guest_keys(self, name: str, user: str) -> None:
        self._inside(name, "rm", "--force", _keys_path(user))

    def guest_key_lines(self, name: str, user: str) -> tuple[str, ...]:
        lines = self._inside(name, "cat", _keys_path(user)).splitlines()
        return tuple(line for line in lines if line and not line.startswith("#"))

    def set_root_password(self, name: str) -> None:
        self._inside(name, "usermod", "--password", _SHADOW[Password.USABLE], "root")

    def remove_package(self, name: str, package: str) -> None:
        self._inside(name, "dpkg", "--purge", package)

    def disable_service(self, name: str, service: str) -> None:
        self._inside(name, "systemctl", "disable", "--now", service)

    # Accounts of the host

    def add_account(self, name: str, *, shell: str = "/bin/bash", comment: str = "") -> None:
        no_ids = ("-K", "SUB_UID_COUNT=0", "-K", "SUB_GID_COUNT=0")  # root has them all on such a machine
        _run("useradd", *no_ids, "--create-home", "--comment", comment, "--shell", shell, name)

    def remove_account(self, name: str) -> None:
        _run("userdel", "--remove", name, codes=(0, 6, 12))

    def remove_shadow(self, name: str) -> None:
        path = self._settings.etc / "shadow"
        lines = path.read_text().splitlines(keepends=True)
        path.write_text("".join(line for line in lines if not line.startswith(f"{name}:")))

    def give_shell(self, name: str, shell: str = "/bin/bash") -> None:
        _run("usermod", "--shell", shell, name)

    def set_password_state(self, name: str, password: Password) -> None:
        _run("usermod", "--password", _SHADOW[password], name)

    def add_to_group(self, name: str, group: str) -> None:
        _run("usermod", "--append", "--groups", group, name)

    def expire(self, name: str) -> None:
        _run("usermod", "--expiredate", "1", name)

    def give_subordinate_ids(self, name: str) -> None:
        _run("usermod", "--add-subuids", "2000000000-2000000009", name)

    def append_host_key(self, name: str, line: str) -> None:
        with self._host_keys(name).open("a") as file:
            file.write(f"{line}\n")

    def remove_host_keys(self, name: str) -> None:
        self._host_keys(name).unlink(missing_ok=True)

    def _host_keys(self, name: str) -> Path:
        return self._settings.jump_keys / name


def _write_limit(controller: str, name: str, file: str, value: str) -> None:
    """Into the control group of an instance, of either generation; a file that is not there is of the other one."""
    for root in (_CGROUPS / controller, _CGROUPS):
        path = root / f"lxc.payload.{name}" / file
        if path.exists():
            path.write_text(value)


def _keys_path(user: str) -> str:
    return f"/home/{user}/.ssh/authorized_keys"
