"""undelete writes a lost manifest again, restore brings a container back."""

from __future__ import annotations

import stat

import pytest
import yaml

from containarium.model import marks
from containarium.model.observed import InstanceStatus
from tests.builders import public_key
from tests.unit.cli.conftest import Shell, document

BOX = "alice-container"


@pytest.fixture
def retired(shell: Shell) -> Shell:
    """Alice's manifest is gone, bob's is there."""
    shell.declare("bob")
    shell.declare("alice", resources={"memory": "8GiB"}, packages=["git"])
    assert shell("apply").code == 0
    (shell.folder / "alice.yaml").unlink()
    assert shell("apply").code == 0
    assert shell.world.instances[BOX].config[marks.RETIRED]
    return shell


def test_the_manifest_comes_back_and_everything_with_it(retired: Shell) -> None:
    ended = retired("undelete", "alice")
    path = retired.folder / "alice.yaml"
    assert ended.code == 0
    assert str(path) in ended.out
    assert "containarium apply" in ended.out
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    first, _, rest = path.read_text().partition("\n")
    assert first == "# Written by containarium undelete on 2026-11-22T12:00:00+00:00, from the container's own record."
    assert rest == yaml.safe_dump(yaml.safe_load(rest), sort_keys=False, width=1000).replace("\n  - ", "\n    - ")
    assert yaml.safe_load(rest) == document("alice", resources={"memory": "8GiB"}, packages=["git"])
    assert sorted(file.name for file in retired.folder.iterdir()) == ["alice.yaml", "bob.yaml"]
    assert retired("apply").code == 0
    assert retired.world.instances[BOX].status is InstanceStatus.RUNNING
    assert marks.RETIRED not in retired.world.instances[BOX].config
    assert retired("undelete", "alice").code == 1


def test_what_the_last_edit_changed_comes_back_too(shell: Shell) -> None:
    shell.declare("bob")
    shell.declare("alice", expires="2026-12-31")
    shell("apply")
    shell.declare("alice", expires="2027-06-30")
    assert shell("apply").code == 0
    assert shell("plan", "--detailed-exitcode").code == 0
    (shell.folder / "alice.yaml").unlink()
    shell("apply")
    assert shell("undelete", "alice").code == 0
    assert "2027-06-30" in (shell.folder / "alice.yaml").read_text()


def test_a_manifest_that_is_there_is_not_brought_back(retired: Shell) -> None:
    ended = retired("undelete", "bob")
    assert ended.code == 1
    assert "bob is not retired: its manifest is" in ended.err
    assert f"{retired.folder}/bob.yaml:" in ended.err


def test_an_expired_one_is_told_with_its_field(shell: Shell) -> None:
    shell.write("alice.yaml", yaml.safe_dump(document("alice", expires="2026-11-21"), sort_keys=False))
    ended = shell("undelete", "alice")
    assert ended.code == 1
    assert f"{shell.folder}/alice.yaml:" in ended.err
    assert "spec.expires: alice expired on 2026-11-21; write a later date" in ended.err


def test_one_that_expires_before_it_comes_back_is_told_with_its_field(shell: Shell) -> None:
    shell.declare("bob")
    shell.declare("alice", expires="2026-11-22")
    shell("apply")
    (shell.folder / "alice.yaml").unlink()
    shell("apply")
    shell.now = shell.now.replace(day=25)
    ended = shell("undelete", "alice")
    assert ended.code == 1
    assert "spec.expires: alice expired on 2026-11-22" in ended.err
    assert (shell.folder / "alice.yaml").exists()


@pytest.mark.parametrize("name", ["dave", "gitlab"])
def test_an_unknown_name_is_told(retired: Shell, name: str) -> None:
    retired.somebody.foreign_instance("gitlab-container")
    ended = retired("undelete", name)
    assert (ended.code, ended.out) == (1, "")
    assert f"there is no environment {name} on this host" in ended.err


@pytest.mark.parametrize("name", ["../alice", "root", "Alice", ""])
def test_what_is_no_name_names_no_file(retired: Shell, name: str) -> None:
    assert retired("undelete", name).code == 1
    assert retired("restore", name, "--from", "x").code == 1
    assert retired.restorer.asked == []
    assert sorted(file.name for file in retired.folder.iterdir()) == ["bob.yaml"]


def test_a_deleted_one_is_told_with_its_backup(retired: Shell) -> None:
    retired.settings.backups.mkdir(parents=True)
    for stamp in ("20261120T000000Z", "20261121T000000Z"):
        for ending in ("", ".sha256"):
            (retired.settings.backups / f"alice-{stamp}.tar.gz{ending}").write_text("x")
    retired.world.drop_instance(BOX)
    path = retired.settings.backups / "alice-20261121T000000Z.tar.gz"
    ended = retired("undelete", "alice")
    assert ended.code == 1
    assert f"containarium restore alice --from {path}" in ended.err


@pytest.mark.parametrize("mark", ["", "nonsense", "bob"])
def test_a_record_that_says_nothing_is_told(retired: Shell, mark: str) -> None:
    if mark == "bob":
        mark = retired.world.instances["bob-container"].config[marks.MANIFEST]
    retired.somebody.set_config(BOX, marks.MANIFEST, mark)
    ended = retired("undelete", "alice")
    assert ended.code == 1
    assert "write alice.yaml anew" in ended.err
    assert not (retired.folder / "alice.yaml").exists()


def test_an_existing_file_stays(retired: Shell) -> None:
    retired.write("alice.yaml", yaml.safe_dump(document("carol")))
    before = (retired.folder / "alice.yaml").read_text()
    ended = retired("undelete", "alice")
    assert ended.code == 1
    assert yaml.safe_load(ended.out)["metadata"]["name"] == "alice", "it is shown, so that it can be kept elsewhere"
    assert "exists already" in ended.err
    assert (retired.folder / "alice.yaml").read_text() == before


def test_what_would_not_load_with_the_others_is_not_written(retired: Shell) -> None:
    retired.write("carol.yaml", yaml.safe_dump(document("carol") | {"spec": {"sshKeys": [public_key("alice")]}}))
    ended = retired("undelete", "alice")
    assert ended.code == 1
    assert "carol" in ended.err
    assert yaml.safe_load(ended.out)["metadata"]["name"] == "alice"
    assert not (retired.folder / "alice.yaml").exists()


def test_somebody_elses_mistake_does_not_stand_in_the_way(retired: Shell) -> None:
    retired.write("carol.yaml", yaml.safe_dump(document("carol", nonsense=True)))
    assert retired("undelete", "alice").code == 0


def test_a_folder_that_comes_from_git_is_not_written_to(retired: Shell) -> None:
    (retired.folder / ".git").mkdir()
    ended = retired("undelete", "alice")
    assert ended.code == 1
    assert yaml.safe_load(ended.out)["metadata"]["name"] == "alice"
    assert "commit the above as alice.yaml" in ended.err
    assert not (retired.folder / "alice.yaml").exists()


def test_a_folder_that_sync_has_swapped_in_is_not_written_to(retired: Shell) -> None:
    checkout = retired.settings.sync / "checkouts" / "one"
    checkout.parent.mkdir(parents=True)
    retired.folder.rename(checkout)
    retired.folder.symlink_to(checkout)
    ended = retired("undelete", "alice")
    assert ended.code == 1
    assert "comes from git" in ended.err
    assert not (checkout / "alice.yaml").exists()


def test_etckeepers_record_is_no_checkout(retired: Shell) -> None:
    (retired.folder.parent / ".git").mkdir()
    (retired.folder.parent / ".etckeeper").write_text("")
    assert retired("undelete", "alice").code == 0


def test_both_are_for_root_alone(retired: Shell) -> None:
    retired.root = False
    assert "needs root" in retired("undelete", "alice").err
    assert "needs root" in retired("restore", "alice", "--from", "x").err
    assert retired.restorer.asked == []


def test_a_restored_one_without_a_manifest_says_how_to_get_it_back(retired: Shell) -> None:
    retired.restorer.take("alice")
    ended = retired("restore", "alice", "--from", "/srv/alice.tar.gz")
    assert ended.code == 0
    assert "alice is restored as alice-container, stopped." in ended.out
    assert "containarium undelete alice" in ended.out
    assert [(name, str(file), unchecked) for name, file, unchecked in retired.restorer.asked] == [
        ("alice", "/srv/alice.tar.gz", False)
    ]
    assert retired("undelete", "alice").code == 0
    assert retired("apply").code == 0
    assert retired.world.instances[BOX].status is InstanceStatus.RUNNING


def test_a_restored_one_with_a_manifest_says_who_starts_it(retired: Shell) -> None:
    retired.restorer.take("alice")
    retired.declare("alice")
    ended = retired("restore", "alice", "--from", "/srv/alice.tar.gz", "--no-checksum")
    assert ended.code == 0
    assert "containarium apply" in ended.out
    assert "undelete" not in ended.out
    assert retired.restorer.asked[0][2] is True


def test_a_refused_restore_is_one_line(shell: Shell) -> None:
    ended = shell("restore", "alice", "--from", "/srv/x")
    assert ended.code == 1
    assert ended.err == "containarium: error: /srv/x is no backup; name one\n"


def test_after_a_deletion_at_once_the_usual_grace_period_counts_again(shell: Shell) -> None:
    shell.declare("bob")
    shell.declare("alice", deletion={"grace": "1s", "backup": True})
    shell("apply")
    shell.restorer.take("alice")
    (shell.folder / "alice.yaml").unlink()
    path = shell.settings.state / "alice.tar.gz"
    assert shell("restore", "alice", "--from", str(path)).code == 0
    ended = shell("undelete", "alice")
    assert ended.code == 0
    assert "is left out" in ended.err
    assert yaml.safe_load((shell.folder / "alice.yaml").read_text())["spec"]["deletion"] == {"backup": True}


def test_nothing_is_restored_that_would_go_again_at_once(shell: Shell) -> None:
    shell.declare("alice", expires="2026-11-21", deletion={"grace": "1s"})
    ended = shell("restore", "alice", "--from", "x")
    assert ended.code == 1
    assert f"{shell.folder}/alice.yaml:" in ended.err
    assert "take deletion.grace: 1s out" in ended.err
    assert shell.restorer.asked == []
