"""The drop-in: its text, and that nothing is left behind that sshd refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from containarium.host.command import Completed
from containarium.host.ownsshd import standalone_config
from containarium.host.settings import HostSettings
from containarium.host.sshd import Sshd, drop_in_text, includes, jump_directives
from containarium.model.host import TerminalError
from tests.unit.host.etcfiles import FakeRun, settings


def _host(tmp_path: Path) -> HostSettings:
    host = settings(tmp_path)
    (host.etc / "ssh").mkdir(parents=True)
    (host.etc / "ssh" / "sshd_config").write_text(f"Include {host.sshd_drop_in.parent}/*.conf\nUsePAM yes\n")
    return host


def _refuses(what: str, text: str = "line 7: Bad configuration option") -> FakeRun:
    """An sshd that refuses every configuration in which ``what`` exists."""
    return FakeRun(
        lambda args: Completed(255, "", text) if "-t" in args and Path(what).exists() else Completed(0, "", "")
    )


def test_the_drop_in_ends_with_match_all(tmp_path: Path) -> None:
    text = drop_in_text(settings(tmp_path))
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    assert (lines[0], lines[-1]) == ("Match Group containarium-jump", "Match all")
    assert f"    AuthorizedKeysFile {tmp_path}/etc/ssh/containarium/keys/%u" in lines


@pytest.mark.parametrize(
    ("keyword", "value"),
    [
        ("MaxSessions", "0"),
        ("PermitTTY", "no"),
        ("AllowTcpForwarding", "local"),
        ("PermitListen", "none"),
        ("AllowStreamLocalForwarding", "no"),
        ("PermitTunnel", "no"),
        ("AllowAgentForwarding", "no"),
        ("X11Forwarding", "no"),
        ("PermitUserRC", "no"),
        ("PasswordAuthentication", "no"),
        ("AuthenticationMethods", "publickey"),
        ("AuthorizedKeysCommand", "none"),
        ("TrustedUserCAKeys", "none"),
        ("PermitOpen", "*:22"),
    ],
)
def test_what_must_hold(keyword: str, value: str) -> None:
    assert jump_directives(HostSettings())[keyword] == value


def test_install_writes_tests_and_says_whether_it_changed_anything(tmp_path: Path) -> None:
    host, run = _host(tmp_path), FakeRun()
    server = Sshd(host, run)
    assert server.install() is True
    assert host.sshd_drop_in.read_text() == drop_in_text(host)
    assert sum("-t" in command for command in run.commands) == 2
    assert server.install() is False


def test_a_refused_drop_in_is_taken_back(tmp_path: Path) -> None:
    host = _host(tmp_path)
    with pytest.raises(TerminalError, match="line 7") as refused:
        Sshd(host, _refuses(str(host.sshd_drop_in))).install()
    assert refused.value.reason == "SshdConfigRefused"
    assert not host.sshd_drop_in.exists()


def test_the_old_drop_in_comes_back(tmp_path: Path) -> None:
    host = _host(tmp_path)
    host.sshd_drop_in.parent.mkdir()
    host.sshd_drop_in.write_text("# the old one\n")
    run = FakeRun(
        lambda _args: Completed(255 if "Match Group" in host.sshd_drop_in.read_text() else 0, "", "line 7: no")
    )
    with pytest.raises(TerminalError):
        Sshd(host, run).install()
    assert host.sshd_drop_in.read_text() == "# the old one\n"


def test_a_configuration_that_was_broken_before_is_left(tmp_path: Path) -> None:
    host = _host(tmp_path)
    with pytest.raises(TerminalError, match="before any change of ours"):
        Sshd(host, _refuses(str(host.etc))).install()
    assert not host.sshd_drop_in.exists()


def test_a_crash_before_the_reload_is_made_good(tmp_path: Path) -> None:
    host, run = _host(tmp_path), FakeRun()
    Sshd(host, run).install()
    (host.runtime / "sshd-reload-pending").touch()
    assert Sshd(host, run).install() is True
    assert Sshd(host, run).install() is False


def test_without_include_it_says_what_to_write(tmp_path: Path) -> None:
    host = _host(tmp_path)
    (host.etc / "ssh" / "sshd_config").write_text("UsePAM yes\n")
    with pytest.raises(TerminalError, match=r'make "Include .*/\*\.conf" its first line'):
        Sshd(host, FakeRun()).install()


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("Include /etc/ssh/sshd_config.d/*.conf", True),
        ("  include sshd_config.d/*.conf", True),
        ('Include="/etc/ssh/sshd_config.d/*"', True),
        ("Include /elsewhere/*.conf /etc/ssh/sshd_config.d/50-*.conf", True),
        ("#Include /etc/ssh/sshd_config.d/*.conf", False),
        ("Include /etc/ssh/sshd_config.d/*.cfg", False),
        ("Match User bob\nInclude /etc/ssh/sshd_config.d/*.conf", False),
        ("", False),
    ],
)
def test_include(text: str, found: bool) -> None:
    assert includes(text, Path("/etc/ssh/sshd_config.d/50-containarium.conf"), Path("/etc/ssh")) is found


def test_effective_joins_repeated_keywords(tmp_path: Path) -> None:
    run = FakeRun(lambda _args: Completed(0, "port 22\nport 2222\nmaxsessions 0\nforcecommand /bin/x -y\n", ""))
    found = Sshd(_host(tmp_path), run).effective("alice")
    assert found == {"port": "22 2222", "maxsessions": "0", "forcecommand": "/bin/x -y"}
    assert run.commands[0][-1].startswith("user=alice,")


def test_what_is_not_in_force(tmp_path: Path) -> None:
    host = _host(tmp_path)
    shown = {keyword.lower(): value for keyword, value in jump_directives(host).items()} | {"permittty": "yes"}
    run = FakeRun(lambda _args: Completed(0, "".join(f"{key} {value}\n" for key, value in shown.items()), ""))
    assert Sshd(host, run).not_in_force("alice") == {"PermitTTY": ("no", "yes")}


def test_known_hosts_lines(tmp_path: Path) -> None:
    host = _host(tmp_path)
    (host.etc / "ssh" / "ssh_host_ed25519_key.pub").write_text("ssh-ed25519 AAAA root@host\n")
    (host.etc / "ssh" / "ssh_host_rsa_key.pub").write_text("\n")
    server = Sshd(host, FakeRun())
    assert server.known_hosts("jump.example") == ["jump.example ssh-ed25519 AAAA"]
    assert server.known_hosts("jump.example", 2222) == ["[jump.example]:2222 ssh-ed25519 AAAA"]


def test_an_sshd_of_our_own_lets_only_jump_accounts_in(tmp_path: Path) -> None:
    text = standalone_config(settings(tmp_path), 2222, tmp_path / "keys")
    assert "ListenAddress 127.0.0.1\n" in text
    assert "AllowGroups containarium-jump\n" in text
    assert text.endswith(f"Include {settings(tmp_path).sshd_drop_in}\n")
