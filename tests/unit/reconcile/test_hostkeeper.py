"""The controller asks systemd for a new preparation when the Host manifest has changed, and not over and over."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from containarium.host.prepare import conditions
from containarium.host.settings import HostSettings
from containarium.model.host import TerminalError
from containarium.model.manifest import Load
from containarium.reconcile.hostkeeper import HostKeeper
from tests.builders import NOW
from tests.unit.host.etcfiles import settings
from tests.unit.host.hosts import NAME, declare


class World:
    """A machine with a keeper, and what it reads."""

    def __init__(self, root: Path) -> None:
        self.root, self.now = root, 0.0
        self.load: Load | None = None
        self.settings: HostSettings = settings(root)
        self.settings.runtime.mkdir()
        self.keeper = HostKeeper(self.settings, NAME, lambda: self.load, lambda: self.now)

    def declare(self, **spec: Any) -> str:
        """Have the manifests hold a Host of this name; returns the digest."""
        declaration = declare(self.root, **spec)
        self.load = Load(complete=True, hosts=declaration.hosts)
        return declaration.digest

    def asked(self) -> bool:
        """Whether a look asks for a preparation."""
        self.settings.wanted.unlink(missing_ok=True)
        said = self.keeper.look()
        assert bool(said) == self.settings.wanted.exists()
        return bool(said)


@pytest.fixture
def world(tmp_path: Path) -> World:
    """Give a machine whose manifests were not read yet."""
    return World(tmp_path)


def test_nothing_is_wanted_before_the_manifests_are_read_or_without_one(world: World) -> None:
    assert not world.asked()
    world.load = Load(complete=True)
    assert not world.asked()


def test_a_change_is_asked_for_once_and_again_after_a_while(world: World) -> None:
    world.declare()
    assert world.asked()
    assert not world.asked()
    world.now += 901
    assert world.asked()
    world.declare(logs={"retention": "30d"})
    assert world.asked()


def test_what_was_carried_out_is_not_asked_for(world: World) -> None:
    conditions.write(world.settings, [], world.declare(), NOW)
    assert not world.asked()
    world.declare(logs={"retention": "30d"})
    assert world.asked()


def test_while_a_host_does_not_load_nothing_is_asked_for(world: World) -> None:
    world.declare()
    assert world.load is not None
    (world.root / "host.yaml").rename(world.root / "broken.yaml")
    broken = world.settings.host_manifest
    broken.parent.mkdir(parents=True)
    broken.write_text("kind: Host\n")
    world.load = Load(complete=True)
    with pytest.raises(TerminalError) as refused:
        world.keeper.look()
    assert refused.value.reason == "ManifestRefused"
    assert not world.settings.wanted.exists()
