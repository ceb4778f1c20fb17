"""What a person does every day: log in, copy files, be root at home. With the exported configuration alone."""

from __future__ import annotations

import hashlib
import random
from typing import TYPE_CHECKING

import pytest

from tests.e2e.people import KEY_TYPES

if TYPE_CHECKING:
    from tests.e2e.conftest import Pair

MIB = 1024**2


@pytest.mark.parametrize("kind", KEY_TYPES)
def test_every_kind_of_key_logs_in(pair: Pair, kind: str) -> None:
    config = pair.site.export("bob", key=pair.bob.key(kind))
    done = pair.bob.ssh(config, "-v", "bob", "id -un; hostname")
    assert done.stdout.split() == ["bob", "bob-container"]
    accepted = [line for line in done.stderr.splitlines() if "Server accepts key" in line]
    assert len(accepted) == 2, done.stderr  # the jump host, and the guest
    assert all(f"id_{kind} " in line for line in accepted), accepted


def test_both_hosts_are_known_before_the_first_login(pair: Pair) -> None:
    """StrictHostKeyChecking is on throughout; without the exported lines nobody gets anywhere."""
    known = pair.bob_config.with_name("bob.ssh_config.known_hosts")
    lines = known.read_text()
    assert pair.bob.ssh(pair.bob_config, "bob", "true").returncode == 0
    assert known.read_text() == lines, "nothing was learned from the network"
    for missing in (pair.site.host.address, "bob-container."):
        known.write_text("".join(line for line in lines.splitlines(keepends=True) if not line.startswith(missing)))
        refused = pair.bob.ssh(pair.bob_config, "bob", "true", check=False)
        known.write_text(lines)
        assert refused.returncode == 255
        assert "Host key verification failed" in refused.stderr


def test_the_printed_configuration_works_as_it_says(pair: Pair) -> None:
    """Without --output everything is printed, and the lines for known_hosts stand in comments."""
    key = pair.bob.key()
    printed = pair.site.containarium(
        "export", "bob", "--jump-host", pair.site.host.address, "--key", str(key)
    ).stdout.replace("~/", f"{pair.bob.home}/")
    path = pair.bob.home / "printed"
    known = "".join(f"{line[2:]}\n" for line in printed.splitlines() if " ssh-" in line or " ecdsa-" in line)
    assert f"UserKnownHostsFile {pair.bob.home}/.ssh/known_hosts.containarium\n" in printed
    (pair.bob.home / ".ssh").mkdir(exist_ok=True)
    (pair.bob.home / ".ssh" / "known_hosts.containarium").write_text(known)
    assert pair.bob.ssh(pair.bob.configure(printed, "", path), "bob", "id -un").stdout == "bob\n"


def test_the_guest_knows_who_its_user_is(pair: Pair) -> None:
    script = "whoami; hostname; pwd; echo $SHELL; echo $HOME; stat -c '%U %a' ~ ~/.ssh ~/.ssh/authorized_keys"
    said = pair.alice.ssh(pair.alice_config, "alice", script).stdout.splitlines()
    assert said[:5] == ["alice", "alice-container", "/home/alice", "/bin/bash", "/home/alice"]
    assert said[6:] == ["alice 700", "alice 600"]
    assert said[5].startswith("alice ")


def test_a_terminal_and_a_login_shell_are_given(pair: Pair) -> None:
    done = pair.bob.ssh(pair.bob_config, "-tt", "bob", input="tty; shopt -q login_shell && echo login\nexit\n")
    assert "/dev/pts/" in done.stdout
    assert "login" in done.stdout.replace("\r", "").split("\n")


def test_sudo_needs_no_password_and_root_is_only_root_at_home(pair: Pair) -> None:
    said = pair.bob.ssh(pair.bob_config, "bob", "sudo -n id -u; sudo -n hostname").stdout.split()
    assert said == ["0", "bob-container"]


def test_exit_codes_and_both_streams_come_through(pair: Pair) -> None:
    done = pair.bob.ssh(pair.bob_config, "-q", "bob", "echo out; echo err >&2; exit 42", check=False)
    assert (done.returncode, done.stdout, done.stderr) == (42, "out\n", "err\n")


@pytest.mark.parametrize("protocol", [(), ("-O",)], ids=["sftp", "rcp"])
def test_scp_there_and_back(pair: Pair, protocol: tuple[str, ...]) -> None:
    letter, back = pair.bob.home / "letter", pair.bob.home / "letter.back"
    letter.write_bytes(random.Random(1).randbytes(MIB))
    back.unlink(missing_ok=True)
    pair.bob.scp(pair.bob_config, *protocol, str(letter), "bob:copy")
    pair.bob.scp(pair.bob_config, *protocol, "bob:copy", str(back))
    assert back.read_bytes() == letter.read_bytes()


def test_sftp_session(pair: Pair) -> None:
    note = pair.bob.home / "note"
    note.write_text("hello")
    batch = f"mkdir inbox\nput {note} inbox/note\nget inbox/note {note}.back\nrm inbox/note\nrmdir inbox\npwd\n"
    said = pair.bob.sftp(pair.bob_config, "bob", batch).stdout
    assert "Remote working directory: /home/bob" in said
    assert note.with_name("note.back").read_text() == "hello"


def test_fifty_megabytes_through_a_pipe(pair: Pair) -> None:
    """Both ways at once: what arrives is what was sent, whatever bytes they are."""
    data = random.Random(2).randbytes(50 * MIB)
    digest = hashlib.sha256(data).hexdigest()
    sent = pair.bob.ssh(pair.bob_config, "bob", "tee big | sha256sum", input=data, timeout=120)
    assert sent.stdout.split()[0] == digest
    copy = pair.bob.home / "big"
    pair.bob.scp(pair.bob_config, "bob:big", str(copy), timeout=120)
    assert hashlib.sha256(copy.read_bytes()).hexdigest() == digest
    copy.unlink()
    pair.bob.ssh(pair.bob_config, "bob", "rm big")


def test_one_users_key_opens_nothing_of_another(pair: Pair) -> None:
    """Bob with Alice's configuration, and Carol, who has no environment, with either: both fail at the jump host."""
    for person, name in ((pair.bob, "alice"), (pair.carol, "alice"), (pair.carol, "bob")):
        config = pair.site.export(name, person=person)
        refused = person.ssh(config, name, "true", check=False)
        assert refused.returncode == 255
        assert f"{name}@{pair.site.host.address}: Permission denied (publickey)." in refused.stderr
