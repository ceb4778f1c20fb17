"""The SSH probe: what ssh's own words come to, what it is told, and its key. The words were taken from OpenSSH 9.2."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from containarium.host import command, probekey
from containarium.host.command import Completed
from containarium.host.hostkeys import MachineHostKeys
from containarium.host.incus import Incus
from containarium.host.prepare import Context, Receipt, access
from containarium.host.prepare.undo import undo
from containarium.host.probe import PoolFiles, SSHProbe, client_config
from containarium.host.probewords import Asked, Said, judge
from containarium.host.settings import HostSettings
from containarium.model.host import RetryableError, TerminalError, silent
from containarium.plan.desired import probe_line
from tests.builders import public_key
from tests.unit.host.etcfiles import FakeRun, jump_line, settings, write_etc

ASKED = Asked("alice", "10.0.3.2", 22, "guest-5eed", 10.0)
BOX = "alice-container"

IN = 'Authenticated to 127.0.0.1 ([127.0.0.1]:22) using "publickey".\r\n'
BANNER = "debug1: compat.c:compat_banner():150 (pid=7): match: OpenSSH_9.2 pat OpenSSH* compat 0x04000000\r\n"
SHOWN = "debug1: sshconnect.c:verify_host_key():1477 (pid=7): Server host key: ssh-ed25519 SHA256:abc\r\n"
KNOWN = (
    "debug1: sshconnect.c:check_host_key():1051 (pid=7): "
    "Host 'guest-5eed' is known and matches the ED25519 host key.\r\n"
)
PROVEN = "debug1: kex.c:kex_input_newkeys():612 (pid=7): SSH2_MSG_NEWKEYS received\r\n"
TURNED = "alice@10.0.3.2: Permission denied (publickey,password).\r\n"
CLOSED = "kex_exchange_identification: Connection closed by remote host\r\n"
NO_FORWARDING = "stdio forwarding failed\r\n"
SIGNATURE = (
    "packet.c:sshpkt_vfatal():1935 (pid=7): "
    "ssh_dispatch_run_fatal: Connection to UNKNOWN port 65535: incorrect signature\r\n"
)


# -- what it comes to


@pytest.mark.parametrize("end", [PROVEN, TURNED, PROVEN + TURNED, PROVEN + "Could not request local forwarding.\r\n"])
def test_a_known_key_that_was_proven_is_all_that_is_wanted(end: str) -> None:
    verdict = judge(Said(IN, BANNER + SHOWN + KNOWN + end), ASKED)
    assert (verdict.reason, verdict.error, verdict.detail) == ("", "", "")


@pytest.mark.parametrize(
    ("jump", "guest", "reason", "error", "detail"),
    [
        (
            "ssh: connect to host 127.0.0.1 port 22: Connection refused\r\n",
            CLOSED,
            "HostSilent",
            "the host's sshd does not answer on port 22",
            "Connection refused",
        ),
        (
            "kex_exchange_identification: read: Connection reset by peer\r\n",
            CLOSED,
            "HostSilent",
            "the host's sshd does not answer on port 22",
            "kex_exchange_identification: read: Connection reset by peer",
        ),
        (
            "Connection timed out during banner exchange\r\n",
            CLOSED,
            "HostSilent",
            "the host's sshd does not answer on port 22",
            "Connection timed out during banner exchange",
        ),
        (
            "",
            "Connection timed out during banner exchange\r\n",
            "HostSlow",
            "the host's sshd lets nobody in in time",
            "Connection timed out during banner exchange",
        ),
        (
            "Host key for jump has changed and you asked for strict checking.\r\nHost key verification failed.\r\n",
            CLOSED,
            "WrongKeyOfHost",
            "the host's sshd shows another host key than the ones in its files",
            "restart sshd if its keys were replaced",
        ),
        (
            "alice@127.0.0.1: Permission denied (publickey).\r\n",
            CLOSED,
            "AccountRefused",
            "the jump account is refused",
            "alice@127.0.0.1: Permission denied (publickey).",
        ),
        (
            "Connection closed by 127.0.0.1 port 22\r\n",
            CLOSED,
            "AccountRefused",
            "the host's sshd ends the connection before the login",
            "Connection closed by 127.0.0.1 port 22",
        ),
        (
            "/run/config: line 3: Bad configuration option: logverbose\r\n",
            "",
            "ProbeFailed",
            "ssh did not get as far as the host's sshd",
            "/run/config: line 3: Bad configuration option: logverbose",
        ),
        (
            IN + "channel 0: open failed: administratively prohibited: open failed\r\n" + NO_FORWARDING,
            CLOSED,
            "ForwardingRefused",
            "forwarding to 10.0.3.2:22 is refused",
            "administratively prohibited",
        ),
        (
            IN + "channel 0: open failed: connect failed: Connection refused\r\n" + NO_FORWARDING,
            CLOSED,
            "GuestSilent",
            "the container's SSH does not answer on 10.0.3.2:22",
            "Connection refused",
        ),
        (
            IN + "channel 0: open failed: connect failed: No route to host\r\n" + NO_FORWARDING,
            CLOSED,
            "GuestSilent",
            "the container's SSH does not answer on 10.0.3.2:22",
            "No route to host",
        ),
        (
            IN,
            CLOSED,
            "GuestSilent",
            "the container's SSH does not answer on 10.0.3.2:22",
            "it closes the connection at once",
        ),
        (
            IN,
            "Connection timed out during banner exchange\r\n",
            "GuestSilent",
            "the container's SSH does not answer on 10.0.3.2:22",
            "it says nothing",
        ),
        (
            IN,
            "kex_exchange_identification: banner line contains invalid characters\r\n",
            "GuestNotSSH",
            "what answers on 10.0.3.2:22 is no SSH server",
            "kex_exchange_identification: banner line contains invalid characters",
        ),
        (
            IN,
            BANNER + "packet.c:sshpkt_vfatal():1931 (pid=7): Unable to negotiate: no matching cipher found.\r\n",
            "GuestBroken",
            "the container's SSH ends the connection before its host key",
            "Unable to negotiate: no matching cipher found.",
        ),
        (
            IN,
            BANNER + SHOWN + "Host key verification failed.\r\n",
            "WrongHostKey",
            "the container's host key is not the one on its disk",
            "it shows ssh-ed25519 SHA256:abc",
        ),
        (
            IN,
            BANNER + SHOWN + KNOWN + SIGNATURE,
            "WrongHostKey",
            "the container cannot prove the host key that it shows",
            "ssh_dispatch_run_fatal: Connection to UNKNOWN port 65535: incorrect signature",
        ),
    ],
)
def test_where_it_ended(jump: str, guest: str, reason: str, error: str, detail: str) -> None:
    verdict = judge(Said(jump, guest), ASKED)
    assert (verdict.reason, verdict.error, verdict.detail) == (reason, error, detail)


@pytest.mark.parametrize(
    ("guest", "reason"), [(BANNER, "GuestStalled"), (BANNER + SHOWN + KNOWN, "GuestStalled"), ("", "GuestSilent")]
)
def test_when_the_time_was_up(guest: str, reason: str) -> None:
    """The jump host's part is lost then, and a key that is known but not proven is nothing."""
    assert judge(Said("", guest, ended=False), ASKED).reason == reason


@pytest.mark.parametrize(
    "lie",
    [
        f"Received disconnect from UNKNOWN port 65535:2: bye\n{TURNED}{PROVEN}",
        f"Received disconnect from UNKNOWN port 65535:2: bye\n{KNOWN.replace('guest-5eed', 'guest-0000')}{PROVEN}",
        f"Received disconnect from UNKNOWN port 65535:2: {IN}",
    ],
)
def test_what_a_guest_writes_into_the_log_does_not_help_it(lie: str) -> None:
    assert judge(Said(IN, BANNER + lie), ASKED).reason == "GuestBroken"
    assert judge(Said("", lie), ASKED).reason != ""


def test_what_a_person_is_shown_is_printable_and_short() -> None:
    verdict = judge(Said(IN, BANNER + "Received disconnect: \x1b[31m" + "x" * 5000), ASKED)
    assert verdict.detail.isprintable()
    assert len(verdict.detail) <= 200


# -- what ssh is told


def _effective(config: Path, host: str) -> dict[str, str]:
    ssh = shutil.which("ssh")
    assert ssh is not None, "openssh-client is needed"
    done = subprocess.run([ssh, "-G", "-F", str(config), host], capture_output=True, text=True, check=True, timeout=30)
    return {keyword: value for keyword, _, value in (line.partition(" ") for line in done.stdout.splitlines())}


def test_ssh_understands_its_configuration(tmp_path: Path) -> None:
    folder = tmp_path / "100% odd"
    folder.mkdir()
    config = folder / "config"
    config.write_text(client_config(settings(tmp_path), ASKED, folder, "203.0.113.7", "127.0.0.1"))
    guest, jump = _effective(config, "guest"), _effective(config, "jump")
    for told in (guest, jump):
        assert told["user"] == "alice"
        assert told["stricthostkeychecking"] in ("true", "yes")
        assert told["batchmode"] == told["identitiesonly"] == "yes"
        assert told["identityagent"] == told["globalknownhostsfile"] == "none"
        assert told["updatehostkeys"] in ("false", "no")
        assert "known_hosts" in told["userknownhostsfile"]
        assert told["kexalgorithms"].startswith("curve25519-sha256,")
    assert (guest["hostname"], guest["proxyjump"], guest["hostkeyalias"]) == ("10.0.3.2", "jump", "guest-5eed")
    assert guest["preferredauthentications"] == "none"
    assert guest["loglevel"] == "ERROR"
    assert (jump["hostname"], jump["port"], jump["bindaddress"]) == ("203.0.113.7", "22", "127.0.0.1")
    assert jump["preferredauthentications"] == "publickey"
    assert jump["identityfile"].strip('"') == str(settings(tmp_path).probe_key)


# -- one probe


@dataclass
class Keys:
    """Host keys that a test chose."""

    guest: Sequence[str] = ("ssh-ed25519 GUEST", "ssh-rsa GUEST")

    def of_guest(self, instance: str) -> Sequence[str]:
        assert instance == BOX
        return self.guest

    def of_jump_host(self) -> Sequence[str]:
        return ("ssh-ed25519 JUMP",)


class Ssh:
    """Stands for sshd and ssh: says where it listens, and writes what a client would."""

    def __init__(self, jump: str = IN, guest: str = BANNER + SHOWN + "{known}" + PROVEN, code: int = 255) -> None:
        self.jump, self.guest, self.code = jump, guest, code
        self.listens = "listenaddress [::]:2222\nlistenaddress 0.0.0.0:2222\n"
        self.asked = 0
        self.config = self.known_hosts = ""
        self.modes: set[int] = set()
        self.late = False

    def __call__(
        self,
        args: Sequence[str],
        *,
        timeout: float,
        stdin: str = "",
        check: bool = True,
        env: Mapping[str, str] | None = None,
    ) -> Completed:
        if args[0] == "/usr/sbin/sshd":
            self.asked += 1
            if not self.listens:
                raise TerminalError("sshd failed", reason="CommandFailed")
            return Completed(0, self.listens, "")
        assert args[0] == "prlimit"
        assert timeout <= 10
        config, log = Path(args[args.index("-F") + 1]), Path(args[args.index("-E") + 1])
        self.config, self.known_hosts = config.read_text(), config.with_name("known_hosts").read_text()
        self.modes = {stat.S_IMODE(path.stat().st_mode) for path in (config, config.with_name("known_hosts"))}
        assert stat.S_IMODE(config.parent.stat().st_mode) == 0o700
        alias = next(line.split()[1] for line in self.config.splitlines() if "HostKeyAlias guest-" in line)
        log.write_text(self.guest.replace("{known}", KNOWN.replace("guest-5eed", alias)))
        if self.late:
            raise RetryableError("prlimit did not end within 10 s", reason="CommandTimeout")
        return Completed(self.code, "", self.jump)


def _host(tmp_path: Path, **files: str) -> HostSettings:
    host = write_etc(tmp_path, **files)
    (host.etc / "ssh").mkdir()
    (host.etc / "ssh" / "sshd_config").write_text("Port 2222\n")
    probekey.ensure(host, command.run)
    return host


def test_one_that_gets_through(tmp_path: Path) -> None:
    host, ssh = _host(tmp_path), Ssh()
    result = SSHProbe(host, ssh, host_keys=Keys()).probe("alice", BOX, "10.0.3.2")
    assert (result.error, result.detail, result.reason) == ("", "", "")
    assert result.seconds >= 0
    assert "    HostName 127.0.0.1\n" in ssh.config
    assert "    Port 2222\n" in ssh.config
    jump, *guest = ssh.known_hosts.splitlines()
    assert jump == "jump ssh-ed25519 JUMP"
    assert [line.partition(" ")[2] for line in guest] == ["ssh-ed25519 GUEST", "ssh-rsa GUEST"]
    assert ssh.modes == {0o600}
    assert list((host.runtime / "probe").iterdir()) == []


def test_every_probe_calls_the_guest_by_another_name(tmp_path: Path) -> None:
    probe, names = SSHProbe(_host(tmp_path), ssh := Ssh(), host_keys=Keys()), set()
    for _ in range(3):
        assert probe.probe("alice", BOX, "10.0.3.2").error == ""
        names.add(ssh.known_hosts.splitlines()[-1].split()[0])
    assert len(names) == 3


def test_sshd_is_asked_again_only_when_its_configuration_changed(tmp_path: Path) -> None:
    host, ssh = _host(tmp_path), Ssh()
    probe = SSHProbe(host, ssh, host_keys=Keys())
    for _ in range(2):
        probe.probe("alice", BOX, "10.0.3.2")
    assert ssh.asked == 1
    ssh.listens = "listenaddress 203.0.113.7:2200\n"
    (host.etc / "ssh" / "sshd_config.d").mkdir()
    (host.etc / "ssh" / "sshd_config.d" / "00.conf").write_text("ListenAddress 203.0.113.7:2200\n")
    probe.probe("alice", BOX, "10.0.3.2")
    assert "    HostName 203.0.113.7\n    BindAddress 127.0.0.1\n    Port 2200\n" in ssh.config


@pytest.mark.parametrize(
    ("listens", "place"),
    [
        ("listenaddress [::]:22\n", ("::1", "::1", "22")),
        ("listenaddress 203.0.113.7:23\nlistenaddress 127.0.0.1:24\n", ("127.0.0.1", "127.0.0.1", "24")),
        ("listenaddress [2001:db8::1]:22\n", ("2001:db8::1", "::1", "22")),
        ("", ("127.0.0.1", "127.0.0.1", "22")),
    ],
)
def test_it_comes_from_the_loopback_wherever_sshd_listens(
    tmp_path: Path, listens: str, place: tuple[str, str, str]
) -> None:
    """Without an answer of sshd, which a broken configuration keeps from it, at the usual place."""
    ssh = Ssh()
    ssh.listens = listens
    SSHProbe(_host(tmp_path), ssh, host_keys=Keys()).probe("alice", BOX, "10.0.3.2")
    assert "    HostName {}\n    BindAddress {}\n    Port {}\n".format(*place) in ssh.config


def test_one_that_takes_too_long_tells_how_far_it_came(tmp_path: Path) -> None:
    host, ssh = _host(tmp_path), Ssh(guest=BANNER)
    ssh.late = True
    result = SSHProbe(host, ssh, host_keys=Keys()).probe("alice", BOX, "10.0.3.2")
    assert result.reason == "GuestStalled"
    assert list((host.runtime / "probe").iterdir()) == []


def _refused(tmp_path: Path, jump: str, keys: str | None, files: Mapping[str, str], mode: int = 0o644) -> str:
    host = _host(tmp_path, **files)
    host.jump_keys.mkdir(parents=True)
    if keys is not None:
        line = probe_line("10.0.3.2", probekey.public_half(host))
        (host.jump_keys / "alice").write_text(keys.replace("{probe}", line))
        (host.jump_keys / "alice").chmod(mode)
    return SSHProbe(host, Ssh(jump, CLOSED), host_keys=Keys()).probe("alice", BOX, "10.0.3.2").error


ALICE = {"passwd": "+" + jump_line("alice"), "shadow": "+alice:*:19000:0:99999:7:::\n"}
DENIED = "alice@127.0.0.1: Permission denied (publickey)."


@pytest.mark.parametrize(
    ("files", "keys", "mode", "why"),
    [
        ({}, None, 0o644, "there is no such account"),
        ({"passwd": "+alice:x:1500:1500:Alice:/home/alice:/bin/sh\n"}, None, 0o644, "is not containarium's"),
        (ALICE | {"shadow": "+alice:*:19000:0:99999:7::1:\n"}, "{probe}\n", 0o644, "it has expired"),
        (ALICE, None, 0o644, "it has no keys file"),
        (ALICE, "{probe}\n", 0o666, "others than root can write its keys file"),
        (ALICE, f"{public_key('alice')}\n", 0o644, "does not let the probe in as containarium apply writes it"),
        (ALICE, "{probe}\n", 0o644, DENIED),
    ],
)
def test_why_an_account_is_refused(
    tmp_path: Path, files: dict[str, str], keys: str | None, mode: int, why: str
) -> None:
    error = _refused(tmp_path, f"{DENIED}\r\n", keys, files, mode)
    assert error.startswith("the jump account is refused (")
    assert why in error


def test_why_forwarding_is_refused(tmp_path: Path) -> None:
    jump = f"{IN}channel 0: open failed: administratively prohibited: open failed\r\n{NO_FORWARDING}"
    error = _refused(tmp_path, jump, probe_line("10.0.3.9", "ssh-ed25519 AAAA"), ALICE)
    assert error == (
        "forwarding to 10.0.3.2:22 is refused (its keys file does not let the probe in as containarium apply writes it)"
    )


def test_what_it_cannot_do_is_an_error_and_no_verdict(tmp_path: Path) -> None:
    host = _host(tmp_path)
    for name, address in (("alice\n  ProxyCommand x", "10.0.3.2"), ("-alice", "10.0.3.2")):
        with pytest.raises(TerminalError, match="no account name"):
            SSHProbe(host, Ssh(), host_keys=Keys()).probe(name, BOX, address)
    with pytest.raises(TerminalError, match="no IPv4 address"):
        SSHProbe(host, Ssh(), host_keys=Keys()).probe("alice", BOX, "10.0.3.2 x")
    with pytest.raises(TerminalError, match="install openssh-client"):
        SSHProbe(host, Ssh("prlimit: failed to execute ssh", "", 127), host_keys=Keys()).probe("alice", BOX, "10.0.3.2")
    probekey.forget(host)
    with pytest.raises(TerminalError, match="host prepare") as missing:
        SSHProbe(host, Ssh(), host_keys=Keys()).probe("alice", BOX, "10.0.3.2")
    assert missing.value.reason == "NoProbeKey"
    assert not host.probe_key.exists()


def test_a_guest_without_host_keys_is_not_asked(tmp_path: Path) -> None:
    ssh = Ssh()
    result = SSHProbe(_host(tmp_path), ssh, host_keys=Keys(())).probe("alice", BOX, "10.0.3.2")
    assert result.reason == "NoGuestHostKeys"
    assert ssh.config == ""


def test_what_a_killed_probe_left_is_swept_away(tmp_path: Path) -> None:
    host = _host(tmp_path)
    for name, age in (("old", 100), ("young", 0)):
        folder = host.runtime / "probe" / name
        folder.mkdir(parents=True)
        when = folder.stat().st_mtime - age
        os.utime(folder, (when, when))
    SSHProbe(host, Ssh(), host_keys=Keys()).probe("alice", BOX, "10.0.3.2")
    assert [path.name for path in (host.runtime / "probe").iterdir()] == ["young"]


def test_probes_at_the_same_time_do_not_disturb_each_other(tmp_path: Path) -> None:
    host = _host(tmp_path)

    def probes(_number: int) -> list[str]:
        probe = SSHProbe(host, Ssh(), host_keys=Keys())
        return [probe.probe("alice", BOX, "10.0.3.2").reason for _ in range(30)]

    with ThreadPoolExecutor(8) as pool:
        assert {reason for reasons in pool.map(probes, range(8)) for reason in reasons} == {""}
    assert list((host.runtime / "probe").iterdir()) == []


# -- the guest's host keys


def test_host_keys_are_read_where_the_pool_is_mounted(tmp_path: Path) -> None:
    host = settings(tmp_path)
    root = host.incus_dir / "storage-pools" / "default" / "containers" / BOX / "rootfs"
    (root / "etc" / "ssh").mkdir(parents=True)
    (root / "etc" / "ssh" / "ssh_host_ed25519_key.pub").write_text(public_key("guest"))
    (tmp_path / "secret").write_text(public_key("host"))
    (root / "etc" / "ssh" / "ssh_host_rsa_key.pub").symlink_to(tmp_path / "secret")
    found = MachineHostKeys(host, PoolFiles(host)).of_guest(BOX)
    assert found == (public_key("guest").rpartition(" ")[0],)


# -- the probe's own key


def test_the_key_is_made_once_and_for_root_alone(tmp_path: Path) -> None:
    host = settings(tmp_path)
    assert probekey.public_half(host) == ""
    assert probekey.ensure(host, command.run) is True
    key = probekey.public_half(host)
    assert key.startswith("ssh-ed25519 AAAA")
    assert stat.S_IMODE(host.probe_key.stat().st_mode) == 0o600
    assert stat.S_IMODE(host.probe_key.parent.stat().st_mode) == 0o700
    assert probekey.ensure(host, command.run) is False
    assert probekey.public_half(host) == key


@pytest.mark.parametrize("what", ["key", "folder", "public half", "public half of another"])
def test_what_was_changed_about_it_is_mended_and_the_key_stays(tmp_path: Path, what: str) -> None:
    host = settings(tmp_path)
    probekey.ensure(host, command.run)
    key, public = probekey.public_half(host), host.probe_key.with_name("id_ed25519.pub")
    if what == "key":
        host.probe_key.chmod(0o640)
    elif what == "folder":
        host.probe_key.parent.chmod(0o755)
    elif what == "public half":
        public.unlink()
    else:
        public.write_text(public_key("another"))
    assert probekey.public_half(host) != key
    assert probekey.ensure(host, command.run) is True
    assert probekey.public_half(host) == key


def test_one_whose_making_was_killed_is_made_anew(tmp_path: Path) -> None:
    host = settings(tmp_path)
    probekey.ensure(host, command.run)
    host.probe_key.write_text(host.probe_key.read_text()[:100])
    assert probekey.ensure(host, command.run) is True
    assert probekey.ensure(host, command.run) is False


def test_what_is_not_roots_own_is_neither_used_nor_changed(tmp_path: Path) -> None:
    host = settings(tmp_path)
    host.probe_key.parent.mkdir(parents=True, mode=0o700)
    (tmp_path / "elsewhere").write_text("mine")
    host.probe_key.symlink_to(tmp_path / "elsewhere")
    assert probekey.public_half(host) == ""
    with pytest.raises(TerminalError, match="look at it"):
        probekey.ensure(host, FakeRun())
    assert (tmp_path / "elsewhere").read_text() == "mine"


def test_preparing_makes_it_and_undoing_takes_it_back(tmp_path: Path) -> None:
    host = write_etc(tmp_path)
    receipt = Receipt(host.state / "prepared.json")
    context = Context(host, command.run, Incus(host), receipt, silent, False)
    assert [access.probe_key(context).changed for _ in range(2)] == [True, False]
    assert [made.kind for made in receipt] == ["probe key"]
    (step,) = undo(context)
    assert (step.changed, step.warning) == (True, "")
    assert not host.probe_key.parent.exists()


def test_forgotten_without_a_trace(tmp_path: Path) -> None:
    host = settings(tmp_path)
    probekey.ensure(host, command.run)
    probekey.forget(host)
    assert not host.probe_key.parent.exists()
    probekey.forget(host)
