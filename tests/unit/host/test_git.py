"""What a hostile repository, server or caller can try on git and on the checkout, and what damaged mirrors do."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from containarium.host.checkouts import Checkouts
from containarium.host.git import DamagedError, Mirror, Tip
from containarium.host.gittree import MAX_FILES, read_listing
from containarium.model.host import HostError
from containarium.model.syncing import SyncConfig
from tests.gitrepo import Repository


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    """Give a repository with alice on it."""
    made = Repository(tmp_path / "repository")
    made.declare("alice")
    return made


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Give the folder of the sync."""
    return tmp_path / "sync"


def mirror(source: Repository, folder: Path, **fields: object) -> Mirror:
    """A mirror of the repository, opened."""
    made = Mirror(folder, SyncConfig.model_validate({"repository": str(source.path), "timeout": "20s", **fields}))
    made.open()
    return made


def checkout(repository: Repository, folder: Path, **fields: object) -> Path:
    """Fetch, list, read and write: the manifests' folder."""
    made = mirror(repository, folder, **fields)
    commit = made.fetch().commit
    entries = made.listing(commit)
    checkouts = Checkouts(folder / "checkouts")
    checkouts.open()
    path = str(fields.get("path", "environments"))
    found = checkouts.make(commit, path, entries, made.contents(entries))
    assert checkouts.find(commit, path, entries) == found
    return found


def files(folder: Path) -> dict[str, bytes]:
    """Every regular file below a folder, by its path."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and not path.is_symlink()
    }


def test_a_checkout_holds_the_folder_as_it_is_and_nothing_else(repository: Repository, folder: Path) -> None:
    repository.write("environments/keys/a.pub", b"one\r\ntwo\xff\x00")
    repository.write("environments/run.sh", "#!/bin/sh\n")
    (repository.path / "environments/run.sh").chmod(0o755)
    repository.write("secret.txt", "not asked for")
    repository.commit()
    made = checkout(repository, folder)
    assert files(made) == files(repository.path / "environments")
    assert not (made.parent / "secret.txt").exists()
    assert {stat.S_IMODE(path.stat().st_mode) for path in made.rglob("*") if path.is_file()} == {0o644}
    assert stat.S_IMODE((folder / "repository.git").stat().st_mode) == 0o700


def test_attributes_filters_and_hooks_do_nothing(repository: Repository, folder: Path, tmp_path: Path) -> None:
    trace = tmp_path / "ran"
    command = f"touch {trace}; cat"
    attributes = "* filter=evil text eol=crlf ident export-subst working-tree-encoding=UTF-16 diff=evil\n"
    repository.write("environments/plain", "$Id$ $Format:%H$\nline\n")
    repository.commit()
    blob = repository.blob(attributes.encode())
    for place in (".gitattributes", "environments/.gitattributes"):
        repository.git("update-index", "--add", "--cacheinfo", f"100644,{blob},{place}")
    tree = repository.git("write-tree")
    repository.point(tree)
    for key in ("filter.evil.smudge", "filter.evil.process", "diff.evil.textconv", "uploadpack.packObjectsHook"):
        repository.git("config", key, command)
    repository.git("config", "core.fsmonitor", command)
    hooks = repository.path / ".git" / "hooks"
    hooks.mkdir()
    for name in ("post-checkout", "post-merge", "reference-transaction", "pre-auto-gc", "post-index-change"):
        (hooks / name).write_text(f"#!/bin/sh\ntouch {trace}\n")
        (hooks / name).chmod(0o755)
    made = checkout(repository, folder)
    blob = repository.git("rev-parse", "main:environments/plain")
    assert made.joinpath("plain").read_bytes() == repository.git("cat-file", "blob", blob).encode() + b"\n"
    assert not trace.exists()


def test_nothing_of_the_callers_environment_counts(
    repository: Repository, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trace = tmp_path / "ran"
    home = tmp_path / "home"
    home.mkdir()
    (home / ".gitconfig").write_text(f'[core]\n\tfsmonitor = touch {trace}\n[url "/nowhere"]\n\tinsteadOf = /\n')
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("GIT_DIR", "/nowhere")
    monkeypatch.setenv("GIT_CONFIG_COUNT", "1")
    monkeypatch.setenv("GIT_CONFIG_KEY_0", "url./nowhere.insteadOf")
    monkeypatch.setenv("GIT_CONFIG_VALUE_0", "/")
    monkeypatch.setenv("GIT_EXEC_PATH", "/nowhere")
    monkeypatch.setenv("GIT_OBJECT_DIRECTORY", "/nowhere")
    monkeypatch.setenv("LD_PRELOAD", "/nowhere.so")
    assert (checkout(repository, folder) / "alice.yaml").exists()
    assert not trace.exists()


@pytest.mark.parametrize("name", [b"..", b".", b".git", b"a/../../../../escaped", b""])
def test_names_that_lead_elsewhere_are_refused(repository: Repository, folder: Path, name: bytes) -> None:
    below = repository.raw_tree(("100644", name, repository.blob(b"evil")))
    repository.point(repository.raw_tree(("40000", b"environments", below)))
    with pytest.raises(HostError):
        checkout(repository, folder)
    assert not list(folder.parent.rglob("escaped"))
    assert not (folder / "checkouts").exists()


def test_a_link_with_files_below_it_is_refused(repository: Repository, folder: Path, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.mkdir()
    inside = repository.raw_tree(("100644", b"evil", repository.blob(b"evil")))
    link = repository.blob(str(victim).encode())
    below = repository.raw_tree(("120000", b"a", link), ("40000", b"a", inside))
    repository.point(repository.raw_tree(("40000", b"environments", below)))
    with pytest.raises(HostError):
        checkout(repository, folder)
    assert not list(victim.iterdir())


A = "a" * 40


@pytest.mark.parametrize(
    ("listing", "said"),
    [
        (f"120000 blob {A} 4\ta\x00100644 blob {A} 1\ta/b\x00", "'a' is a file and a folder at once"),
        (f"100644 blob {A} 1\ta/b\x00120000 blob {A} 4\ta\x00", "'a' is a file and a folder at once"),
        (f"100644 blob {A} 1\ta\x00100644 blob {A} 1\ta\x00", "'a' is there twice"),
        (f"100644 blob {A} 1\ta/../b\x00", "is no name for a file"),
        (f"100644 blob {A} 1\t/etc/passwd\x00", "is no name for a file"),
        (f"100644 blob {A} 1\ta//b\x00", "is no name for a file"),
        (f"100644 blob {A} 1\ta/.GIT/config\x00", "is no name for a file"),
        (f"100644 blob {A} 1\t{'a/' * 30}b\x00", "is no name for a file"),
        (f"100644 blob {A} 1\t{'a' * 256}\x00", "is no name for a file"),
        (f"160000 commit {A} -\tteam\x00", "'team' is a submodule"),
        (f"120000 blob {A} 5000\ta\x00", "no link that a disk could hold"),
        (f"100644 blob {A} -\ta\x00", "neither a file nor a link"),
        (f"100644 blob {A} 67108865\ta\x00", "more than 50000 files or 64 MiB"),
        (f"100644 blob {A} 60000000\ta\x00100644 blob {A} 60000000\tb\x00", "more than 50000 files or 64 MiB"),
        ("".join(f"100644 blob {A} 1\t{number}\x00" for number in range(MAX_FILES + 1)), "more than 50000 files"),
        ("nonsense\x00", "is listed in an unknown way"),
    ],
)
def test_listings_that_cannot_be_written(listing: str, said: str) -> None:
    with pytest.raises(HostError, match=said):
        read_listing(listing.encode(), "environments")


def test_a_link_with_a_nul_in_it_is_refused(repository: Repository, folder: Path) -> None:
    below = repository.raw_tree(("120000", b"a", repository.blob(b"/etc\0x")))
    repository.point(repository.raw_tree(("40000", b"environments", below)))
    with pytest.raises(HostError):
        checkout(repository, folder)


def test_a_tree_that_explodes_is_refused(repository: Repository, folder: Path) -> None:
    tree = repository.tree(f"100644 blob {repository.blob(b'x')}\tfile")
    for _ in range(9):
        tree = repository.tree(*(f"040000 tree {tree}\t{number}" for number in range(10)))
    repository.point(repository.tree(f"040000 tree {tree}\tenvironments"))
    with pytest.raises(HostError, match="more than 50000 files") as refused:
        checkout(repository, folder)
    assert refused.value.reason == "TooLarge"


def test_a_huge_file_is_refused_unread(repository: Repository, folder: Path) -> None:
    repository.write("environments/zeros", bytes(65 << 20))
    repository.commit()
    with pytest.raises(HostError, match="keep only manifests") as refused:
        checkout(repository, folder)
    assert refused.value.reason == "TooLarge"


def test_a_folder_that_is_not_there(repository: Repository, folder: Path) -> None:
    made = mirror(repository, folder, path="elsewhere")
    with pytest.raises(HostError, match="there is no folder elsewhere in commit"):
        made.listing(made.fetch().commit)


def test_a_file_is_no_folder(repository: Repository, folder: Path) -> None:
    made = mirror(repository, folder, path="environments/alice.yaml")
    with pytest.raises(HostError, match=r"there is no folder environments/alice\.yaml"):
        made.listing(made.fetch().commit)


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"branch": "absent"}, "RefMissing"),
        ({"tag": "absent"}, "RefMissing"),
        ({"repository": "/nowhere/at-all"}, "RepositoryMissing"),
    ],
)
def test_what_is_not_there(repository: Repository, folder: Path, fields: dict[str, str], reason: str) -> None:
    with pytest.raises(HostError) as refused:
        mirror(repository, folder, **fields).fetch()
    assert refused.value.reason == reason
    assert refused.value.remedy


def test_a_tag_of_something_that_is_no_commit(repository: Repository, folder: Path) -> None:
    repository.git("tag", "file", repository.blob(b"x"))
    with pytest.raises(HostError, match="does not lead to a commit"):
        mirror(repository, folder, tag="file").fetch()


def test_tags_lead_to_their_commit(repository: Repository, folder: Path) -> None:
    repository.git("tag", "light")
    repository.git("tag", "-a", "-m", "one", "heavy")
    assert mirror(repository, folder, tag="light").fetch() == Tip(repository.head)
    heavy = mirror(repository, folder, tag="heavy").fetch()
    assert heavy == Tip(repository.head, repository.git("rev-parse", "heavy"))


@pytest.mark.parametrize(
    "spoil",
    [
        lambda path: [pack.write_bytes(b"") for pack in path.glob("objects/pack/*.pack")],
        lambda path: [pack.unlink() for pack in path.glob("objects/pack/*")],
        lambda path: (path / "refs/sync/tip").write_text("0" * 40 + "\n"),
        lambda path: (path / "config").write_text("["),
    ],
)
def test_a_damaged_mirror_is_told_and_can_be_made_anew(repository: Repository, folder: Path, spoil: object) -> None:
    made = mirror(repository, folder)
    made.fetch()
    assert callable(spoil)
    spoil(made.path)
    try:
        commit = made.fetch().commit
        made.contents(made.listing(commit))
    except DamagedError:
        made.discard()
        commit = made.fetch().commit
    assert made.contents(made.listing(commit))


def test_what_a_killed_git_left_is_no_hindrance(repository: Repository, folder: Path) -> None:
    made = mirror(repository, folder)
    made.fetch()
    leftovers = ["refs/sync/tip.lock", "packed-refs.lock", "config.lock", "objects/pack/tmp_pack_AbCdEf"]
    for name in leftovers:
        (made.path / name).write_text("")
    half = folder / "repository.git.new"
    half.mkdir()
    (half / "HEAD").write_text("")
    commit = repository.declare("bob")
    made = mirror(repository, folder)
    assert made.fetch() == Tip(commit)
    assert not any((made.path / name).exists() for name in leftovers)
    assert not half.exists()


def test_many_fetches_leave_few_packs(repository: Repository, folder: Path) -> None:
    made = mirror(repository, folder)
    for number in range(25):
        repository.write("environments/note", str(number))
        repository.commit()
        commit = made.fetch().commit
    assert len(list((made.path / "objects/pack").glob("*.pack"))) < 23
    assert made.contents(made.listing(commit))


def test_the_way_of_history_is_told(repository: Repository, folder: Path) -> None:
    first = repository.head
    second = repository.declare("bob")
    made = mirror(repository, folder)
    made.fetch()
    made.keep(second)
    assert made.path_taken(first, second) == "forward"
    assert made.path_taken(second, first) == "rewound"
    repository.git("checkout", "--quiet", "--orphan", "other")
    other = repository.commit()
    repository.git("branch", "--force", "main", other)
    made.fetch()
    assert made.path_taken(second, other) == "rewritten"
    assert made.path_taken("1" * 40, other) == "unknown"


@pytest.mark.parametrize("mode", [0o666, 0o664])
def test_a_file_of_signers_that_others_can_change_is_refused(
    repository: Repository, folder: Path, tmp_path: Path, mode: int
) -> None:
    signers = tmp_path / "signers"
    signers.write_text("")
    signers.chmod(mode)
    with pytest.raises(HostError, match="can be changed by others") as refused:
        mirror(repository, folder, verify={"ssh": {"allowedSigners": str(signers)}})
    assert refused.value.reason == "FileUntrusted"


def test_a_missing_file_is_named(repository: Repository, folder: Path) -> None:
    with pytest.raises(HostError, match="cannot read /nowhere/signers: No such file"):
        mirror(repository, folder, verify={"ssh": {"allowedSigners": "/nowhere/signers"}})


def test_a_changed_checkout_is_not_taken_for_the_commit(repository: Repository, folder: Path) -> None:
    made = checkout(repository, folder)
    source = mirror(repository, folder)
    entries = source.listing(repository.head)
    checkouts = Checkouts(folder / "checkouts")
    original = (made / "alice.yaml").read_bytes()
    (made / "alice.yaml").write_bytes(original.replace(b"alice", b"mallo"))
    assert checkouts.find(repository.head, "environments", entries) is None
    (made / "alice.yaml").write_bytes(original)
    assert checkouts.find(repository.head, "environments", entries) == made
    (made / "more.yaml").write_text("")
    assert checkouts.find(repository.head, "environments", entries) is None
    (made / "more.yaml").unlink()
    (made / "alice.yaml").unlink()
    (made / "alice.yaml").symlink_to("/etc/passwd")
    assert checkouts.find(repository.head, "environments", entries) is None
    again = checkouts.make(repository.head, "environments", entries, source.contents(entries))
    assert again != made
    assert checkouts.find(repository.head, "environments", entries) == again
    assert checkouts.commit_of(again) == repository.head


def test_git_is_bound_in_time(repository: Repository, folder: Path) -> None:
    slow = repository.path.parent / "slow"
    os.mkfifo(slow)  # upload-pack opens the packed refs, and waits for ever
    (repository.path / ".git" / "packed-refs").unlink(missing_ok=True)
    (repository.path / ".git" / "packed-refs").symlink_to(slow)
    with pytest.raises(HostError, match="git fetch did not end within 5 s") as refused:
        mirror(repository, folder, timeout="5s").fetch()
    assert refused.value.reason == "CommandTimeout"
