"""Recipes: what an environment's container is made from, baked once into a local image and cloned ever after.

Nothing of a person is in a recipe: environments with the same image, packages and Docker share one.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from datetime import datetime

VERSION = 2
"""Goes up with every change of what baking does, so that images baked before are not taken for new ones."""
_SHOWN = 12


@dataclass(frozen=True, slots=True)
class Recipe:
    """What is baked: ``packages`` (sorted) into ``image`` (as manifests name it), with Docker's service or without."""

    image: str
    packages: tuple[str, ...] = ()
    docker: bool = False

    @property
    def services(self) -> tuple[str, ...]:
        """The services that are on."""
        return ("docker", "ssh") if self.docker else ("ssh",)

    def digest(self, base: str) -> str:
        """The recipe's name, 64 hex digits: of the base image's fingerprint, the packages, Docker and VERSION.

        How the manifest calls the image does not count: two names of one image give one recipe.
        """
        parts = [VERSION, base, sorted(self.packages), self.docker]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()

    def __str__(self) -> str:
        added = " ".join(self.packages)
        return f"{self.image} with {added}" if added else self.image


def short(digest: str) -> str:
    """A digest as people are shown it."""
    return digest[:_SHOWN]


@dataclass(frozen=True, slots=True)
class Baked:
    """A recipe's image as it is on this host.

    ``digest`` is the recipe's, ``base`` the fingerprint that it was baked from, ``fingerprint`` its own. ``size`` is
    in bytes, as Incus keeps it; ``used_by`` names the instances that were made from it, whoever's they are.
    """

    digest: str
    recipe: Recipe
    base: str
    fingerprint: str
    size: int
    built: datetime
    last_used: datetime | None = None
    """When an instance was last made from it; None: never."""
    used_by: tuple[str, ...] = ()
    outdated: bool = False
    """Whether it would be baked otherwise now, most often from a newer base image: those who come get a new one, and
    nobody is made anew.
    """
