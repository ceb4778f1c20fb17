"""A command line over a simulated host, with a folder of manifests of its own."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from containarium.cli.main import run_command
from containarium.cli.wiring import Wiring
from containarium.host.doctor import Finding
from containarium.host.figures import Figures
from containarium.host.prepare import Step
from containarium.host.settings import HostSettings
from containarium.model import marks
from containarium.model.host import Host, Progress, RetryableError, TerminalError
from containarium.model.manifest import Declaration
from containarium.model.observed import Instance
from containarium.model.recipe import Baked, Recipe
from containarium.simulate.faults import Faults, no_faults
from containarium.simulate.host import SimulatedHost
from containarium.simulate.inside import Inside
from containarium.simulate.somebody import Somebody
from containarium.simulate.world import World
from tests.builders import NOW, public_key


@dataclass(frozen=True)
class Ended:
    """A command that ended: its exit code and what it printed."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Standard output as JSON."""
        return json.loads(self.out)


@dataclass
class FakeHostKeys:
    """Host keys that a test chose."""

    guest: Sequence[str] = ("ssh-ed25519 GUEST",)
    jump: Sequence[str] = ("ssh-ed25519 JUMP", "ssh-rsa JUMP")
    name: str = "jump.example.org"

    def of_guest(self, instance: str) -> Sequence[str]:
        """The same for every guest."""
        assert instance.endswith("-container")
        return self.guest

    def of_jump_host(self) -> Sequence[str]:
        """The jump host's."""
        return self.jump

    def jump_host_name(self) -> str:
        """The jump host's name."""
        return self.name


@dataclass
class FakeRestorer:
    """Takes every backup for the one of a container as it once was."""

    world: World
    was: dict[str, tuple[Instance, Inside | None]] = field(default_factory=dict)
    asked: list[tuple[str, Path, bool]] = field(default_factory=list)

    def restore(self, name: str, file: Path, *, unchecked: bool, progress: Progress) -> None:
        """Put it back."""
        self.asked.append((name, file, unchecked))
        progress(f"importing {file.name}")
        if name not in self.was:
            raise TerminalError(f"{file} is no backup", remedy="name one", reason="BackupUnreadable")
        self.world.put_instance(*self.was[name])

    def take(self, name: str) -> None:
        """Take a container away, for a restore to bring it back."""
        box = marks.instance_name(name)
        self.was[name] = self.world.instances[box], self.world.inside(box)
        self.world.drop_instance(box)


@dataclass
class FakeRecipes:
    """Baked images that are only written down. ``failing`` are packages with which nothing can be built."""

    there: list[Baked] = field(default_factory=list)
    failing: dict[str, Exception] = field(default_factory=dict)
    leftovers: list[str] = field(default_factory=list)
    asked: list[Recipe] = field(default_factory=list)
    """What was to be baked, in this order."""

    def baked(self) -> tuple[Baked, ...]:
        """Those that are there."""
        return tuple(self.there)

    def bake(self, recipe: Recipe, progress: Progress) -> Baked:
        """Find it or write it down."""
        self.asked.append(recipe)
        for found in self.there:
            if found.recipe == recipe and not found.outdated:
                return found
        for package in recipe.packages:
            progress(f"installing {package}")
            if package in self.failing:
                raise self.failing[package]
        self.put(recipe)
        return self.there[-1]

    def put(self, recipe: Recipe, **known: Any) -> Baked:
        """There is one."""
        base = known.pop("base", "ba5e")
        digest = recipe.digest(base)
        found = Baked(digest, recipe, base, digest[::-1], 300 << 20, known.pop("built", NOW), **known)
        self.there.append(found)
        return found

    def prune(
        self, unused_for: timedelta, now: datetime, *, wanted: Collection[Recipe], dry: bool
    ) -> tuple[Baked, ...]:
        """As a host does it."""
        old = [
            baked
            for baked in self.there
            if not baked.used_by
            and now - (baked.last_used or baked.built) >= unused_for
            and (baked.outdated or baked.recipe not in wanted)
        ]
        if not dry:
            self.there = [baked for baked in self.there if baked not in old]
        return tuple(old)

    def tidy(self) -> tuple[str, ...]:
        """As a host does it."""
        found, self.leftovers = self.leftovers, []
        return tuple(found)


@dataclass
class Shell:
    """Runs commands as a person would, on a host that is only simulated."""

    capsys: pytest.CaptureFixture[str]
    folder: Path
    settings: HostSettings
    world: World = field(default_factory=World)
    faults: Faults = no_faults
    keys: FakeHostKeys = field(default_factory=FakeHostKeys)
    steps: Sequence[Step] = ()
    findings: Sequence[Finding] = ()
    prepared: list[tuple[HostSettings, bool]] = field(default_factory=list)
    """What ``host prepare`` was asked for."""
    declared: list[Declaration] = field(default_factory=list)
    """As what."""
    runs: bool = False
    """Whether another preparation runs, and does not end."""
    has_disk: bool = False
    peer_key: str = ""
    now: datetime = NOW
    recipes: FakeRecipes = field(default_factory=FakeRecipes)
    trailed: list[dict[str, Any]] = field(default_factory=list)
    """What was written to the audit trail."""
    more: dict[str, Any] = field(default_factory=dict)
    """Further collaborators, by their name in the wiring."""
    restorer: FakeRestorer = field(init=False)
    root: bool = True
    sleep: Callable[[float], None] = time.sleep
    figures: Figures = field(default_factory=Figures)

    def __post_init__(self) -> None:
        """Backups are of this world."""
        self.restorer = FakeRestorer(self.world)

    def __call__(self, *arguments: str) -> Ended:
        """Run one command line."""
        wired = Wiring(
            settings=self.settings,
            host=self._host,
            host_keys=lambda _settings: self.keys,
            prepare=self._prepare,
            mount_disk=lambda _settings, _wait, _progress: self.has_disk,
            peer_key=lambda _settings: self.peer_key,
            examine=lambda _settings: self.findings,
            restorer=lambda _settings: self.restorer,
            recipes=lambda _settings: self.recipes,
            clock=lambda: self.now,
            is_root=lambda: self.root,
            trail=self._trail,
            **self.more,
            sleep=self.sleep,
            figures=lambda _settings, _instance: self.figures,
        )
        code = run_command(arguments, wired)
        out, err = self.capsys.readouterr()
        return Ended(code, out, err)

    @property
    def somebody(self) -> Somebody:
        """Does things behind the controller's back."""
        return Somebody(self.world)

    def declare(self, *names: str, **spec: Any) -> None:
        """Write a manifest for each name."""
        self.folder.mkdir(exist_ok=True)
        for name in names:
            self.write(f"{name}.yaml", yaml.safe_dump(document(name, **spec)))

    def write(self, name: str, text: str) -> None:
        """Write any file into the folder."""
        (self.folder / name).write_text(text)

    def _prepare(
        self,
        settings: HostSettings,
        *,
        install: bool,
        service: bool,
        declaration: Declaration,
        patience: float,
        progress: Progress,
    ) -> Sequence[Step]:
        self.prepared.append((settings, install))
        self.declared.append(declaration)
        if self.runs:
            raise RetryableError("another preparation of this host does not end", reason="PrepareRuns")
        progress("making the bridge")
        return self.steps

    def _trail(self, who: Any, action: str, details: Any = None, **more: Any) -> bool:
        self.trailed.append({"who": who, "action": action, "details": details, **more})
        return True

    def _host(self, _settings: HostSettings) -> Host:
        return SimulatedHost(self.world, self.faults)


def document(name: str, **spec: Any) -> dict[str, Any]:
    """A manifest as plain data."""
    return {
        "apiVersion": "containarium.dev/v1",
        "kind": "Environment",
        "metadata": {"name": name},
        "spec": {"image": "bootstrap:debian/12", "sshKeys": [public_key(name)], **spec},
    }


@pytest.fixture
def shell(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shell:
    """Give a shell with an empty folder of manifests and everything else below the test's own folder."""
    monkeypatch.delenv("CONTAINARIUM_DEBUG", raising=False)
    settings = HostSettings(
        etc=tmp_path / "etc",
        manifests=tmp_path / "environments",
        state=tmp_path / "state",
        runtime=tmp_path / "run",
    )
    settings.manifests.mkdir()
    return Shell(capsys, settings.manifests, settings)
