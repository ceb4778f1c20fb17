"""The controller killed, Incus killed, accounts locked, a disk full, a guest slow: in the end all is as declared."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

import pytest

from tests.e2e.crowd import CROWD, apt_held, belongings, config_of, gather, jump_accounts, shell, traces
from tests.e2e.site import BRIDGE, JUMP_KEYS, MANIFESTS, instance_of, manifest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.e2e.living import LivingSite

KILLS = 50 if os.environ.get("CONTAINARIUM_SOAK") else 8
"""Each takes three seconds; `make soak` takes its time."""
_HASTE = "/run/systemd/system/containarium.service.d/haste.conf"
_TORTURE = '''
"""Kills the controller again and again, while manifests change and somebody meddles with what it made."""
import json, os, random, signal, subprocess, sys, time
from pathlib import Path

FOLDER, KILLS, CHANCE = Path(sys.argv[1]), int(sys.argv[2]), random.Random(int(sys.argv[3]))
TEXTS = json.load(sys.stdin)
LASTING, FLEETING = ("dora", "emil", "fred"), "gina"


def run(*args):
    subprocess.run(args, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=60)


def write(name, text):
    new = FOLDER / f".{name}.new"
    new.write_text(text)
    new.replace(FOLDER / f"{name}.yaml")


def edit():
    name = CHANCE.choice((*LASTING, FLEETING))
    write(name, TEXTS[name].replace("512MiB", f"{CHANCE.randint(300, 600)}MiB"))


def withdraw():
    (FOLDER / "emil.yaml").unlink(missing_ok=True)


def bring_back():
    write("emil", TEXTS["emil"])


def mistake():
    write("fred", ": [")


def mended():
    write("fred", TEXTS["fred"])


def lose():
    run("incus", "delete", "--force", f"{FLEETING}-container")


def meddle():
    name = CHANCE.choice(LASTING)
    box = f"{name}-container"
    for command in CHANCE.sample([
        ("incus", "config", "set", box, "limits.processes=99"),
        ("incus", "stop", "--force", box),
        ("usermod", "--shell", "/bin/bash", name),
        ("userdel", name),
        ("rm", "-f", f"/etc/ssh/containarium/keys/{name}"),
        ("incus", "exec", box, "--", "rm", "-rf", f"/home/{name}/.ssh"),
    ], 2):
        run(*command)


def main_pid():
    shown = subprocess.run(
        ["systemctl", "show", "--property=MainPID", "--value", "containarium"], capture_output=True, text=True
    )
    return int(shown.stdout)


def status():
    try:
        return json.loads(Path("/run/containarium/status.json").read_text())
    except OSError:
        return {"daemon": {"pid": 0}, "environments": []}


def let_live(pid):
    """Some die while they start, most in the middle of their work, and a few after somebody was retired."""
    if CHANCE.random() < 0.3:
        time.sleep(CHANCE.uniform(0, 1))
        return
    end = time.monotonic() + 20
    while status()["daemon"]["pid"] != pid and time.monotonic() < end:
        time.sleep(0.02)
    time.sleep(CHANCE.uniform(0, 0.8) if CHANCE.random() < 0.85 else CHANCE.uniform(2, 3.5))


def living():
    while not (pid := main_pid()):
        time.sleep(0.02)
    return pid


deeds, at_work = (edit, edit, meddle, meddle, lose, lose, withdraw, bring_back, mistake, mended), 0
for number in range(KILLS):
    pid = living()
    CHANCE.choice(deeds)()
    let_live(pid)
    at_work += any(environment["work"] for environment in status()["environments"])
    os.kill(pid, signal.SIGKILL)
    while living() == pid:
        time.sleep(0.02)
for name, text in TEXTS.items():
    write(name, text.replace("512MiB", "444MiB"))
print(json.dumps({"kills": number + 1, "at work": at_work}))
'''


@pytest.fixture(scope="module")
def site(living_site: LivingSite) -> LivingSite:
    """Give the living host with the crowd on it."""
    gather(living_site)
    return living_site


@pytest.fixture
def strangers(site: LivingSite) -> Iterator[LivingSite]:
    """Give the host with instances and accounts that are not ours, some with names that are declared."""
    place = ("--storage=default", f"--network={BRIDGE}")
    site.host.incus("launch", "guest", "stranger", *place, "--config=limits.memory=256MiB")
    site.host.incus("init", "guest", "ines-container", *place)
    for name in ("stranger", "hugo"):
        site.host.run(["useradd", "--create-home", "--shell", "/bin/bash", name])
    yield site
    site.withdraw("hugo", "ines")
    site.host.incus("delete", "--force", "stranger", "ines-container")
    for name in ("stranger", "hugo"):
        site.host.run(["userdel", "--remove", name])


def _foreign(site: LivingSite) -> dict[str, Any]:
    instances = site.host.instances()
    names, kept = ("stranger", "ines-container"), ("status", "config", "devices", "created_at", "profiles")
    seen: dict[str, Any] = {name: {key: instances[name][key] for key in kept} for name in names}
    seen["pid"] = instances["stranger"]["state"]["pid"]
    seen["lines"] = shell(site, "grep -E '^(stranger|hugo):' /etc/passwd /etc/shadow /etc/group /etc/subuid").stdout
    seen["others"] = sorted(set(instances) & {"hugo-container", "stranger-container"})
    return seen


def test_killed_controllers_and_then_one_more(strangers: LivingSite) -> None:
    site = strangers
    names = (*CROWD, "gina")
    before, foreign = {name: belongings(site, name) for name in CROWD}, _foreign(site)
    texts = {n: manifest(n, sshKeys=[site.person(n).public()], resources={"disk": "1GiB"}) for n in names}
    for name in ("hugo", "ines"):
        site.declare(name)
    site.host.push(_HASTE, "[Service]\nRestartSec=100ms\n")
    site.host.run(["systemctl", "daemon-reload"])
    try:
        script = ["python3", "-c", _TORTURE, MANIFESTS, str(KILLS), "2026"]
        said = json.loads(site.host.run(script, input=json.dumps(texts), timeout=500).stdout)
    finally:
        site.host.run(["rm", "-r", "/run/systemd/system/containarium.service.d"])
        site.host.run(["systemctl", "daemon-reload"])
    assert said["kills"] == KILLS
    assert said["at work"] >= max(1, KILLS // 10), "the test has lost its point: hardly anything was under way"
    site.wait_ready(*names)
    for name in names:
        facts = site.environment(name)
        assert (facts.status, facts.config["limits.memory"], facts.config["limits.processes"]) == (
            "Running", "444MiB", "512",
        )  # fmt: skip
        assert (facts.password, facts.groups, facts.shell) == ("*", ("containarium-jump",), "/usr/sbin/nologin")
        assert "user.containarium.retired" not in facts.config
        site.wait_login(name, site.export(name))
    assert {name: belongings(site, name) for name in CROWD} == before
    assert _foreign(site) == foreign
    assert jump_accounts(site) == set(names)
    assert traces(site) == []
    site.purge(["gina"])


def test_incus_is_killed_in_the_middle_of_work(site: LivingSite) -> None:
    before = {name: site.environment(name).pid for name in CROWD}
    site.declare("gina", packages=["tree"], resources={"disk": "1GiB"})
    for under_way in ("pgrep -x apt-get", "incus query /1.0/instances/gina-container"):  # her image first, then she
        kill = 'kill -9 "$(systemctl show -P MainPID incus)"'
        shell(site, f"until {under_way} >/dev/null 2>&1; do sleep 0.02; done; {kill}", timeout=90)
    site.wait_ready("gina")
    assert site.inside("gina", "tree", "--version").returncode == 0
    assert {name: site.environment(name).pid for name in CROWD} == before
    known = len(_found_by_events(site))
    site.host.incus("config", "set", instance_of("dora"), "limits.processes=99")
    site.until("the drift to be repaired", lambda: config_of(site, "dora", "limits.processes") == "512")
    site.until("the event of it", lambda: len(_found_by_events(site)) > known)
    site.purge(["gina"])


def _found_by_events(site: LivingSite) -> list[dict[str, Any]]:
    """Drift of dora that names who did it, found in passes that Incus' events began."""
    passes = {line["pass_id"] for line in site.log() if line["event"] == "pass" and "incus" in line["triggers"]}
    return [e for e in site.events("dora") if e["reason"] == "DriftFound" and e.get("by") and e.get("pass") in passes]


_HOLD_ACCOUNTS = """
import fcntl, sys, time
lock = open("/etc/.pwd.lock", "r+")
fcntl.lockf(lock, fcntl.LOCK_EX)
for path in ("/etc/passwd", "/etc/shadow"):
    lines = open(path).readlines()
    open(path, "w").writelines(line for line in lines if not line.startswith("emil:"))
print("held", flush=True)
time.sleep(float(sys.argv[1]))
"""


def test_locked_accounts_hold_up_nobody_but_who_needs_one(site: LivingSite) -> None:
    """A cloud's guest agent holds the lock for 20 s, and takes an account away meanwhile."""
    before = site.environment("emil")
    hold = ["systemd-run", "--unit=agent", "--collect", "python3", "-c", _HOLD_ACCOUNTS, "20"]
    site.host.run(hold)
    site.until_facts("emil", "no account", lambda facts: not facts.passwd)
    site.host.incus("config", "set", instance_of("dora"), "limits.processes=99")
    site.host.run(["rm", f"{JUMP_KEYS}/fred"])
    site.until("dora to be repaired", lambda: config_of(site, "dora", "limits.processes") == "512", timeout=15)
    site.until_facts("fred", "keys", lambda facts: facts.keys, timeout=15)
    assert site.host.run(["systemctl", "is-active", "agent"]).stdout == "active\n", "the lock was free too early"
    assert site.environment("emil").passwd == ""
    site.until_facts("emil", "an account", lambda facts: facts.passwd)
    site.wait_ready(*CROWD)
    after = site.environment("emil")
    assert (after.password, after.groups, after.keys, after.pid) == (
        "*", ("containarium-jump",), before.keys, before.pid,
    )  # fmt: skip
    site.wait_login("emil", site.export("emil"))
    assert traces(site) == []


def test_a_full_disk_is_named_holds_up_nobody_and_grows(site: LivingSite) -> None:
    gather(site, ["gina"])
    before = belongings(site, "gina")
    fill = "head -c 2G /dev/zero > /root/fill; sync; head -c 2G /dev/zero > /root/last"
    site.host.outer.refused_write(lambda: site.inside("gina", "sh", "-c", fill, check=False, timeout=120))
    boot = site.boot_id("gina")
    site.host.incus("stop", "--force", instance_of("gina"), check=False)  # it stops, and Incus has no room to note it
    site.wait_ready("gina", timeout=90)
    assert site.boot_id("gina") != boot, "who has filled a disk gets in again"
    key = site.person("gina").public(label="second")
    site.declare("gina", resources={"disk": "1GiB", "memory": "600MiB"}, sshKeys=[site.person("gina").public(), key])
    site.until("the trouble", lambda: _trouble(site, "gina"))
    assert _trouble(site, "gina")["reason"] == "QuotaExceeded"
    assert "grow resources.disk" in _trouble(site, "gina")["message"]
    assert site.conditions("gina")["Ready"]["status"] != "True"
    site.host.incus("config", "set", instance_of("dora"), "limits.processes=99")
    site.until("dora to be repaired", lambda: config_of(site, "dora", "limits.processes") == "512", timeout=15)
    site.declare("gina", resources={"disk": "3GiB", "memory": "600MiB"}, sshKeys=[site.person("gina").public(), key])
    site.wait_ready("gina", timeout=60)
    facts = site.environment("gina")
    assert (facts.devices["root"]["size"], facts.config["limits.memory"]) == ("3GiB", "600MiB")
    assert key.split()[1] in site.inside("gina", "cat", "/home/gina/.ssh/authorized_keys").stdout
    assert belongings(site, "gina") == before
    site.inside("gina", "sh", "-euc", "echo more > /root/more; sync")
    site.purge(["gina"])


def test_a_disks_limit_that_was_lifted_is_set_again_from_the_sandbox(site: LivingSite) -> None:
    gather(site, ["dora"])
    pool = "/var/lib/incus/storage-pools/default"
    folder = f"{pool}/containers/{instance_of('dora')}"

    def limit() -> str:
        shown = site.host.run(["btrfs", "qgroup", "show", "-re", "--raw", "-f", folder]).stdout
        return shown.splitlines()[-1].split()[3]

    before = limit()
    site.host.run(["btrfs", "qgroup", "limit", "20G", folder])
    assert limit() != before
    site.containarium("apply", timeout=60)  # which hands over to the controller, and has it look deep
    site.until("the limit to be as declared", lambda: limit() == before, timeout=90)


def test_a_port_that_was_left_behind_is_removed(site: LivingSite) -> None:
    """As Incus leaves one that is killed in the middle of a start."""
    gather(site, ["dora"])
    port = site.environment("dora").devices["eth0"]["host_name"]
    site.containarium("suspend", "dora")
    site.host.incus("stop", "--force", instance_of("dora"))
    site.host.run(["ip", "link", "add", port, "type", "veth", "peer", "name", "left-behind"])
    site.containarium("resume", "dora")
    site.wait_ready("dora", timeout=60)


_IMAGES = "/var/lib/incus/storage-pools/default/images"
_HALF_UNPACKED = {
    "its name alone": ('btrfs subvolume delete "$volume"', ["bc"]),
    "an empty folder": ('rm -rf "$volume"/*', ["less"]),
    "a part of it": ('rm -rf "$volume"/templates "$volume"/rootfs/usr', ["bc", "less"]),
}


@pytest.mark.parametrize(
    "left",
    [left if left == "an empty folder" else pytest.param(left, marks=pytest.mark.soak) for left in _HALF_UNPACKED],
)
def test_an_image_of_which_a_killed_incus_left(site: LivingSite, left: str) -> None:
    """Of the one that people's containers are made from, and of the one that it is baked from."""
    gather(site, ["dora"])
    spoil, packages = _HALF_UNPACKED[left]
    shell(site, f'for volume in {_IMAGES}/*; do btrfs property set "$volume" ro false; {spoil}; done')
    site.declare("gina", resources={"disk": "1GiB"})
    site.declare("kim", resources={"disk": "1GiB"}, packages=packages)
    site.wait_ready("gina", "kim", timeout=90)
    site.purge(["gina", "kim"])


_KILLED_UNPACKING = """
pid=$(systemctl show -P MainPID incus)
until set -- IMAGES/*/rootfs/usr/bin; [ -e "$1" ]; do sleep 0.002; done
kill -9 "$pid" $(pgrep "^(tar|unsquashfs|zstd|xz|gzip)$")
"""
"""As a power cut does: those who unpack for Incus would go on without it."""


@pytest.mark.soak
@pytest.mark.parametrize(("name", "packages"), [("kim", ["less", "tree"]), ("gina", [])])
def test_an_incus_that_is_killed_while_it_unpacks(site: LivingSite, name: str, packages: list[str]) -> None:
    """What it had not come to is not missing from anybody: of a person's image, and of one that is baked from."""
    gather(site, ["dora"])
    site.declare("gina", resources={"disk": "1GiB"})
    site.wait_ready("gina")
    site.purge(["gina"])
    before = _files_of_images(site)
    for image in before:
        site.host.incus("query", "-X", "DELETE", f"/1.0/storage-pools/default/volumes/image/{image}")
    site.declare(name, resources={"disk": "1GiB"}, packages=packages)
    shell(site, _KILLED_UNPACKING.replace("IMAGES", _IMAGES), timeout=90)
    ((image, half),) = _files_of_images(site).items()
    assert half < before[image], "the test has lost its point: it was whole already"
    site.wait_ready(name)
    assert _files_of_images(site)[image] == before[image]
    site.purge([name])


def _files_of_images(site: LivingSite) -> dict[str, int]:
    """How many files and folders there are of each image that is unpacked."""
    count = f'cd {_IMAGES}; for image in *; do echo "$image $(find "$image" | wc -l)"; done'
    lines = shell(site, count).stdout.splitlines()
    return {image: int(number) for image, _, number in (line.partition(" ") for line in lines)}


def stop(site: LivingSite, name: str) -> None:
    """Stop somebody's guest, whatever the controller repairs of it at that moment."""

    def stopped() -> bool:
        done = site.host.incus("stop", "--force", instance_of(name), check=False)
        assert done.returncode == 0 or "busy" in done.stderr, done.stderr
        return done.returncode == 0

    site.until(f"{name} to stop", stopped)


def _trouble(site: LivingSite, name: str) -> dict[str, Any]:
    found = next((e["trouble"] for e in site.status()["environments"] if e["name"] == name), None)
    return found or {}


def test_a_slow_environment_holds_up_nobody(site: LivingSite) -> None:
    """Its person uses apt, which ours waits for."""
    with apt_held(site, "fred"):
        site.declare("fred", resources={"disk": "1GiB"}, packages=["tree"])
        site.host.run(["sh", "-c", "until pgrep -x apt-get; do sleep 0.1; done"], timeout=60)
        for name in ("dora", "emil"):
            site.host.incus("config", "set", instance_of(name), "limits.processes=99")
            stop(site, name)
        for name in ("dora", "emil"):
            site.until_facts(name, "to be repaired", lambda f: f.status == "Running", timeout=30)
            site.until_facts(name, "512 processes", lambda f: f.config["limits.processes"] == "512", timeout=30)
        assert "tree" not in site.inside("fred", "sh", "-c", "ls /usr/bin").stdout.split()
    site.wait_ready(*CROWD)
    assert site.inside("fred", "tree", "--version").returncode == 0


_SAY_READY = """
use IO::Socket::UNIX;
my $incus = IO::Socket::UNIX->new(Peer => '/dev/incus/sock') or die;
print $incus "PATCH /1.0 HTTP/1.0\\r\\nHost: x\\r\\nContent-Length: 17\\r\\n\\r\\n", '{"state":"Ready"}';
print scalar <$incus>;
"""


def test_a_guest_cannot_get_out_of_sight(site: LivingSite) -> None:
    """Its root may tell Incus that it is in another state."""
    said = site.inside("dora", "perl", "-e", _SAY_READY).stdout
    assert "200 OK" in said
    assert site.environment("dora").status == "Ready"
    site.inside("dora", "rm", "-rf", "/home/dora/.ssh")
    site.declare("dora", resources={"disk": "1GiB", "memory": "600MiB"})
    site.until_facts("dora", "600 MiB", lambda facts: facts.config["limits.memory"] == "600MiB")
    site.wait_ready("dora")
    site.wait_login("dora", site.export("dora"))
    site.host.incus("restart", "--force", instance_of("dora"))
    site.wait_ready("dora")
