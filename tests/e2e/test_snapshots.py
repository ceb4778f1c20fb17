"""Snapshots beside the running controller, and a backup of somebody who goes on working: no file is ever lost."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest

from tests.e2e.site import instance_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.e2e.living import LivingSite

NAME, OTHER = "sally", "tom"
BOX = instance_of(NAME)
DATA = f"/home/{NAME}/thesis"
BACKUPS = "/var/lib/containarium/backups"
_KILLED = """
import os, signal, subprocess, sys, time
said = "/tmp/restore.out"
run = subprocess.Popen(["containarium", "snapshot", "restore", sys.argv[1], sys.argv[2]], stdin=subprocess.DEVNULL,
                       stdout=open(said, "w"), stderr=subprocess.STDOUT, start_new_session=True)
while sys.argv[3] not in open(said).read() and run.poll() is None:
    time.sleep(0.005)
ended = run.poll()
if ended is None:
    os.killpg(run.pid, signal.SIGKILL)
    run.wait()
print("ended" if ended is not None else "killed")
"""


@pytest.fixture(scope="module")
def people(living_site: LivingSite) -> Iterator[LivingSite]:
    """Give the living host with two people on it."""
    site = living_site
    for name in (NAME, OTHER):
        site.declare(name)
    site.wait_ready(NAME, OTHER)
    yield site
    site.purge([NAME, OTHER])
    site.host.run(["rm", "-rf", BACKUPS])


@pytest.fixture
def sally(people: LivingSite) -> LivingSite:
    """Give it with both of them ready, and nothing kept of earlier tests."""
    people.wait_ready(NAME, OTHER)
    for snapshot in snapshots(people):
        people.containarium("snapshot", "delete", NAME, snapshot)
    return people


def write(site: LivingSite, text: str) -> None:
    site.inside(NAME, "sh", "-c", f"echo {text} > {DATA} && sync")


def read(site: LivingSite) -> str:
    return site.inside(NAME, "cat", DATA).stdout.strip()


def snapshots(site: LivingSite) -> list[str]:
    import json

    found: list[dict[str, Any]] = json.loads(site.containarium("snapshot", "list", NAME, "-o", "json").stdout)
    return [one["name"] for one in found]


def test_files_come_back_and_settings_and_keys_stay(sally: LivingSite) -> None:
    person = sally.person(NAME)
    write(sally, "one")
    sally.containarium("snapshot", "create", NAME, "before")
    write(sally, "two")
    withdrawn, fresh = person.public(), person.public(label="new")
    sally.declare(NAME, sshKeys=[fresh], resources={"memory": "640MiB"})
    sally.until_facts(NAME, "more memory", lambda facts: facts.config["limits.memory"] == "640MiB")
    sally.wait_ready(NAME)
    before, boot, seen = sally.environment(NAME), sally.boot_id(NAME), len(sally.events(NAME))

    said = sally.containarium("snapshot", "restore", NAME, "before", timeout=120).stdout
    assert read(sally) == "one"
    assert sally.boot_id(NAME) != boot
    after = sally.environment(NAME)
    assert (after.config["limits.memory"], after.address, after.keys) == ("640MiB", before.address, before.keys)
    keys = f"/home/{NAME}/.ssh/authorized_keys"

    def mended() -> bool:
        text = sally.inside(NAME, "cat", keys, check=False).stdout
        return fresh.split()[1] in text and withdrawn.split()[1] not in text

    sally.until("the key that was withdrawn since to be gone again", mended)
    sally.wait_ready(NAME)
    told = sally.events(NAME)[seen:]
    assert [event["reason"] for event in told if "Drift" in event["reason"]] == [], "nobody is suspected of anything"
    sally.wait_login(NAME, sally.export(NAME, key=person.key(label="new")))

    (safety,) = [name for name in snapshots(sally) if name != "before"]
    assert safety in said
    sally.containarium("snapshot", "restore", NAME, safety, "--no-safety", timeout=120)
    assert read(sally) == "two"
    sally.wait_ready(NAME)
    sally.declare(NAME)
    sally.wait_ready(NAME)


def test_the_controller_starts_nothing_meanwhile(sally: LivingSite) -> None:
    """What is stopped by a command on purpose looks like drift; the controller has to keep its hands off it."""
    write(sally, "one")
    sally.containarium("snapshot", "create", NAME, "before")
    for _ in range(3):
        started = time.time()
        sally.containarium("snapshot", "restore", NAME, "before", "--no-safety", timeout=120)
        log = [line for line in sally.log() if line.get("environment") == NAME and _after(line, started)]
        assert not [line for line in log if "spec.running" in str(line)], log
        assert sally.environment(NAME).status == "Running"
    sally.wait_ready(NAME)


def _after(line: dict[str, Any], moment: float) -> bool:
    from datetime import datetime

    stamp = str(line.get("timestamp") or line.get("time") or "")
    try:
        return datetime.fromisoformat(stamp).timestamp() >= moment
    except ValueError:
        return True


@pytest.mark.parametrize(
    "said",
    ["keeping", "going back", *(pytest.param(said, marks=pytest.mark.soak) for said in ("stopping", "starting"))],
)
def test_a_command_killed_half_way_leaves_somebody_who_can_work(sally: LivingSite, said: str) -> None:
    write(sally, "one")
    sally.containarium("snapshot", "create", NAME, "before")
    write(sally, "two")
    sally.host.run(["python3", "-c", _KILLED, NAME, "before", said], timeout=120)
    sally.until_facts(NAME, "runs again", lambda facts: facts.status == "Running")
    sally.wait_ready(NAME)
    found = read(sally)
    assert found in ("one", "two")
    if found == "one":
        (safety,) = [name for name in snapshots(sally) if name != "before"]
        sally.containarium("snapshot", "restore", NAME, safety, "--no-safety", timeout=120)
        assert read(sally) == "two"
        sally.wait_ready(NAME)


def test_a_full_disk_keeps_its_owner_at_work(sally: LivingSite) -> None:
    write(sally, "one")
    sally.containarium("snapshot", "create", NAME, "before")
    write(sally, "two")
    try:
        sally.inside(NAME, "sh", "-c", "head -c 4G /dev/urandom > /var/full; sync", check=False, timeout=180)
        said = sally.containarium("snapshot", "restore", NAME, "before", check=False, timeout=120)
        if said.returncode != 0:
            assert "disk is full" in said.stderr
            assert read(sally) == "two"
        assert sally.environment(NAME).status == "Running"
    finally:
        sally.inside(NAME, "rm", "-f", "/var/full", check=False)
    sally.wait_ready(NAME)


def test_what_is_not_there_or_not_hers_is_refused(sally: LivingSite) -> None:
    for arguments, reason in (
        (("restore", NAME, "nothing"), "has no snapshot nothing"),
        (("create", NAME, "../x"), "cannot be a snapshot's name"),
        (("create", "nobody-here"), "not found"),
    ):
        said = sally.containarium("snapshot", *arguments, check=False)
        assert said.returncode == 1
        assert reason in said.stderr.lower() or reason in said.stderr
        assert "Traceback" not in said.stderr
    sally.host.incus("init", "guest", "foreign-container", "--storage", "default")
    try:
        said = sally.containarium("snapshot", "create", "foreign", check=False)
        assert "was not made by Containarium" in said.stderr
    finally:
        sally.host.incus("delete", "foreign-container")


# -- backups


def test_a_backup_of_somebody_at_work_brings_everything_back(sally: LivingSite) -> None:
    site = sally
    config = site.export(NAME)
    write(site, "chapter-one")
    boot = site.boot_id(NAME)
    made = site.containarium("backup", NAME, timeout=120).stdout
    assert site.boot_id(NAME) == boot, "nobody was interrupted"
    (file,) = [name for name in site.host.run(["ls", BACKUPS]).stdout.split() if not name.endswith(".sha256")]
    backup = f"{BACKUPS}/{file}"
    assert f"containarium restore {NAME} --from {backup}" in made
    site.host.run(["sh", "-c", f"cd {BACKUPS} && sha256sum --check --strict {file}.sha256"])

    site.containarium("delete", NAME, "--force", "--no-backup", timeout=180)
    assert not site.environment(NAME).exists
    site.containarium("restore", NAME, "--from", backup, timeout=120)
    time.sleep(5)  # longer than the grace period of a second that the deletion had
    assert site.environment(NAME).instance, "it is not taken away again at once"
    site.containarium("undelete", NAME)
    site.wait_ready(NAME)
    assert read(site) == "chapter-one"
    site.wait_login(NAME, config)


def test_a_backup_with_a_stop_and_a_place_of_its_own(sally: LivingSite) -> None:
    boot = sally.boot_id(NAME)
    sally.host.run(["mkdir", "-p", "/root/offsite"])
    sally.containarium("backup", NAME, "--stop", "--output", "/root/offsite/mine.tar", timeout=180)
    assert sally.boot_id(NAME) != boot
    sally.host.run(["sh", "-c", "cd /root/offsite && sha256sum --check --strict mine.tar.sha256"])
    again = sally.containarium("backup", NAME, "--output", "/root/offsite/mine.tar", check=False)
    assert again.returncode == 1
    assert "exists already" in again.stderr
    assert sally.host.run(["ls", "/root/offsite"]).stdout.split() == ["mine.tar", "mine.tar.sha256"]
    sally.wait_ready(NAME)
