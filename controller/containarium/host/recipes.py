"""Recipes on this host: found, baked once whoever asks for them, listed, and removed when nobody uses them."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from containarium.host.baking import Baker
from containarium.host.cancel import CancelledError
from containarium.host.flights import Flights
from containarium.host.images import Images, Listing
from containarium.host.incus import Incus
from containarium.model import marks
from containarium.model.host import BuildingError, HostError, Progress, TerminalError, WaitingError, silent
from containarium.model.recipe import Baked, Recipe, short

_BASE_IMAGE = "volatile.base_image"
"""On an instance: fingerprint of the image that it was made from."""
_DELETE_TIMEOUT = 60.0
_LONG_AGO = datetime(2000, 1, 1, tzinfo=UTC)
_NEVER = 2000
"""Incus writes a year before this one for an image that was never used."""


class Recipes:
    """The baked images of one host. Safe to share between threads, and between processes."""

    def __init__(
        self,
        incus: Incus,
        images: Images,
        baker: Baker,
        flights: Flights,
        built: Callable[[float, bool], None] = lambda _seconds, _well: None,
    ) -> None:
        """``built`` is told of each build that ended: how many seconds it took, and whether there is an image."""
        self._incus = incus
        self._images = images
        self._baker = baker
        self._flights = flights
        self._built = built

    def source(self, recipe: Recipe, progress: Progress = silent) -> dict[str, Any]:
        """The ``source`` of a create request for a recipe's instance. Where its image is there already: one request.

        What is missing is made first: the base image, then the recipe's. Raises WaitingError (ImageBuilding) while
        another worker or process does that, and for what makes it fail the error of ``Images`` or ``Baker``.
        """
        return {"type": "image", "fingerprint": self._ensure(recipe, progress)}

    def bake(self, recipe: Recipe, progress: Progress = silent) -> Baked:
        """The recipe's image, baked first where it is missing; waits for others who are at it."""
        told = ""
        while True:
            try:
                fingerprint = self._ensure(recipe, progress)
            except BuildingError as error:
                if error.message != told:
                    progress(told := error.message)
                self._incus.cancellation.sleep(error.retry_after)
            else:
                for baked in self.baked():
                    if baked.fingerprint == fingerprint:
                        return baked  # else somebody has just removed it

    def baked(self) -> tuple[Baked, ...]:
        """Every recipe's image that is here, newest first. Two requests."""
        listing = self._images.all()
        users: dict[str, list[str]] = {}
        for instance in self._incus.get("instances", recursion="1"):
            users.setdefault((instance.get("config") or {}).get(_BASE_IMAGE, ""), []).append(str(instance["name"]))
        found = [self._parsed(image, listing, users) for image in listing if _is_baked(image)]
        return tuple(sorted(found, key=lambda baked: baked.built, reverse=True))

    def prune(
        self, unused_for: timedelta, now: datetime, *, wanted: Collection[Recipe] = (), dry: bool = False
    ) -> tuple[Baked, ...]:
        """Remove baked images that no instance was made from and that nobody has used for so long; returns them.

        Those that ``wanted`` names stay, unless their base was replaced: then they are made from the new one. ``dry``
        removes nothing.
        """
        needed = self._needed(wanted)
        old = [
            baked
            for baked in self.baked()
            if not baked.used_by
            and now - max(baked.built, baked.last_used or baked.built) >= unused_for
            and (baked.outdated or baked.recipe not in wanted)
            and baked.digest not in needed
        ]
        return tuple(baked for baked in old if dry or self._removed(baked))

    def tidy(self) -> tuple[str, ...]:
        """Remove the builders that interrupted builds left and nobody works on; returns their names."""
        removed = []
        for name, digest in self._baker.builders().items():
            try:
                with self._flights.claim(digest, name):
                    self._baker.discard(digest)
            except HostError:
                continue  # somebody works on it, or it is left for the next time
            removed.append(name)
        return tuple(removed)

    def _ensure(self, recipe: Recipe, progress: Progress) -> str:
        listing = self._images.all()
        base = self._images.known(recipe.image, listing)
        ready = _ready(recipe.digest(base), listing) if base else None
        if ready is not None:
            return ready
        base = self._images.ensure(recipe.image, progress, listing)
        digest = recipe.digest(base)
        with self._flights.claim(digest, f"the image {short(digest)} ({recipe})"):
            ready = _ready(digest, self._images.all())  # somebody may have baked it while we looked
            if ready is not None:
                return ready
            began = time.monotonic()
            try:
                fingerprint = self._baker.bake(recipe, base, progress)
            except CancelledError:
                raise
            except HostError as error:
                self._built(time.monotonic() - began, False)
                if error.reason == "QuotaExceeded":
                    error.remedy = "free space in the storage pool: containarium image prune, or a larger one"
                error.message = f"the image of {recipe} cannot be built: {error.message}"
                raise
            self._built(time.monotonic() - began, True)
            return fingerprint

    def _removed(self, baked: Baked) -> bool:
        """Whoever makes an instance of it at this moment is first: Incus has unpacked it for him, or he bakes anew."""
        try:
            with self._flights.claim(baked.digest, short(baked.digest)):
                self._incus.delete("images", baked.fingerprint, timeout=_DELETE_TIMEOUT)
        except WaitingError:
            return False
        except TerminalError as error:
            return error.reason == "NotFound"
        return True

    def _parsed(self, image: Mapping[str, Any], listing: Listing, users: Mapping[str, list[str]]) -> Baked:
        properties: Mapping[str, str] = image["properties"]
        fingerprint = str(image["fingerprint"])
        recipe = Recipe(
            properties[marks.RECIPE_IMAGE],
            tuple(properties.get(marks.RECIPE_PACKAGES, "").split()),
            properties.get(marks.RECIPE_DOCKER) == "true",
        )
        base = properties.get(marks.RECIPE_BASE, "")
        return Baked(
            digest=properties.get(marks.IMAGE_RECIPE, ""),
            recipe=recipe,
            base=base,
            fingerprint=fingerprint,
            size=int(image.get("size") or 0),
            built=_time(properties.get(marks.RECIPE_BUILT, "")) or _time(str(image.get("created_at"))) or _LONG_AGO,
            last_used=_time(str(image.get("last_used_at"))),
            used_by=tuple(sorted(users.get(fingerprint, ()))),
            outdated=self._outdated(recipe, properties.get(marks.IMAGE_RECIPE, ""), listing),
        )

    def _needed(self, wanted: Collection[Recipe]) -> frozenset[str]:
        """Digests of what these would be made from at this moment: two names of one image are the same."""
        listing = self._images.all()
        return frozenset(recipe.digest(base) for recipe in wanted if (base := self._base(recipe, listing)))

    def _outdated(self, recipe: Recipe, digest: str, listing: Listing) -> bool:
        """Whether it would be baked otherwise now: from a newer base, or in a newer way."""
        now = self._base(recipe, listing)
        return now is not None and recipe.digest(now) != digest

    def _base(self, recipe: Recipe, listing: Listing) -> str | None:
        try:
            return self._images.known(recipe.image, listing)
        except (HostError, OSError):  # a bootstrap: that this version does not know, or cannot read for
            return None


def _ready(digest: str, listing: Listing) -> str | None:
    return next(
        (str(i["fingerprint"]) for i in listing if _is_baked(i) and i["properties"].get(marks.IMAGE_RECIPE) == digest),
        None,
    )


def _is_baked(image: Mapping[str, Any]) -> bool:
    return marks.RECIPE_IMAGE in (image.get("properties") or {})


def _time(text: str) -> datetime | None:
    """A time with its zone; None for what is none, or is the zero with which Incus says never."""
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        return None
    return found if found.tzinfo is not None and found.year > _NEVER else None
