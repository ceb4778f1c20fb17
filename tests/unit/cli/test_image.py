"""Baked images: listed, built ahead of time, removed when nobody uses them."""

from __future__ import annotations

import os
import signal
import sys
import time
from datetime import timedelta

import pytest
import yaml

from containarium.model.host import Progress, TerminalError
from containarium.model.recipe import Baked, Recipe, short
from tests.builders import NOW, public_key
from tests.unit.cli.conftest import FakeRecipes, Shell, document

BASE = ("openssh-server", "sudo")
PLAIN = Recipe("bootstrap:debian/12", BASE)
GIT = Recipe("bootstrap:debian/12", ("git", *BASE))
DOCKER = Recipe("bootstrap:debian/12", ("docker.io", "git", "htop", *BASE, "tmux"), True)
OLD = NOW - timedelta(days=40)


# -- list


def test_a_host_without_any_is_told_how_to_get_one(shell: Shell) -> None:
    ended = shell("image", "list")
    assert (ended.code, ended.err) == (0, "")
    assert "containarium image build" in ended.out
    assert shell("image", "list", "-o", "json").json == []


def test_the_list_says_what_is_in_them_and_who_uses_them(shell: Shell) -> None:
    plain = shell.recipes.put(PLAIN, built=OLD, outdated=True)
    docker = shell.recipes.put(
        DOCKER, built=OLD, last_used=NOW - timedelta(hours=3), used_by=("alice-container", "bob-container")
    )
    ended = shell("image", "list")
    assert ended.code == 0
    head, first, second = ended.out.splitlines()
    assert " ".join(head.split()) == "RECIPE IMAGE PACKAGES DOCKER SIZE BUILT USED BY LAST USED STATE"
    cells = [[cell for cell in line.split("  ") if cell] for line in (first, second)]
    packages = "docker.io, git, htop, openssh-server, 2 more"
    assert [[cell.strip() for cell in row] for row in cells] == [
        [short(docker.digest), DOCKER.image, packages, "yes", "300 MiB", "40 d ago", "2", "3 h ago", "current"],
        [short(plain.digest), PLAIN.image, ", ".join(BASE), "no", "300 MiB", "40 d ago", "0", "never", "base updated"],
    ]


def test_programs_are_told_everything(shell: Shell) -> None:
    baked = shell.recipes.put(DOCKER, used_by=("alice-container",), last_used=NOW)
    expected = {
        "recipe": short(baked.digest),
        "image": "bootstrap:debian/12",
        "packages": list(DOCKER.packages),
        "docker": True,
        "size": 300 << 20,
        "built": "2026-11-22T12:00:00+00:00",
        "used_by": ["alice-container"],
        "last_used": "2026-11-22T12:00:00+00:00",
        "state": "current",
        "fingerprint": baked.fingerprint,
        "base": "ba5e",
    }
    assert shell("image", "list", "-o", "json").json == [expected]
    assert yaml.safe_load(shell("image", "list", "-o", "yaml").out) == [expected]


def test_the_list_is_for_everybody_and_the_rest_for_root(shell: Shell) -> None:
    shell.root = False
    assert shell("image", "list").code == 0
    for command in ("build", "prune"):
        ended = shell("image", command)
        assert ended.code == 1
        assert f"needs root: sudo containarium image {command}" in ended.err


# -- build


def test_each_recipe_is_built_once_for_all_who_need_it(shell: Shell) -> None:
    shell.declare("alice", "bob")
    shell.declare("carol", packages=["git"])
    there = shell.recipes.put(GIT)
    ended = shell("image", "build")
    assert ended.code == 0
    assert shell.recipes.asked == [PLAIN, GIT]
    built = shell.recipes.there[-1]
    assert ended.out.splitlines() == [
        "alice, bob: looking for the image",
        "alice, bob: installing openssh-server",
        "alice, bob: installing sudo",
        "alice, bob: done",
        "carol: looking for the image",
        "carol: done",
        f"{short(built.digest)} ({PLAIN}): built, for alice, bob",
        f"{short(there.digest)} ({GIT}): was there, for carol",
        "Done: 1 image built, 1 there before.",
    ]
    again = shell("image", "build", "--all", "-o", "json")
    assert again.code == 0
    assert [(image["result"], image["environments"], image["recipe"]) for image in again.json["images"]] == [
        ("present", ["alice", "bob"], short(built.digest)),
        ("present", ["carol"], short(there.digest)),
    ]


def test_who_is_named_is_built_for_and_nobody_else(shell: Shell) -> None:
    shell.declare("alice")
    shell.declare("bob", packages=["git"])
    shell.write("broken.yaml", yaml.safe_dump(document("broken", nonsense=1)))
    assert shell("image", "build", "bob", "bob").code == 0
    assert shell.recipes.asked == [GIT]


def test_without_a_name_it_is_for_those_who_are_made_here_and_now(shell: Shell) -> None:
    shell.declare("here", packages=["git"])
    shell.declare("there", placement={"host": "another"})
    shell.declare("gone", expires="2026-11-21")
    left_alone = document("later")
    left_alone["metadata"]["annotations"] = {"containarium.dev/suspend": "true"}
    shell.write("later.yaml", yaml.safe_dump(left_alone))
    assert shell("image", "build").code == 0
    assert shell.recipes.asked == [GIT]
    assert shell("image", "build", "there").code == 0, "who is named is meant"


def test_one_that_cannot_be_built_does_not_keep_the_others_from_it(shell: Shell) -> None:
    shell.declare("alice", packages=["nonesuch"])
    shell.declare("bob", packages=["git"])
    error = TerminalError("there is no package nonesuch", remedy="correct spec.packages", reason="PackageUnknown")
    shell.recipes.failing["nonesuch"] = error
    ended = shell("image", "build")
    assert ended.code == 1
    assert "alice: failed\n" in ended.out
    assert "failed, for alice: there is no package nonesuch; correct spec.packages" in ended.out
    assert "built, for bob" in ended.out
    assert ended.out.splitlines()[-1] == "Not all done: 1 image built, 0 there before, 1 failed."
    told = shell("image", "build", "-o", "json")
    assert told.code == 1
    assert told.json["images"][0] | {"packages": []} == {
        "image": "bootstrap:debian/12",
        "packages": [],
        "docker": False,
        "environments": ["alice"],
        "result": "failed",
        "recipe": None,
        "error": {"reason": "PackageUnknown", "message": error.message, "remedy": error.remedy},
    }


def test_a_bug_is_no_traceback_and_its_details_are_kept(shell: Shell) -> None:
    shell.declare("alice", packages=["odd"])
    shell.recipes.failing["odd"] = KeyError("odd")
    ended = shell("image", "build")
    assert ended.code == 1
    assert "Traceback" not in ended.out + ended.err
    assert len(list((shell.settings.state / "crash").iterdir())) == 1


def test_manifests_that_do_not_load_are_told_and_the_others_built_for(shell: Shell) -> None:
    shell.declare("alice")
    shell.write("broken.yaml", yaml.safe_dump(document("broken", nonsense=1)))
    ended = shell("image", "build")
    assert ended.code == 1
    assert shell.recipes.asked == [PLAIN]
    assert "Refused: " in ended.out
    assert ended.out.splitlines()[-1] == "Not all done: 1 image built, 0 there before, 1 problem in the manifests."


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["dave"], "there is no manifest of dave"),
        (["broken"], "broken has a manifest that does not load"),
        (["alice", "--all"], "give one or the other"),
        (["-f", "/nowhere"], "there is no folder /nowhere"),
    ],
)
def test_what_cannot_be_meant_is_refused(shell: Shell, arguments: list[str], words: str) -> None:
    shell.declare("alice")
    shell.write("broken.yaml", yaml.safe_dump(document("broken", nonsense=1)))
    ended = shell("image", "build", *arguments)
    assert (ended.code, ended.out) == (1, "")
    assert words in ended.err
    assert shell.recipes.asked == []


class Interrupted(FakeRecipes):
    """Somebody presses Ctrl-C in the middle of a build, which has some way to go."""

    def bake(self, recipe: Recipe, progress: Progress) -> Baked:
        """Be in the middle of it, on both sides."""
        time.sleep(0.2)
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.2)
        return super().bake(recipe, progress)


def test_ctrl_c_lets_the_build_that_runs_end_and_begins_no_other(shell: Shell) -> None:
    shell.declare("alice")
    shell.declare("bob", packages=["git"])
    shell.recipes = Interrupted()
    before = signal.getsignal(signal.SIGINT)
    ended = shell("image", "build")
    assert ended.code == 130
    assert "interrupted" in ended.err
    assert [baked.recipe for baked in shell.recipes.there] == [PLAIN]
    assert signal.getsignal(signal.SIGINT) is before


def test_a_terminal_sees_it_live(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    shell.declare("alice")
    ended = shell("image", "build")
    assert ended.code == 0
    assert "alice: done after 0 s" in ended.out
    assert "built, for alice" in ended.out


# -- prune


def test_what_nobody_uses_goes_and_everything_else_stays(shell: Shell) -> None:
    shell.declare("alice")
    used = shell.recipes.put(GIT, built=OLD, used_by=("carol-container",))
    needed = shell.recipes.put(PLAIN, built=OLD)
    fresh = shell.recipes.put(DOCKER, built=OLD, last_used=NOW - timedelta(days=1))
    unused = shell.recipes.put(
        Recipe("images:debian/13", BASE), built=OLD, last_used=NOW - timedelta(days=31), base="13"
    )
    outdated = shell.recipes.put(PLAIN, built=OLD, outdated=True, base="01d")
    dry = shell("image", "prune", "--dry-run")
    assert dry.code == 0
    assert len(shell.recipes.there) == 5
    assert f"Would remove {short(unused.digest)} ({unused.recipe}): 300 MiB, last used 31 d ago" in dry.out
    kept = "3 stay (1 in use, 1 of late, 1 for a manifest)."
    assert dry.out.splitlines()[-1] == f"2 images would go, which gives 600 MiB; {kept}"
    shell.recipes.leftovers = ["containarium-build-0123456789ab"]
    ended = shell("image", "prune")
    assert ended.code == 0
    assert shell.recipes.there == [used, needed, fresh]
    assert f"Removed {short(outdated.digest)} ({PLAIN}): 300 MiB, never used" in ended.out
    assert "Removed containarium-build-0123456789ab, which a build that was interrupted had left" in ended.out
    assert ended.out.splitlines()[-1] == f"2 images removed, which gave 600 MiB; {kept}"
    assert shell("image", "prune").out == f"Nothing to remove: {kept}\n"


def test_a_dry_run_leaves_leftovers_as_well(shell: Shell) -> None:
    shell.declare("alice")
    shell.recipes.leftovers = ["containarium-build-0123456789ab"]
    assert shell("image", "prune", "--dry-run").out == "Nothing to remove: 0 stay.\n"
    assert shell.recipes.leftovers


def test_the_age_is_a_matter_of_choice(shell: Shell) -> None:
    shell.declare("alice")
    shell.recipes.put(GIT, built=NOW - timedelta(days=8))
    assert "Nothing to remove: 1 stays (1 of late)." in shell("image", "prune").out
    assert "1 image removed" in shell("image", "prune", "--unused-for", "7d").out


@pytest.mark.parametrize(
    ("text", "words"), [("7", "write a unit"), ("soon", "such as"), ("", "write"), ("0d", "write")]
)
def test_an_age_that_is_none_is_refused(shell: Shell, text: str, words: str) -> None:
    shell.recipes.put(GIT, built=OLD)
    ended = shell("image", "prune", "--unused-for", text)
    assert ended.code == 1
    assert "--unused-for: " in ended.err
    assert len(shell.recipes.there) == 1
    daemon = shell("daemon", "--keep-recipes", text)
    assert daemon.code == 1
    assert "--keep-recipes: " in daemon.err


def test_nothing_goes_while_nobody_knows_what_is_needed(shell: Shell) -> None:
    shell.recipes.put(GIT, built=OLD)
    shell.write("broken.yaml", yaml.safe_dump(document("broken") | {"spec": {"sshKeys": [public_key("x")], "no": 1}}))
    ended = shell("image", "prune")
    assert ended.code == 1
    assert "nothing is removed while manifests do not load" in ended.err
    assert len(shell.recipes.there) == 1
