"""How the bench is asked, what it refuses, and what it believes of a peer."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.bench.__main__ import HERE, PARTS, main
from tests.bench.ansible import changes
from tests.bench.place import refuse_unready
from tests.lab.command import LabError

RECAP = "box : ok=1    changed={changed}    unreachable=0    failed={failed}    skipped=0\n"


def test_a_part_that_there_is_not_is_refused_with_those_there_are(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["nonsense"]) == 2
    assert "create" in capsys.readouterr().err
    assert main(["--here", "recovery"]) == 2
    assert "recovery" not in capsys.readouterr().err.partition("there are:")[2]


def test_what_can_be_measured_anywhere_is_also_measured_in_the_lab() -> None:
    assert set(HERE) <= set(PARTS)


@pytest.mark.parametrize(
    ("root", "made", "running", "remedy"),
    [
        (False, "folder", True, "sudo make bench"),
        (True, "", True, "containarium host prepare"),
        (True, "folder", False, "containarium host prepare --service"),
        (True, "link", True, "another host"),
    ],
)
def test_a_host_that_is_not_ready_is_refused_with_a_remedy(
    tmp_path: Path, *, root: bool, made: str, running: bool, remedy: str
) -> None:
    folder = tmp_path / "environments"
    if made == "folder":
        folder.mkdir()
    elif made == "link":
        folder.symlink_to(tmp_path)
    with pytest.raises(LabError, match=remedy):
        refuse_unready(root=root, folder=folder, running=running)


def test_a_prepared_host_is_not_refused(tmp_path: Path) -> None:
    refuse_unready(root=True, folder=tmp_path, running=True)


def test_a_play_says_how_much_it_changed() -> None:
    said = RECAP.format(changed=0, failed=0) + RECAP.format(changed=2, failed=0)
    assert changes(said, 2) == 2


@pytest.mark.parametrize(
    ("said", "hosts"),
    [("", 1), (RECAP.format(changed=0, failed=0), 2), (RECAP.format(changed=0, failed=1), 1)],
    ids=["nothing", "one missing", "one failed"],
)
def test_a_play_that_did_not_get_through_is_no_sample(said: str, hosts: int) -> None:
    with pytest.raises(LabError, match="did not get through"):
        changes(said, hosts)
