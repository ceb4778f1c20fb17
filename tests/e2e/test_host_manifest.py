"""A host made of its manifest alone: a true data disk, admins, sshd, logs; kept so over reboots and a new boot disk."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from tests.lab.command import run, wait_until
from tests.lab.disk import DISK, DiskHost

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.lab.command import Completed
    from tests.lab.outer import Outer

OWN = "/etc/containarium/host.yaml"
_LETTER = "/var/lib/incus/containarium/letter"


class Machine:
    """A lab host with a data disk, and an admin elsewhere who declares it."""

    def __init__(self, host: DiskHost, folder: Path) -> None:
        self.host, self.folder, self.address = host, folder, host.address
        self.spec: dict[str, Any] = {"storage": {"driver": "btrfs", "disk": DISK}, "logs": {"retention": "30d"}}
        for name in ("ops", "vera"):
            run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", folder / name], timeout=30)
        self.spec["admins"] = [{"name": "ops", "sshKeys": [self.key("ops")]}]

    def key(self, name: str) -> str:
        """The public key of somebody."""
        return (self.folder / f"{name}.pub").read_text().strip()

    def declare(self, path: str = OWN) -> None:
        """Write the manifest as it is to be now."""
        document = {
            "apiVersion": "containarium.dev/v1",
            "kind": "Host",
            "metadata": {"name": self.host.name},
            "spec": self.spec,
        }
        self.host.push(path, yaml.safe_dump(document))

    def prepare(self, *options: str, check: bool = True) -> Completed:
        """``host prepare`` on it."""
        command = ["/usr/local/bin/containarium", "host", "prepare", *options]
        return self.host.run(command, timeout=300, check=check)

    def conditions(self) -> dict[str, tuple[str, str]]:
        """Status and reason of each condition."""
        found = json.loads(self.host.pull("/run/containarium/host.json"))["conditions"]
        return {condition["type"]: (condition["status"], condition["reason"]) for condition in found}

    def sudo(self, name: str, *, key: str = "") -> bool:
        """Whether somebody gets in by ssh and is root there."""
        # Whoever knocks with a wrong key is banned, as it should be; here that is us.
        spare = ["fail2ban-client", "set", "sshd", "addignoreip", f"{self.host.outer.settings.network}.1"]
        self.host.run(spare, check=False)
        options = ["-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null"]
        where = ["-o", "IdentitiesOnly=yes", "-i", str(self.folder / (key or name)), f"{name}@{self.address}"]
        done = run(["ssh", *options, *where, "sudo", "-n", "id", "-u"], timeout=30, check=False)
        return (done.returncode, done.stdout) == (0, "0\n")

    def failing(self) -> dict[str, str]:
        """What doctor finds that does not work."""
        found = json.loads(self.host.run(["containarium", "doctor", "-o", "json"], check=False, timeout=90).stdout)
        return {finding["check"]: finding["message"] for finding in found if finding["level"] == "fail"}


@pytest.fixture(scope="module")
def machine(outer: Outer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """Give a host of this module's own that nobody has prepared, with a disk on which somebody else's files are."""
    host = DiskHost(outer, "manifest")
    try:
        host.create()
        host.on_disk('mkfs.ext4 -q -L photos "$DISK"')
        host.install_project()
        yield Machine(host, tmp_path_factory.mktemp("manifest"))
    finally:
        host.delete()


def test_a_broken_manifest_changes_nothing(machine: Machine) -> None:
    machine.host.push(
        OWN, "apiVersion: containarium.dev/v1\nkind: Host\nmetadata: {name: x}\nspec:\n  storage: {disk: 7}\n"
    )
    refused = machine.prepare(check=False)
    assert (refused.returncode, refused.stdout) == (1, "")
    assert f"{OWN}:5:19: spec.storage.disk" in refused.stderr
    assert machine.host.run(["ls", "/etc/containarium", "/var/lib/containarium"], check=False).stdout.count("\n") == 2


def test_somebody_else_s_disk_is_left_as_it_is(machine: Machine) -> None:
    look = 'head -c 64M "$DISK" | sha256sum; tail -c 64M "$DISK" | sha256sum'
    before = machine.host.on_disk(look)
    machine.declare()
    refused = machine.prepare(check=False)
    assert refused.returncode == 1
    assert "is not ours: ext4 with the label 'photos'" in refused.stderr
    assert machine.host.on_disk(look) == before
    found = machine.conditions()
    assert found["DataDisk"] == ("False", "DiskForeign")
    assert found["Incus"] == ("Unknown", "NotReached")
    assert found["Sysctls"][0] == found["AdminAccounts"][0] == "True", "what does not need the disk is done"
    assert machine.host.run(["systemctl", "start", "incus"], check=False).returncode != 0
    assert machine.host.run(["find", "/var/lib/incus", "-type", "f"]).stdout == ""


def test_a_blank_disk_is_made_ours_once(machine: Machine) -> None:
    machine.host.on_disk('dd if=/dev/zero of="$DISK" bs=1M count=16 status=none; wipefs -a "$DISK"')
    machine.prepare("--service")
    assert {status for status, _ in machine.conditions().values()} == {"True"}
    mounted = machine.host.run(["findmnt", "-n", "-o", "FSTYPE,LABEL", "/var/lib/incus"]).stdout.split()
    assert mounted[0] == "btrfs"
    assert "nothing had to be changed" in machine.prepare("--service").stdout
    machine.host.run(["sh", "-c", f"echo kept > {_LETTER}"])


def test_admins_get_in_and_passwords_do_not(machine: Machine) -> None:
    assert machine.sudo("ops")
    assert not machine.sudo("ops", key="vera")
    effective = machine.host.run(["/usr/sbin/sshd", "-T"]).stdout.splitlines()
    assert {"passwordauthentication no", "permitrootlogin no", "maxauthtries 3"} <= set(effective)


def test_doctor_finds_nothing_to_mend(machine: Machine) -> None:
    assert machine.failing() == {}


def test_a_manifest_that_changes_is_carried_out_by_itself(machine: Machine) -> None:
    """It is committed now; the controller sees it, and systemd carries it out."""
    machine.spec["admins"] = [{"name": "vera", "sshKeys": [machine.key("vera")]}]
    machine.declare(f"/etc/containarium/environments/{machine.host.name}.yaml")
    named = ["grep", "-q", "^vera ", "/etc/sudoers.d/50-containarium"]
    wait_until("vera to be an admin", lambda: machine.host.run(named, check=False).returncode == 0, timeout=60)
    wait_until("vera to get in", lambda: machine.sudo("vera"), timeout=20, interval=1)
    assert not machine.sudo("ops")
    assert machine.host.run(["getent", "passwd", "ops"]).stdout, "the account stays"


def test_what_cannot_change_is_refused(machine: Machine) -> None:
    machine.spec["network"] = {"subnet": "10.99.0.1/24"}
    machine.declare(f"/etc/containarium/environments/{machine.host.name}.yaml")
    assert machine.prepare(check=False).returncode == 1
    assert machine.conditions()["Bridge"] == ("False", "SubnetDiffers")
    del machine.spec["network"]
    machine.declare(f"/etc/containarium/environments/{machine.host.name}.yaml")
    machine.prepare()


def test_without_its_disk_it_boots_and_incus_does_not_start(machine: Machine) -> None:
    # A minute is for a cloud's late disk; nobody here waits for one.
    impatient = "[Service]\nExecStart=\nExecStart=/usr/local/bin/containarium host mount --wait 1\n"
    machine.host.push("/etc/systemd/system/containarium-disk.service.d/test.conf", impatient)
    machine.host.power_off()
    machine.host.unplug()
    # The boot does not count as ended, for the controller goes on waiting for Incus; but its admin gets in.
    machine.host.outer.incus("start", machine.host.name, timeout=60)
    wait_until("vera to get in", lambda: machine.sudo("vera"), timeout=60, interval=1)
    failed = ["systemctl", "is-failed", "--quiet", "containarium-disk"]
    wait_until("the disk to be given up", lambda: machine.host.run(failed, check=False).returncode == 0, timeout=60)
    assert machine.host.run(["systemctl", "start", "incus"], check=False).returncode != 0
    assert machine.host.run(["systemctl", "is-active", "incus"], check=False).stdout == "inactive\n"
    assert machine.host.run(["find", "/var/lib/incus", "-type", "f"]).stdout == ""
    assert "data disk" in machine.failing()
    machine.host.power_off()
    machine.host.plug()
    machine.host.power_on()
    machine.host.wait_incus()
    assert machine.host.pull(_LETTER) == "kept\n"


def test_a_new_boot_disk_takes_everything_over(machine: Machine) -> None:
    host = machine.host
    before = host.run(["sh", "-c", "cat /etc/ssh/ssh_host_*_key.pub; cat /var/lib/containarium/peer/*.pub"]).stdout
    host.new_boot_disk()
    machine.declare()
    machine.prepare("--service")
    after = host.run(["sh", "-c", "cat /etc/ssh/ssh_host_*_key.pub; cat /var/lib/containarium/peer/*.pub"]).stdout
    assert after == before
    assert host.pull(_LETTER) == "kept\n"
    assert machine.sudo("vera")
    shown = yaml.safe_load(host.run(["containarium", "host", "manifest"]).stdout)
    assert shown["metadata"]["name"] == host.name
    assert {key.split()[0] for key in shown["spec"]["identity"]["hostKeys"]} >= {"ssh-ed25519"}
