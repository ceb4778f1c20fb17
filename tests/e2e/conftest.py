"""Everything in this folder runs on a real, disposable host."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.e2e.living import LivingSite
    from tests.e2e.people import Person
    from tests.e2e.site import Facts, Site
    from tests.lab.host import LabHost
    from tests.lab.laptop import Laptop
    from tests.lab.outer import Outer

HERE = Path(__file__).parent
TIMEOUT = 900  # the first test of a run may have to build the images


LONGEST = (
    *("test_fleet", "test_quickstart", "test_snapshots", "test_torture", "test_living", "test_probe"),
    *("test_startup_script", "test_conformance_real", "test_peers", "test_commands", "test_remote", "test_units"),
    *("test_backup", "test_audit", "test_isolation", "test_recipes", "test_accounts", "test_edits"),
    *("test_jump_matrix", "test_import", "test_spot"),
)
"""Files that take a minute and more, the longest first. One that begins last would let the other workers wait."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests of this folder, give them time, and begin with the longest files."""
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.e2e)
            if item.get_closest_marker("timeout") is None:
                item.add_marker(pytest.mark.timeout(TIMEOUT))
    tests = Counter(item.path for item in items if HERE in item.path.parents)
    order = {path: (_turn(path), -count) for path, count in tests.items()}
    items.sort(key=lambda item: order.get(item.path, (-1, 0)))


def _turn(path: Path) -> int:
    return LONGEST.index(path.stem) if path.stem in LONGEST else len(LONGEST)


@pytest.fixture(scope="session")
def site(lab_host: LabHost, laptop: Laptop) -> Site:
    """Give the session's host, prepared, with the image `guest`, and nobody on it yet."""
    from tests.e2e.site import IMAGE, Site

    site = Site(lab_host, laptop)
    site.containarium("host", "prepare", timeout=300)
    lab_host.import_guest_image(IMAGE)
    site.spare_from_bans(laptop.address)
    return site


@dataclass(frozen=True)
class Pair:
    """Two people with a converged environment each, and a third with keys but no environment."""

    site: Site
    alice: Person
    bob: Person
    carol: Person
    alice_config: Path
    """ssh configuration, exported for alice: `alice.ssh(alice_config, "alice", "true")`."""
    bob_config: Path

    def facts(self, name: str) -> Facts:
        """What there is of alice or bob."""
        return self.site.environment(name)


@pytest.fixture(scope="module")
def pair(site: Site) -> Pair:
    """Give alice (Docker) and bob (three kinds of key), as declared and nobody else declared. Leave them so."""
    from tests.e2e.people import KEY_TYPES

    site.purge(set(site.declared()) - {"alice", "bob"})
    alice, bob = site.person("alice"), site.person("bob")
    big = {"memory": "1GiB", "disk": "4GiB", "processes": 1024}
    site.declare("alice", docker=True, resources=big, packages=["busybox-static"])
    site.declare("bob", sshKeys=[bob.public(kind) for kind in KEY_TYPES])
    site.apply()
    return Pair(site, alice, bob, site.person("carol"), site.export("alice"), site.export("bob"))


@pytest.fixture(scope="session")
def living_site(outer: Outer, laptop: Laptop) -> Iterator[LivingSite]:
    """Give a host of its own on which the controller runs as a service, with the image `guest`."""
    from tests.e2e.living import LivingSite
    from tests.e2e.site import IMAGE
    from tests.lab.host import LabHost

    host = LabHost(outer, "living")
    host.create()
    host.install_project()
    site = LivingSite(host, laptop)
    site.containarium("host", "prepare", "--service", timeout=300)
    host.import_guest_image(IMAGE)
    site.spare_from_bans(laptop.address)
    yield site
    host.delete()
