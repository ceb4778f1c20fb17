"""Manifests from git on a real host: over ssh, signed or not, killed at random, and with repositories that attack."""

from __future__ import annotations

import json
import os
import random
from typing import TYPE_CHECKING, Any

import pytest

from tests.builders import public_key
from tests.e2e.site import MANIFESTS, manifest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.lab.command import Completed
    from tests.lab.host import LabHost

KILLS = 20 if os.environ.get("CONTAINARIUM_SOAK") else 6
MOST = 60
WORK = "/srv/work"
BARE = "/home/git/environments.git"
CONFIG = "/etc/containarium/sync.yaml"
SYNC = "/var/lib/containarium/sync"
_RUN_AND_KILL = """
import os, signal, subprocess, sys, time
run = subprocess.Popen(["containarium", "sync"], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                       stderr=subprocess.DEVNULL)
time.sleep(float(sys.argv[1]))
ended = run.poll()
if ended is None:
    os.kill(run.pid, signal.SIGKILL)
    run.wait()
print("ended" if ended is not None else "killed")
"""
_SET_UP = f"""
useradd --create-home --shell /usr/bin/git-shell git
install -d -o git -g git -m 0700 /home/git/.ssh
install -d /etc/containarium {WORK}
ssh-keygen -q -t ed25519 -N '' -f /etc/containarium/deploy_key
for name in good wrong; do ssh-keygen -q -t ed25519 -N '' -C $name -f /root/$name; done
install -o git -g git -m 0600 /etc/containarium/deploy_key.pub /home/git/.ssh/authorized_keys
echo "localhost $(cut -d' ' -f1,2 /etc/ssh/ssh_host_ed25519_key.pub)" > /etc/containarium/known_hosts
echo "admin@example.org $(cat /root/good.pub)" > /etc/containarium/allowed_signers
git init --quiet --bare --initial-branch=main {BARE}
chown -R git:git {BARE}
git config --global --add safe.directory '*'
git config --global user.name Admin
git config --global user.email admin@example.org
git config --global gpg.format ssh
git config --global user.signingKey /root/good
git clone --quiet {BARE} {WORK}
"""


class Admin:
    """Somebody who pushes manifests to a repository on the host itself, which the host fetches over ssh."""

    def __init__(self, host: LabHost) -> None:
        self.host = host

    def shell(self, script: str, *args: str, check: bool = True) -> Completed:
        """Run a script as root on the host."""
        return self.host.run(["sh", "-euc", script, "admin", *args], check=check)

    def git(self, *args: str) -> str:
        """Run git in the work tree."""
        return self.host.run(["git", "-C", WORK, *args]).stdout.strip()

    def write(self, path: str, text: str) -> None:
        """Put a file into the work tree."""
        self.host.push(f"{WORK}/{path}", text)

    def push(self, *options: str) -> str:
        """Commit everything and push it. Returns the commit."""
        self.git("add", "--all")
        self.git("commit", "--quiet", "--allow-empty", "-m", "change", *options)
        self.git("push", "--quiet", "--force", "origin", "HEAD:refs/heads/main", "--tags")
        return self.git("rev-parse", "HEAD")

    def declare(self, *names: str, options: tuple[str, ...] = (), **spec: Any) -> str:
        """Push a manifest for each name."""
        for name in names:
            self.write(f"environments/{name}.yaml", manifest(name, sshKeys=[public_key(name)], **spec))
        return self.push(*options)

    def configure(self, **fields: Any) -> None:
        """Write the configuration of the sync."""
        place = {"identity": "/etc/containarium/deploy_key", "knownHosts": "/etc/containarium/known_hosts"}
        self.host.push(CONFIG, json.dumps({"repository": f"git@localhost:{BARE}", **place, "timeout": "20s", **fields}))

    def sync(self, *options: str, code: int = 0) -> dict[str, Any]:
        """Sync; the exit code must be this. Returns what it says as JSON, or its error."""
        done = self.host.run(["containarium", "sync", "--output=json", *options], check=False)
        assert done.returncode == code, f"{done.stdout}\n{done.stderr}"
        assert "Traceback" not in done.stderr
        said: dict[str, Any] = json.loads(done.stdout) if done.stdout else {"error": done.stderr}
        return said

    def state(self) -> dict[str, str]:
        """What the state file says."""
        found: dict[str, str] = json.loads(self.host.run(["cat", f"{SYNC}/state.json"]).stdout)
        return found

    def declared(self) -> list[str]:
        """Names of the manifests in the folder that the controller reads."""
        return sorted(self.host.run(["ls", f"{MANIFESTS}/"]).stdout.split())


@pytest.fixture(scope="module")
def machine(outer: object, request: pytest.FixtureRequest) -> Iterator[LabHost]:
    """Give a host of this module's own: other tests' manifests lie in a plain folder."""
    from tests.lab.host import LabHost

    host = LabHost(request.getfixturevalue("outer"), "sync")
    host.create()
    try:
        host.install_project()
        host.run(["sh", "-euxc", _SET_UP])
        yield host
    finally:
        host.delete()


@pytest.fixture
def admin(machine: LabHost) -> Admin:
    """Give an admin with alice pushed and in use, and a configuration without signatures."""
    made = Admin(machine)
    made.shell(f"rm -rf {MANIFESTS} {SYNC} /tmp/ran; git -C {WORK} checkout -q --orphan start-$$; rm -rf {WORK}/*")
    made.declare("alice")
    made.configure()
    assert made.sync()["result"] == "applied"
    return made


def test_good_bad_mended_and_gone(admin: Admin) -> None:
    good = admin.declare("bob")
    assert admin.sync()["applied"] == good
    assert admin.declared() == ["alice.yaml", "bob.yaml"]
    admin.write("environments/bob.yaml", "kind: Environment\n")
    bad = admin.push()
    said = admin.sync(code=1)
    assert (said["result"], said["commit"], said["applied"]) == ("refused", bad, good)
    assert (admin.state()["applied"], admin.state()["tried"]) == (good, bad)
    assert admin.state()["error"].startswith("environments/bob.yaml:")
    mended = admin.declare("bob", docker=True)
    assert admin.sync()["applied"] == mended
    admin.shell(f"mv {BARE} {BARE}.away")
    try:
        assert "there is no repository at" in admin.sync(code=1)["error"]
        assert admin.declared() == ["alice.yaml", "bob.yaml"]
        assert admin.state()["applied"] == mended
    finally:
        admin.shell(f"mv {BARE}.away {BARE}")
    assert admin.sync()["result"] == "unchanged"
    assert admin.state()["error"] == ""


def test_ssh_is_strict(admin: Admin) -> None:
    admin.configure(knownHosts="/etc/containarium/allowed_signers")
    assert "the ssh host key of git@localhost" in admin.sync(code=1)["error"]
    admin.configure(identity="/root/wrong")
    assert "does not accept this host's ssh key" in admin.sync(code=1)["error"]
    admin.configure(repository=f"ssh://git@localhost:9{BARE}")
    assert "cannot be reached" in admin.sync(code=1)["error"]
    admin.shell("install -m 0644 -o git /root/good /etc/containarium/loose_key")
    admin.configure(identity="/etc/containarium/loose_key")
    assert "can be changed by others than root" in admin.sync(code=1)["error"]
    assert admin.declared() == ["alice.yaml"]


def test_a_repository_of_another_account_is_not_obeyed(admin: Admin) -> None:
    """Git would run what its settings say, as root."""
    admin.shell(f"git -C {BARE} config uploadpack.packObjectsHook 'touch /tmp/ran;'; chown -R git:git {BARE}")
    admin.configure(repository=BARE)
    assert "belongs to another account" in admin.sync(code=1)["error"]
    admin.shell(f"chown -R root:root {BARE}")
    try:
        assert admin.sync()["result"] == "unchanged"
    finally:
        admin.shell(f"chown -R git:git {BARE}; git -C {BARE} config --unset uploadpack.packObjectsHook")
    assert admin.shell("ls /tmp/ran", check=False).returncode != 0


def test_signatures(admin: Admin) -> None:
    unsigned = admin.git("rev-parse", "HEAD")
    admin.configure(verify={"ssh": {"allowedSigners": "/etc/containarium/allowed_signers"}})
    assert f"commit {unsigned[:12]} is not signed; sign it" in admin.sync(code=1)["error"]
    good = admin.declare("bob", options=("-S",))
    assert admin.sync()["applied"] == good
    admin.declare("carol", options=("-S/root/wrong",))
    assert "is not signed by anybody who may" in admin.sync(code=1)["error"]
    assert admin.declared() == ["alice.yaml", "bob.yaml"]
    admin.git("tag", "--force", "-s", "-m", "release", "v1")
    admin.push()
    assert admin.sync("--tag", "v1")["ref"] == "tag v1"
    assert admin.declared() == ["alice.yaml", "bob.yaml", "carol.yaml"]


def _links(admin: Admin) -> str:
    admin.shell(f"ln -s /etc/passwd {WORK}/environments/evil.yaml")
    return "leads out of the folder"


def _folder_link(admin: Admin) -> str:
    admin.shell(f"ln -s / {WORK}/environments/evil")
    return "leads out of the folder"


def _bomb(admin: Admin) -> str:
    admin.shell(f"head -c 70000000 /dev/zero > {WORK}/environments/zeros")
    return "more than 50000 files or 64 MiB"


def _key_outside(admin: Admin) -> str:
    admin.shell(f"mkdir -p {WORK}/environments/keys && ln -s /root/good.pub {WORK}/environments/keys/x.pub")
    admin.write("environments/evil.yaml", manifest("evil", sshKeys=[{"file": "keys/x.pub"}]))
    return "leads out of the folder"


@pytest.mark.parametrize("attack", [_links, _folder_link, _bomb, _key_outside])
def test_hostile_commits_change_nothing(admin: Admin, attack: Callable[[Admin], str]) -> None:
    before = admin.shell(f"readlink {MANIFESTS}; sha256sum /etc/passwd; ls -A /etc/containarium /root /tmp").stdout
    said = attack(admin)
    admin.push()
    told = admin.sync(code=1)
    assert said in str(told)
    after = admin.shell(f"readlink {MANIFESTS}; sha256sum /etc/passwd; ls -A /etc/containarium /root /tmp").stdout
    assert after == before


def test_killed_at_random(admin: Admin) -> None:
    chance = random.Random(2026)
    killed = attempt = 0
    while killed < KILLS and attempt < MOST:
        attempt += 1
        commit = admin.declare("bob", resources={"memory": f"{300 + attempt}MiB"})
        if attempt % 5 == 0:
            admin.shell(f"rm -rf {SYNC}/repository.git")  # the next run has to make and fill it
        delay = f"{chance.uniform(0.15, 0.8):.3f}"
        killed += admin.host.run(["python3", "-c", _RUN_AND_KILL, delay]).stdout.strip() == "killed"
        assert admin.host.run(["containarium", "validate"]).stdout.endswith("valid\n")
        if attempt % 2:
            assert admin.sync()["applied"] == commit
    assert killed == KILLS, f"only {killed} of {attempt} runs were killed: the test has lost its point"
    assert admin.sync()["applied"] == commit
    assert f"{300 + attempt}MiB" in admin.host.run(["cat", f"{MANIFESTS}/bob.yaml"]).stdout
    places = ["/etc/containarium", SYNC, f"{SYNC}/checkouts"]
    found = admin.host.run(["find", *places, "-maxdepth", "1", "-name", ".*"]).stdout
    found += admin.host.run(["find", SYNC, "-name", "*.lock", "-o", "-name", "tmp_*", "-o", "-name", "*.new"]).stdout
    assert found.split() == [f"{SYNC}/git.lock"]
