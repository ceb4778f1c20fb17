"""The units under a real systemd: what their sandbox lets through and what not, and that the controller comes back."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.e2e.site import IMAGE, Site
from tests.lab.command import wait_until
from tests.lab.recipes import VENV

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.lab.host import LabHost
    from tests.lab.laptop import Laptop
    from tests.lab.outer import Outer

SERVICE = "containarium.service"
UNITS = (
    SERVICE,
    "containarium-sync.service",
    "containarium-sync.timer",
    "containarium-report.service",
    "containarium-report.timer",
    "containarium-api.service",
)
EXPOSURE = {
    SERVICE: 45,
    "containarium-sync.service": 18,
    "containarium-report.service": 10,
    "containarium-api.service": 31,
}
"""Tenths of a point of `systemd-analyze security`, as written down in systemd/README.md."""
_UNDO = """
from containarium.host.prepare import unprepare
from containarium.host.settings import HostSettings
print([step.warning for step in unprepare(HostSettings()) if step.warning])
"""
_TRIAL = '''
"""Does by hand, in the service's own sandbox, what a controller does on a host, and what it must not be able to do."""
import json, subprocess, sys, tempfile, time
from pathlib import Path

from containarium.host import bootstrap, command, images
from containarium.host.rooted import Tree
from containarium.host.sessions import end_processes, processes_of
from containarium.host.settings import HostSettings

settings = HostSettings()
found = {}


def works(name, *args, timeout=60):
    done = subprocess.run(args, capture_output=True, text=True, timeout=timeout)
    found[name] = "" if done.returncode == 0 else (done.stderr or done.stdout)[-300:] or str(done.returncode)


def denied(name, *args):
    done = subprocess.run(args, capture_output=True, text=True, timeout=60)
    found[name] = "it worked" if done.returncode == 0 else ""


new = ("/usr/x", "/boot/x", "/root/x", "/var/lib/incus/x", "/etc/systemd/system/x", "/etc/sudoers.d/x", "/etc/cron.d/x")
for path in (*new, "/etc/ssh/sshd_config"):
    denied("write " + path, "touch", path)
denied("make a disk's node", "mknod", "/var/lib/containarium/disk", "b", "8", "0")
denied("a user namespace", "unshare", "--user", "true")
if sys.argv[1:] == ["control"]:
    for path in (*new, "/var/lib/containarium/disk"):
        Path(path).unlink()
    print(json.dumps(found))
    sys.exit()

works("useradd", "useradd", "--no-create-home", "-g", "containarium-jump", "trial")
works("usermod", "usermod", "-e", "1", "trial")
works("chage", "chage", "-d", "1", "trial")
works("userdel", "userdel", "trial")
works("sshd -t", "/usr/sbin/sshd", "-t")
works("sshd reload", "systemctl", "reload", "ssh.service")
works("nft", "/usr/sbin/nft", "-f", "/etc/containarium/firewall.nft")
works("btrfs", "btrfs", "qgroup", "show", "/var/lib/incus/storage-pools/default")
works("jump keys", "touch", "/etc/ssh/containarium/keys/trial")
works("jump keys again", "rm", "/etc/ssh/containarium/keys/trial")

victim = subprocess.Popen(["setpriv", "--reuid", "4242", "--clear-groups", "sleep", "300"])
deadline = time.monotonic() + 10
while not processes_of(4242) and time.monotonic() < deadline:
    time.sleep(0.05)
end_processes(4242, lambda: True)
found["ending a session"] = "" if victim.wait(timeout=10) else "it lives"

guest = settings.incus_dir / "storage-pools" / "default" / "containers" / "alice-container" / "rootfs"
found["guest's shadow"] = "" if "alice:" in (guest / "etc/shadow").read_text() else "alice is not in it"
with Tree(guest) as tree:
    file = tree.file("/etc/shadow")
    found["guest through openat2"] = "" if file and b"alice:" in tree.read(file, 1 << 20) else "not read"

if sys.argv[1:] == ["build"]:
    plan = bootstrap.plan_build("debian/12", Path("/etc"), images.CERTIFICATES)
    build = settings.state / "build"
    build.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=build) as folder:
        Path(folder).chmod(0o711)
        built = bootstrap.build(plan, Path(folder), command.run, lambda _line: None)
        found["image"] = "" if built.rootfs.stat().st_size > 1 << 20 else "empty"
print(json.dumps(found))
'''


@pytest.fixture(scope="module")
def site(outer: Outer, laptop: Laptop) -> Iterator[Site]:
    """Give a host of this module's own where the controller runs as a service, and alice lives."""
    from tests.lab.host import LabHost

    host = LabHost(outer, "units")
    host.create()
    host.install_project()
    site = Site(host, laptop)
    site.containarium("host", "prepare", timeout=300)
    host.import_guest_image(IMAGE)
    site.spare_from_bans(laptop.address)
    site.containarium("host", "prepare", "--service", timeout=300)
    site.declare("alice")
    _wait_ready(site, "alice")
    yield site
    host.delete()


def _wait_ready(site: Site, name: str) -> None:
    """Nobody calls apply: the controller sees the manifest and makes it so."""
    config = f"user.containarium.applied={name}"
    wait_until(
        f"{name} as declared ({config})",
        lambda: "user.containarium.applied" in site.environment(name).config,
        timeout=120,
        interval=0.5,
    )


def _show(host: LabHost, unit: str, *properties: str) -> list[str]:
    return [host.run(["systemctl", "show", "-P", name, unit]).stdout.strip() for name in properties]


def _wait_active(host: LabHost) -> str:
    """Wait until the controller is ready; returns its process id."""
    wait_until(
        "the controller",
        lambda: _show(host, SERVICE, "ActiveState", "SubState") == ["active", "running"],
        timeout=60,
        interval=0.2,
    )
    return _show(host, SERVICE, "MainPID")[0]


def _try(host: LabHost, *options: str, timeout: float = 60) -> dict[str, str]:
    """Run the trial in the sandbox of the installed unit; what came out empty worked as it should."""
    unit = host.pull(f"/etc/systemd/system/{SERVICE}")
    kept = [
        line
        for line in unit.splitlines()
        if not line.startswith(("Type=", "NotifyAccess=", "WatchdogSec=", "Restart", "ExecReload=", "WantedBy="))
    ]
    more = "Type=oneshot\nStandardOutput=file:/run/trial.json\nStandardError=journal\n"
    text = "\n".join(kept).replace("[Service]\n", f"[Service]\n{more}", 1)
    command = f"{VENV}/bin/python /opt/trial.py {' '.join(options)}"
    text = text.replace(f"{VENV}/bin/containarium daemon $CONTAINARIUM_OPTIONS", command)
    host.push("/opt/trial.py", _TRIAL)
    host.push("/etc/systemd/system/trial.service", text.replace("TimeoutStartSec=5min", "TimeoutStartSec=9min"))
    host.run(["systemctl", "daemon-reload"])
    done = host.run(["systemctl", "start", "trial.service"], check=False, timeout=timeout)
    assert done.returncode == 0, host.run(["journalctl", "-u", "trial", "-n", "40", "--no-pager"]).stdout
    found: dict[str, str] = json.loads(host.pull("/run/trial.json"))
    return found


def test_systemd_has_nothing_to_say_about_the_units(site: Site) -> None:
    done = site.host.run(["systemd-analyze", "verify", *UNITS], check=False)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


@pytest.mark.parametrize("unit", EXPOSURE)
def test_exposure_is_no_more_than_written_down(site: Site, unit: str) -> None:
    limit = f"--threshold={EXPOSURE[unit]}"
    done = site.host.run(["systemd-analyze", "security", "--no-pager", limit, unit], check=False)
    assert done.returncode == 0, done.stdout[-2000:]


def test_a_second_preparation_leaves_it_running(site: Site) -> None:
    before = _wait_active(site.host)
    said = site.containarium("host", "prepare", "--service", timeout=120).stdout
    assert "nothing had to be changed" in said
    assert _show(site.host, SERVICE, "MainPID") == [before]


def test_doctor_finds_nothing(site: Site) -> None:
    _wait_active(site.host)
    done = site.containarium("doctor", "--output=json", check=False)
    findings: list[dict[str, Any]] = json.loads(done.stdout)
    assert {finding["check"] for finding in findings} >= {"service", "units", "vault"}
    assert [finding for finding in findings if finding["level"] != "ok"] == []


def test_alice_gets_in_with_nobody_having_called_apply(site: Site) -> None:
    site.wait_login("alice", site.export("alice"))


def test_the_sandbox_lets_through_what_a_controller_does_and_no_more(site: Site) -> None:
    found = _try(site.host)
    assert {name: what for name, what in found.items() if what} == {}
    outside = site.host.run([f"{VENV}/bin/python", "/opt/trial.py", "control"]).stdout
    assert set(json.loads(outside).values()) == {"it worked"}, "without the sandbox all of that can be done"


@pytest.mark.soak
def test_an_image_is_built_in_the_sandbox(site: Site) -> None:
    assert _try(site.host, "build", timeout=600)["image"] == ""


def test_what_is_mounted_later_is_seen_by_the_running_controller(site: Site) -> None:
    pool = "/var/lib/incus/storage-pools/later"
    pid = _wait_active(site.host)
    site.host.run(["sh", "-euc", f"mkdir -p {pool}; mount -t tmpfs later {pool}; touch {pool}/seen"])
    inside = site.host.run(["nsenter", f"--target={pid}", "--mount", "ls", pool]).stdout
    site.host.run(["sh", "-euc", f"umount {pool}; rmdir {pool}"])
    assert inside == "seen\n"


def test_guests_are_not_the_services_and_outlive_it(site: Site) -> None:
    guest = site.environment("alice").pid
    own = site.host.run(["cat", f"/proc/{_wait_active(site.host)}/cgroup"]).stdout
    assert SERVICE in own
    assert SERVICE not in site.host.run(["cat", f"/proc/{guest}/cgroup"]).stdout
    site.host.run(["systemctl", "stop", SERVICE])
    assert site.environment("alice").pid == guest
    site.host.run(["systemctl", "start", SERVICE])
    assert site.environment("alice").pid == guest


@pytest.mark.parametrize("how", ["KILL", "TERM", "SEGV"])
def test_however_it_ends_it_comes_back(site: Site, how: str) -> None:
    before, guest = _wait_active(site.host), site.environment("alice").pid
    site.host.run(["kill", f"-{how}", before])
    wait_until("another controller", lambda: _show(site.host, SERVICE, "MainPID")[0] not in (before, "0"), timeout=60)
    _wait_active(site.host)
    assert site.environment("alice").pid == guest


def test_a_reload_keeps_the_process(site: Site) -> None:
    before = _wait_active(site.host)
    site.host.run(["systemctl", "reload", SERVICE])
    assert _wait_active(site.host) == before


def test_one_that_hangs_is_replaced(site: Site) -> None:
    addition = f"/etc/systemd/system/{SERVICE}.d/watchdog.conf"
    site.host.push(addition, "[Service]\nWatchdogSec=30s\nTimeoutAbortSec=1s\n")
    site.host.run(["sh", "-euc", f"systemctl daemon-reload; systemctl restart {SERVICE}"], timeout=120)
    before = _wait_active(site.host)
    site.host.run(["kill", "-STOP", before])
    wait_until("another controller", lambda: _show(site.host, SERVICE, "MainPID")[0] not in (before, "0"), timeout=120)
    _wait_active(site.host)
    site.host.run(["sh", "-euc", f"rm -r {addition.rpartition('/')[0]}; systemctl daemon-reload"])
    site.host.run(["systemctl", "restart", SERVICE], timeout=120)


def test_it_is_back_after_the_machine_was_taken_away(site: Site) -> None:
    site.host.preempt()
    _wait_active(site.host)
    site.wait_login("alice", site.export("alice"), timeout=60)


def test_the_timer_brings_manifests_from_a_repository(site: Site) -> None:
    from tests.e2e.site import manifest

    script = """
    git init --quiet --initial-branch=main /srv/environments && cd /srv/environments
    mkdir environments && cp /etc/containarium/environments/*.yaml environments/ && cat > environments/bob.yaml
    git add . && git -c user.name=a -c user.email=a@example.org commit --quiet -m "bob"
    """
    site.host.run(["sh", "-euc", script], input=manifest("bob", sshKeys=[site.person("bob").public()]))
    # An admin moves the folder away by hand before a sync may take its place.
    site.host.run(["mv", "/etc/containarium/environments", "/etc/containarium/by-hand"])
    site.host.push("/etc/containarium/sync.yaml", "repository: /srv/environments\n")
    site.containarium("host", "prepare", "--service", timeout=120)
    assert _show(site.host, "containarium-sync.timer", "ActiveState") == ["active"]
    _wait_ready(site, "bob")
    assert _show(site.host, "containarium-sync.service", "Result") == ["success"]


def test_it_is_taken_back_without_a_trace(site: Site) -> None:
    site.host.run(["systemctl", "stop", SERVICE, "containarium-sync.timer"])
    site.purge(["alice", "bob"])
    site.host.run(["rm", "-rf", "/etc/containarium/environments", "/etc/containarium/by-hand"])
    site.host.run(["rm", "-f", "/etc/containarium/sync.yaml"])
    site.host.run(["rm", "-rf", "/var/lib/containarium/sync"])
    site.host.run(["systemctl", "start", SERVICE], check=False, timeout=120)
    assert site.host.run([f"{VENV}/bin/python", "-c", _UNDO], timeout=300).stdout == "[]\n"
    left = site.host.run(["systemctl", "list-unit-files", "containarium*", "--no-legend"], check=False).stdout
    assert left == ""
    folders = "/var/lib/incus/containarium /var/lib/containarium /run/containarium /etc/containarium"
    assert site.host.run(["sh", "-c", f"find {folders} 2>/dev/null"], check=False).stdout == ""
    assert site.host.run(["pgrep", "-f", "[c]ontainarium daemon"], check=False).returncode == 1
