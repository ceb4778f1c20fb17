"""What the account tools do on the simulated host. Every function is one indivisible sub-step."""

from __future__ import annotations

from collections.abc import Iterator

from containarium.model import marks
from containarium.model.host import TerminalError
from containarium.model.observed import Account, Password
from containarium.simulate.world import World


def ours(world: World, name: str, environment: str) -> Account | None:
    """The jump account of an environment, None where there is no account of that name; a foreign one is an error."""
    account = world.account(name)
    if account is None:
        return None
    if not marks.owns_account(environment, account.group, account.comment, account.home):
        raise TerminalError(
            f"the account {name} (uid {account.uid}) is not ours",
            remedy="choose another name for the environment",
            reason="Conflict",
        )
    return account


def ensure(world: World, name: str, environment: str) -> Iterator[str]:
    """Make or repair the account, one file after the other; each yield names what comes next."""
    if ours(world, name, environment) is None:
        yield "adding the passwd line"
        if ours(world, name, environment) is None:
            comment = marks.account_comment(environment)
            world.put_account(
                Account(
                    name,
                    world.next_uid(),
                    marks.JUMP_GROUP,
                    comment,
                    marks.JUMP_HOME,
                    marks.JUMP_SHELL,
                    password=Password.MISSING,
                )
            )
    wanted = {
        "password": Password.NONE,
        "group": marks.JUMP_GROUP,
        "home": marks.JUMP_HOME,
        "shell": marks.JUMP_SHELL,
        "expired": False,
        "groups": frozenset(),
        "subordinate_ids": False,
    }
    for field, value in wanted.items():
        account = ours(world, name, environment)
        if account is not None and getattr(account, field) != value:
            yield f"setting {field}"
            if ours(world, name, environment) is not None:
                world.change_account(name, **{field: value})


def write_keys(world: World, name: str, environment: str, lines: tuple[str, ...]) -> None:
    """Replace the keys file, or remove it when there are no lines; the account may come later."""
    ours(world, name, environment)
    world.put_keys(name, lines or None)


def lock(world: World, name: str, environment: str) -> None:
    """Let the account expire at once; one that does not exist is locked enough."""
    account = ours(world, name, environment)
    if account is not None:
        open_or_half_made = account.password in (Password.MISSING, Password.EMPTY)
        world.change_account(name, expired=True, password=Password.NONE if open_or_half_made else account.password)


def delete(world: World, name: str, environment: str) -> Iterator[str]:
    """Remove the keys file, cut access, then remove the account."""
    ours(world, name, environment)
    if world.key_file(name) is not None:
        yield "removing the keys file"
        write_keys(world, name, environment, ())
    if ours(world, name, environment) is not None:
        yield "letting the account expire"
        lock(world, name, environment)
        yield "removing the account"
        if ours(world, name, environment) is not None:
            world.drop_account(name)
