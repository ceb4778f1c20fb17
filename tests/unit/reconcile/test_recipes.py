"""Looking after baked images: what is told once, what goes, and when nothing does."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

import pytest

from containarium.model.host import RetryableError
from containarium.model.manifest import Load
from containarium.model.problem import Location, Problem
from containarium.model.recipe import Baked, Recipe, short
from containarium.plan.desired import recipe
from containarium.reconcile.recipes import Keeper, Telling
from containarium.report import log
from containarium.report.events import Event, Reason
from containarium.report.metrics import Metrics
from tests.builders import NOW, load, manifest
from tests.living import OnDemand

DAY = 86400.0
OLD = NOW - timedelta(days=40)
PLAIN = recipe(manifest("alice"))
GIT = recipe(manifest("alice", packages=["git"]))


@dataclass
class Host:
    """Images that are only written down."""

    there: list[Baked] = field(default_factory=list)
    leftovers: list[str] = field(default_factory=list)
    broken: bool = False
    wanted: list[Collection[Recipe]] = field(default_factory=list)

    def baked(self) -> tuple[Baked, ...]:
        """Those that are there."""
        if self.broken:
            raise RetryableError("Incus does not answer")
        return tuple(self.there)

    def prune(self, unused_for: timedelta, now: datetime, *, wanted: Collection[Recipe]) -> tuple[Baked, ...]:
        """Remove those that are old enough and not wanted."""
        self.wanted.append(wanted)
        gone = [baked for baked in self.there if now - baked.built >= unused_for and baked.recipe not in wanted]
        self.there = [baked for baked in self.there if baked not in gone]
        return tuple(gone)

    def tidy(self) -> tuple[str, ...]:
        """Remove what is left over."""
        found, self.leftovers = self.leftovers, []
        return tuple(found)


@dataclass
class Desk:
    """A keeper, and everything that it is told and tells."""

    host: Host = field(default_factory=Host)
    metrics: Metrics = field(default_factory=Metrics)
    logger: log.Logger = field(default_factory=lambda: log.configure(level="error"))
    events: list[Event] = field(default_factory=list)
    load: Load | None = None
    busy: tuple[str, ...] = ()
    clock: float = 0.0
    keeper: Keeper = field(init=False)

    def __post_init__(self) -> None:
        """Put it together."""
        self.keeper = Keeper(
            self.host,
            Telling(self),
            lambda: self.load,
            lambda: self.busy,
            lambda: NOW,
            lambda: self.clock,
            timedelta(days=30),
            OnDemand(),
        )

    def record(self, found: Iterable[Event]) -> None:
        """As a reporter does."""
        self.events.extend(found)

    def look(self, after: float = 3600.0) -> None:
        """A beat later."""
        self.clock += after
        assert self.keeper.look() == "", "there is never anything to put right"

    @property
    def counted(self) -> dict[str, float]:
        """The images by state, as Prometheus is told."""
        text = self.metrics.render().decode()
        return {state: float(n) for state, n in re.findall(r'containarium_recipes\{state="(\w+)"\} (\S+)', text)}


def baked(which: Recipe, base: str = "ba5e", built: datetime = OLD) -> Baked:
    digest = which.digest(base)
    return Baked(digest, which, base, digest[::-1], 300 << 20, built)


@pytest.fixture
def desk() -> Desk:
    """Give a host with two images, both of them old, and a manifest that needs one of them."""
    desk = Desk(load=load(manifest("alice")))
    desk.host.there = [baked(PLAIN), baked(GIT)]
    return desk


def test_what_nobody_needs_goes_and_is_told(desk: Desk) -> None:
    gone = desk.host.there[1]
    desk.host.leftovers = ["containarium-build-0123456789ab"]
    desk.look()
    assert [found.recipe for found in desk.host.there] == [PLAIN]
    assert desk.host.leftovers == []
    assert [(event.reason, event.message) for event in desk.events] == [
        (Reason.IMAGE_REMOVED, f"{short(gone.digest)} ({GIT}): nobody used it; 300 MiB")
    ]
    assert desk.counted == {"current": 1, "outdated": 0}


def test_it_is_done_once_a_day(desk: Desk) -> None:
    desk.look()
    desk.host.there.append(baked(GIT))
    desk.look(DAY - 1)
    assert len(desk.host.wanted) == 1
    desk.look(1)
    assert len(desk.host.wanted) == 2
    assert len(desk.host.there) == 1


def test_nothing_goes_while_anybody_is_made_and_it_is_not_put_off_for_a_day(desk: Desk) -> None:
    desk.busy = ("bob",)
    desk.look()
    assert len(desk.host.there) == 2
    assert desk.counted == {"current": 2, "outdated": 0}, "to look is no harm"
    desk.busy = ()
    desk.look()
    assert len(desk.host.there) == 1


@pytest.mark.parametrize(
    "unsure",
    [
        None,
        load(manifest("alice"), complete=False),
        load(manifest("alice"), problems=[Problem(Location("bob.yaml"), "", "no", "mend it")]),
    ],
    ids=["before the first pass", "a folder that was not read whole", "a manifest that does not load"],
)
def test_nothing_goes_while_nobody_knows_what_is_needed(desk: Desk, unsure: Load | None) -> None:
    desk.load = unsure
    desk.look()
    assert len(desk.host.there) == 2
    assert desk.host.wanted == []


def test_an_updated_base_is_told_once_when_it_happens(desk: Desk) -> None:
    desk.load = load(manifest("alice"), manifest("bob", packages=["git"]))
    desk.look()
    old = desk.host.there[0] = replace(desk.host.there[0], outdated=True)
    for _ in range(3):
        desk.look()
    assert desk.counted == {"current": 1, "outdated": 1}
    assert [event.reason for event in desk.events] == [Reason.BASE_UPDATED]
    assert desk.events[0].message.startswith(f"{short(old.digest)} ({PLAIN}): its base image was updated")
    desk.host.there[1] = replace(desk.host.there[1], outdated=True)
    desk.look()
    assert [event.reason for event in desk.events] == [Reason.BASE_UPDATED] * 2


def test_what_was_so_before_the_controller_began_is_no_news(desk: Desk) -> None:
    desk.host.there[0] = replace(desk.host.there[0], outdated=True)
    desk.load = load(manifest("alice"), manifest("bob", packages=["git"]))
    desk.look()
    assert desk.events == []
    assert desk.counted == {"current": 1, "outdated": 1}


def test_images_that_cannot_be_looked_at_are_an_error_and_no_news_afterwards(desk: Desk) -> None:
    desk.load = load(manifest("alice"), manifest("bob", packages=["git"]))
    desk.look()
    desk.host.broken = True
    with pytest.raises(RetryableError):
        desk.look()
    assert desk.counted == {"current": 2, "outdated": 0}
    desk.host.broken = False
    desk.look()
    assert desk.events == []
