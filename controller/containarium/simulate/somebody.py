"""Somebody behind the controller's back: an admin, a person in a guest, a spot market that takes the machine away."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from containarium.model import marks
from containarium.model.host import HostError
from containarium.model.observed import Account, InstanceStatus, Password
from containarium.model.quantity import parse_bytes
from containarium.simulate import incus
from containarium.simulate.inside import Inside
from containarium.simulate.world import World

FAILED_AUTOSTART_SECONDS = 10.0
"""Incus tries three times, 5 s apart, and answers nobody before it is through with all of them."""


class Somebody:
    """Changes the world without asking the controller, and mostly as the machine would let them."""

    def __init__(self, world: World) -> None:
        self._world = world

    # The machine

    def reboot(self, *, seconds: float = 60.0) -> None:
        """The power goes away and comes back: what is set to start, or ran and is not set, runs again."""
        world = self._world
        with world.lock:
            for instance in list(world.instances.values()):
                if instance.status is not InstanceStatus.STOPPED:
                    world.change_instance(instance.name, status=InstanceStatus.STOPPED)
            world.clock.advance(seconds)
            for instance in list(world.instances.values()):
                autostart = instance.config.get("boot.autostart", "")
                ran = instance.config.get(incus.POWER) == "RUNNING"
                wanted = autostart == "true" or (autostart == "" and ran)
                if wanted and not self.start(instance.name):
                    world.clock.advance(FAILED_AUTOSTART_SECONDS)

    def lose_boot_disk(self) -> None:
        """A new boot disk: our accounts and their key files are gone, the instances on the data disk are not."""
        world = self._world
        with world.lock:
            for name in [a.name for a in world.accounts.values() if a.group == marks.JUMP_GROUP]:
                world.drop_account(name)
                world.put_keys(name, None)
        self.reboot()

    # Instances

    def foreign_instance(self, name: str, *, address: str = "", running: bool = False) -> None:
        """Make an instance that is not ours, or without our mark."""
        nic = {"type": "nic", "name": "eth0", "network": self._world.facts.bridge}
        root = {"type": "disk", "path": "/", "pool": self._world.facts.pool}
        devices = {"root": root, "eth0": nic | ({"ipv4.address": address} if address else {})}
        incus.insert_row(self._world, name, {}, devices)
        incus.unpack(self._world, name, "guest")
        if running:
            incus.start(self._world, name)

    def half_born(self, name: str, environment: str) -> None:
        """Leave what a daemon leaves that is killed in the middle of creating an instance of ours."""
        root = {"type": "disk", "path": "/", "pool": self._world.facts.pool}
        incus.insert_row(self._world, name, {marks.ENVIRONMENT: environment}, {"root": root})

    def start(self, name: str) -> bool:
        """Try to start; tell whether Incus did."""
        try:
            incus.start(self._world, name)
        except HostError:
            return False
        return True

    def backups(self, name: str) -> int:
        """How many backups of an instance there are."""
        return len(self._world.backups.get(name, ()))

    def stop(self, name: str) -> None:
        """Stop, or power off from inside."""
        incus.stop(self._world, name)

    def freeze(self, name: str) -> None:
        """Pause a running instance."""
        self._world.change_instance(name, status=InstanceStatus.FROZEN)

    def remove_instance(self, name: str) -> None:
        """Delete by force; protection is taken away first."""
        self._world.drop_instance(name)

    def set_config(self, name: str, key: str, value: str) -> None:
        """Set one config key."""
        self._world.change_config(name, {key: value})

    def unset_config(self, name: str, key: str) -> None:
        """Remove one config key."""
        self._world.change_config(name, {key: ""})

    def set_device(self, name: str, device: str, config: Mapping[str, str]) -> None:
        """Add a device or replace it whole."""
        with self._world.lock:
            present = self._world.instances[name].devices
            self._world.change_instance(name, devices={**present, device: config})

    def remove_device(self, name: str, device: str) -> None:
        """Remove a device."""
        with self._world.lock:
            present = self._world.instances[name].devices
            self._world.change_instance(name, devices={k: v for k, v in present.items() if k != device})

    def loosen_memory(self, name: str, size: int) -> None:
        """Write another limit into the memory control group."""
        self._world.change_enforcement(name, memory=size)

    def loosen_processes(self, name: str, count: int) -> None:
        """Write another limit into the control group of processes."""
        self._world.change_enforcement(name, processes=count)

    def loosen_cpus(self, name: str) -> None:
        """Let it use every processor of the host."""
        self._world.change_enforcement(name, cpus=frozenset(range(self._world.facts.cpus)))

    def limit_disk(self, name: str, size: int) -> None:
        """Set the pool's limit past Incus, in bytes; 0 takes it away."""
        self._world.change_enforcement(name, disk=size)

    def flush_filters(self, name: str) -> None:
        """Delete a guest's chains from the firewall."""
        self._world.change_enforcement(name, filters=False)

    # Guests

    def _inside(self, name: str) -> Inside:
        inside = self._world.inside(name)
        if inside is None:
            raise KeyError(name)
        return inside

    def use_memory(self, name: str, size: int) -> None:
        """Let the guest use so many bytes of memory while it runs."""
        self._world.change_inside(name, memory=size)

    def use_disk(self, name: str, size: int) -> None:
        """Let the guest use so many bytes of its disk."""
        self._world.change_inside(name, disk=size)

    def fill_disk(self, name: str) -> None:
        """Let the guest write until its disk is full."""
        self.use_disk(name, parse_bytes(self._world.instances[name].devices["root"]["size"]))

    def silence(self, name: str, *, silent: bool = True) -> None:
        """Make the guest hang: it runs, but no command in it ends."""
        self._world.change_inside(name, silent=silent)

    def remove_guest_user(self, name: str, _user: str) -> None:
        """Delete the person's account in the guest, home and all."""
        with self._world.lock:
            inside = self._inside(name)
            guest = replace(
                inside.guest, user=False, shell="", groups=frozenset(), password=Password.MISSING, keys=None
            )
            self._world.change_inside(name, guest=guest, own_lines=())

    def join_group(self, name: str, _user: str, group: str) -> None:
        """Put the person into one more group in the guest."""
        self._world.change_guest(name, groups=self._inside(name).guest.groups | {group})

    def leave_group(self, name: str, _user: str, group: str) -> None:
        """Take the person out of a group in the guest."""
        self._world.change_guest(name, groups=self._inside(name).guest.groups - {group})

    def set_guest_shell(self, name: str, _user: str, shell: str) -> None:
        """Change the person's shell in the guest."""
        self._world.change_guest(name, shell=shell)

    def revoke_sudo(self, name: str, _user: str) -> None:
        """Remove our file in the guest's sudoers.d."""
        self._world.change_guest(name, sudo=False)

    def append_guest_line(self, name: str, _user: str, line: str) -> None:
        """Add a line of the person's own below our block of authorized_keys."""
        self._world.change_inside(name, own_lines=(*self._inside(name).own_lines, line))

    def remove_guest_key(self, name: str, _user: str, line: str) -> None:
        """Remove one line of authorized_keys, wherever it stands."""
        with self._world.lock:
            inside = self._inside(name)
            if inside.guest.keys is not None:
                self._world.change_guest(name, keys=tuple(key for key in inside.guest.keys if key != line))
            self._world.change_inside(name, own_lines=tuple(own for own in inside.own_lines if own != line))

    def remove_guest_keys(self, name: str, _user: str) -> None:
        """Delete authorized_keys."""
        with self._world.lock:
            self._world.change_guest(name, keys=None)
            self._world.change_inside(name, own_lines=())

    def guest_key_lines(self, name: str, _user: str) -> tuple[str, ...]:
        """Every key line in authorized_keys, inside our block and outside of it."""
        inside = self._inside(name)
        return (*(inside.guest.keys or ()), *inside.own_lines)

    def set_root_password(self, name: str) -> None:
        """Give the guest's root a password."""
        self._world.change_guest(name, root_password=Password.USABLE)

    def remove_package(self, name: str, package: str) -> None:
        """Remove a package in the guest; what others provide may go with it."""
        self._world.change_guest(name, packages=self._inside(name).guest.packages - {package})

    def disable_service(self, name: str, service: str) -> None:
        """Disable ``docker`` or ``ssh`` in the guest."""
        self._world.change_guest(name, **{service: False})

    # Accounts

    def add_account(self, name: str, *, shell: str = "/bin/bash", comment: str = "") -> None:
        """Make an account that is not ours."""
        world = self._world
        home = f"/home/{name}"
        world.put_account(Account(name, world.next_uid(), name, comment, home, shell, Password.LOCKED))

    def remove_account(self, name: str) -> None:
        """Delete an account; its keys file stays."""
        self._world.drop_account(name)

    def remove_shadow(self, name: str) -> None:
        """Leave an account half-made: its shadow entry is lost."""
        self._world.change_account(name, password=Password.MISSING)

    def give_shell(self, name: str, shell: str = "/bin/bash") -> None:
        """Change an account's shell."""
        self._world.change_account(name, shell=shell)

    def set_password_state(self, name: str, password: Password) -> None:
        """Lock an account with ``!``, empty its password, or give it a real one."""
        self._world.change_account(name, password=password)

    def change_primary_group(self, name: str, group: str) -> None:
        """Give an account another group of its own."""
        self._world.change_account(name, group=group)

    def add_to_group(self, name: str, group: str) -> None:
        """Put an account into one more group."""
        account = self._world.accounts[name]
        self._world.change_account(name, groups=account.groups | {group})

    def expire(self, name: str) -> None:
        """Let an account expire."""
        self._world.change_account(name, expired=True)

    def give_subordinate_ids(self, name: str) -> None:
        """Hand an account ids in /etc/subuid."""
        self._world.change_account(name, subordinate_ids=True)

    def put_host_keys(self, name: str, lines: Iterable[str]) -> None:
        """Write a keys file in our folder, with or without an account."""
        self._world.put_keys(name, lines)

    def append_host_key(self, name: str, line: str) -> None:
        """Add a key to a jump account."""
        self._world.put_keys(name, (*(self._world.key_file(name) or ()), line))

    def remove_host_keys(self, name: str) -> None:
        """Delete a jump account's keys file."""
        self._world.put_keys(name, None)
