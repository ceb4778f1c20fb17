"""Recipes: baked once with nothing of anybody in it, and cloned ever after, while a controller runs as a service."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from containarium.model import marks
from containarium.model.recipe import Recipe
from tests.e2e.site import IMAGE, instance_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.e2e.living import LivingSite

NAMES = ("ann", "ben", "cleo", "dora", "emil", "finn", "gus", "hank")
BASE_PACKAGES = ("openssh-server", "sudo")
ROOTS = "/var/lib/incus/storage-pools/default/images"
LOCKS = "/var/lib/containarium/locks"


@pytest.fixture(scope="module")
def bakery(living_site: LivingSite) -> Iterator[LivingSite]:
    """Give the site with ann and ben on it, who have the same recipe."""
    living_site.purge(living_site.declared())
    for name in ("ann", "ben"):
        living_site.declare(name, packages=["tree"])
    living_site.wait_ready("ann", "ben")
    yield living_site
    living_site.purge(NAMES)


def recipe(*packages: str, docker: bool = False) -> Recipe:
    more = ("docker.io",) if docker else ()
    return Recipe(IMAGE, tuple(sorted({*BASE_PACKAGES, *packages, *more})), docker)


def baked(site: LivingSite, wanted: Recipe) -> list[dict[str, Any]]:
    """The images that say they are this recipe's."""
    listing = json.loads(site.host.incus("query", "/1.0/images?recursion=1").stdout)
    packages = " ".join(wanted.packages)
    return [image for image in listing if image["properties"].get(marks.RECIPE_PACKAGES) == packages]


def builders(site: LivingSite) -> list[str]:
    listing = json.loads(site.host.incus("query", "/1.0/instances?recursion=1").stdout)
    return [raw["name"] for raw in listing if marks.BUILDER in (raw["config"] or {})]


def base(site: LivingSite) -> str:
    """Fingerprint of the image that all manifests name."""
    return str(json.loads(site.host.incus("query", f"/1.0/images/aliases/{IMAGE}").stdout)["target"])


def in_image(site: LivingSite, wanted: Recipe, *command: str) -> list[str]:
    """What a command prints in the root folder of a recipe's image, by line."""
    (image,) = baked(site, wanted)
    folder = f"{ROOTS}/{image['fingerprint']}/rootfs"
    script = 'cd "$1" && shift && exec "$@"'
    return site.host.run(["sh", "-euc", script, "look", folder, *command]).stdout.splitlines()


def test_two_with_the_same_recipe_are_clones_of_one_image(bakery: LivingSite) -> None:
    (image,) = baked(bakery, recipe("tree"))
    for name in ("ann", "ben"):
        assert bakery.environment(name).config["volatile.base_image"] == image["fingerprint"]
        assert bakery.inside(name, "which", "tree").stdout.strip() == "/usr/bin/tree"
    assert image["properties"][marks.RECIPE_BASE] == base(bakery)
    assert image["properties"][marks.IMAGE_RECIPE] == recipe("tree").digest(base(bakery))
    assert builders(bakery) == []


def test_nobody_is_the_same_as_anybody_else(bakery: LivingSite) -> None:
    for path in ("/etc/machine-id", "/etc/ssh/ssh_host_ed25519_key.pub"):
        ann, ben = (bakery.inside(name, "cat", path).stdout for name in ("ann", "ben"))
        assert ann
        assert ben
        assert ann != ben


@pytest.mark.parametrize("packages", [("tree",), ()], ids=["installed", "nothing to install"])
def test_the_image_holds_nothing_that_identifies_a_machine(bakery: LivingSite, packages: tuple[str, ...]) -> None:
    if not packages:  # nothing in its bake takes as long as a boot
        bakery.declare("hank")
        bakery.wait_ready("hank")
    wanted = recipe(*packages)
    assert in_image(bakery, wanted, "find", "etc/ssh", "-name", "ssh_host_*") == []
    assert in_image(bakery, wanted, "cat", "etc/machine-id") == []
    emptied = ("var/lib/dhcp", "var/lib/apt/lists", "tmp", "var/tmp")
    assert in_image(bakery, wanted, "find", *emptied, "-mindepth", "1", "-type", "f") == []
    assert in_image(bakery, wanted, "find", "var/log", "-type", "f", "-size", "+0") == []
    gone = ("policy-rc.d", "random-seed", "ssl-cert-snakeoil.key")
    assert not [name for name in gone if in_image(bakery, wanted, "find", "etc", "usr/sbin", "var/lib", "-name", name)]
    (root,) = in_image(bakery, wanted, "grep", "^root:", "etc/shadow")
    assert root.split(":")[1] == "*"
    people = [line.split(":") for line in in_image(bakery, wanted, "cat", "etc/passwd")]
    assert not [fields[0] for fields in people if 1000 <= int(fields[2]) < 60000]


def test_a_package_that_is_not_there_fails_the_build_in_the_words_of_apt(bakery: LivingSite) -> None:
    bakery.declare("cleo", packages=["gti"])
    bakery.until("cleo to be told", lambda: reason(bakery, "cleo") == "PackageUnknown")
    assert "Unable to locate package gti" in bakery.conditions("cleo")["Ready"]["message"]
    assert bakery.conditions("cleo")["Stalled"]["status"] == "True"
    assert builders(bakery) == []
    assert not bakery.environment("cleo").exists
    assert bakery.ready("ann", "ben")
    bakery.declare("cleo", packages=["tree"])  # a mended manifest is tried at once
    bakery.wait_ready("cleo", timeout=60)


def test_who_waits_for_an_image_holds_up_nobody_else(bakery: LivingSite) -> None:
    digest = recipe("tree", "less").digest(base(bakery))
    bakery.host.run(["systemd-run", "--unit=holder", "flock", f"{LOCKS}/{digest}.lock", "sleep", "300"])
    try:
        bakery.until("the lock", lambda: held(bakery, digest))
        bakery.declare("emil", packages=["tree", "less"])
        bakery.until("emil to wait", lambda: reason(bakery, "emil") == "ImageBuilding")
        bakery.declare("dora", packages=["tree"])
        bakery.wait_ready("dora", timeout=60)
        assert not bakery.environment("emil").instance
    finally:
        bakery.host.run(["systemctl", "stop", "holder"])
    bakery.wait_ready("emil", timeout=120)
    assert not [event for event in bakery.events("emil") if event["reason"] == "Failed"]


def reason(site: LivingSite, name: str) -> str:
    """Why an environment is ready, or is not."""
    return site.conditions(name).get("Ready", {}).get("reason", "")


def held(site: LivingSite, digest: str) -> bool:
    done = site.host.run(["flock", "--nonblock", f"{LOCKS}/{digest}.lock", "true"], check=False)
    return done.returncode != 0


def test_a_controller_that_is_killed_while_it_bakes_goes_on_with_it(bakery: LivingSite) -> None:
    bakery.declare("finn", packages=["tree", "less", "bc"])
    bakery.until("a builder", lambda: builders(bakery))
    bakery.host.run(["kill", "-KILL", str(bakery.pid())])
    bakery.wait_ready("finn")
    assert len(baked(bakery, recipe("tree", "less", "bc"))) == 1
    assert builders(bakery) == []


def test_docker_is_baked_without_having_run(bakery: LivingSite) -> None:
    bakery.declare("gus", docker=True, resources={"memory": "1GiB", "disk": "4GiB"})
    bakery.wait_ready("gus")
    assert in_image(bakery, recipe(docker=True), "find", "var/lib", "-path", "var/lib/docker/*") == []
    assert bakery.inside("gus", "systemctl", "is-enabled", "docker").stdout.strip() == "enabled"
    bakery.until("docker", lambda: bakery.inside("gus", "docker", "info", check=False).returncode == 0)
    assert instance_of("gus") in bakery.host.incus("list", "--format=csv", "--columns=n").stdout.split()
