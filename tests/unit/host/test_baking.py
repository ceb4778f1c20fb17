"""Baking against an Incus of a few lines: what is refused, what is left behind, and what is gone on with.

That the image is right is proven with real guests, in tests/e2e/test_recipes.py.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from containarium.host.baking import PREFIX, Baker
from containarium.host.cancel import NEVER, CancelledError
from containarium.host.command import Completed
from containarium.host.incus import GuestFile
from containarium.host.settings import HostSettings
from containarium.model import marks
from containarium.model.host import HostError, RetryableError, TerminalError, silent
from containarium.model.recipe import VERSION, Recipe, short

BASE = "b" * 64
RECIPE = Recipe("guest", ("git", "sudo"))
DIGEST = RECIPE.digest(BASE)
BUILDER = PREFIX + short(DIGEST)
FINE = Completed(0, "", "")
SECRET = "/etc/gate/gate.key"


@dataclass
class Workshop:
    """One Incus, with at most the builder on it. ``commands`` answers by the first word."""

    instances: dict[str, dict[str, Any]] = field(default_factory=dict)
    published: list[Mapping[str, Any]] = field(default_factory=list)
    ran: list[Sequence[str]] = field(default_factory=list)
    commands: dict[str, Callable[[], Completed]] = field(default_factory=dict)
    cancellation: Any = NEVER
    made: set[str] = field(default_factory=set)
    """Files that are there beside what is usual."""

    def get(self, *path: str, **_params: str) -> Any:
        match path:
            case ("instances",):
                return list(self.instances.values())
            case ("instances", name):
                return self.instances[name]
            case ("operations",):
                return {}
        raise AssertionError(path)

    def find(self, *path: str) -> Any:
        if path == ("images", BASE):
            return {"properties": {"os": "Debian", "name": "no"}}
        return self.instances.get(path[1]) if path[0] == "instances" else None

    def patch(self, *path: str, body: Mapping[str, Any]) -> None:
        self.instances[path[1]]["config"].update(body["config"])

    def begin(self, *_path: str, body: Mapping[str, Any]) -> Mapping[str, Any]:
        config = {**body["config"], "volatile.idmap.base": "1000", "volatile.apply_template": "create"}
        self.instances[body["name"]] = {**body, "config": config, "status": "Stopped"}
        return {"id": "op"}

    def wait(self, *_args: object) -> None:
        pass

    def put(self, *path: str, body: Mapping[str, Any], **_more: Any) -> None:
        there = self.instances[path[1]]
        if body["action"] == "stop" and there["status"] == "Stopped":
            raise RetryableError("The instance is already stopped")
        there["status"] = "Running" if body["action"] == "start" else "Stopped"

    def post(self, *_path: str, body: Mapping[str, Any], **_more: Any) -> Any:
        assert self.instances[BUILDER]["status"] == "Stopped"
        assert self.instances[BUILDER]["config"][marks.BUILDER_STRIPPED] == "true"
        self.published.append(body)
        return {"fingerprint": "f" * 64}

    def delete(self, *path: str, **_more: Any) -> None:
        assert self.instances.pop(path[1])["status"] == "Stopped"

    def execute(self, _instance: str, args: Sequence[str], **_more: Any) -> Completed:
        self.ran.append(args)
        if "is-system-running" in args:
            return Completed(0, "running\n", "")
        return self.commands.get(args[0], lambda: FINE)()

    def read_file(self, _instance: str, path: str, _limit: int) -> GuestFile | None:
        if path == "/var/lib/dpkg/status":
            text = "".join(f"Package: {name}\nStatus: install ok installed\n\n" for name in RECIPE.packages)
            return GuestFile("file", 0, 0, 0o644, text.encode())
        if path in self.made:
            return GuestFile("file", 0, 0, 0o600, b"made")
        return GuestFile("directory", 0, 0, 0o755) if path in ("/tmp", "/var/lib/dhcp") else None

    def write_file(self, *_args: object, **_more: object) -> None:
        pass

    def remove_file(self, *_args: object) -> None:
        pass


@pytest.fixture
def workshop() -> Workshop:
    return Workshop()


def bake(workshop: Workshop, folder: Path) -> str:
    return Baker(workshop, HostSettings(state=folder)).bake(RECIPE, BASE, silent)  # type: ignore[arg-type]


def test_the_image_tells_where_it_comes_from_and_the_builder_is_gone(workshop: Workshop, tmp_path: Path) -> None:
    assert bake(workshop, tmp_path) == "f" * 64
    (body,) = workshop.published
    assert body["aliases"][0]["name"] == f"containarium/recipe/{short(DIGEST)}"
    found = body["properties"]
    assert found.pop(marks.RECIPE_BUILT)
    assert found == {
        "os": "Debian",
        marks.IMAGE_RECIPE: DIGEST,
        marks.RECIPE_IMAGE: "guest",
        marks.RECIPE_BASE: BASE,
        marks.RECIPE_PACKAGES: "git sudo",
        marks.RECIPE_DOCKER: "false",
        marks.RECIPE_VERSION: str(VERSION),
    }
    assert workshop.instances == {}


def test_a_builder_is_nobodys_environment_and_confined_like_one(workshop: Workshop, tmp_path: Path) -> None:
    bodies = []
    begin = workshop.begin

    def noted(*path: str, body: Mapping[str, Any]) -> Mapping[str, Any]:
        bodies.append(body)
        return begin(*path, body=body)

    workshop.begin = noted  # type: ignore[method-assign]
    bake(workshop, tmp_path)
    (body,) = bodies
    assert marks.ENVIRONMENT not in body["config"]
    assert body["config"][marks.BUILDER] == DIGEST
    assert body["config"]["security.idmap.isolated"] == "true"
    assert body["devices"]["eth0"]["security.port_isolation"] == "true"
    assert body["profiles"] == []


def test_a_private_key_of_an_installation_fails_the_bake(workshop: Workshop, tmp_path: Path) -> None:
    told = iter(("", f"{SECRET}\n/etc/shipped.key\n"))
    workshop.commands["grep"] = lambda: Completed(0, next(told), "")
    workshop.commands["dpkg"] = lambda: Completed(1, "thing: /etc/shipped.key\n", f"no path found for {SECRET}")
    with pytest.raises(TerminalError, match=SECRET) as found:
        bake(workshop, tmp_path)
    assert found.value.reason == "SecretInImage"
    assert (workshop.published, workshop.instances) == ([], {})


def test_a_secret_of_another_form_does_so_too(workshop: Workshop, tmp_path: Path) -> None:
    workshop.commands["usermod"] = lambda: workshop.made.add("/etc/munge/munge.key") or FINE  # type: ignore[func-returns-value]
    with pytest.raises(TerminalError, match=r"/etc/munge/munge\.key"):
        bake(workshop, tmp_path)
    assert (workshop.published, workshop.instances) == ([], {})


def test_what_the_base_image_brings_is_its_makers_affair(workshop: Workshop, tmp_path: Path) -> None:
    workshop.made.add("/etc/munge/munge.key")
    workshop.commands["grep"] = lambda: Completed(0, f"{SECRET}\n", "")
    bake(workshop, tmp_path)
    assert len(workshop.published) == 1


def test_a_search_that_cannot_be_made_is_no_search(workshop: Workshop, tmp_path: Path) -> None:
    workshop.commands["grep"] = lambda: Completed(127, "", "not found")
    with pytest.raises(RetryableError, match="grep failed"):
        bake(workshop, tmp_path)
    assert workshop.published == []


@pytest.mark.parametrize("path", ["/etc/ssh/ssh_host_ed25519_key", "/etc/machine-id", "/var/lib/systemd/random-seed"])
def test_what_comes_back_after_the_stripping_is_never_published(workshop: Workshop, tmp_path: Path, path: str) -> None:
    workshop.commands["truncate"] = lambda: workshop.made.add(path) or FINE  # type: ignore[func-returns-value]
    with pytest.raises(RetryableError, match=f"made {path} again"):
        bake(workshop, tmp_path)
    assert (workshop.published, workshop.instances) == ([], {})


def test_nothing_is_installed_or_stripped_before_the_boot_is_over(workshop: Workshop, tmp_path: Path) -> None:
    bake(workshop, tmp_path)
    assert "is-system-running" in workshop.ran[0]


def test_keys_that_a_package_ships_are_no_secret(workshop: Workshop, tmp_path: Path) -> None:
    found = iter(("", "/etc/shipped.key\n"))
    workshop.commands["grep"] = lambda: Completed(0, next(found), "")
    workshop.commands["dpkg"] = lambda: Completed(0, "thing, other: /etc/shipped.key\n", "")
    bake(workshop, tmp_path)
    assert len(workshop.published) == 1


def raising(error: HostError) -> Callable[[], Completed]:
    def command() -> Completed:
        raise error

    return command


def test_what_fails_leaves_no_builder(workshop: Workshop, tmp_path: Path) -> None:
    workshop.commands["usermod"] = lambda: Completed(1, "", "usermod: no")
    with pytest.raises(RetryableError, match="usermod failed with exit code 1: usermod: no"):
        bake(workshop, tmp_path)
    assert workshop.instances == {}


def test_what_was_interrupted_is_gone_on_with(workshop: Workshop, tmp_path: Path) -> None:
    workshop.commands["usermod"] = raising(CancelledError())
    with pytest.raises(CancelledError):
        bake(workshop, tmp_path)
    left = workshop.instances[BUILDER]
    del workshop.commands["usermod"]
    left["config"]["touched"] = "yes"
    begun: list[str] = []
    workshop.begin = lambda *_path, body: begun.append(body["name"]) or {}  # type: ignore[method-assign, func-returns-value]
    bake(workshop, tmp_path)
    assert (begun, len(workshop.published)) == ([], 1)


def test_one_that_was_stripped_is_never_started_again(workshop: Workshop, tmp_path: Path) -> None:
    config = {marks.BUILDER: DIGEST, marks.BUILDER_STRIPPED: "true", "volatile.apply_template": "create"}
    workshop.instances[BUILDER] = {"name": BUILDER, "status": "Stopped", "config": config}
    bake(workshop, tmp_path)
    assert (workshop.ran, len(workshop.published)) == ([], 1)


def test_a_stripped_one_that_somebody_started_is_made_anew(workshop: Workshop, tmp_path: Path) -> None:
    config = {marks.BUILDER: DIGEST, marks.BUILDER_STRIPPED: "true", "volatile.apply_template": "create"}
    workshop.instances[BUILDER] = {"name": BUILDER, "status": "Running", "config": config}
    bake(workshop, tmp_path)
    assert "is-system-running" in workshop.ran[0]
    assert len(workshop.published) == 1


def test_one_whose_creation_was_interrupted_is_made_anew(workshop: Workshop, tmp_path: Path) -> None:
    workshop.instances[BUILDER] = {"name": BUILDER, "status": "Stopped", "config": {marks.BUILDER: DIGEST, "old": "1"}}
    bake(workshop, tmp_path)
    assert len(workshop.published) == 1


def test_somebody_elses_instance_of_that_name_is_left_alone(workshop: Workshop, tmp_path: Path) -> None:
    theirs = {"name": BUILDER, "status": "Running", "config": {"user.owner": "mallory"}}
    workshop.instances[BUILDER] = theirs
    with pytest.raises(TerminalError, match="containarium did not make") as found:
        bake(workshop, tmp_path)
    assert found.value.reason == "Conflict"
    assert workshop.instances == {BUILDER: theirs}
