"""delete: access at once, the data when its time is over, and nothing by accident."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
import yaml

from containarium.model import marks
from containarium.model.observed import InstanceStatus
from tests.unit.cli.conftest import Shell

BOX = "alice-container"


@pytest.fixture
def people(shell: Shell) -> Shell:
    """Six people, of whom one may go at once without approval."""
    shell.declare("alice", "bob", "carol", "dave", "eve", "frank")
    assert shell("apply").code == 0
    return shell


def files(shell: Shell) -> list[str]:
    return sorted(path.name for path in shell.folder.iterdir())


def test_nobody_gets_in_and_the_data_stays(people: Shell) -> None:
    ended = people("delete", "alice")
    assert ended.code == 0, ended.err
    assert ended.out.splitlines()[-1] == (
        "alice: nobody gets in any more. The data is kept until 2026-11-29T12:00:00+00:00, then the data is deleted. "
        "Undo: containarium undelete alice"
    )
    assert "alice.yaml" not in files(people)
    assert people.world.instances[BOX].status is InstanceStatus.STOPPED
    assert people.world.accounts["alice"].keys is None
    assert people("undelete", "alice").code == 0
    assert people("apply").code == 0
    assert people.world.instances[BOX].status is InstanceStatus.RUNNING


def test_a_backup_before_the_end_of_the_grace_period(people: Shell) -> None:
    ended = people("rm", "alice", "--backup")
    assert ended.code == 0, ended.err
    assert "then a backup is made and the data is deleted" in ended.out
    assert people.world.instances[BOX].config[marks.DELETION] == "Retire;7d;backup"
    people.now += timedelta(days=8)
    people("apply")
    assert BOX not in people.world.instances
    assert people.world.backups


def test_with_force_the_data_goes_now_and_a_backup_stays(people: Shell) -> None:
    _time_goes_by(people)
    ended = people("delete", "alice", "--force")
    assert ended.code == 0, ended.err
    assert BOX not in people.world.instances
    assert "alice" not in people.world.accounts
    assert list(people.world.backups) != []
    assert "alice: deleted" in ended.out


def test_for_good_only_where_both_are_said(people: Shell) -> None:
    _time_goes_by(people)
    ended = people("delete", "alice", "--force", "--no-backup")
    assert ended.code == 0, ended.err
    assert ended.out.splitlines()[-1] == "alice: deleted, for good."
    assert not people.world.backups
    assert BOX not in people.world.instances


def _time_goes_by(shell: Shell) -> None:
    """A sleep takes no time, and the clock goes on."""

    def sleep(seconds: float) -> None:
        shell.now += timedelta(seconds=seconds)

    shell.sleep = sleep


@pytest.mark.parametrize("force", [[], ["--force"]])
def test_what_is_protected_is_not_deleted(people: Shell, force: list[str]) -> None:
    people.declare("alice", deletion={"protect": True})
    ended = people("delete", "alice", *force)
    assert ended.code == 1
    assert "alice is protected: " in ended.err
    people("apply")
    people.declare("alice")
    ended = people("delete", "alice", *force)
    assert ended.code == 1
    assert "alice is protected on its container itself" in ended.err
    assert "alice.yaml" in files(people)
    assert people.world.instances[BOX].status is InstanceStatus.RUNNING


def test_what_is_to_be_kept_for_ever_is_not_deleted_by_force(people: Shell) -> None:
    people.declare("alice", deletion={"policy": "Retain"})
    ended = people("delete", "alice", "--force")
    assert ended.code == 1
    assert "is to be kept for ever" in ended.err
    assert yaml.safe_load((people.folder / "alice.yaml").read_text())["spec"]["deletion"] == {"policy": "Retain"}
    people("apply")
    ended = people("delete", "alice")
    assert ended.code == 0
    assert "The data is kept for ever" in ended.out


def test_more_than_may_go_at_once_needs_a_word(people: Shell) -> None:
    ended = people("delete", "alice", "bob", "--backup")
    assert ended.code == 3
    assert "nothing was deleted: 2 of 6 environments would retire in one pass (alice, bob)" in ended.err
    digest = ended.err.split("--approve ")[1].strip()
    assert len(files(people)) == 6
    assert "deletion" not in (people.folder / "alice.yaml").read_text()
    assert people("delete", "alice", "carol", "--approve", digest).code == 3
    ended = people("delete", "alice", "bob", "--backup", "--approve", digest)
    assert ended.code == 0, ended.err
    assert files(people) == ["carol.yaml", "dave.yaml", "eve.yaml", "frank.yaml"]
    assert people.world.instances["bob-container"].status is InstanceStatus.STOPPED


def test_while_a_manifest_does_not_load_nobody_goes(people: Shell) -> None:
    people.write("grace.yaml", "nonsense: 1\n")
    ended = people("delete", "alice")
    assert ended.code == 1
    assert "nothing was deleted: some manifests do not load" in ended.err
    assert "alice.yaml" in files(people)


def test_the_last_one_expires_because_an_empty_folder_says_nothing(shell: Shell) -> None:
    shell.declare("alice")
    shell("apply")
    ended = shell("delete", "alice")
    assert ended.code == 0, ended.err
    path = shell.folder / "alice.yaml"
    assert yaml.safe_load(path.read_text())["spec"]["expires"].isoformat() == "2026-11-21"
    assert f"Undo: take the field expires out of {path}" in ended.out
    assert ended.err == ""
    assert shell.world.instances[BOX].status is InstanceStatus.STOPPED
    assert shell.world.instances[BOX].config[marks.RETIRED]


def test_the_last_one_is_deleted_by_force_too(shell: Shell) -> None:
    shell.declare("alice")
    shell("apply")
    _time_goes_by(shell)
    ended = shell("delete", "alice", "--force", "--no-backup")
    assert ended.code == 0, ended.err
    assert BOX not in shell.world.instances
    path = shell.folder / "alice.yaml"
    assert "alice: deleted, for good." in ended.out
    assert f"alice: {path} stays, expired: an empty folder would say nothing" in ended.out
    assert yaml.safe_load(path.read_text())["spec"]["deletion"] == {"grace": "7d"}
    assert shell("apply").code == 0
    assert BOX not in shell.world.instances


def test_the_last_one_that_has_left_is_deleted_by_force(shell: Shell) -> None:
    shell.declare("alice")
    shell("apply")
    assert shell("delete", "alice").code == 0
    _time_goes_by(shell)
    shell.now += timedelta(hours=1)
    ended = shell("delete", "alice", "--force")
    assert ended.code == 0, ended.err
    assert BOX not in shell.world.instances
    assert shell.world.backups


def test_one_of_several_that_has_expired_is_deleted_by_force(people: Shell) -> None:
    people.declare("alice", expires="2026-11-21")
    people("apply")
    assert people.world.instances[BOX].config[marks.PRUNE_AFTER].startswith("2026-11-29")
    _time_goes_by(people)
    assert people("delete", "alice", "--force").code == 0
    assert BOX not in people.world.instances


def test_in_a_working_copy_only_the_manifest_goes(people: Shell, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    copy.mkdir()
    for path in people.folder.iterdir():
        (copy / path.name).write_text(path.read_text())
    ended = people("delete", "alice", "--backup", "-f", str(copy))
    assert ended.code == 1
    assert "this host does not follow" in ended.err
    assert (copy / "alice.yaml").exists()
    assert people("delete", "alice", "-f", str(copy)).code == 0
    assert not (copy / "alice.yaml").exists()
    assert people.world.instances[BOX].status is InstanceStatus.RUNNING


def test_one_of_several_in_a_file_leaves_the_others(people: Shell) -> None:
    one, two = (people.folder / f"{name}.yaml" for name in ("alice", "bob"))
    one.write_text(f"# both\n{one.read_text()}---  # bob's\n{two.read_text()}")
    two.unlink()
    bob = one.read_text().split("# bob's\n")[1]
    assert people("delete", "alice").code == 0
    assert one.read_text() == f"# both\n---  # bob's\n{bob}"
    assert people.world.instances["bob-container"].status is InstanceStatus.RUNNING


def test_who_was_never_made_has_no_data(people: Shell) -> None:
    people.declare("grace")
    ended = people("delete", "grace", "--force")
    assert ended.code == 0, ended.err
    assert "grace.yaml" not in files(people)


def test_who_has_left_already_is_told_with_the_date(people: Shell) -> None:
    people("delete", "alice")
    ended = people("delete", "alice", "--force")
    assert ended.code == 1
    assert "alice has left already, and its data is kept until 2026-11-29T12:00:00+00:00" in ended.err
    assert BOX in people.world.instances


def test_nobody_and_a_broken_one_are_told(people: Shell) -> None:
    assert "names nobody" in people("delete", "nobody").err
    people.declare("alice", nonsense=1)
    assert "alice has a manifest that does not load" in people("delete", "alice").err
    assert "alice.yaml" in files(people)


def test_a_suspended_one_is_left_alone(people: Shell) -> None:
    people.somebody.set_config(BOX, marks.SUSPENDED, "2026-11-22T00:00:00+00:00")
    ended = people("delete", "alice")
    assert ended.code == 1
    assert "alice is suspended, and left alone; containarium resume alice first" in ended.err
    assert "alice.yaml" in files(people)
