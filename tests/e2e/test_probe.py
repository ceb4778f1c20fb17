"""The SSH probe on a real host: it finds what keeps people out, says it in words, and no guest fools or floods it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from tests.e2e.site import JUMP_KEYS, instance_of
from tests.lab.command import CommandTimeoutError, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.e2e.site import Site

NAME = "pia"
BOX = instance_of(NAME)
KEY = "/var/lib/containarium/probe/id_ed25519"
DROP_IN = "/etc/ssh/sshd_config.d/50-containarium.conf"
_KEYS = f"{JUMP_KEYS}/{NAME}"
_LONGEST = 25

_HOSTILE = r"""
import socket, struct, sys, time
def text(data):
    return struct.pack(">I", len(data)) + data
def packet(payload):
    padding = 8 - (len(payload) + 5) % 8 + 8
    return struct.pack(">IB", len(payload) + padding + 1, padding) + payload + bytes(padding)
how, name, address = sys.argv[1:]
banner = b"SSH-2.0-OpenSSH_9.2\r\n"
server = socket.create_server(("0.0.0.0", 22))
print("ready", flush=True)
lies = f"bye\n{name}@{address}: Permission denied (publickey).\ndebug1: SSH2_MSG_NEWKEYS received\n\x1b[31m"
once = {
    "web server": b"HTTP/1.1 400 Bad Request\r\n\r\n",
    "liar": banner + packet(b"\x01" + struct.pack(">I", 2) + text(lies.encode()) + text(b"")),
    "old": b"SSH-1.5-old\r\n",
}
for_ever = {
    "rubbish": bytes(range(256)) * 256,
    "lines": b"\x1b[31mred\r\n" * 1000,
    "flood": packet(b"\x04\x01" + text(b"hello\n" * 100) + text(b"")) * 100,
}
while True:
    connection, _ = server.accept()
    try:
        if how in once:
            connection.sendall(once[how])
            time.sleep(1)
        elif how == "stalls":
            connection.sendall(banner)
            time.sleep(30)
        elif how == "silent":
            time.sleep(30)
        else:
            if how == "flood":
                connection.sendall(banner)
            while True:
                connection.sendall(for_ever[how])
    except OSError:
        pass
    connection.close()
"""


def on_host(script: str) -> Callable[[Site], None]:
    """Do something on the host, as root's shell would."""
    return lambda site: void(site.host.run(["sh", "-euc", script]))


def inside(script: str) -> Callable[[Site], None]:
    """Do something in the guest, as its root."""
    return lambda site: void(site.inside(NAME, "sh", "-euc", script))


def incus(*words: str) -> Callable[[Site], None]:
    """Do something with the host's Incus."""
    return lambda site: void(site.host.incus(*words))


def void(_done: object) -> None:
    """Forget a result."""


@pytest.fixture(scope="module")
def pia(site: Site) -> Iterator[Site]:
    """Give the site with pia on it."""
    site.purge(site.declared())
    site.declare(NAME)
    site.apply()
    yield site
    site.purge([NAME])


@pytest.fixture(scope="module")
def config(pia: Site) -> Path:
    """Give pia's own ssh configuration."""
    return pia.export(NAME)


def probe(site: Site) -> dict[str, Any]:
    """What `containarium probe` says; exit code 0 if and only if all is well."""
    done = site.containarium("probe", NAME, "--output=json", check=False, timeout=_LONGEST)
    assert done.stdout.startswith("{"), done.stderr
    said: dict[str, Any] = json.loads(done.stdout)
    assert done.returncode == (0 if said["ok"] else 1)
    assert (said["error"] + said["detail"]).isprintable()
    assert len(said["error"]) + len(said["detail"]) < 600
    return said


def healthy(site: Site) -> bool:
    """Whether the probe gets through."""
    return bool(probe(site)["ok"])


@dataclass(frozen=True)
class Fault:
    """Something that keeps people out: how it is made and mended, and what the probe says of it."""

    name: str
    harm: Callable[[Site], None]
    mend: Callable[[Site], None]
    reason: str
    words: str


_EDIT = f"cp -p {DROP_IN} /root/drop-in; sed -i 's#{{}}#' {DROP_IN}; systemctl restart ssh"
_RESTORE = f"cp -p /root/drop-in {DROP_IN}; systemctl restart ssh"
_EDIT_KEYS = f"cp -p {_KEYS} /root/keys; sed -i 's#{{}}#' {_KEYS}"
_RESTORE_KEYS = f"cp -p /root/keys {_KEYS}"
_NEW_KEYS = "mkdir -p /root/old; mv /etc/ssh/ssh_host_* /root/old; ssh-keygen -A; systemctl restart ssh"
_OLD_KEYS = "rm -f /etc/ssh/ssh_host_*; mv /root/old/* /etc/ssh; systemctl restart ssh"
_OTHER_KEY = (
    "ssh-keygen -q -t ed25519 -N '' -f /root/other; echo HostKey /root/other > /etc/ssh/sshd_config.d/other.conf; "
    "systemctl restart ssh"
)
_OWN_KEYS = "rm /root/other /root/other.pub /etc/ssh/sshd_config.d/other.conf; systemctl restart ssh"
_BREAK = "echo Nonsense yes > /etc/ssh/sshd_config.d/99-broken.conf; systemctl restart ssh || true"
_UNBREAK = "rm /etc/ssh/sshd_config.d/99-broken.conf; systemctl reset-failed ssh; systemctl restart ssh"

FAULTS = [
    Fault(
        "host's sshd stopped",
        on_host("systemctl stop ssh"),
        on_host("systemctl start ssh"),
        "HostSilent",
        "the host's sshd does not answer on port 22",
    ),
    Fault(
        "host's sshd configuration broken",
        on_host(_BREAK),
        on_host(_UNBREAK),
        "HostSilent",
        "the host's sshd does not answer on port 22",
    ),
    Fault(
        "account expired",
        on_host(f"usermod -e 1 {NAME}"),
        on_host(f"usermod -e '' {NAME}"),
        "AccountRefused",
        "the jump account is refused (it has expired)",
    ),
    Fault(
        "keys file removed",
        on_host(f"mv {_KEYS} /root/keys"),
        on_host(f"mv /root/keys {_KEYS}"),
        "AccountRefused",
        "the jump account is refused (it has no keys file)",
    ),
    Fault(
        "keys file open to all",
        on_host(f"chmod 666 {_KEYS}"),
        on_host(f"chmod 644 {_KEYS}"),
        "AccountRefused",
        "others than root can write its keys file",
    ),
    Fault(
        "keys looked for elsewhere",
        on_host(_EDIT.format("AuthorizedKeysFile .*#AuthorizedKeysFile /nowhere/%u")),
        on_host(_RESTORE),
        "AccountRefused",
        "the jump account is refused (pia@127.0.0.1: Permission denied (publickey).)",
    ),
    Fault(
        "wrong permitopen",
        on_host(_EDIT_KEYS.format('permitopen="[0-9.]*:22"#permitopen="10.0.3.250:22"')),
        on_host(_RESTORE_KEYS),
        "ForwardingRefused",
        ":22 is refused (its keys file does not let the probe in as containarium apply writes it)",
    ),
    Fault(
        "forwarding switched off",
        on_host(_EDIT.format("AllowTcpForwarding local#AllowTcpForwarding no")),
        on_host(_RESTORE),
        "ForwardingRefused",
        ":22 is refused (administratively prohibited)",
    ),
    Fault(
        "guest's sshd stopped",
        inside("systemctl stop ssh"),
        inside("systemctl start ssh"),
        "GuestSilent",
        "the container's SSH does not answer on ",
    ),
    Fault(
        "guest frozen",
        incus("pause", BOX),
        incus("resume", BOX),
        "GuestSilent",
        "the container's SSH does not answer on ",
    ),
    Fault(
        "guest shut by a firewall",
        on_host(f"nft add table inet lab; nft 'add chain inet lab out {{ type filter hook output priority 0; }}'; "
                f"nft add rule inet lab out ip daddr $(incus query /1.0/instances/{BOX} | sed -n "
                "'s/.*\"ipv4.address\": \"\\([0-9.]*\\)\".*/\\1/p' | head -1) tcp dport 22 drop"),
        on_host("nft delete table inet lab"),
        "GuestSilent",
        "the container's SSH does not answer on ",
    ),
]  # fmt: skip


def gets_in(pia: Site, config: Path) -> bool:
    """Whether a person would, before they lose patience."""
    try:
        return pia.person(NAME).ssh(config, NAME, "true", check=False, timeout=10).returncode == 0
    except CommandTimeoutError:
        return False


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name.replace(" ", "-"))
def test_what_keeps_a_person_out_is_found_and_named(pia: Site, config: Path, fault: Fault) -> None:
    assert healthy(pia)
    fault.harm(pia)
    try:
        said = probe(pia)
        kept_out = not gets_in(pia, config)
    finally:
        fault.mend(pia)
    assert (said["ok"], said["reason"]) == (False, fault.reason), said
    assert fault.words in said["error"]
    assert kept_out
    wait_until(f"the end of: {fault.name}", lambda: healthy(pia), timeout=30)


def test_new_keys_of_the_running_guest_are_the_ones_on_its_disk(pia: Site) -> None:
    """What is expected is read anew each time: a guest whose owner replaced its keys properly is well."""
    inside(_NEW_KEYS)(pia)
    said = probe(pia)
    inside(_OLD_KEYS)(pia)
    assert said["ok"], said
    assert healthy(pia)


def test_a_key_that_is_not_on_the_guests_disk_is_refused(pia: Site, config: Path) -> None:
    """Whoever answers there, people were given the keys of the guest's /etc/ssh, and would be warned."""
    inside(_OTHER_KEY)(pia)
    said = probe(pia)
    person = pia.person(NAME).ssh(config, NAME, "true", check=False)
    inside(_OWN_KEYS)(pia)
    assert "Host key verification failed" in person.stderr
    assert said["reason"] == "WrongHostKey"
    assert said["error"] == "the container's host key is not the one on its disk"
    assert said["detail"].startswith("it shows ssh-ed25519 SHA256:")
    assert healthy(pia)


def test_a_guest_without_host_keys_is_told(pia: Site) -> None:
    inside("mkdir -p /root/old; mv /etc/ssh/ssh_host_* /root/old")(pia)
    said = probe(pia)
    inside("mv /root/old/* /etc/ssh")(pia)
    assert said["error"] == "the container has no SSH host keys on its disk"


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        ("silent", "GuestSilent"),
        ("web server", "GuestSilent"),
        ("rubbish", "GuestNotSSH"),
        ("lines", "GuestNotSSH"),
        ("old", "GuestBroken"),
        ("stalls", "GuestStalled"),
        ("flood", None),  # by what bound it ends first depends on the machine
        ("liar", "GuestBroken"),
    ],
)
def test_whatever_sits_on_the_guests_port_neither_fools_nor_floods_the_probe(
    pia: Site, how: str, reason: str | None
) -> None:
    address, pid = pia.environment(NAME).address, pia.environment(NAME).pid
    inside("systemctl stop ssh")(pia)
    enter = ["nsenter", f"--target={pid}", "--net", "--user", "--setuid=0", "--setgid=0", "--"]
    command = [*enter, "/usr/bin/python3", "-c", _HOSTILE, how, NAME, address]
    pia.host.run(["systemd-run", "--quiet", "--collect", "--unit=hostile", *command])
    try:
        listening = ["grep", "-q", ":0016 00000000:0000 0A", "/proc/net/tcp"]
        wait_until("the hostile server", lambda: pia.inside(NAME, *listening, check=False).returncode == 0, timeout=15)
        said = probe(pia)
    finally:
        pia.host.run(["systemctl", "stop", "hostile"], check=False)
        inside("systemctl start ssh")(pia)
    assert said["ok"] is False
    assert reason in (None, said["reason"]), said
    wait_until("pia's own SSH", lambda: healthy(pia), timeout=30)


def test_it_is_no_failed_login_anywhere(pia: Site) -> None:
    """Neither to the host's fail2ban nor to one that a guest's owner installs."""
    asked = ["fail2ban-client", "status", "sshd"]
    before = pia.host.run(asked).stdout
    since = pia.host.run(["date", "+%s"]).stdout.strip()
    for _ in range(3):
        assert healthy(pia)
    log = ["journalctl", "--quiet", "--no-pager", f"--since=@{since}", "-t", "sshd"]
    accepted = f"Accepted publickey for {NAME} from 127.0.0.1"
    closed = f"Connection closed by authenticating user {NAME} 10.0.3.1"
    # journald writes a line down when it gets round to it
    wait_until("the host's lines", lambda: pia.host.run(log).stdout.count(accepted) >= 3, timeout=20)
    wait_until("the guest's lines", lambda: pia.inside(NAME, *log).stdout.count(closed) >= 3, timeout=20)
    for line in (pia.host.run(log).stdout + pia.inside(NAME, *log).stdout).splitlines():
        assert not any(word in line for word in ("Failed", "Invalid", "failure", "not allowed", "error:")), line
    assert pia.host.run(asked).stdout == before


def test_one_that_fails_again_and_again_bans_nobody(pia: Site) -> None:
    """sshd notes refused logins from 127.0.0.1, which fail2ban leaves alone as the machine's own address."""
    pia.host.run(["usermod", "-e", "1", NAME])
    try:
        for _ in range(6):  # its limit is 5
            assert probe(pia)["reason"] == "AccountRefused"
        banned = pia.host.run(["fail2ban-client", "status", "sshd"]).stdout
    finally:
        pia.host.run(["usermod", "-e", "", NAME])
    assert "Currently banned:\t0" in banned
    assert healthy(pia)


def test_nothing_is_left_of_it(pia: Site) -> None:
    assert healthy(pia)
    assert pia.host.run(["ls", "-A", "/run/containarium/probe"]).stdout == ""
    assert pia.host.run(["pgrep", "-f", "[/]run/containarium/probe/"], check=False).stdout == ""
    assert pia.host.run(["stat", "-c", "%U %a", "/var/lib/containarium/probe", KEY]).stdout == "root 700\nroot 600\n"


def test_its_key_opens_the_own_box_from_this_host_and_nothing_else(pia: Site) -> None:
    box = pia.environment(NAME).address
    options = [
        "-oBatchMode=yes",
        "-oStrictHostKeyChecking=no",
        "-oUserKnownHostsFile=/dev/null",
        "-oIdentitiesOnly=yes",
    ]
    ssh = ["ssh", *options, "-i", KEY]

    def banner(jump: str, target: str, *more: str) -> str:
        done = pia.host.run(["timeout", "5", *ssh, *more, "-W", target, f"{NAME}@{jump}"], check=False)
        return done.stdout[:4] or done.stderr

    assert banner("127.0.0.1", f"{box}:22") == "SSH-"
    assert "administratively prohibited" in banner("127.0.0.1", f"{box}:80")
    assert "administratively prohibited" in banner("127.0.0.1", "10.0.3.1:22")
    assert "Permission denied" in banner(pia.host.address, f"{box}:22", f"-oBindAddress={pia.host.address}")
    for command in ([*ssh, f"{NAME}@127.0.0.1", "id"], [*ssh, f"{NAME}@{box}", "id"]):
        refused = pia.host.run(command, check=False)
        assert (refused.returncode, refused.stdout) == (255, "")
    assert "containarium-probe" not in pia.inside(NAME, "cat", f"/home/{NAME}/.ssh/authorized_keys").stdout


def test_an_sshd_on_another_address_and_port_is_found(pia: Site) -> None:
    place = "/etc/ssh/sshd_config.d/00-lab.conf"
    pia.host.push(place, f"ListenAddress {pia.host.address}:2200\n")
    pia.host.run(["systemctl", "restart", "ssh"])
    try:
        said = probe(pia)
        pia.host.run(["systemctl", "stop", "ssh"])
        silent = probe(pia)
    finally:
        pia.host.run(["rm", place])
        pia.host.run(["systemctl", "restart", "ssh"])
    assert said["ok"], said
    assert silent["error"] == "the host's sshd does not answer on port 2200"


def test_the_coming_of_the_key_ends_nobodys_session(pia: Site) -> None:
    """As on a host that was prepared before there was a probe."""
    pia.host.run(["mv", "/var/lib/containarium/probe", "/root/probe"])
    pia.apply()
    before = pia.environment(NAME).keys
    assert before is not None
    assert not any("containarium-probe" in line for line in before)
    pia.host.push("/root/pia_key", pia.person(NAME).key().read_text(), mode=0o600)
    session = ["ssh", "-oBatchMode=yes", "-oStrictHostKeyChecking=no", "-i", "/root/pia_key", "-N", f"{NAME}@127.0.0.1"]
    pia.host.run(["systemd-run", "--quiet", "--collect", "--unit=session", *session])
    try:
        wait_until("pia's session", lambda: bool(_sessions(pia)), timeout=15)
        there = _sessions(pia)
        pia.host.run(["mv", "/root/probe", "/var/lib/containarium/probe"])
        pia.apply()
        assert healthy(pia)
        assert _sessions(pia) == there
    finally:
        pia.host.run(["systemctl", "stop", "session"], check=False)


def _sessions(site: Site) -> str:
    """Process ids of sshd's processes that run as pia."""
    return site.host.run(["pgrep", "-u", NAME], check=False).stdout
