"""Images of an image server: fetched once, baked, and followed when the server has a newer one, without force.

The server is one of our own on the host's loopback, with the lab's guest image in the tree that public ones have.
"""

from __future__ import annotations

import gzip
import hashlib
import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.lab import images, recipes
from tests.lab.command import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.e2e.site import Site
    from tests.lab.outer import Outer

FOLDER = "/root/streams"
PORT = 8111
NAME = "images:lab/12"
PYTHON = "/opt/containarium/venv/bin/python"
PLAY = f"""
import json, sys
from functools import partial
from containarium.host import command
from containarium.host.baking import Baker
from containarium.host.flights import Flights
from containarium.host.images import Images
from containarium.host.incus import Incus
from containarium.host.recipes import Recipes
from containarium.host.settings import HostSettings
from containarium.model.recipe import Recipe

settings = HostSettings()
incus, flights = Incus(settings), Flights(settings.state / "locks")
images = Images(incus, settings, command.run, flights, remotes={{"images": "http://127.0.0.1:{PORT}"}})
recipes = Recipes(incus, images, Baker(incus, settings), flights)
if "bake" in sys.argv:
    recipes.bake(Recipe("{NAME}", ("openssh-server", "sudo")), lambda line: print(line, file=sys.stderr))
print(json.dumps([[b.digest, b.base, b.outdated] for b in recipes.baked() if b.recipe.image == "{NAME}"]))
"""


@pytest.fixture(scope="module")
def server(site: Site, outer: Outer) -> Iterator[Site]:
    """Give the site with an image server on it that has one version."""
    image = images.ImageStore(outer).files(recipes.GUEST)
    site.host.run(["mkdir", "-p", f"{FOLDER}/streams/v1", f"{FOLDER}/images"])
    site.host.push_file(image.rootfs, f"{FOLDER}/images/root.squashfs")
    publish(site, image, 1)
    serve = ["python3", "-m", "http.server", f"--directory={FOLDER}", "--bind=127.0.0.1", str(PORT)]
    site.host.run(["systemd-run", "--quiet", "--collect", "--unit=streams", *serve])
    asked = ["python3", "-c", f"import urllib.request as r; r.urlopen('http://127.0.0.1:{PORT}/')"]
    wait_until("the image server", lambda: site.host.run(asked, check=False).returncode == 0, timeout=20)
    yield site
    site.host.run(["systemctl", "stop", "streams"])
    site.host.run(["rm", "-rf", FOLDER])
    for one in json.loads(site.host.incus("query", "/1.0/images?recursion=1").stdout):
        fetched = (one.get("update_source") or {}).get("alias") == NAME.partition(":")[2]
        if fetched or NAME in one["properties"].values():
            site.host.incus("image", "delete", one["fingerprint"])


def publish(site: Site, image: images.Image, *versions: int) -> None:
    """Let the server have these versions: the same root, and metadata that is packed otherwise."""
    root = image.rootfs.read_bytes()
    found = {}
    for version in versions:
        metadata = gzip.compress(gzip.decompress(image.metadata.read_bytes()), compresslevel=version)
        site.host.push(f"{FOLDER}/images/{version}.tar.xz", metadata)
        both = hashlib.sha256(metadata + root).hexdigest()
        found[f"2026110{version}"] = {
            "items": {
                "incus.tar.xz": item("incus.tar.xz", f"images/{version}.tar.xz", metadata)
                | {"combined_squashfs_sha256": both},
                "root.squashfs": item("squashfs", "images/root.squashfs", root),
            }
        }
    product = {
        "aliases": "lab/12", "arch": "amd64", "os": "Lab", "release": "twelve", "release_title": "12",
        "variant": "default", "versions": found,
    }  # fmt: skip
    name, path = "lab:twelve:amd64:default", "streams/v1/images.json"
    catalogue = {"content_id": "images", "datatype": "image-downloads", "format": "products:1.0"}
    index = {"datatype": "image-downloads", "path": path, "products": [name], "format": "products:1.0"}
    site.host.push(f"{FOLDER}/{path}", json.dumps({**catalogue, "products": {name: product}}))
    site.host.push(f"{FOLDER}/streams/v1/index.json", json.dumps({"format": "index:1.0", "index": {"images": index}}))


def item(kind: str, path: str, data: bytes) -> dict[str, Any]:
    return {"ftype": kind, "path": path, "size": len(data), "sha256": hashlib.sha256(data).hexdigest()}


def play(site: Site, *what: str) -> list[list[Any]]:
    """Ask on the host; digest, base and whether it is outdated, of each recipe."""
    done = site.host.run([PYTHON, "-c", PLAY, *what], timeout=180)
    found: list[list[Any]] = json.loads(done.stdout)
    return found


def test_it_is_fetched_once_and_a_newer_one_is_told_and_taken_for_those_who_come(server: Site, outer: Outer) -> None:
    first = play(server, "bake")
    assert [outdated for _digest, _base, outdated in first] == [False]
    assert play(server, "bake") == first
    base = first[0][1]
    assert server.host.incus("query", f"/1.0/images/{base}").returncode == 0

    publish(server, images.ImageStore(outer).files(recipes.GUEST), 1, 2)
    # Incus believes what a server said for an hour; here that has gone by
    server.host.run(["find", "/var/cache/incus", "-type", "f", "-delete"])
    server.host.incus("query", "--wait", "-X", "POST", f"/1.0/images/{base}/refresh", timeout=120)
    (told,) = play(server)
    assert told == [*first[0][:2], True]

    newer, older = play(server, "bake")
    assert newer[1] != base
    assert newer[2] is False
    assert older == [*first[0][:2], True]
