"""A jump account opens port 22 of its own box and nothing else: everything else, tried for real from the laptop.

A refusal counts only with the right words: a network that is down, or a typing error here, would refuse as well.
"""

from __future__ import annotations

import re
import signal
import subprocess
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from tests.e2e import attempts
from tests.e2e.attempts import DENIED, PASSWORD, PROHIBITED, Attempt
from tests.e2e.people import KEY_TYPES
from tests.e2e.prober import HOST, LAPTOP, Prober
from tests.e2e.site import MANIFESTS, instance_of
from tests.lab.command import Completed, run, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.e2e.conftest import Pair
    from tests.e2e.people import Person

BANNER = "SSH-2.0-"
PLANTED = "/nonexistent/.ssh"


@dataclass
class Ground:
    """Where everything is tried, with services that nobody must reach."""

    pair: Pair
    probe: Prober
    words: dict[str, str]
    logs: dict[str, str]
    ports: str

    def fill(self, text: str) -> str:
        """Put addresses into an attempt."""
        for word, value in self.words.items():
            text = text.replace(f"{{{word}}}", value)
        return text

    def run(self, attempt: Attempt, person: Person | None = None, env: dict[str, str] | None = None) -> Completed:
        """Try it from the laptop, as bob."""
        person = person or self.pair.bob
        args = [self.fill(arg) for arg in attempt.args]
        argv = [attempt.program, "-F", str(self.pair.bob_config), *args]
        environment = {"HOME": str(person.home), **(env or {})}
        done = person.laptop.run(argv, check=False, timeout=20, input="", env=environment)
        done.stderr = done.stderr.replace("\r", "")
        return done

    def own_box(self) -> Completed:
        """The one thing that must work: the banner of bob's own sshd through the jump host."""
        return self.run(Attempt("", ("-W", "{own}:22", "{jump}"), ""))


@pytest.fixture(scope="module")
def ground(pair: Pair) -> Iterator[Ground]:
    site, probe = pair.site, Prober(pair.site)
    options = pair.bob.ssh(pair.bob_config, "-G", "bob").stdout
    jump = re.search(r"^proxyjump (\S+)$", options, re.MULTILINE)
    assert jump, options
    words = {
        "jump": jump[1], "own": pair.facts("bob").address, "other": pair.facts("alice").address,
        "host": site.host.address, "bridge": site.bridge_address(), "laptop": site.laptop.address,
        "home": str(pair.bob.home), "key": str(pair.bob.key()),
    }  # fmt: skip
    logs = {
        HOST: probe.start(HOST, "listen", "127.0.0.1@7001", "::1@7001", f"{words['bridge']}@7003"),
        "bob": probe.start("bob", "listen", "0.0.0.0@7002"),
        "alice": probe.start("alice", "listen", "0.0.0.0@7002"),
    }
    for place in (("127.0.0.1", "7001"), ("::1", "7001"), (words["bridge"], "7003"), (words["own"], "7002"),
                  (words["other"], "7002")):  # fmt: skip
        assert probe(HOST, "connect", *place)["said"].startswith("hello from"), place
    for log in logs.values():
        site.host.run(["truncate", "--size=0", log])
    ground = Ground(pair, probe, words, logs, _listening(pair))
    assert ground.own_box().stdout.startswith(BANNER)
    yield ground
    probe.close()


def _listening(pair: Pair) -> str:
    return pair.site.host.run(["ss", "--listening", "--numeric", "--tcp", "--udp", "--no-header"]).stdout


def _refused(done: Completed, attempt: Attempt) -> None:
    assert re.search(attempt.says, done.stderr, re.MULTILINE), (attempt.name, done.returncode, done.stderr)
    assert done.returncode == attempt.code, (attempt.name, done.stderr)
    assert done.stdout == "" or attempt.program == "sftp", (attempt.name, done.stdout)


@pytest.mark.parametrize("attempt", attempts.ALL, ids=lambda attempt: attempt.name)
def test_it_is_refused(ground: Ground, attempt: Attempt) -> None:
    _refused(ground.run(attempt), attempt)


@contextmanager
def _background(ground: Ground, *args: str) -> Iterator[subprocess.Popen[str]]:
    """Keep an `ssh -N ARGS` open at the laptop, until its local port 17001 is served."""
    options = ["-N", "-o", "ExitOnForwardFailure=yes", *(ground.fill(arg) for arg in args)]
    command = ["ip", "netns", "exec", ground.pair.site.laptop.name, "ssh", "-F", str(ground.pair.bob_config)]
    ssh = subprocess.Popen([*command, *options, ground.words["jump"]], stderr=subprocess.PIPE, text=True)
    try:
        netns = ["ip", "netns", "exec", ground.pair.site.laptop.name, "ss", "--listening", "--numeric", "--tcp"]
        wait_until("ssh's local port", lambda: ":17001 " in run(netns, timeout=10).stdout, timeout=10)
        yield ssh
    finally:
        ssh.send_signal(signal.SIGTERM)
        ssh.communicate(timeout=10)


def _said(ssh: subprocess.Popen[str]) -> str:
    ssh.send_signal(signal.SIGTERM)
    return ssh.communicate(timeout=10)[1]


@pytest.mark.parametrize("attempt", attempts.LOCAL, ids=lambda attempt: attempt.name)
def test_a_local_forward_reaches_nothing(ground: Ground, attempt: Attempt) -> None:
    with _background(ground, *attempt.args) as ssh:
        answer = ground.probe(LAPTOP, "connect", "127.0.0.1", "17001")
        assert answer == {"result": "connected", "said": ""}, "ssh takes the connection and hangs up"
        assert re.search(attempt.says, _said(ssh), re.MULTILINE)
    wait_until(f"log of {attempt.logged}", lambda: _logged(ground, attempt.logged), timeout=30)


def _logged(ground: Ground, pattern: str) -> bool:
    log = ground.pair.site.host.run(["journalctl", "--unit=ssh", "--output=cat", "--since=-20s"]).stdout
    return re.search(ground.fill(pattern), log) is not None


def test_a_local_forward_reaches_ones_own_sshd(ground: Ground) -> None:
    with _background(ground, "-L", "127.0.0.1:17001:{own}:22"):
        assert ground.probe(LAPTOP, "connect", "127.0.0.1", "17001")["said"].startswith(BANNER)


def test_a_proxy_reaches_ones_own_sshd_alone(ground: Ground) -> None:
    with _background(ground, "-D", "127.0.0.1:17001") as ssh:
        granted = ground.probe(LAPTOP, "socks", "17001", ground.words["own"], "22")
        assert granted["result"] == "granted"
        for address, port in attempts.DYNAMIC:
            assert ground.probe(LAPTOP, "socks", "17001", ground.fill(address), str(port))["result"] == "refused"
        assert len(re.findall(PROHIBITED, _said(ssh), re.MULTILINE)) == len(attempts.DYNAMIC)


def test_a_shared_connection_gives_no_session_either(ground: Ground) -> None:
    """An open, authenticated connection is no way around: the second request on it is refused as the first is."""
    socket = ground.pair.bob.home / "mux"
    with _background(ground, "-M", "-S", str(socket), "-L", "127.0.0.1:17001:{own}:22") as ssh:
        wait_until("ssh to share its connection", socket.exists, timeout=10)  # without, the next would make its own
        done = ground.run(Attempt("", ("-S", str(socket), "{jump}", "id"), ""))
        assert (done.returncode, done.stdout) == (255, "")
        assert "Session open refused by peer" in done.stderr
        done = ground.run(Attempt("", ("-S", str(socket), "-O", "forward", "-R", "17002:127.0.0.1:22", "{jump}"), ""))
        assert done.returncode == 255
        assert "remote port forwarding failed" in done.stderr + _said(ssh)


@pytest.fixture
def password(ground: Ground) -> Iterator[dict[str, str]]:
    """Give bob's account a real password, and the laptop a program that types it."""
    host, home = ground.pair.site.host, ground.pair.bob.home
    host.run(["chpasswd"], input=f"bob:{PASSWORD}\n")
    typist = home / "typist"
    typist.write_text(f"#!/bin/sh\necho asked >> {home}/asked\necho '{PASSWORD}'\n")
    typist.chmod(0o700)
    yield {"SSH_ASKPASS": str(typist), "SSH_ASKPASS_REQUIRE": "force"}
    host.run(["usermod", "--password", "*", "bob"])


@pytest.mark.parametrize("attempt", attempts.LOGINS, ids=lambda attempt: attempt.name)
def test_only_ones_own_key_opens_the_account(ground: Ground, password: dict[str, str], attempt: Attempt) -> None:
    _refused(ground.run(attempt, env=password), attempt)
    assert not (ground.pair.bob.home / "asked").exists(), "a password was never asked for"


def test_what_lies_in_the_accounts_home_counts_for_nothing(ground: Ground) -> None:
    """Keys, an rc file and an environment, planted where sshd would look by default, and owned by the account."""
    pair, host = ground.pair, ground.pair.site.host
    script = """mkdir -p "$1" && echo "$2" > "$1/authorized_keys" && cp "$1/authorized_keys" "$1/authorized_keys2"
        echo "touch /tmp/rc-ran" > "$1/rc" && echo "LD_PRELOAD=/tmp/x.so" > "$1/environment"
        chown -R bob "${1%/.ssh}" && chmod -R go= "${1%/.ssh}" """
    config = pair.site.export("bob", person=pair.carol)
    host.run(["sh", "-euc", script, "plant", PLANTED, pair.carol.public()])
    try:
        refused = pair.carol.ssh(config, "-W", f"{ground.words['own']}:22", ground.words["jump"], check=False)
        assert refused.returncode == 255
        assert re.search(DENIED, refused.stderr.replace("\r", ""), re.MULTILINE)
        assert ground.own_box().stdout.startswith(BANNER)
        assert host.run(["test", "-e", "/tmp/rc-ran"], check=False).returncode == 1
    finally:
        host.run(["rm", "-rf", PLANTED.rpartition("/")[0]])


def test_a_certificate_that_nobody_vouched_for_is_no_key(ground: Ground) -> None:
    pair = ground.pair
    authority, key = pair.carol.key(label="ca"), pair.carol.key(label="signed")
    run(["ssh-keygen", "-q", "-s", authority, "-I", "bob", "-n", "bob", key.with_suffix(".pub")], timeout=30)
    assert key.with_name(f"{key.name}-cert.pub").exists()
    config = pair.site.export("bob", person=pair.carol, key=key)
    refused = pair.carol.ssh(config, "-v", "-W", f"{ground.words['own']}:22", ground.words["jump"], check=False)
    assert refused.returncode == 255
    assert "ED25519-CERT" in refused.stderr
    assert re.search(DENIED, refused.stderr.replace("\r", ""), re.MULTILINE)


def test_a_weak_key_never_gets_so_far(ground: Ground) -> None:
    """It is refused in the manifest, and the account stays as it is."""
    pair, before = ground.pair, ground.pair.facts("bob")
    weak = pair.bob.home / "weak"
    run(["ssh-keygen", "-q", "-t", "rsa", "-b", "1024", "-N", "", "-f", weak], timeout=60)
    keys = [pair.bob.public(kind) for kind in KEY_TYPES]
    pair.site.declare("bob", sshKeys=[*keys, weak.with_suffix(".pub").read_text().strip()])
    problems = pair.site.apply(code=1)["remaining"]["problems"]
    pair.site.declare("bob", sshKeys=keys)
    assert [(problem["field"], problem["environment"]) for problem in problems] == [("spec.sshKeys[3]", "bob")]
    assert "1024" in problems[0]["message"]
    assert pair.facts("bob").keys == before.keys


def test_nobody_becomes_a_jump_account_on_the_host(ground: Ground) -> None:
    host = ground.pair.site.host
    entry = ground.pair.facts("bob")
    assert (entry.password, entry.groups) == ("*", ("containarium-jump",))
    shell = host.run(["su", "-", "bob", "-c", "id"], check=False)
    assert (shell.returncode, "not available" in shell.stdout) == (1, True), "not even root gets a shell of it"
    other = host.run(["runuser", "-u", "nobody", "--", "su", "-", "bob", "-c", "id"], check=False)
    assert other.returncode == 1
    assert "Authentication failure" in other.stderr
    assert "is not allowed to run sudo" in host.run(["sudo", "-l", "-U", "bob"]).stdout


SECRETS = ("/etc/shadow", "/etc/ssh/ssh_host_ed25519_key", "/var/lib/incus/unix.socket", "/var/lib/incus/database")
KEYS = "/etc/ssh/containarium/keys"
"""Public keys may be read: sshd itself reads them with the account's own ids."""


def test_a_jump_account_could_read_no_secret_and_write_no_key(ground: Ground) -> None:
    """Were something to run as the account after all: with its ids, as the kernel sees it."""
    host = ground.pair.site.host
    as_bob = ["setpriv", "--reuid=bob", "--regid=containarium-jump", "--init-groups", "test"]
    root = f"/var/lib/incus/storage-pools/default/containers/{instance_of('bob')}/rootfs"
    for path in (*SECRETS, root):
        assert host.run(["test", "-r", path], check=False).returncode == 0, path
        assert host.run([*as_bob, "-r", path], check=False).returncode == 1, path
    for path in (f"{KEYS}/bob", f"{KEYS}/alice", KEYS, "/etc/ssh/containarium", MANIFESTS, f"{MANIFESTS}/bob.yaml"):
        assert host.run(["test", "-e", path], check=False).returncode == 0, path
        assert host.run([*as_bob, "-w", path], check=False).returncode == 1, path


def test_afterwards_nothing_was_reached_and_the_own_box_still_is(ground: Ground) -> None:
    """Last in this file: what the world looks like after all attempts."""
    host = ground.pair.site.host
    assert {place: host.pull(log) for place, log in ground.logs.items()} == dict.fromkeys(ground.logs, "")
    assert _listening(ground.pair) == ground.ports
    for path in ("/tmp/planted", "/tmp/planted.sock", "/tmp/rc-ran"):
        assert host.run(["test", "-e", path], check=False).returncode == 1, path
    assert host.run(["pgrep", "-u", "bob"], check=False).stdout == "", "no process of the account is left"
    assert not (ground.pair.bob.home / "stolen").exists()
    assert ground.own_box().stdout.startswith(BANNER)
    assert ground.pair.bob.ssh(ground.pair.bob_config, "bob", "hostname").stdout == "bob-container\n"
