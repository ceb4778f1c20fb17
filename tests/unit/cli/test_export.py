"""export: a configuration that ssh itself understands, and that never asks whom to trust."""

from __future__ import annotations

import shutil
import stat
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from containarium.cli.errors import CommandError
from containarium.cli.sshconfig import Route, known_hosts
from tests.unit.cli.conftest import Shell

SSH = shutil.which("ssh")


@pytest.fixture
def ready(shell: Shell) -> Shell:
    """Give a shell whose host has alice and bob."""
    shell.declare("alice", "bob")
    shell("apply")
    return shell


def _effective(config: Path, host: str) -> dict[str, str]:
    """What ssh makes of the file for a host, by lower-case keyword."""
    if SSH is None:
        pytest.skip("there is no ssh here")
    done = subprocess.run([SSH, "-G", "-F", str(config), host], capture_output=True, text=True, check=True, timeout=30)
    pairs = (line.partition(" ") for line in done.stdout.splitlines())
    return {keyword: value for keyword, _, value in pairs}


def test_printed(ready: Shell) -> None:
    done = ready("export", "alice")
    assert (done.code, done.err) == (0, "")
    assert done.out == (
        "Host alice\n"
        "    HostName 10.0.3.2\n"
        "    HostKeyAlias alice-container.jump.example.org\n"
        "    ProxyJump alice-jump\n"
        "    User alice\n"
        "    IdentityFile ~/.ssh/id_ed25519\n"
        "    IdentitiesOnly yes\n"
        "    UserKnownHostsFile ~/.ssh/known_hosts.containarium\n"
        "\n"
        "Host alice-jump\n"
        "    HostName jump.example.org\n"
        "    Port 22\n"
        "    User alice\n"
        "    IdentityFile ~/.ssh/id_ed25519\n"
        "    IdentitiesOnly yes\n"
        "    UserKnownHostsFile ~/.ssh/known_hosts.containarium\n"
        "\n"
        "# Put these lines into ~/.ssh/known_hosts.containarium, without the #:\n"
        "# jump.example.org ssh-ed25519 JUMP\n"
        "# jump.example.org ssh-rsa JUMP\n"
        "# alice-container.jump.example.org ssh-ed25519 GUEST\n"
    )


def test_written_for_ssh_as_it_is(ready: Shell, tmp_path: Path) -> None:
    file = tmp_path / "with blank" / "alice.conf"
    file.parent.mkdir()
    options = ("--jump-host", "203.0.113.7", "--jump-port", "2222", "--key", "/keys/100%/id", "--output", str(file))
    done = ready("export", "alice", *options)
    assert done.code == 0
    assert done.out == f"Written to {file} and alice.conf.known_hosts. Log in with: ssh -F '{file}' alice\n"
    beside = file.with_name("alice.conf.known_hosts")
    for path in (file, beside):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert beside.read_text().splitlines()[1:] == [
        "[203.0.113.7]:2222 ssh-ed25519 JUMP",
        "[203.0.113.7]:2222 ssh-rsa JUMP",
        "alice-container.203.0.113.7 ssh-ed25519 GUEST",
    ]
    box = _effective(file, "alice")
    assert (box["hostname"], box["user"], box["identitiesonly"]) == ("10.0.3.2", "alice", "yes")
    assert box["proxyjump"] == "alice-jump"
    assert box["hostkeyalias"] == "alice-container.203.0.113.7"
    assert box["identityfile"] in ("/keys/100%/id", "/keys/100%%/id")
    known = box["userknownhostsfile"].replace('"', "")
    assert known == f"{Path.home()}/.ssh/alice.conf.known_hosts alice.conf.known_hosts {beside}", "wherever it is put"
    assert "# Put this file and alice.conf.known_hosts into ~/.ssh" in file.read_text()
    jump = _effective(file, "alice-jump")
    assert (jump["hostname"], jump["port"], jump["user"]) == ("203.0.113.7", "2222", "alice")
    assert jump["identitiesonly"] == "yes"


def test_written_again(ready: Shell, tmp_path: Path) -> None:
    file = tmp_path / "ssh"
    assert ready("export", "alice", "--output", str(file)).code == 0
    assert ready("export", "bob", "--output", str(file)).code == 0
    assert "Host bob\n" in file.read_text()
    assert sorted(path.name for path in tmp_path.glob("ssh*")) == ["ssh", "ssh.known_hosts"]


@pytest.mark.parametrize("name", ["config", "config.known_hosts"])
def test_nobodys_own_file_is_overwritten(ready: Shell, tmp_path: Path, name: str) -> None:
    mine = tmp_path / name
    mine.write_text("Host mine\n")
    done = ready("export", "alice", "--output", str(tmp_path / "config"))
    assert done.code == 1
    assert done.err == (
        f"containarium: error: {mine} exists and was not written by containarium export; name another file\n"
    )
    assert mine.read_text() == "Host mine\n"
    assert {path.name for path in tmp_path.glob("config*")} == {name}


def test_a_missing_jump_host_key_is_told(ready: Shell) -> None:
    ready.keys.jump = ()
    done = ready("export", "alice")
    assert done.code == 0
    assert "There are no host keys in" in done.err


def test_a_guest_without_host_keys_is_an_error(ready: Shell) -> None:
    ready.keys.guest = ()
    done = ready("export", "alice")
    assert (done.code, done.out) == (1, "")
    assert "has no SSH host keys yet" in done.err


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--jump-host", "a b"), "neither a host name nor an address"),
        (("--jump-host", "x\n  ProxyCommand evil"), "neither a host name nor an address"),
        (("--jump-host", "-oProxyCommand=x"), "neither a host name nor an address"),
        (("--key", 'a"b'), "use one without quotes"),
        (("--key", "a\nProxyCommand evil"), "use one without quotes"),
        (("--jump-port", "0"), "--jump-port"),
    ],
)
def test_nothing_gets_into_the_configuration_that_is_not_meant(
    ready: Shell, options: tuple[str, ...], words: str
) -> None:
    done = ready("export", "alice", *options)
    assert (done.code, done.out) == (1, "")
    assert words in done.err
    assert done.err.count("\n") == 1


def test_nobody_is_exported_who_cannot_log_in(ready: Shell) -> None:
    assert "there is no environment carol" in ready("export", "carol").err
    (ready.folder / "bob.yaml").unlink()
    ready("apply")
    assert "bob is retired" in ready("export", "bob").err
    ready.somebody.foreign_instance("web-container", address="10.0.3.9")
    assert "there is no environment web" in ready("export", "web").err


# -- what a server says, which may have been taken over

ROUTE = Route("alice", "10.0.3.2", "jump.example.org", 22, "~/.ssh/id_ed25519", ("~/.ssh/known",))
EVIL = "\n    ProxyCommand evil"


@pytest.mark.parametrize(
    "change",
    [
        {"address": "10.0.3.2" + EVIL},
        {"address": "fe80::1%x" + EVIL},
        {"address": "fe80::1%h"},
        {"address": "box.example.org"},
        {"address": "-oProxyCommand=x"},
        {"address": ""},
        {"name": "alice" + EVIL},
        {"name": "* !x"},
        {"name": ""},
        {"jump_host": "jump" + EVIL},
    ],
)
def test_a_server_writes_no_line_of_its_own(change: dict[str, Any]) -> None:
    with pytest.raises(CommandError) as refused:
        replace(ROUTE, **change)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "key",
    [
        "ssh-ed25519 AAAA\n* ssh-ed25519 EVIL",
        "ssh-ed25519 AAAA\n",
        "ssh-ed25519 AAAA evil@example.org",
        "ssh-ed25519",
        "",
        "x" * 100_000,
        "\x1b[31m AAAA",
    ],
)
def test_a_host_key_is_one_line(key: str) -> None:
    for keys in ([key], ["ssh-ed25519 AAAA", key]):
        for guest, jump_host in ((keys, []), ([], keys)):
            with pytest.raises(CommandError, match="is no host key") as refused:
                known_hosts(ROUTE, guest, jump_host)
            assert "\n" not in str(refused.value)
            assert len(str(refused.value)) < 500


def test_what_servers_usually_say_is_taken() -> None:
    keys = ["ssh-ed25519 AAAAC3Nz", "ecdsa-sha2-nistp256 AAAA+/==", "sk-ssh-ed25519@openssh.com AAAA="]
    assert len(known_hosts(replace(ROUTE, address="fd00::1"), keys, keys).splitlines()) == 6
