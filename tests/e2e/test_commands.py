"""The story of a person from create to restore, told in commands: without a controller, and with one running."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from tests.e2e.site import IMAGE, MANIFESTS

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.e2e.living import LivingSite
    from tests.e2e.people import Person
    from tests.e2e.site import Site
    from tests.lab.command import Completed

SMALL = ("--image", IMAGE, "--cpu", "1", "--memory", "512MiB", "--disk", "2GiB")
LONG = 300.0
TRUSTED = re.compile(r"# \S+ (ssh|ecdsa)-\S+ \S+")
STEP = re.compile(r"\[(\d)/7\] (\S+): ")


def info(site: Site, name: str) -> dict[str, Any]:
    """What info says."""
    found: dict[str, Any] = json.loads(site.containarium("info", name, "-o", "json").stdout)
    return found


def manifest_of(site: Site, name: str, file: str = "") -> dict[str, Any]:
    """The manifest as it is written."""
    documents = yaml.safe_load_all(site.host.pull(f"{MANIFESTS}/{file or name}.yaml"))
    return next(document for document in documents if document["metadata"]["name"] == name)


def configured(site: Site, person: Person, printed: str, label: str = "") -> Path:
    """Do what a person does with the block that create prints."""
    block = printed.partition(f"; then: ssh {person.name}\n")[2]
    lines = block.splitlines()
    trusted = [line[2:] for line in lines if TRUSTED.fullmatch(line)]
    assert trusted, printed
    path = person.home / f"created{label}"
    config = "\n".join(line for line in lines if not line.startswith("#"))
    config = config.replace("~/.ssh/known_hosts.containarium", f"{path}.known_hosts")
    config = config.replace("~/.ssh/id_ed25519", str(person.key("ed25519", label)))
    return person.configure(config + "\n", "\n".join(trusted) + "\n", path)


def written_elsewhere(config: Path, person: Person, label: str) -> Path:
    """The same configuration for another key of the person."""
    path = config.with_name(f"{config.name}.{label}")
    exported = config.with_name(config.name.removesuffix(".strict")).read_text()
    known = config.with_name(config.name.removesuffix(".strict") + ".known_hosts").read_text()
    text = exported.replace(str(person.key()), str(person.key("ed25519", label)))
    return person.configure(text.replace(str(exported_known(config)), f"{path}.known_hosts"), known, path)


def exported_known(config: Path) -> Path:
    """The known_hosts of a configuration."""
    return config.with_name(config.name.removesuffix(".strict") + ".known_hosts")


def tell_the_story(site: Site, name: str) -> None:
    """From create to login, to a second key, to rotation, to resize, to delete, to restore."""
    person = site.person(name)
    done = site.containarium(
        "create", name, "--ssh-key", person.public(), *SMALL, "--labels", "team=ml", "--jump-ip", site.host.address,
        timeout=LONG,
    )  # fmt: skip
    assert [number for number, who in STEP.findall(done.stdout) if who == name] == list("1234567"), done.stdout
    config = configured(site, person, done.stdout)
    assert person.ssh(config, name, "whoami").stdout.strip() == name
    person.ssh(config, name, "echo thesis > ~/thesis")

    # a second key, then the first one goes, and with it its way in
    second = person.public("ed25519", "second")
    site.containarium("key", "add", name, second, timeout=LONG)
    other = written_elsewhere(config, person, "second")
    assert person.ssh(other, name, "cat thesis").stdout.strip() == "thesis"
    listed = json.loads(site.containarium("key", "list", name, "-o", "json").stdout)
    assert len(listed) == 2
    site.containarium("key", "remove", name, listed[0]["fingerprint"], timeout=LONG)
    assert person.ssh(config, name, "true", check=False).returncode == 255
    assert person.ssh(other, name, "true").returncode == 0
    refused = site.containarium("key", "remove", name, listed[1]["fingerprint"], check=False)
    assert (refused.returncode, "last key" in refused.stderr) == (1, True)

    # more room, live
    before = site.environment(name)
    site.containarium("resize", name, "--memory", "768MiB", "--disk", "3GiB", timeout=LONG)
    facts = site.environment(name)
    assert (facts.config["limits.memory"], facts.devices["root"]["size"]) == ("768MiB", "3GiB")
    assert facts.pid == before.pid, "it went on running"
    smaller = site.containarium("resize", name, "--disk", "1GiB", check=False)
    assert (smaller.returncode, "cannot shrink" in smaller.stderr) == (1, True)

    # off and on
    site.containarium("stop", name, timeout=LONG)
    assert site.environment(name).status == "Stopped"
    site.containarium("start", name, timeout=LONG)
    assert site.environment(name).status == "Running"
    assert person.ssh(other, name, "cat thesis").stdout.strip() == "thesis"

    found = info(site, name)
    assert found["usage"]["memory"] > 0
    assert found["uptime"] is not None
    rows = json.loads(site.containarium("list", "--label", "team=ml", "--state", "running", "-o", "json").stdout)
    assert [row["name"] for row in rows] == [name]

    # away within the grace period, and back
    gone = site.containarium("delete", name, timeout=LONG)
    assert "nobody gets in any more. The data is kept until" in gone.stdout
    assert site.environment(name).status == "Stopped"
    assert person.ssh(other, name, "true", check=False).returncode == 255
    site.containarium("undelete", name)

    # away for good, but for its backup
    leave_and_come_back(site, name, person, other)


def leave_and_come_back(site: Site, name: str, person: Person, config: Path) -> None:
    """delete --force --backup, then restore and undelete."""
    wait_for(site, name)
    gone = site.containarium("delete", name, "--force", "--backup", timeout=LONG)
    backup = re.search(r"Its backup: (\S+);", gone.stdout)
    assert backup is not None, gone.stdout
    assert not site.environment(name).exists
    site.containarium("restore", name, "--from", backup[1], timeout=LONG)
    site.containarium("undelete", name)
    wait_for(site, name)
    assert person.ssh(config, name, "cat thesis").stdout.strip() == "thesis"


def wait_for(site: Site, name: str) -> None:
    """Until it runs as declared: the controller's doing, or ours where none runs."""
    site.containarium("start", name, timeout=LONG)
    assert site.environment(name).status == "Running"


OTHERS = tuple(f"other{number}" for number in range(5))
"""So many that one may leave without approval."""


@pytest.fixture
def crowd(site: Site) -> Iterator[Site]:
    """Give the host with the others on it, and leave it empty."""
    site.purge(set(site.declared()))
    for name in OTHERS:
        site.declare(name, running=False)
    site.apply()
    yield site
    site.purge({*OTHERS, "iris"})


@pytest.fixture
def class_room(site: Site) -> Iterator[Site]:
    """Give the host with a class and nobody in it."""
    site.purge(set(site.declared()))
    site.write("student.yaml", _CLASS)
    yield site
    site.host.run(["rm", "-f", f"{MANIFESTS}/student.yaml", f"{MANIFESTS}/class.yaml"])
    site.purge(set(_CLASSMATES))


@pytest.mark.soak
def test_the_story_without_a_controller(crowd: Site) -> None:
    tell_the_story(crowd, "iris")


@pytest.fixture
def living_crowd(living_site: LivingSite) -> Iterator[LivingSite]:
    """Give the living host with the others on it, and leave it as it was."""
    for name in OTHERS:
        living_site.declare(name, running=False)
    living_site.wait_ready(*OTHERS, running=False)
    yield living_site
    living_site.purge({*OTHERS, "jonas"})


def test_the_story_with_a_controller(living_crowd: LivingSite) -> None:
    tell_the_story(living_crowd, "jonas")


def test_a_class_from_a_table(class_room: Site) -> None:
    site = class_room
    rows = "".join(f"{name},{site.person(name).public()}\n" for name in _CLASSMATES)
    site.host.push("/root/class.csv", f"name,key\n{rows}")
    site.containarium(
        "create", "--from", "/root/class.csv", "--class", "student", "--export", "/root/out", timeout=LONG
    )  # fmt: skip
    for name in _CLASSMATES:
        assert site.environment(name).config["limits.memory"] == "400MiB"
        assert manifest_of(site, name, "class")["spec"]["class"] == "student"
        assert f"Host {name}\n" in site.host.pull(f"/root/out/{name}.ssh")
    assert site.containarium("plan", "--detailed-exitcode", check=False).returncode == 0


def test_keys_that_are_added_at_the_same_time_are_all_there(class_room: Site) -> None:
    site, kim = class_room, class_room.person("kim")
    site.containarium("create", "kim", "--ssh-key", kim.public(), *SMALL, timeout=LONG)
    keys = [kim.public("ed25519", f"extra{number}") for number in range(5)]
    add = 'for key; do containarium key add kim "$key" --wait 0 & done; wait'
    site.host.run(["sh", "-euc", add, "add", *keys], timeout=LONG)
    assert manifest_of(site, "kim")["spec"]["sshKeys"] == [kim.public(), *_in_any_order(site, keys)]
    site.containarium("start", "kim", timeout=LONG)
    assert len([line for line in site.environment("kim").keys or () if line.endswith(" kim@laptop")]) == 6


def _in_any_order(site: Site, keys: list[str]) -> list[str]:
    written = manifest_of(site, "kim")["spec"]["sshKeys"]
    return sorted(keys, key=written.index)


@pytest.fixture
def synced(class_room: Site) -> Iterator[Site]:
    """Give the host with its manifests from a repository of its own."""
    site = class_room
    site.declare("lena", running=False)
    _sh(
        site,
        f"""
        git init --quiet --initial-branch=live {_REPOSITORY}
        git -C {_REPOSITORY} config user.name Admin
        git -C {_REPOSITORY} config user.email admin@example.org
        mkdir {_REPOSITORY}/people
        mv {MANIFESTS}/lena.yaml {_REPOSITORY}/people/
        mv {MANIFESTS} {_KEPT}
        git -C {_REPOSITORY} add --all
        git -C {_REPOSITORY} commit --quiet -m people
        """,
    )
    site.host.push(_CONFIG, json.dumps({"repository": _REPOSITORY, "branch": "live", "path": "people"}))
    site.containarium("sync")
    yield site
    _sh(site, f"rm -rf {MANIFESTS} {_CONFIG} {_REPOSITORY} /var/lib/containarium/sync; mv {_KEPT} {MANIFESTS}")


def test_where_git_brings_the_manifests_commands_say_what_to_edit_there(synced: Site) -> None:
    line = _sh(synced, f"grep -n memory {_REPOSITORY}/people/lena.yaml").stdout.split(":")[0]
    refused = synced.containarium("resize", "lena", "--memory", "1GiB", check=False)
    assert refused.returncode == 1
    assert f"comes from git ({_REPOSITORY}, branch live)" in refused.stderr
    assert f"edit people/lena.yaml:{line} (spec.resources.memory) there and commit it" in refused.stderr
    new = synced.containarium("create", "milo", "--ssh-key", synced.person("milo").public(), check=False)
    assert new.returncode == 1
    assert "commit the above there as people/milo.yaml" in new.stderr
    assert yaml.safe_load(new.stdout)["metadata"]["name"] == "milo"
    # What it prints is what the repository takes.
    synced.host.push(f"{_REPOSITORY}/people/milo.yaml", new.stdout)
    _sh(synced, f"git -C {_REPOSITORY} add --all; git -C {_REPOSITORY} commit --quiet -m milo")
    synced.containarium("sync")
    assert "2 environments are valid" in synced.containarium("validate").stdout


def _sh(site: Site, script: str) -> Completed:
    return site.host.run(["sh", "-euc", script])


_REPOSITORY = "/srv/people"
_CONFIG = "/etc/containarium/sync.yaml"
_KEPT = "/root/kept-manifests"
_CLASSMATES = ("kim", "lena", "milo")
_CLASS = f"""\
apiVersion: containarium.dev/v1
kind: EnvironmentClass
metadata: {{name: student, labels: {{course: unix}}}}
spec:
  image: {IMAGE}
  resources: {{cpu: 1, memory: 400MiB, disk: 1GiB}}
"""
