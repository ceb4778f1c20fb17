"""The configuration of a sync: which addresses are ones, and how a mistake in the file is told."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from containarium.model.base import InvalidValueError
from containarium.model.syncing import SyncConfig, scheme
from containarium.sources.syncfile import SyncFileError, merged, read_sync_file


@pytest.mark.parametrize(
    ("repository", "expected"),
    [
        ("https://git.example.org/team/environments.git", "https"),
        ("https://git.example.org:8443/environments", "https"),
        ("ssh://git@git.example.org/team/environments.git", "ssh"),
        ("ssh://git.example.org:2222/srv/git/x", "ssh"),
        ("git@git.example.org:team/environments.git", "ssh"),
        ("git.example.org:/srv/git/environments.git", "ssh"),
        ("/srv/git/environments.git", "file"),
        ("file:///srv/git/environments.git", "file"),
    ],
)
def test_addresses(repository: str, expected: str) -> None:
    assert scheme(repository) == expected
    assert SyncConfig.model_validate({"repository": repository}).scheme == expected


@pytest.mark.parametrize(
    "repository",
    [
        "ext::sh -c touch% /tmp/x",
        "ext::sh",
        "fd::7",
        "persistent-https::https://x/y",
        "--upload-pack=touch /tmp/x",
        "-oProxyCommand=x",
        "ssh://-oProxyCommand=touch/x",
        "ssh://git@-oProxyCommand=x/y",
        "-x@host:path",
        "git@-oProxyCommand=x:path",
        "git@host:-oProxyCommand",
        "git@host:--upload-pack=x",
        "https://user:secret@host/path",
        "https://token@host/path",
        "http://host/path",
        "git://host/path",
        "ftp://host/path",
        "relative/path",
        "/srv/../etc/x",
        "/srv/.git/../../x",
        "/srv/git/x\nevil",
        "/srv/git/$(id)",
        "/srv/git/a b",
        "git@host:a;b",
        "https://host/a?b=c",
        "https://ho st/a",
        "",
        "/" + "a/" * 600 + "b",
    ],
)
def test_what_is_no_address(repository: str) -> None:
    with pytest.raises(InvalidValueError):
        scheme(repository)


@pytest.mark.parametrize("field", ["branch", "tag"])
@pytest.mark.parametrize(
    "name", ["-x", "a..b", "a b", "a:b", "+a", "a~1", "a^", "refs/heads/main", "a@{1}", "x.lock", ""]
)
def test_names_that_git_would_take_for_something_else(field: str, name: str) -> None:
    with pytest.raises(ValidationError):
        SyncConfig.model_validate({"repository": "/srv/x", field: name})


@pytest.mark.parametrize("path", ["../x", "/etc", "a/../b", "a//b", "-x", ":(glob)x", "a\0b", ""])
def test_folders_that_are_none(path: str) -> None:
    with pytest.raises(ValidationError):
        SyncConfig.model_validate({"repository": "/srv/x", "path": path})


@pytest.mark.parametrize("path", ["key; id", "/root/my key", "relative/key", "/a/../b", "/a'b", "/$x"])
def test_files_that_a_shell_could_obey(path: str) -> None:
    with pytest.raises(ValidationError):
        SyncConfig.model_validate({"repository": "/srv/x", "identity": path})


def test_defaults() -> None:
    config = SyncConfig.model_validate({"repository": "/srv/x"})
    assert (config.ref, config.refname, config.path, config.verify.wanted) == (
        "branch main",
        "refs/heads/main",
        "environments",
        False,
    )
    assert SyncConfig.model_validate({"repository": "/srv/x", "tag": "v1"}).refname == "refs/tags/v1"
    assert not SyncConfig.model_validate({"repository": "/srv/x", "verify": "none"}).verify.wanted


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("repositry: /x\n", "1:1: repositry: there is no field 'repositry'; did you mean repository?"),
        ("branch: main\n", "repository: repository is missing; add repository with its address"),
        (
            "repository: /x\ncolour: red\n",
            "2:1: colour: there is no field 'colour'; known here are repository, branch,",
        ),
        ("repository: /x\nverify: yes\n", "2:9: verify: 'yes' is no check of signatures; write none, or ssh:"),
        ("repository: /x\nverify: {ssh: {allowed: /x}}\n", "2:16: verify.ssh.allowed: there is no field 'allowed'"),
        ("repository: /x\nverify:\n  ssh: {}\n", "verify.ssh.allowedSigners: allowedSigners is missing; add allowedS"),
        ("repository: /x\nverify:\n  ssh:\n    allowed_signers: /x\n", "4:5: verify.ssh.allowed_signers: there is no"),
        (
            "repository: /x\nverify: {ssh: {allowedSigners: /x}, gpg: {keyring: /x}}\n",
            "there are two kinds of signature",
        ),
        ("repository: /x\nverify: {}\n", "it does not say who has to sign"),
        ("repository: /x\nverify:\n  ssh:\n", "it does not say who has to sign"),
        ("repository: /x\nbranch: a\ntag: b\n", "there are a branch and a tag; keep one of them"),
        ("repository: /x\ntimeout: 30\n", "2:10: timeout: 30 is not a length of time"),
        ("repository: /x\ntimeout: 1s\n", "1s is no sensible time for git; write something from 5s"),
        ("repository: ext::x\n", "1:13: repository: 'ext::x' would run a command; write https://HOST/PATH"),
        ("repository: 5\n", "1:13: repository: 5 is not text"),
        ("repository: [\n", ":2:1: "),
        ("repository: /x\nrepository: /y\n", "is written twice"),
        ("- a\n", "a list is not a mapping"),
        ("", "the file is empty"),
        ("repository: /x\n---\nrepository: /y\n", "there is more than one document"),
        ("a: b\x01\n", "there is an invisible character"),
    ],
)
def test_mistakes_are_told_with_place_and_remedy(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "sync.yaml"
    file.write_text(text)
    with pytest.raises(SyncFileError) as refused:
        read_sync_file(file)
    told = "\n".join(str(problem) for problem in refused.value.problems)
    assert said in told
    assert all(str(problem).startswith(str(file)) and "; " in str(problem) for problem in refused.value.problems)


def test_the_command_line_overrides() -> None:
    config = SyncConfig.model_validate({"repository": "/srv/x", "branch": "main", "verify": {"gpg": {"keyring": "/k"}}})
    changed = merged(config, {"tag": "v1", "path": "all"})
    assert (changed.branch, changed.tag, changed.path, changed.verify) == (None, "v1", "all", config.verify)
    assert merged(changed, {"branch": "next"}).ref == "branch next"
    assert merged(None, {"repository": "/srv/y"}).repository == "/srv/y"
    with pytest.raises(SyncFileError, match=r"--repository: 'ext::x' would run a command"):
        merged(config, {"repository": "ext::x"})
    with pytest.raises(SyncFileError, match="keep one of them"):
        merged(config, {"branch": "a", "tag": "b"})


def test_the_example_is_valid(tmp_path: Path) -> None:
    example = Path(__file__).parents[3] / "examples/sync.yaml"
    config = read_sync_file(example)
    assert (config.scheme, config.ref, config.path) == ("ssh", "branch main", "environments")
    assert config.verify.ssh is not None
    other = tmp_path / "sync.yaml"
    text = example.read_text().replace("  ssh:\n    allowed", "  # ssh:\n  #   allowed")
    other.write_text(text.replace("  # gpg:\n  #   keyring", "  gpg:\n    keyring"))
    assert read_sync_file(other).verify.gpg is not None
