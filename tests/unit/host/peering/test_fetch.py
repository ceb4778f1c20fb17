"""A fetch: a part from its first moment, judged before it is whole, and nothing is thrown away too early."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from containarium.host.peering.fetch import Fetcher
from containarium.host.peering.neighbours import Held
from containarium.host.peering.wire import Offer
from containarium.host.settings import HostSettings
from containarium.model import marks
from containarium.model.action import FetchInstance
from containarium.model.host import HostError, RetryableError
from containarium.model.hostmanifest import HostManifest
from tests.unit.host.etcfiles import FakeRun, settings
from tests.unit.host.peering.hosts import host
from tests.unit.host.peering.memory import BOX, MemoryIncus, instance, lost

NIC = {"type": "nic", "name": "eth0", "network": "incusbr0", "ipv4.address": "10.0.12.9"}
ROOT = {"type": "disk", "path": "/", "pool": "default", "size": "5GiB"}
ACTION = FetchInstance(
    environment="alice",
    instance=BOX,
    source="jump-1",
    config={marks.ENVIRONMENT: "alice", marks.ARRIVING: "jump-1"},
    devices={"root": ROOT, "eth0": NIC},
)
OFFER = Offer(
    operation="e0c07775-f30b-4603-b9aa-fd3ca17b6b4c",
    secrets={"control": "c" * 64},
    certificate="PEM",
    config={marks.ENVIRONMENT: "alice", marks.APPLIED: "abc", "user.note": "kept", "limits.memory": "1GiB"},
    architecture="x86_64",
    instance_id="1234",
)


@dataclass
class Source:
    """jump-1, which offers what a test wants. ``asked`` holds the sizes of disks; ``alive`` whether its line holds."""

    incus: MemoryIncus
    offer: Offer = OFFER
    asked: list[int] = field(default_factory=list)
    open: bool = False
    alive: bool = True
    refuses: bool = False
    meanwhile: Callable[[], None] = lambda: None

    def declared(self, name: str) -> HostManifest:
        return host(1)

    @contextmanager
    def offered(self, name: str, environment: str, disk: int) -> Iterator[Held]:
        self.incus.done.append("ask")
        self.asked.append(disk)
        if self.refuses:
            raise RetryableError("jump-1 says: no", reason="PeerRefused")
        self.open = True
        self.meanwhile()
        try:
            yield Held(self.offer, self.check)
        finally:
            self.open = False

    def check(self) -> None:
        if not self.alive:
            raise RetryableError("the line broke", reason="PeerSilent")


class Stage:
    def __init__(self, tmp_path: Path) -> None:
        self.settings: HostSettings = settings(tmp_path)
        self.incus = MemoryIncus(self.settings)
        self.source = Source(self.incus)
        self.run = FakeRun()
        self.refreshed: list[str] = []
        self.fetcher = Fetcher(
            self.incus,
            self.incus.hands(self.settings),
            self.settings,
            self.source,
            self.run,
            self.refreshed.append,
        )

    @property
    def config(self) -> dict[str, str]:
        config: dict[str, str] = self.incus.instances[BOX]["config"]
        return config


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    return Stage(tmp_path)


def test_what_incus_is_asked_for(stage: Stage) -> None:
    stage.fetcher.fetch(ACTION)
    (body,) = stage.incus.bodies
    assert body["source"] == {
        "type": "migration",
        "mode": "pull",
        "operation": f"https://10.128.0.1:8443/1.0/operations/{OFFER.operation}",
        "certificate": "PEM",
        "secrets": {"control": "c" * 64},
    }
    assert body["config"][marks.ARRIVING] == "jump-1"
    assert body["config"]["boot.autostart"] == "false"
    assert body["config"]["security.idmap.isolated"] == "true"
    assert body["config"]["user.note"] == "kept"
    assert body["devices"] == {"root": ROOT, "eth0": NIC}
    assert (body["profiles"], stage.source.asked) == ([], [5 << 30])


def test_whole_is_said_last_and_the_person_finds_all_as_it_was(stage: Stage) -> None:
    stage.fetcher.fetch(ACTION)
    assert stage.config[marks.ARRIVING] == "jump-1;whole"
    assert stage.incus.done[-2:] == [f"{marks.ARRIVING}=jump-1;whole", "volatile.cloud-init.instance-id=1234"]
    assert stage.incus.templates == {}
    assert "volatile.apply_template" not in stage.config
    assert stage.config["volatile.last_state.power"] == "STOPPED"
    assert stage.refreshed == ["jump-1"]
    assert not stage.source.open


def test_marks_of_there_stay_there(stage: Stage) -> None:
    told = {marks.RETIRED: "x", marks.PRUNE_AFTER: "x", marks.SUSPENDED: "x", marks.LEAVING: "jump-2", marks.MOVED: "y"}
    stage.source.offer = replace(OFFER, config={**OFFER.config, **told, "boot.autostart": "true"})
    stage.fetcher.fetch(ACTION)
    assert not told.keys() & stage.config.keys()
    assert stage.config["boot.autostart"] == "false"


@pytest.mark.parametrize(
    "config",
    [
        {"raw.lxc": "lxc.hook.start=/bin/sh"},
        {"security.privileged": "true"},
        {"raw.idmap": "both 0 0"},
        {"linux.kernel_modules": "x"},
        {"security.idmap.base": "0"},
    ],
)
def test_a_host_that_asks_for_too_much_gets_nothing(stage: Stage, config: dict[str, str]) -> None:
    stage.source.offer = replace(OFFER, config={**OFFER.config, **config})
    with pytest.raises(HostError) as raised:
        stage.fetcher.fetch(ACTION)
    assert raised.value.reason == "FetchRefused"
    assert next(iter(config)) in raised.value.message
    assert stage.incus.instances == {}


def test_a_snapshot_that_asks_for_too_much_is_never_whole(stage: Stage) -> None:
    stage.incus.snapshots = [{"name": "one", "config": {"raw.lxc": "x"}, "devices": {}}]
    with pytest.raises(HostError, match=r"its snapshot one: raw\.lxc"):
        stage.fetcher.fetch(ACTION)
    assert stage.config[marks.ARRIVING] == "jump-1"


@pytest.mark.parametrize("mark", ["jump-1", "jump-1;whole", "jump-3"])
def test_what_an_earlier_attempt_left_is_made_anew_once_the_other_has_it(stage: Stage, mark: str) -> None:
    protected = {marks.ARRIVING: mark, "security.protection.delete": "true"}
    stage.incus.instances[BOX] = instance(**protected)
    stage.fetcher.fetch(ACTION)
    done = [step for step in stage.incus.done if step in ("ask", "fetch", f"delete {BOX}")]
    assert done == ["ask", f"delete {BOX}", "fetch"]
    assert stage.config[marks.ARRIVING] == "jump-1;whole"


def test_what_is_whole_counts_as_a_part_before_the_other_is_asked(stage: Stage) -> None:
    stage.incus.instances[BOX] = instance(**{marks.ARRIVING: "jump-1;whole"})
    stage.source.refuses = True
    with pytest.raises(HostError, match="jump-1 says: no"):
        stage.fetcher.fetch(ACTION)
    assert stage.incus.done == [f"{marks.ARRIVING}=jump-1", "ask"]


LEFT = [{marks.MOVED: "jump-1", marks.RETIRED: "2026-01-01T00:00:00Z"}, {marks.LEAVING: "jump-1"}]


@pytest.mark.parametrize("config", LEFT)
def test_what_was_left_behind_goes_once_the_other_has_it_ready(stage: Stage, config: dict[str, str]) -> None:
    stage.incus.instances[BOX] = instance(**config, **{"security.protection.delete": "true"})
    stage.fetcher.fetch(ACTION)
    done = [step for step in stage.incus.done if step in ("ask", "fetch", f"delete {BOX}")]
    assert done == ["ask", f"delete {BOX}", "fetch"]
    assert stage.config[marks.ARRIVING] == "jump-1;whole"
    assert not config.keys() & stage.config.keys()


@pytest.mark.parametrize("config", LEFT)
def test_what_was_left_behind_stays_as_it_is_while_the_other_refuses(stage: Stage, config: dict[str, str]) -> None:
    stage.incus.instances[BOX] = instance(**config)
    stage.source.refuses = True
    with pytest.raises(HostError, match="jump-1 says: no"):
        stage.fetcher.fetch(ACTION)
    assert stage.incus.done == ["ask"]
    assert stage.incus.instances[BOX] == instance(**config)


def test_what_changed_while_the_other_was_asked_is_not_thrown_away(stage: Stage) -> None:
    stage.incus.instances[BOX] = instance(**{marks.MOVED: "jump-1"})
    stage.source.meanwhile = lambda: stage.incus.instances.update({BOX: instance(status="Running")})
    with pytest.raises(HostError, match="no part of a copy"):
        stage.fetcher.fetch(ACTION)
    assert stage.incus.done == ["ask"]


@pytest.mark.parametrize(
    "there",
    [
        instance(),
        instance(**{marks.RETIRED: "2026-01-01T00:00:00Z"}),
        instance(status="Running", **{marks.MOVED: "jump-1"}),
        instance(**{marks.MOVED: "jump-1", marks.ENVIRONMENT: "bob"}),
        instance(**{marks.ARRIVING: "jump-1", marks.ENVIRONMENT: "bob"}),
        instance(status="Running", **{marks.ARRIVING: "jump-1"}),
    ],
)
def test_what_is_no_part_of_a_copy_is_never_thrown_away(stage: Stage, there: dict[str, Any]) -> None:
    stage.incus.instances[BOX] = there
    with pytest.raises(HostError):
        stage.fetcher.fetch(ACTION)
    assert stage.incus.done == []


def test_a_part_that_incus_still_works_on_is_left_alone(stage: Stage) -> None:
    stage.incus.instances[BOX] = instance(**{marks.ARRIVING: "jump-1"})
    stage.incus.operations = {"running": [{"status_code": 103, "resources": {"instances": [f"/1.0/instances/{BOX}"]}}]}
    with pytest.raises(HostError) as raised:
        stage.fetcher.fetch(ACTION)
    assert raised.value.reason == "Busy"
    assert stage.incus.done == []


def test_a_transfer_that_breaks_leaves_a_part(stage: Stage) -> None:
    stage.incus.arriving = lost
    with pytest.raises(HostError, match="broke"):
        stage.fetcher.fetch(ACTION)
    assert stage.config[marks.ARRIVING] == "jump-1"
    assert (stage.source.open, stage.refreshed) == (False, [])


def test_a_line_that_breaks_ends_the_fetch(stage: Stage) -> None:
    stage.source.alive = False
    with pytest.raises(HostError, match="line broke"):
        stage.fetcher.fetch(ACTION)
    assert stage.config[marks.ARRIVING] == "jump-1"


def test_ids_that_another_guest_has_are_never_whole(stage: Stage) -> None:
    other = instance("bob-container", **{"security.idmap.isolated": "true", "volatile.idmap.base": "1000000"})
    stage.incus.instances["bob-container"] = other
    with pytest.raises(HostError) as raised:
        stage.fetcher.fetch(ACTION)
    assert raised.value.reason == "SharedIds"
    assert stage.config[marks.ARRIVING] == "jump-1"


def test_what_a_killed_incus_left_in_the_pool_is_swept_and_nothing_else(stage: Stage) -> None:
    pool = stage.settings.incus_dir / "storage-pools" / "default" / "containers"
    (pool / "migration.123" / "one").mkdir(parents=True)
    (pool / "bob-container" / "rootfs").mkdir(parents=True)
    (pool / "migration.mine").mkdir()
    stage.fetcher.fetch(ACTION)
    assert sorted(path.name for path in pool.iterdir()) == ["bob-container", "migration.mine"]


def test_nothing_is_swept_while_incus_works(stage: Stage) -> None:
    folder = stage.settings.incus_dir / "storage-pools" / "default" / "containers" / "migration.123"
    folder.mkdir(parents=True)
    stage.incus.operations = {"running": [{"status_code": 103, "resources": {}}]}
    stage.fetcher.fetch(ACTION)
    assert folder.is_dir()
