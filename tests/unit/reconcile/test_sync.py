"""From a repository to the folder of manifests: what is taken over, what is not, and what a killed sync leaves."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from containarium.host.lock import only_controller
from containarium.host.settings import HostSettings
from containarium.model.host import HostError
from containarium.model.syncing import SyncConfig
from containarium.reconcile.revision import head_commit
from containarium.reconcile.sync import Outcome, revision, sync
from containarium.sources.directory import load
from tests.builders import NOW
from tests.gitrepo import Repository


class Desk:
    """A host's folders, a repository, and an admin between them."""

    def __init__(self, tmp_path: Path) -> None:
        self.repository = Repository(tmp_path / "repository")
        self.settings = HostSettings(
            manifests=tmp_path / "etc/containarium/environments", state=tmp_path / "state", runtime=tmp_path / "run"
        )
        self.fields: dict[str, object] = {"repository": str(self.repository.path), "timeout": "30s"}

    def sync(self, *, check: bool = False, any_history: bool = False, wait: float = 0.0, **fields: object) -> Outcome:
        """Sync once."""
        config = SyncConfig.model_validate({**self.fields, **fields})
        return sync(self.settings, config, lambda: NOW, check=check, any_history=any_history, wait=wait)

    def names(self) -> list[str]:
        """Who is declared in the folder of manifests now."""
        return [manifest.name for manifest in load(self.settings.manifests).manifests]

    def checkouts(self) -> list[str]:
        """Names of the checkouts that are there."""
        return sorted(path.name for path in (self.settings.sync / "checkouts").iterdir())

    def breaks(self, text: str = "kind: Environment\nmetadata: {nam: bob}\n") -> str:
        """Commit a manifest that is not valid."""
        self.repository.write("environments/bob.yaml", text)
        return self.repository.commit()


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    """Give a repository with alice, and a host that knows nothing of it."""
    made = Desk(tmp_path)
    made.repository.declare("alice")
    return made


def test_a_good_commit_is_taken_over(desk: Desk) -> None:
    done = desk.sync()
    head = desk.repository.head
    assert (done.result, done.commit, done.applied, done.environments) == ("applied", head, head, 1)
    assert desk.settings.manifests.is_symlink()
    assert desk.names() == ["alice"]
    found = revision(desk.settings)
    assert (found.applied, found.tried, found.error, found.at) == (head, head, "", "2026-11-22T12:00:00Z")
    assert desk.sync().result == "unchanged"


def test_a_bad_commit_is_not_and_its_mending_is(desk: Desk) -> None:
    good = desk.sync().commit
    bad = desk.breaks()
    for _ in range(2):
        done = desk.sync()
        assert (done.result, done.commit, done.applied) == ("refused", bad, good)
        assert done.problems
        assert all(problem.startswith("environments/bob.yaml:") for problem in done.problems)
        assert desk.names() == ["alice"]
        found = revision(desk.settings)
        assert (found.applied, found.tried) == (good, bad)
        assert found.error.startswith("environments/bob.yaml:")
    mended = desk.repository.declare("bob")
    assert desk.sync().applied == mended
    assert desk.names() == ["alice", "bob"]
    assert revision(desk.settings).error == ""


def test_all_of_the_repository_can_be_the_folder(desk: Desk) -> None:
    assert desk.sync(path=".").result == "applied"
    assert desk.names() == ["alice"]
    desk.breaks()
    assert desk.sync(path=".").problems[0].startswith("environments/bob.yaml:")


def test_a_commit_without_an_environment_is_refused(desk: Desk) -> None:
    good = desk.sync().commit
    (desk.repository.path / "environments/alice.yaml").unlink()
    desk.repository.write("environments/README", "nobody left")
    desk.repository.commit()
    done = desk.sync()
    assert (done.result, done.applied) == ("refused", good)
    assert desk.names() == ["alice"]


HOST = "apiVersion: containarium.dev/v1\nkind: Host\nmetadata: {name: jump-1}\nspec: {}\n"


def test_a_fleet_may_begin_with_its_hosts(desk: Desk) -> None:
    (desk.repository.path / "environments/alice.yaml").unlink()
    desk.repository.write("environments/jump-1.yaml", HOST)
    first = desk.repository.commit()
    done = desk.sync()
    assert (done.result, done.applied, done.environments, done.problems) == ("applied", first, 0, ())
    assert [host.name for host in load(desk.settings.manifests).hosts] == ["jump-1"]
    desk.repository.write("environments/jump-1.yaml", HOST.replace("{}", "{ports: 1}"))
    desk.repository.commit()
    assert desk.sync().applied == first
    desk.repository.write("environments/jump-1.yaml", HOST)
    second = desk.repository.declare("bob")
    assert (desk.sync().applied, desk.names()) == (second, ["bob"])


def test_but_it_does_not_lose_its_people_for_them(desk: Desk) -> None:
    good = desk.sync().commit
    (desk.repository.path / "environments/alice.yaml").unlink()
    desk.repository.write("environments/jump-1.yaml", HOST)
    desk.repository.commit()
    done = desk.sync()
    assert (done.result, done.applied, desk.names()) == ("refused", good, ["alice"])


def test_a_commit_without_the_folder_is_refused(desk: Desk) -> None:
    good = desk.sync().commit
    shutil.rmtree(desk.repository.path / "environments")
    gone = desk.repository.commit()
    with pytest.raises(HostError, match="there is no folder environments in commit"):
        desk.sync()
    assert desk.names() == ["alice"]
    assert (revision(desk.settings).applied, revision(desk.settings).tried) == (good, gone)


def test_the_repository_goes_away_and_comes_back(desk: Desk) -> None:
    good = desk.sync().commit
    away = desk.repository.path.rename(desk.repository.path.with_name("away"))
    with pytest.raises(HostError) as refused:
        desk.sync()
    assert refused.value.reason == "RepositoryMissing"
    assert desk.names() == ["alice"]
    found = revision(desk.settings)
    assert (found.applied, found.tried) == (good, good)
    assert "there is no repository" in found.error
    away.rename(desk.repository.path)
    assert desk.sync().result == "unchanged"
    assert revision(desk.settings).error == ""


def test_links_that_lead_out_are_refused(desk: Desk, tmp_path: Path) -> None:
    desk.sync()
    outside = tmp_path / "outside.yaml"
    outside.write_text((desk.repository.path / "environments/alice.yaml").read_text().replace("alice", "mallory"))
    (desk.repository.path / "environments/mallory.yaml").symlink_to(outside)
    desk.repository.commit()
    done = desk.sync()
    assert done.result == "refused"
    assert "this link leads out of the folder of the manifests" in done.problems[0]
    assert desk.names() == ["alice"]


def test_links_inside_are_followed(desk: Desk) -> None:
    desk.repository.write("environments/teams/ml/keys", "")
    desk.repository.declare("bob", folder="environments/teams/ml")
    (desk.repository.path / "environments/carol.yaml").symlink_to("teams/ml/absent.yaml")
    desk.repository.commit()
    assert desk.sync().result == "refused"
    (desk.repository.path / "environments/carol.yaml").unlink()
    (desk.repository.path / "environments/link").symlink_to("teams")
    desk.repository.commit()
    assert desk.sync().result == "applied"
    assert desk.names() == ["alice", "bob"]


def test_a_submodule_is_refused(desk: Desk) -> None:
    desk.sync()
    desk.repository.git("update-index", "--add", "--cacheinfo", f"160000,{'1' * 40},environments/team")
    desk.repository.git("commit", "--quiet", "-m", "submodule")
    with pytest.raises(HostError, match="'team' is a submodule, which is not fetched"):
        desk.sync()
    assert desk.names() == ["alice"]


@pytest.mark.parametrize("steps", ["rewound", "rewritten"])
def test_a_branch_that_went_back_is_followed_and_told(desk: Desk, steps: str) -> None:
    first = desk.sync().commit
    second = desk.repository.declare("bob")
    assert desk.sync().history == "forward"
    if steps == "rewound":
        desk.repository.git("reset", "--quiet", "--hard", first)
    else:
        desk.repository.git("checkout", "--quiet", "--orphan", "other")
        desk.repository.git("branch", "--force", "main", desk.repository.declare("carol"))
    done = desk.sync()
    assert (done.result, done.history, done.before) == ("applied", steps, second)
    assert revision(desk.settings).applied == done.commit != second


def test_a_rewound_commit_is_not_validated_less(desk: Desk) -> None:
    bad = desk.breaks()
    good = desk.repository.declare("bob")
    assert desk.sync().applied == good
    desk.repository.git("reset", "--quiet", "--hard", bad)
    assert (desk.sync().result, revision(desk.settings).applied) == ("refused", good)


def test_a_tag_is_followed_where_it_goes(desk: Desk) -> None:
    desk.repository.git("tag", "stable")
    tagged = desk.repository.head
    later = desk.repository.declare("bob")
    assert desk.sync(tag="stable").applied == tagged
    assert desk.names() == ["alice"]
    desk.repository.git("tag", "--force", "-a", "-m", "moved", "stable", later)
    assert desk.sync(tag="stable").applied == later
    assert desk.names() == ["alice", "bob"]


def test_check_does_everything_but_the_swap(desk: Desk) -> None:
    good = desk.sync().commit
    better = desk.repository.declare("bob")
    done = desk.sync(check=True)
    assert (done.result, done.commit, done.applied) == ("valid", better, good)
    assert desk.names() == ["alice"]
    assert revision(desk.settings).tried == good
    desk.breaks()
    assert desk.sync(check=True).refused


def test_edits_below_the_link_are_undone(desk: Desk) -> None:
    head = desk.sync().commit
    edited = desk.settings.manifests / "alice.yaml"
    text = edited.read_text()
    edited.write_text(text + "# by hand\n")
    (desk.settings.manifests / "bob.yaml").write_text(text.replace("alice", "bob"))
    done = desk.sync()
    assert (done.result, done.applied) == ("applied", head)
    assert desk.names() == ["alice"]
    assert edited.read_text() == text
    assert revision(desk.settings).applied == head


def test_another_folder_of_the_same_commit_is_a_checkout_of_its_own(desk: Desk) -> None:
    desk.repository.declare("bob", folder="environments/eu")
    assert desk.sync(path="environments/eu").result == "applied"
    assert desk.names() == ["bob"]
    assert desk.sync(path="environments").result == "applied"
    assert desk.names() == ["alice", "bob"]
    assert len(desk.checkouts()) == 2


def test_old_checkouts_go_but_never_the_one_in_use(desk: Desk) -> None:
    used = desk.sync().commit
    for _ in range(6):
        desk.breaks(f"{desk.repository.head}: [")
        assert desk.sync().refused
    kept = desk.checkouts()
    assert used in kept
    assert desk.repository.head in kept
    assert len(kept) == 5
    assert desk.names() == ["alice"]


# -- the folder's place


def test_an_empty_folder_gives_way(desk: Desk) -> None:
    desk.settings.manifests.mkdir(parents=True)
    assert desk.sync().result == "applied"
    assert desk.names() == ["alice"]
    assert [path.name for path in desk.settings.manifests.parent.iterdir()] == ["environments"]


def _full(place: Path) -> None:
    place.mkdir(parents=True)
    (place / ".hidden").write_text("mine")


def _foreign_link(place: Path) -> None:
    place.parent.mkdir(parents=True)
    place.symlink_to("/srv")


def _file(place: Path) -> None:
    place.parent.mkdir(parents=True)
    place.write_text("mine")


@pytest.mark.parametrize("occupy", [_full, _foreign_link, _file])
def test_what_is_somebody_elses_stays(desk: Desk, occupy: Callable[[Path], None]) -> None:
    place = desk.settings.manifests
    occupy(place)
    before = (place.lstat().st_ino, sorted(place.parent.iterdir()))
    with pytest.raises(HostError) as refused:
        desk.sync()
    assert refused.value.reason == "FolderTaken"
    assert refused.value.remedy
    assert (place.lstat().st_ino, sorted(place.parent.iterdir())) == before


def test_a_link_to_a_checkout_that_is_gone_is_mended(desk: Desk) -> None:
    head = desk.sync().commit
    shutil.rmtree(desk.settings.sync)
    assert not desk.settings.manifests.exists()
    assert desk.sync().applied == head
    assert desk.names() == ["alice"]


def test_leftovers_of_a_killed_swap(desk: Desk) -> None:
    desk.sync()
    beside = desk.settings.manifests.with_name(".environments.sync")
    beside.symlink_to("/nowhere")
    (desk.settings.sync / "checkouts/.new/half").mkdir(parents=True)
    (desk.settings.sync / ".state.json.abcdefgh").write_text("{")
    desk.repository.declare("bob")
    assert desk.sync().result == "applied"
    assert not beside.is_symlink()
    beside.mkdir()
    desk.repository.declare("carol")
    assert desk.sync().result == "applied"
    assert not beside.exists()
    assert desk.names() == ["alice", "bob", "carol"]
    assert not (desk.settings.sync / "checkouts/.new").exists()
    assert not list(desk.settings.sync.glob(".*"))


# -- one at a time


def test_one_sync_at_a_time_beside_a_controller(desk: Desk) -> None:
    with (
        only_controller(desk.settings.sync),
        pytest.raises(HostError, match="another sync is at work") as refused,
    ):
        desk.sync()
    assert refused.value.reason == "Locked"
    with only_controller(desk.settings.runtime):
        assert desk.sync().result == "applied"


def test_git_of_a_killed_sync_is_waited_for(desk: Desk) -> None:
    desk.sync()
    lock = desk.settings.sync / "git.lock"
    orphan = subprocess.Popen(["flock", str(lock), "sh", "-c", "echo; read line"], stdin=-1, stdout=-1)
    assert orphan.stdin is not None
    assert orphan.stdout is not None
    orphan.stdout.readline()
    with pytest.raises(HostError, match="git of an earlier sync is still at work"):
        desk.sync(timeout="5s")
    orphan.communicate(b"\n", timeout=30)
    assert desk.sync().result == "unchanged"


def test_a_full_disk_is_one_line(desk: Desk) -> None:
    desk.sync()
    shutil.rmtree(desk.settings.sync / "checkouts")
    (desk.settings.sync / "checkouts").write_text("in the way")
    with pytest.raises(HostError) as refused:
        desk.sync()
    assert refused.value.reason == "DiskFault"
    assert os.strerror(errno.ENOTDIR) in str(refused.value)
    assert "Not a directory" in revision(desk.settings).error


# -- signatures


@pytest.fixture
def signers(desk: Desk, tmp_path: Path) -> Path:
    """Give a folder with the ssh keys `good` and `wrong`; the desk lets `good` sign."""
    for name in ("good", "wrong"):
        command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", str(tmp_path / name)]
        subprocess.run(command, check=True, timeout=30)
    allowed = tmp_path / "allowed_signers"
    allowed.write_text(f"test@example.org {(tmp_path / 'good.pub').read_text()}")
    desk.fields["verify"] = {"ssh": {"allowedSigners": str(allowed)}}
    return tmp_path


def _with(key: Path) -> tuple[str, str]:
    return "gpg.format=ssh", f"user.signingKey={key}"


def test_ssh_signatures(desk: Desk, signers: Path) -> None:
    with pytest.raises(HostError, match="is not signed; sign it") as refused:
        desk.sync()
    assert refused.value.reason == "Unsigned"
    good = desk.repository.commit("-S", config=_with(signers / "good"))
    assert desk.sync().applied == good
    wrong = desk.repository.commit("-S", config=_with(signers / "wrong"))
    with pytest.raises(HostError, match="is not signed by anybody who may") as refused:
        desk.sync()
    assert refused.value.reason == "BadSignature"
    found = revision(desk.settings)
    assert (found.applied, found.tried) == (good, wrong)
    assert "signed" in found.error
    desk.repository.commit()
    with pytest.raises(HostError, match="is not signed; sign it"):
        desk.sync()
    assert revision(desk.settings).applied == good


def test_a_signature_of_another_commit_is_none(desk: Desk, signers: Path) -> None:
    desk.repository.commit("-S", config=_with(signers / "good"))
    signed = desk.repository.git("cat-file", "commit", "HEAD")
    tree = desk.repository.git("rev-parse", "HEAD^{tree}")
    desk.repository.write("environments/extra", "x")
    desk.repository.git("add", "--all")
    forged = signed.replace(tree, desk.repository.git("write-tree")) + "\n"
    commit = desk.repository.git("hash-object", "-t", "commit", "-w", "--stdin", input=forged.encode())
    desk.repository.git("update-ref", "refs/heads/main", commit)
    with pytest.raises(HostError, match="is not signed by anybody who may"):
        desk.sync()


def test_signed_tags(desk: Desk, signers: Path) -> None:
    desk.repository.git("tag", "-s", "-m", "one", "v1", config=_with(signers / "good"))
    assert desk.sync(tag="v1").applied == desk.repository.head
    desk.repository.git("tag", "-a", "-m", "two", "v2")
    with pytest.raises(HostError, match="tag v2, an annotated tag, is not signed"):
        desk.sync(tag="v2")
    desk.repository.git("tag", "light")
    with pytest.raises(HostError, match=r"commit [0-9a-f]{12} is not signed"):
        desk.sync(tag="light")
    desk.repository.git("tag", "-s", "-m", "three", "v3", config=_with(signers / "wrong"))
    with pytest.raises(HostError, match="is not signed by anybody who may"):
        desk.sync(tag="v3")


def test_an_old_signed_tag_under_a_new_name_is_refused(desk: Desk, signers: Path) -> None:
    desk.repository.git("tag", "-s", "-m", "one", "v1", config=_with(signers / "good"))
    desk.repository.git("update-ref", "refs/tags/v2", desk.repository.git("rev-parse", "v1"))
    with pytest.raises(HostError, match="was made under another name"):
        desk.sync(tag="v2")


def _revoked(allowed: Path) -> None:
    allowed.write_text("")


def test_an_old_signed_commit_is_not_taken_over_again(desk: Desk, signers: Path) -> None:
    old = desk.repository.commit("-S", config=_with(signers / "good"))
    desk.sync()
    desk.repository.write("environments/alice.yaml", (desk.settings.manifests / "alice.yaml").read_text() + "\n")
    new = desk.repository.commit("-S", config=_with(signers / "good"))
    assert desk.sync().applied == new
    desk.repository.git("reset", "--quiet", "--hard", old)
    for check in (True, False):
        with pytest.raises(HostError, match=f"{old[:12]} of branch main does not follow {new[:12]}") as refused:
            desk.sync(check=check)
        assert refused.value.reason == "HistoryRefused"
    found = revision(desk.settings)
    assert (found.applied, found.tried) == (new, old)
    assert "does not follow" in found.error
    done = desk.sync(any_history=True)
    assert (done.result, done.applied, done.history) == ("applied", old, "rewound")
    assert desk.sync().result == "unchanged", "it is the one in use now"


def test_nor_is_one_of_which_the_mirror_cannot_say_where_it_comes_from(desk: Desk, signers: Path) -> None:
    old = desk.repository.commit("-S", config=_with(signers / "good"))
    desk.repository.write("environments/README", "new")
    new = desk.repository.commit("-S", config=_with(signers / "good"))
    assert desk.sync().applied == new
    shutil.rmtree(desk.settings.sync / "repository.git")
    assert desk.sync().result == "unchanged"
    shutil.rmtree(desk.settings.sync / "repository.git")
    desk.repository.git("reset", "--quiet", "--hard", old)
    with pytest.raises(HostError, match="does not follow"):
        desk.sync()
    assert revision(desk.settings).applied == new


def test_a_signer_who_was_removed_may_no_longer(desk: Desk, signers: Path) -> None:
    good = desk.repository.commit("-S", config=_with(signers / "good"))
    desk.sync()
    _revoked(signers / "allowed_signers")
    with pytest.raises(HostError, match="is not signed by anybody who may"):
        desk.sync()
    assert revision(desk.settings).applied == good
    assert desk.names() == ["alice"]


def test_gpg_signatures(desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = Path(tempfile.mkdtemp(prefix="gpg-", dir="/tmp"))  # its sockets want a short path
    monkeypatch.setenv("GNUPGHOME", str(home))
    gpg = ("gpg", "--batch", "--quiet", "--passphrase", "", "--pinentry-mode", "loopback")
    try:
        for name in ("good", "wrong"):
            command = [*gpg, "--quick-generate-key", f"{name}@example.org", "ed25519", "sign", "never"]
            subprocess.run(command, check=True, timeout=60, capture_output=True)
        keyring = tmp_path / "signers.asc"
        command = [*gpg, "--armor", "--output", str(keyring), "--export", "good@example.org"]
        subprocess.run(command, check=True, timeout=60, capture_output=True)
        desk.fields["verify"] = {"gpg": {"keyring": str(keyring)}}
        good = desk.repository.commit("-Sgood@example.org")
        assert desk.sync().applied == good
        desk.repository.commit("-Swrong@example.org")
        with pytest.raises(HostError, match="is not signed by anybody who may"):
            desk.sync()
        desk.repository.commit()
        with pytest.raises(HostError, match="is not signed; sign it"):
            desk.sync()
        keyring.write_text("nonsense")
        with pytest.raises(HostError, match="gpg cannot read the keys"):
            desk.sync()
        assert revision(desk.settings).applied == good
        assert not (desk.settings.sync / "gnupg").exists()
    finally:
        subprocess.run(["gpgconf", "--kill", "all"], check=True, timeout=60)
        shutil.rmtree(home)


def test_the_wrong_kind_of_signature_is_refused(desk: Desk, signers: Path) -> None:
    desk.repository.commit("-S", config=_with(signers / "good"))
    keyring = signers / "signers.gpg"
    keyring.write_bytes(b"")
    desk.fields["verify"] = {"gpg": {"keyring": str(keyring)}}
    with pytest.raises(HostError):
        desk.sync()
    assert revision(desk.settings).applied == ""


# -- what is in use, without a sync


def test_without_git_nothing_is_known(desk: Desk) -> None:
    assert (revision(desk.settings).applied, revision(desk.settings).tried) == ("", "")


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("detached", [False, True])
def test_head_of_a_work_tree(desk: Desk, tmp_path: Path, packed: bool, detached: bool) -> None:
    repository = desk.repository
    desk.settings.manifests.parent.mkdir(parents=True)
    desk.settings.manifests.symlink_to(repository.path / "environments")
    repository.git("worktree", "add", "--quiet", str(tmp_path / "further"), "-b", "feature")
    for step in range(2):
        if detached:
            repository.git("checkout", "--quiet", "--detach")
        head = repository.declare(f"user{step}")
        if packed:
            repository.git("pack-refs", "--all")
        assert revision(desk.settings).applied == head
    assert head_commit(tmp_path / "further/environments") == repository.git("rev-parse", "feature")


@pytest.mark.parametrize("head", ["", "ref: refs/heads/none", "ref: ../../../etc/passwd", "ref: refs/../x", "nonsense"])
def test_a_head_that_leads_nowhere(tmp_path: Path, head: str) -> None:
    (tmp_path / ".git").mkdir()
    (tmp_path / ".git/HEAD").write_text(head)
    assert head_commit(tmp_path) == ""


@pytest.mark.parametrize("text", ["", "{", "[]", '{"tried": 1, "error": null}', "\x00"])
def test_a_spoilt_state_file_is_no_hindrance(desk: Desk, text: str) -> None:
    head = desk.sync().commit
    (desk.settings.sync / "state.json").write_text(text)
    assert revision(desk.settings).applied == head
    assert desk.sync().result == "unchanged"
    assert json.loads((desk.settings.sync / "state.json").read_text())["applied"] == head
