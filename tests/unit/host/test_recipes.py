"""Recipes on a host: found, baked, listed, removed. Incus and the baker are a few lines of their own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from containarium.host.baking import PREFIX, Baker
from containarium.host.flights import Flights
from containarium.host.images import PROTOCOL, Images
from containarium.host.recipes import Recipes
from containarium.host.settings import HostSettings
from containarium.model import marks
from containarium.model.host import BuildingError, Progress, TerminalError
from containarium.model.recipe import Recipe, short
from containarium.plan.desired import recipe as recipe_of
from tests.builders import manifest

BASE, NEWER, FETCHED = "b" * 64, "c" * 64, "d" * 64
NOW = datetime(2026, 11, 22, tzinfo=UTC)
GIT = Recipe("guest", ("git", "openssh-server", "sudo"))
SERVER = "https://images.example"


@dataclass
class Registry:
    """An Incus that has images and instances, and counts what it is asked."""

    images: list[dict[str, Any]] = field(default_factory=list)
    instances: list[dict[str, Any]] = field(default_factory=list)
    asked: list[tuple[str, ...]] = field(default_factory=list)
    cancellation: Any = None

    def add(self, fingerprint: str, alias: str = "", **more: Any) -> None:
        aliases = [{"name": alias}] if alias else []
        self.images.append({"fingerprint": fingerprint, "aliases": aliases, "properties": {}, **more})

    def get(self, *path: str, **_params: str) -> Any:
        self.asked.append(("GET", *path))
        return {"images": self.images, "instances": self.instances}[path[0]]

    def find(self, *path: str) -> Any:
        assert path[:2] == ("images", "aliases")

    def post(self, *path: str, body: Mapping[str, Any], **_more: Any) -> Any:
        self.asked.append(("POST", *path))
        if path == ("images", "aliases"):
            found = next(image for image in self.images if image["fingerprint"] == body["target"])
            found["aliases"].append({"name": body["name"]})
            return None
        if not any(image["fingerprint"] == FETCHED for image in self.images):  # as Incus does with two names of one
            source = body["source"]
            self.add(FETCHED, update_source={key: source[key] for key in ("server", "protocol", "alias")})
        return {"fingerprint": FETCHED}

    def delete(self, *path: str, **_more: Any) -> None:
        self.asked.append(("DELETE", *path))
        self.images = [image for image in self.images if image["fingerprint"] != path[1]]


@dataclass
class Oven:
    """A baker that needs no time."""

    registry: Registry
    baked: list[Recipe] = field(default_factory=list)
    left: dict[str, str] = field(default_factory=dict)
    error: Exception | None = None

    def bake(self, recipe: Recipe, base: str, _progress: Progress) -> str:
        if self.error is not None:
            raise self.error
        self.baked.append(recipe)
        return baked(self.registry, recipe, base)

    def builders(self) -> Mapping[str, str]:
        return dict(self.left)

    def discard(self, digest: str) -> None:
        self.left = {name: other for name, other in self.left.items() if other != digest}


def baked(registry: Registry, recipe: Recipe, base: str = BASE, built: datetime = NOW, used: str = "") -> str:
    """Put a recipe's image there; its fingerprint."""
    digest = recipe.digest(base)
    properties = {
        marks.IMAGE_RECIPE: digest,
        marks.RECIPE_IMAGE: recipe.image,
        marks.RECIPE_BASE: base,
        marks.RECIPE_PACKAGES: " ".join(recipe.packages),
        marks.RECIPE_DOCKER: str(recipe.docker).lower(),
        marks.RECIPE_BUILT: built.isoformat(),
    }
    fingerprint = f"f{digest[1:]}"
    registry.add(fingerprint, properties=properties, size=7, last_used_at=used or "0001-01-01T00:00:00Z")
    return fingerprint


@pytest.fixture
def registry() -> Registry:
    found = Registry()
    found.add(BASE, "guest")
    return found


@pytest.fixture
def oven(registry: Registry) -> Oven:
    return Oven(registry)


@pytest.fixture
def flights(tmp_path: Path) -> Flights:
    return Flights(tmp_path / "locks")


@pytest.fixture
def recipes(registry: Registry, oven: Oven, flights: Flights, tmp_path: Path) -> Recipes:
    def no_commands(*_args: object, **_more: object) -> Any:
        raise AssertionError("nothing is to be run")

    images = Images(
        registry,  # type: ignore[arg-type]
        HostSettings(state=tmp_path, etc=tmp_path),
        no_commands,
        flights,
        certificates=tmp_path,
        remotes={"images": SERVER},
    )
    return Recipes(registry, images, oven, flights)  # type: ignore[arg-type]


def test_the_first_is_baked_and_the_second_costs_one_request(recipes: Recipes, registry: Registry, oven: Oven) -> None:
    source = recipes.source(GIT)
    registry.asked.clear()
    assert recipes.source(GIT) == source == {"type": "image", "fingerprint": registry.images[-1]["fingerprint"]}
    assert registry.asked == [("GET", "images")]
    assert oven.baked == [GIT]


def test_two_names_of_one_image_share_a_recipe_and_other_packages_do_not(recipes: Recipes, oven: Oven) -> None:
    first = recipes.source(GIT)
    assert recipes.source(Recipe(BASE[:12], GIT.packages)) == first
    assert recipes.source(Recipe("guest", (*GIT.packages, "tmux"))) != first
    assert recipes.source(Recipe("guest", GIT.packages, docker=True)) != first
    assert len(oven.baked) == 3


def test_a_remote_base_is_fetched_once_and_recognised_afterwards(recipes: Recipes, registry: Registry) -> None:
    remote = Recipe("images:debian/12", GIT.packages)
    first = recipes.source(remote)
    fetched = next(image for image in registry.images if image["fingerprint"] == FETCHED)
    assert fetched["update_source"] == {"server": SERVER, "protocol": PROTOCOL, "alias": "debian/12"}
    registry.asked.clear()
    assert recipes.source(remote) == first
    assert registry.asked == [("GET", "images")]


def test_two_names_of_one_remote_image_are_both_known_afterwards(recipes: Recipes, registry: Registry) -> None:
    names = [Recipe(name, GIT.packages) for name in ("images:debian/12", "images:debian/bookworm")]
    first, second = map(recipes.source, names)
    assert first == second
    registry.asked.clear()
    assert [recipes.source(name) for name in names] == [first, first]
    assert registry.asked == [("GET", "images")] * 2


def test_an_image_that_is_not_there_is_an_error_of_the_manifest(recipes: Recipes, oven: Oven) -> None:
    with pytest.raises(TerminalError, match="has no image gone") as found:
        recipes.source(Recipe("gone", GIT.packages))
    assert found.value.reason == "ImageUnavailable"
    assert not oven.baked


def test_a_failure_names_the_recipe_and_keeps_the_words_of_apt(recipes: Recipes, oven: Oven) -> None:
    oven.error = TerminalError("package gti is not in the image's archive", remedy="fix it", reason="PackageUnknown")
    with pytest.raises(TerminalError) as found:
        recipes.source(GIT)
    assert str(found.value) == (
        "the image of guest with git openssh-server sudo cannot be built: "
        "package gti is not in the image's archive; fix it"
    )
    assert found.value.reason == "PackageUnknown"


def test_who_comes_while_it_is_baked_is_told_to_come_back(recipes: Recipes, flights: Flights, oven: Oven) -> None:
    with flights.claim(GIT.digest(BASE), "it"), pytest.raises(BuildingError, match="git openssh-server sudo"):
        recipes.source(GIT)
    assert not oven.baked
    recipes.source(GIT)
    assert oven.baked == [GIT]


def test_the_list_tells_who_uses_what_and_what_is_outdated(recipes: Recipes, registry: Registry) -> None:
    used = baked(registry, GIT, built=NOW - timedelta(days=1), used="2026-11-21T10:00:00.5Z")
    registry.instances = [
        {"name": "bob-container", "config": {"volatile.base_image": used}},
        {"name": "alice-container", "config": {"volatile.base_image": used}},
        {"name": "other", "config": {}},
    ]
    plain = Recipe("guest", ("sudo",))
    baked(registry, plain)
    first, second = recipes.baked()
    assert (first.recipe, first.used_by, first.last_used, first.outdated) == (plain, (), None, False)
    assert (second.recipe, second.used_by) == (GIT, ("alice-container", "bob-container"))
    assert (second.last_used, second.size) == (datetime(2026, 11, 21, 10, 0, 0, 500000, UTC), 7)
    registry.images[0]["aliases"] = []
    registry.add(NEWER, "guest")
    assert [one.outdated for one in recipes.baked()] == [True, True]


AGE = timedelta(days=30)
OLD = NOW - timedelta(days=31)


@pytest.mark.parametrize(
    ("built", "used", "user", "wanted", "newer", "goes"),
    [
        (OLD, "", False, False, False, True),
        (OLD, "", True, False, False, False),
        (OLD, "2026-11-20T00:00:00Z", False, False, False, False),
        (NOW, "", False, False, False, False),
        (OLD, "", False, True, False, False),
        (OLD, "", False, True, True, True),
        (OLD, "", True, True, True, False),
    ],
    ids=["unused", "in use", "used lately", "built lately", "wanted", "wanted but outdated", "outdated but in use"],
)
def test_only_what_nobody_uses_is_pruned(
    recipes: Recipes, registry: Registry, built: datetime, used: str, user: bool, wanted: bool, newer: bool, goes: bool
) -> None:
    fingerprint = baked(registry, GIT, built=built, used=used)
    if user:
        registry.instances = [{"name": "x", "config": {"volatile.base_image": fingerprint}}]
    if newer:
        registry.images[0]["aliases"] = []
        registry.add(NEWER, "guest")
    keep = [GIT] if wanted else []
    before = list(registry.images)
    assert len(recipes.prune(AGE, NOW, wanted=keep, dry=True)) == goes
    assert registry.images == before
    assert len(recipes.prune(AGE, NOW, wanted=keep)) == goes
    assert (fingerprint not in {image["fingerprint"] for image in registry.images}) is goes


def test_base_images_are_never_pruned(recipes: Recipes, registry: Registry) -> None:
    registry.images[0]["uploaded_at"] = "2020-01-01T00:00:00Z"
    assert recipes.prune(timedelta(0), NOW) == ()
    assert [image["fingerprint"] for image in registry.images] == [BASE]


def test_only_builders_that_nobody_works_on_are_tidied_away(recipes: Recipes, oven: Oven, flights: Flights) -> None:
    one, other = GIT.digest(BASE), GIT.digest(NEWER)
    oven.left = {PREFIX + short(one): one, PREFIX + short(other): other}
    with flights.claim(other, "it"):
        assert recipes.tidy() == (PREFIX + short(one),)
    assert oven.left == {PREFIX + short(other): other}


class TestBuilders:
    """Whose containers a baker takes for its own."""

    def test_a_name_or_a_mark_alone_is_not_enough(self, registry: Registry, tmp_path: Path) -> None:
        digest = GIT.digest(BASE)
        registry.instances = [
            {"name": PREFIX + short(digest), "config": {marks.BUILDER: digest}},
            {"name": PREFIX + "0" * 12, "config": {}},
            {"name": PREFIX + "1" * 12, "config": {marks.BUILDER: digest}},
            {"name": "precious", "config": {marks.BUILDER: digest}},
        ]
        baker = Baker(registry, HostSettings(state=tmp_path))  # type: ignore[arg-type]
        assert baker.builders() == {PREFIX + short(digest): digest}


def test_the_recipe_of_a_manifest_has_all_that_its_guest_needs() -> None:
    assert recipe_of(manifest("alice", image="guest", packages=["git"])) == GIT
    assert recipe_of(manifest("bob", image="guest", docker=True)) == Recipe(
        "guest", ("docker.io", "openssh-server", "sudo"), docker=True
    )
