"""Manifests that must be refused: each names file, line, field and remedy, and changes nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.e2e.site import manifest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.e2e.site import Site


@pytest.fixture(scope="module")
def refusing(site: Site) -> Iterator[Site]:
    """Give the site with one good environment, a real admin's account and a foreign container."""
    site.purge(site.declared())
    site.declare("judy")
    site.apply()
    site.host.run(["useradd", "-m", "-s", "/bin/bash", "olivia"], check=False)
    site.host.incus("init", "guest", "peggy-container", "--storage=default", check=False)
    yield site
    site.withdraw("refused")
    site.host.run(["userdel", "-r", "olivia"], check=False)
    site.host.incus("delete", "--force", "peggy-container", check=False)
    site.purge(["judy"])


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("root", "reserved"),
        ("olivia", "exists on the host and is not ours"),
        ("peggy", "exists and is not ours"),
        ("daemon", "reserved"),
    ],
)
def test_a_name_that_belongs_to_somebody_else_is_refused(refusing: Site, name: str, says: str) -> None:
    site = refusing
    before = site.snapshot()
    site.write("refused.yaml", manifest(name, sshKeys=[site.person("mallory").public()]))
    for command in ("plan", "apply"):
        done = site.containarium(command, check=False, timeout=120)
        spoken = done.stdout + done.stderr
        assert done.returncode == 1, spoken
        line = next(line for line in spoken.splitlines() if "refused.yaml:4:" in line)
        assert "metadata.name" in line
        assert says in line
        assert "; " in line, "there is no remedy"
        assert "Traceback" not in spoken
    assert site.snapshot() == before
    site.withdraw("refused")


def test_a_broken_file_leaves_everybody_as_they_are(refusing: Site) -> None:
    site = refusing
    before = site.snapshot()
    site.write("refused.yaml", "spec: [unclosed\n")
    site.withdraw("judy")
    done = site.containarium("apply", check=False, timeout=120)
    assert done.returncode == 1
    assert "refused.yaml:" in done.stdout + done.stderr
    assert site.snapshot() == before
    site.withdraw("refused")
    site.declare("judy")


def test_an_emptied_folder_is_unknown_and_nobody_is_retired(refusing: Site) -> None:
    site = refusing
    before = site.snapshot()
    site.withdraw(*site.declared())
    done = site.containarium("apply", check=False, timeout=120)
    assert done.returncode == 1
    assert site.snapshot() == before
    site.declare("judy")


def test_too_many_at_once_need_an_approval_of_exactly_that_set(refusing: Site) -> None:
    site = refusing
    names = ["kim", "leo", "mia"]
    for name in names:
        site.declare(name, running=False)
    site.apply()
    before = site.snapshot()
    site.withdraw("kim", "leo")
    said = site.plan("--detailed-exitcode", code=3)
    (held,) = said["interlocks"]
    assert held["environments"] == ["kim", "leo"]
    site.apply(code=3)
    assert site.snapshot() == before
    site.apply("--approve", held["digest"])
    assert site.environment("kim").keys is None
    assert site.environment("kim").config["user.containarium.retired"]
    assert site.environment("mia").keys
    site.purge(names)
