"""The lab itself: what the other end-to-end tests take for granted is true of it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests.lab.command import CommandTimeoutError, wait_until
from tests.lab.host import LabHost

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.lab.laptop import Laptop
    from tests.lab.outer import Outer

MIB = 1024**2


@pytest.fixture(scope="module")
def host(outer: Outer) -> Iterator[LabHost]:
    """Give a host whose Incus was set up by hand and runs one guest."""
    host = LabHost(outer, "lab")
    host.create()
    host.preseed()
    host.import_guest_image()
    host.incus(
        "launch", "guest", "g1", "--device=root,size=1GiB", "--config=limits.memory=256MiB",
        "--config=limits.processes=100", "--config=boot.autostart=true",
    )  # fmt: skip
    wait_until("address of g1", lambda: _address(host) != "", timeout=20)
    host.run(["incus", "exec", "g1", "--", "sh", "-c", "echo mine > /root/data"])
    yield host
    host.delete()


def _address(host: LabHost) -> str:
    network = (host.instances()["g1"]["state"] or {}).get("network") or {}
    addresses = network.get("eth0", {}).get("addresses", [])
    return next((a["address"] for a in addresses if a["family"] == "inet"), "")


def test_it_boots_with_systemd_and_no_failed_unit(host: LabHost) -> None:
    assert host.system_state() == "running", host.run(["systemctl", "--failed", "--no-legend"]).stdout


def test_a_command_that_does_not_end_is_killed_on_the_host(host: LabHost) -> None:
    with pytest.raises(CommandTimeoutError):
        host.run(["sleep", "4242"], timeout=1)
    assert host.run(["pgrep", "-f", "^sleep 4242"], check=False).returncode == 1


def test_a_command_has_no_more_than_incus_would_give_it(host: LabHost) -> None:
    """Its namespaces, control groups and capabilities, and nothing of the environment of the tests."""
    facts = ("readlink /proc/self/ns/*", "cat /proc/self/cgroup", "grep Cap /proc/self/status", "pwd")
    script = "; ".join((*facts, "env | grep -v ^TERM | sort"))
    entered = host.run(["sh", "-c", script], env={"EXTRA": "one"}).stdout
    given = host.outer.incus("exec", "--env=EXTRA=one", host.name, "--", "sh", "-c", script).stdout
    assert entered == given


def test_a_machine_that_is_off_runs_nothing(host: LabHost) -> None:
    host.power_off()
    try:
        assert "is off" in host.run(["true"], check=False).stderr
    finally:
        host.power_on()
    assert host.run(["hostname"]).stdout.strip() == host.name
    wait_until("address of g1", lambda: _address(host) != "", timeout=30)


def test_large_input_arrives_whole(host: LabHost) -> None:
    size = 5 * MIB
    assert host.run(["wc", "-c"], input=b"x" * size).stdout.strip() == str(size)


def test_push_and_pull_keep_content_and_mode(host: LabHost) -> None:
    host.push("/etc/containarium/new folder/file", "text\n", mode=0o640)
    assert host.pull("/etc/containarium/new folder/file") == "text\n"
    assert host.run(["stat", "-c", "%a %U", "/etc/containarium/new folder/file"]).stdout == "640 root\n"


def test_sshd_answers_the_laptop_and_guests_do_not(host: LabHost, laptop: Laptop) -> None:
    root = laptop.identity("root")
    host.push("/root/.ssh/authorized_keys", root.public_key + "\n", mode=0o600)
    assert root.ssh(f"root@{host.address}", "hostname").stdout.strip() == host.name
    guest = _address(host)
    assert host.run(["nc", "-z", "-w", "2", guest, "22"]).returncode == 0
    refused = laptop.run(["timeout", "3", "bash", "-c", f"</dev/tcp/{guest}/22"], check=False)
    assert "unreachable" in refused.stderr, "there is no route to it"
    stranger = laptop.identity("stranger")
    assert stranger.ssh(f"root@{host.address}", "true", check=False).returncode == 255


def test_files_travel_with_scp_and_sftp(host: LabHost, laptop: Laptop) -> None:
    root = laptop.identity("root")
    host.push("/root/.ssh/authorized_keys", root.public_key + "\n", mode=0o600)
    (root.home / "letter").write_text("hello")
    root.scp(str(root.home / "letter"), f"root@{host.address}:/root/letter")
    assert "letter" in root.sftp(f"root@{host.address}", "ls /root\n").stdout


def test_disk_quotas_are_real(host: LabHost) -> None:
    write = ["incus", "exec", "g1", "--", "dd", "if=/dev/zero", "of=/root/big", "bs=1M", "count=1536"]
    result = host.outer.refused_write(lambda: host.run(write, check=False))
    host.run(["incus", "exec", "g1", "--", "rm", "/root/big"])
    assert result.returncode != 0
    assert "quota exceeded" in result.stderr


def test_memory_and_process_limits_are_real(host: LabHost) -> None:
    total = host.run(["incus", "exec", "g1", "--", "awk", "/MemTotal/ {print $2}", "/proc/meminfo"]).stdout
    assert int(total) * 1024 == 256 * MIB, "lxcfs shows the guest its own limit"
    eat = ["incus", "exec", "g1", "--", "sh", "-c", "head -c 600M /dev/zero | tail -c 500M > /dev/null"]
    assert host.run(eat, check=False).returncode == 137, "tail keeps 500 MiB in memory and is killed for it"
    limit = host.run(["cat", "/sys/fs/cgroup/pids/lxc.payload.g1/pids.max"], check=False).stdout.strip()
    assert limit in {"100", ""}, "empty on a machine with cgroup 2 alone"


def test_guests_reach_the_package_mirror(host: LabHost) -> None:
    host.run(["incus", "exec", "g1", "--", "apt-get", "update"], timeout=120)
    shown = host.run(["incus", "exec", "g1", "--", "apt-cache", "policy", "tmux"]).stdout
    assert "Candidate: (none)" not in shown


def test_preemption_brings_the_guests_back(host: LabHost) -> None:
    before, address = _address(host), host.address
    host.run(["touch", "/etc/boot-disk-of-old"])
    host.preempt()
    wait_until("address of g1", lambda: _address(host) == before, timeout=30)
    assert host.address == address
    assert host.run(["test", "-e", "/etc/boot-disk-of-old"]).returncode == 0
    assert host.run(["incus", "exec", "g1", "--", "cat", "/root/data"]).stdout == "mine\n"


def test_a_new_boot_disk_keeps_the_data_disk_alone(host: LabHost) -> None:
    before, address = _address(host), host.address
    host.run(["touch", "/etc/boot-disk-of-old"])
    host.new_boot_disk()
    wait_until("address of g1", lambda: _address(host) == before, timeout=30)
    assert host.address == address
    assert host.run(["test", "-e", "/etc/boot-disk-of-old"], check=False).returncode == 1
    assert host.run(["incus", "exec", "g1", "--", "cat", "/root/data"]).stdout == "mine\n"


def test_the_outer_daemon_is_reused(outer: Outer) -> None:
    pid_file = outer.settings.cache / "incusd.json"
    before = json.loads(pid_file.read_text())
    outer.up()
    assert json.loads(pid_file.read_text()) == before
