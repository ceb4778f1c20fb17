"""Fixtures of the lab. It is imported only when a test asks for one: unit tests neither need nor load it."""

from __future__ import annotations

import os
import shutil
import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.lab.host import LabHost
    from tests.lab.laptop import Laptop
    from tests.lab.outer import Outer


def _obstacle() -> str | None:
    """Return why no lab is possible here, if so."""
    if sys.platform != "linux":
        return "no real host to test on: this is not Linux"
    if os.geteuid() != 0:
        return "no real host to test on: this needs root"
    if shutil.which("incus") is None and shutil.which("apt-get") is None:
        return "no real host to test on: no Incus here, and no apt to install it"
    return None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what needs the lab where none is possible: one line per file. In CI they run, and fail."""
    reason = _obstacle()
    if reason is None or os.environ.get("CI") == "true":
        return
    for item in items:
        if isinstance(item, pytest.Function) and "outer" in item.fixturenames:
            item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(scope="session")
def outer() -> Outer:
    """Give the outer Incus, running, with images built. It stays up for the next run."""
    reason = _obstacle()
    if reason is not None:
        pytest.fail(reason, pytrace=False)
    from tests.lab import images, outer, recipes

    lab = outer.Outer()
    lab.up()
    images.ImageStore(lab).ensure_all([recipes.host(), recipes.GUEST])
    return lab


@pytest.fixture(scope="session")
def lab_host(outer: Outer) -> Iterator[LabHost]:
    """Give one disposable host with the working tree installed; its Incus is not set up."""
    from tests.lab.host import LabHost

    host = LabHost(outer, "host")
    host.create()
    host.install_project()
    yield host
    host.delete()


@pytest.fixture
def new_host(outer: Outer) -> Iterator[Callable[..., LabHost]]:
    """Give a maker of further hosts, for one test; `new_host(NAME, bare=True)` is a Debian with nothing on it."""
    from tests.lab import recipes
    from tests.lab.host import LabHost

    made: list[LabHost] = []

    def make(name: str, *, bare: bool = False) -> LabHost:
        host = LabHost(outer, name, recipe=recipes.BARE if bare else None)
        made.append(host)
        host.create()
        if not bare:
            host.install_project()
        return host

    yield make
    for host in made:
        host.delete()


@pytest.fixture(scope="session")
def laptop(outer: Outer) -> Iterator[Laptop]:
    """Give a user's computer that reaches hosts, but nothing behind them."""
    from tests.lab.laptop import Laptop

    with Laptop(outer) as laptop:
        yield laptop
