"""What a command does inside a simulated guest. Every function is one indivisible sub-step."""

from __future__ import annotations

from collections.abc import Iterator

from containarium.model.action import SetUpUser
from containarium.model.host import RetryableError, TerminalError, WaitingError
from containarium.model.observed import InstanceStatus, Password
from containarium.simulate.incus import check_package, the_instance
from containarium.simulate.inside import PROVIDES, SERVICES, Inside
from containarium.simulate.world import World

LOGIN_SECONDS = 60.0
NO_SHELLS = frozenset({"", "/usr/sbin/nologin", "/sbin/nologin", "/bin/false", "/usr/bin/false"})
"""Shells that let nobody in; any other a person may have chosen."""


def enter(world: World, name: str) -> Inside:
    """The inside of a guest in which a command can run."""
    instance = the_instance(world, name)
    inside = world.inside(name)
    if instance.status is not InstanceStatus.RUNNING or inside is None:
        raise WaitingError(f"{name} is not running", reason="NotRunning")
    if inside.silent:
        raise RetryableError(f"{name} does not answer", reason="GuestSilent")
    return inside


def set_up(world: World, action: SetUpUser) -> Iterator[str]:
    """Make or repair the person's account; each yield names what comes next. What is right stays untouched."""
    name = action.instance
    if not enter(world, name).guest.user:
        yield "adding the user"
        enter(world, name)
        world.change_guest(name, user=True, shell=action.shell, groups=frozenset({action.user}))
    if enter(world, name).guest.password is not Password.NONE:
        yield "taking the password away"
        enter(world, name)
        world.change_guest(name, password=Password.NONE)
    if enter(world, name).guest.shell in NO_SHELLS:
        yield "setting the shell"
        enter(world, name)
        world.change_guest(name, shell=action.shell)
    wanted, unwanted = frozenset(action.groups), frozenset(action.without) - frozenset(action.groups)
    there = enter(world, name).guest.groups
    if wanted - there or unwanted & there:
        yield "joining and leaving groups"
        world.change_guest(name, groups=(enter(world, name).guest.groups | wanted) - unwanted)
    if not enter(world, name).guest.sudo:
        yield "allowing sudo"
        enter(world, name)
        world.change_guest(name, sudo=True)


def write_keys(world: World, name: str, keys: tuple[str, ...]) -> None:
    """Our block of authorized_keys; lines outside of it are the person's own."""
    if not enter(world, name).guest.user:
        raise RetryableError(f"{name} has no such user", remedy="it is set up first", reason="UserMissing")
    world.change_guest(name, keys=keys)


def install(world: World, name: str, package: str) -> None:
    """One package, with the service that comes with it."""
    guest = enter(world, name).guest
    if package in guest.packages:
        return
    check_package(world, package)
    world.change_guest(
        name,
        packages=guest.packages | {package} | PROVIDES.get(package, frozenset()),
        docker=guest.docker or package == SERVICES["docker"],
        ssh=guest.ssh or package == SERVICES["ssh"],
    )


def enable(world: World, name: str, service: str) -> None:
    """Enable a service that its package has brought."""
    guest = enter(world, name).guest
    if SERVICES.get(service) not in guest.packages:
        raise TerminalError(f"{name} has no service {service}", remedy="install its package", reason="ServiceMissing")
    world.change_guest(name, **{service: True})


def lock_root(world: World, name: str) -> None:
    """Take the root's password away."""
    enter(world, name)
    world.change_guest(name, root_password=Password.NONE)


def await_login(world: World, name: str, address: str) -> None:
    """Wait until the SSH server answers at the address, for a minute at most."""
    guest = enter(world, name).guest
    if not guest.ssh or world.lease(name) != address:
        world.clock.advance(LOGIN_SECONDS)
        raise RetryableError(f"no SSH server at {address}:22", remedy="see its ssh service", reason="NoLogin")
