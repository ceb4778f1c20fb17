"""Jump accounts on a real host: killed tools, contended and stale locks, foreign accounts, open sessions."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

from tests.lab.recipes import VENV

if TYPE_CHECKING:
    from tests.lab.host import LabHost

_HEAD = """
import json, os, random, signal, subprocess, sys, threading, time
from pathlib import Path
from containarium.host.accounts import Accounts
from containarium.host.jumpaccount import is_ours, useradd
from containarium.host.passwd import read_account_files
from containarium.host.settings import HostSettings
from containarium.model.host import HostError
accounts = Accounts(HostSettings())
def right(name):
    a = accounts.observe()[0][name]
    return is_ours(a) and a.password == "*" and not (a.expired or a.groups or a.subordinate_ids)
"""
_HOLD = (
    "import fcntl, sys, time; f = open('/etc/.pwd.lock', 'r+'); fcntl.lockf(f, fcntl.LOCK_EX); "
    "print('held', flush=True); time.sleep(float(sys.argv[1]))"
)
_DROP_IN_FILE = "/etc/ssh/sshd_config.d/50-containarium.conf"
_DROP_IN = (
    "from containarium.host.sshd import Sshd; from containarium.host.settings import HostSettings; "
    "Sshd(HostSettings()).{}()"
)


@pytest.fixture
def host(lab_host: LabHost) -> Iterator[LabHost]:
    """Give the host, and take every jump account away again afterwards."""
    yield lab_host
    _python(
        lab_host,
        """
        for name, account in accounts.observe()[0].items():
            if is_ours(account):
                accounts.delete(name)
        for name in accounts.observe()[1]:
            accounts.delete(name)
        print("null")
        """,
        timeout=180,
    )


def _python(host: LabHost, script: str, *arguments: str, timeout: float = 60) -> Any:
    """Run a script on the host, with `accounts` and `right` at hand; what it prints last is JSON."""
    lines = script.splitlines()
    indent = min((len(line) - len(line.lstrip()) for line in lines if line.strip()), default=0)
    whole = _HEAD + "\n".join(line[indent:] for line in lines)
    said = host.run([f"{VENV}/bin/python", "-c", whole, *arguments], timeout=timeout).stdout
    return json.loads(said.splitlines()[-1])


def test_a_new_account_has_nothing_that_it_does_not_need(host: LabHost) -> None:
    found = _python(
        host,
        """
        accounts.ensure("alice")
        files = read_account_files(Path("/etc"))
        print(json.dumps({"right": right("alice"), "shadow": files.shadow["alice"].password,
                          "own group": "alice" in files.group_ids}))
        """,
    )
    assert found == {"right": True, "shadow": "*", "own group": False}


def test_sixty_killed_useradds_are_repaired(host: LabHost) -> None:
    found = _python(
        host,
        """
        chance, partial, wrong = random.Random(7), 0, []
        accounts.ensure("first")
        for number in range(60):
            name = f"killed-{number}"
            tool = subprocess.Popen(useradd(name), stderr=subprocess.DEVNULL)
            time.sleep(chance.uniform(0, 0.02))
            tool.kill()
            tool.wait()
            files = read_account_files(Path("/etc"))
            partial += (name in files.passwd) != (name in files.shadow)
            accounts.ensure(name)
            if not right(name):
                wrong.append(name)
        print(json.dumps({"partial": partial, "wrong": wrong}))
        """,
        timeout=240,
    )
    assert found["wrong"] == []


def test_half_made_accounts_of_every_kind_are_completed(host: LabHost) -> None:
    found = _python(
        host,
        """
        etc, found = Path("/etc"), {}
        def drop(file, name):
            path = etc / file
            path.write_text("".join(l for l in path.read_text().splitlines(True) if not l.startswith(name + ":")))
        def append(file, line):
            with (etc / file).open("a") as opened:
                opened.write(line + "\\n")
        accounts.ensure("noshadow"); drop("shadow", "noshadow")
        accounts.ensure("nopasswd"); drop("passwd", "nopasswd")
        append("shadow", "shadowonly:!:1:0:99999:7::1:")
        append("group", "sudo-like:x:4711:member,memberless"); append("gshadow", "sudo-like:!::memberless")
        append("subuid", "memberless:900000000:65536"); append("subgid", "memberless:900000000:65536")
        accounts.ensure("emptied")
        text = (etc / "passwd").read_text()
        (etc / "passwd").write_text(text.replace("emptied:x:", "emptied::"))
        for name in ("noshadow", "nopasswd", "shadowonly", "memberless", "emptied"):
            accounts.ensure(name)
            found[name] = right(name)
        drop("group", "containarium-jump")
        accounts.ensure("noshadow")
        found["group"] = right("noshadow") and right("memberless")
        print(json.dumps(found))
        """,
    )
    assert set(found.values()) == {True}, found


def test_a_lock_held_for_twenty_seconds_is_waited_for(host: LabHost) -> None:
    found = _python(
        host,
        f"""
        holder = subprocess.Popen([sys.executable, "-c", {_HOLD!r}, "20"], stdout=subprocess.PIPE)
        holder.stdout.readline()
        started = time.monotonic()
        accounts.ensure("patient")
        print(json.dumps({{"took": time.monotonic() - started, "right": right("patient")}}))
        """,
        timeout=90,
    )
    assert found["right"]
    assert 15 < found["took"] < 40


def test_a_lock_held_for_ever_names_its_holder(host: LabHost) -> None:
    found = _python(
        host,
        f"""
        holder = subprocess.Popen([sys.executable, "-c", {_HOLD!r}, "60"], stdout=subprocess.PIPE)
        holder.stdout.readline()
        try:
            Accounts(HostSettings(), patience=2).ensure("impatient")
        except HostError as error:
            print(json.dumps({{"reason": error.reason, "named": f"process {{holder.pid}}" in str(error)}}))
        holder.kill()
        """,
        timeout=60,
    )
    assert found == {"reason": "PasswdLocked", "named": True}


def test_stale_lock_files_of_every_kind_are_removed(host: LabHost) -> None:
    found = _python(
        host,
        """
        failed = []
        for file in ("passwd", "shadow", "group", "gshadow"):
            for content in ("", "\\n", "12\\n", "999999", "garbage"):
                lock = Path("/etc") / f"{file}.lock"
                lock.write_text(content)
                os.utime(lock, (time.time() - 60,) * 2)
                try:
                    accounts.ensure("locked")
                except HostError as error:
                    failed.append(f"{file} {content!r}: {error}")
                if not right("locked") or lock.exists() and file in ("passwd", "shadow"):
                    failed.append(f"{file} {content!r}")
                lock.unlink(missing_ok=True)
                accounts.delete("locked")
        print(json.dumps(failed))
        """,
        timeout=240,
    )
    assert found == []


def test_foreign_accounts_are_refused_and_unchanged(host: LabHost) -> None:
    host.run(["useradd", "--no-create-home", "stranger"])
    try:
        found = _python(
            host,
            """
            before = [(Path("/etc") / f).read_bytes() for f in ("passwd", "shadow", "group", "gshadow", "subuid")]
            reasons = set()
            for name in ("root", "nobody", "sshd", "stranger"):
                for act in (accounts.ensure, accounts.lock, accounts.delete, lambda n: accounts.write_keys(n, ("k",))):
                    try:
                        act(name)
                        reasons.add("none")
                    except HostError as error:
                        reasons.add(error.reason)
            after = [(Path("/etc") / f).read_bytes() for f in ("passwd", "shadow", "group", "gshadow", "subuid")]
            print(json.dumps({"reasons": sorted(reasons), "unchanged": before == after}))
            """,
        )
    finally:
        host.run(["userdel", "stranger"])
    assert found == {"reasons": ["Conflict"], "unchanged": True}


def test_forty_at_once(host: LabHost) -> None:
    found = _python(
        host,
        """
        errors, names = [], [f"many-{number}" for number in range(40)]
        def make(name):
            try:
                accounts.ensure(name)
            except HostError as error:
                errors.append(str(error))
        threads = [threading.Thread(target=make, args=(name,)) for name in names]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        observed = accounts.observe()[0]
        uids = {observed[name].uid for name in names}
        print(json.dumps({"errors": errors, "right": all(map(right, names)), "uids": len(uids)}))
        """,
        timeout=120,
    )
    assert found == {"errors": [], "right": True, "uids": 40}


def test_two_processes_beside_each_other(host: LabHost) -> None:
    found = _python(
        host,
        """
        if len(sys.argv) > 1:
            for number in range(10):
                accounts.ensure(f"beside-{sys.argv[1]}-{number}")
            sys.exit()
        again = [sys.executable, "-c", Path("/proc/self/cmdline").read_bytes().split(b"\\0")[2]]
        codes = [run.wait() for run in [subprocess.Popen([*again, str(number)]) for number in range(4)]]
        print(json.dumps([codes, sum(name.startswith("beside-") for name in accounts.observe()[0])]))
        """,
        timeout=120,
    )
    assert found == [[0, 0, 0, 0], 40]


@pytest.mark.parametrize("pam", ["yes", "no"])
def test_locking_cuts_access_and_ends_open_sessions(host: LabHost, pam: str) -> None:
    """With one port of an sshd that uses PAM, and one of an sshd that does not."""
    port = {"yes": 2201, "no": 2202}[pam]
    host.run(["ssh-keygen", "-A"])
    host.run(["mkdir", "-p", "/run/sshd"])
    host.run(["sh", "-c", "[ -e /root/jump ] || ssh-keygen -q -t ed25519 -N '' -f /root/jump"])
    options = ["-o", f"Port={port}", "-o", "ListenAddress=127.0.0.1", "-o", f"UsePAM={pam}", "-o", "PidFile=none"]
    others = host.run(["test", "-e", _DROP_IN_FILE], check=False).returncode == 0  # whose environments live by it
    host.run([f"{VENV}/bin/python", "-c", _DROP_IN.format("install")])  # before these servers read it
    host.run(["systemd-run", "--collect", f"--unit=jump-{pam}", "/usr/sbin/sshd", "-D", *options])
    try:
        found = _python(
            host,
            """
            port = sys.argv[1]
            key = Path("/root/jump.pub").read_text().strip()
            accounts.ensure("leaving")
            accounts.write_keys("leaving", (f'restrict,port-forwarding,permitopen="127.0.0.1:22" {key}',))
            ssh = ["ssh", "-p", port, "-i", "/root/jump", "-o", "StrictHostKeyChecking=no", "-o", "BatchMode=yes",
                   "-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR"]
            def reaches():
                ended = subprocess.run([*ssh, "-W", "127.0.0.1:22", "leaving@127.0.0.1"], stdin=subprocess.DEVNULL,
                                       capture_output=True, timeout=20)
                return ended.stdout.startswith(b"SSH-")
            before = reaches()
            session = subprocess.Popen([*ssh, "-N", "leaving@127.0.0.1"])
            time.sleep(1.5)
            open_before = session.poll() is None
            accounts.lock("leaving")
            try:
                session.wait(5)
            except subprocess.TimeoutExpired:
                pass
            locked = accounts.observe()[0]["leaving"].expired
            after = reaches()
            accounts.ensure("leaving")
            print(json.dumps([before, open_before, session.poll() is not None, locked, after, reaches()]))
            """,
            str(port),
            timeout=90,
        )
    finally:
        host.run(["systemctl", "stop", f"jump-{pam}.service"], check=False)
        if not others:
            host.run([f"{VENV}/bin/python", "-c", _DROP_IN.format("remove")])
    assert found == [True, True, True, True, False, True]
