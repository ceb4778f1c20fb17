"""Looking after the images that environments are made from: telling of old ones, and removing what nobody uses."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from concurrent.futures import Executor, Future
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

from containarium.model.manifest import Load
from containarium.model.recipe import Baked, Recipe, short
from containarium.plan.desired import recipe
from containarium.report.events import Event, Reason
from containarium.report.log import Logger
from containarium.report.metrics import Metrics

EVERY = 600.0
"""Seconds between two looks at the images."""
_CLEAR_EVERY = 86400.0


class Recipes(Protocol):
    """The part of ``host.recipes`` that looks after images. Any of it may take minutes where Incus is slow."""

    def baked(self) -> tuple[Baked, ...]: ...

    def prune(self, unused_for: timedelta, now: datetime, *, wanted: Collection[Recipe]) -> tuple[Baked, ...]: ...

    def tidy(self) -> tuple[str, ...]: ...


class Told(Protocol):
    """Whoever is told what was found and done."""

    def counted(self, current: int, outdated: int) -> None:
        """How many images there are, and of how many the base was updated."""
        ...

    def outdated(self, baked: Baked, *, news: bool) -> None:
        """An image's base was updated. No ``news`` is what was so before the first look."""
        ...

    def removed(self, baked: Baked) -> None:
        """An image went that nobody had used for long."""
        ...

    def tidied(self, builder: str) -> None:
        """The container of an interrupted build went."""
        ...


@dataclass(slots=True)
class Keeper:
    """``look`` is a chore. What it asks of Incus it does in a thread of its own: removing an image may take a minute
    where the pool is slow, and the loop has spot notices to heed.
    """

    recipes: Recipes
    told: Told
    load: Callable[[], Load | None]
    """The manifests of the last pass; None before the first."""
    busy: Callable[[], Collection[str]]
    """The environments that are being worked on."""
    clock: Callable[[], datetime]
    ticks: Callable[[], float]
    unused_for: timedelta
    pool: Executor
    """Of one thread."""
    _job: Future[None] | None = None
    _outdated: frozenset[str] | None = None
    _clear_at: float = 0.0

    def look(self) -> str:
        """Begin to look what there is, and to remove what nobody needs. Nothing to be put right, ever.

        Raises HostError where the look before this one failed.
        """
        if self._job is not None and not self._job.done():
            return ""
        before = self._job
        self._job = self.pool.submit(self._work, self._wanted())
        if before is not None:
            before.result()
        return ""

    def _work(self, wanted: frozenset[Recipe] | bool) -> None:
        """In the thread. ``wanted``: whether to tidy, and where that is known, which recipes are needed now."""
        if wanted is not False:
            for builder in self.recipes.tidy():
                self.told.tidied(builder)
        if isinstance(wanted, frozenset):
            for baked in self.recipes.prune(self.unused_for, self.clock(), wanted=wanted):
                self.told.removed(baked)
        there = self.recipes.baked()
        old = [baked for baked in there if baked.outdated]
        for baked in old:
            if self._outdated is None or baked.digest not in self._outdated:
                self.told.outdated(baked, news=self._outdated is not None)
        self._outdated = frozenset(baked.digest for baked in old)
        self.told.counted(len(there) - len(old), len(old))

    def _wanted(self) -> frozenset[Recipe] | bool:
        """Once a day, though not while somebody may be made from an image at this moment: then at the next look.

        While a manifest does not load, nobody knows which image it needs.
        """
        load = self.load()
        if self.ticks() < self._clear_at or load is None or self.busy():
            return False
        self._clear_at = self.ticks() + _CLEAR_EVERY
        return frozenset(map(recipe, load.manifests)) if load.complete and not load.problems else True


class Reporter(Protocol):
    """The part of ``report.reporter`` that is told."""

    @property
    def metrics(self) -> Metrics: ...

    @property
    def logger(self) -> Logger: ...

    def record(self, found: Iterable[Event]) -> None: ...


@dataclass(frozen=True, slots=True)
class Telling:
    """Tells metrics, log and events what a keeper finds and does. An event for what is new, and no other."""

    reporter: Reporter

    def counted(self, current: int, outdated: int) -> None:
        """To the metrics."""
        self.reporter.metrics.recipes(current, outdated)

    def outdated(self, baked: Baked, *, news: bool) -> None:
        """To log and events."""
        if news:
            text = "its base image was updated: whoever is made from now on gets a new one"
            self.reporter.record([Event(Reason.BASE_UPDATED, message=f"{_title(baked)}: {text}")])
        self.reporter.logger.info("base image updated", recipe=short(baked.digest), image=baked.recipe.image)

    def removed(self, baked: Baked) -> None:
        """To log and events."""
        size = f"{baked.size / 2**20:.0f} MiB"
        self.reporter.record([Event(Reason.IMAGE_REMOVED, message=f"{_title(baked)}: nobody used it; {size}")])
        self.reporter.logger.info("unused image removed", recipe=short(baked.digest), bytes=baked.size)

    def tidied(self, builder: str) -> None:
        """To the log."""
        self.reporter.logger.info("leftover of a build removed", instance=builder)


def _title(baked: Baked) -> str:
    return f"{short(baked.digest)} ({baked.recipe})"
