"""What somebody may do to a jump account behind the controller's back."""

from __future__ import annotations

from collections.abc import Callable

from containarium.simulate.somebody import Somebody
from tests.builders import public_key


def meddle_with_account(somebody: Somebody, name: str, what: int) -> None:
    """Do one of these things; every number is one of them."""
    tricks: list[Callable[[], None]] = [
        lambda: somebody.give_shell(name),
        lambda: somebody.append_host_key(name, public_key("mallory")),
        lambda: somebody.remove_account(name),
        lambda: somebody.remove_shadow(name),
        lambda: somebody.remove_host_keys(name),
    ]
    tricks[what % len(tricks)]()
