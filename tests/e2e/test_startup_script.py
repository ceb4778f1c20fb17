"""Terraform's start-up script, run for real: on a new machine, again, and on a new boot disk with the old data disk.

Its data disk is a real one, which the Host manifest names; manifests come from git, and nobody applies anything.
"""

from __future__ import annotations

import io
import sys
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.e2e.living import UNIT, LivingSite
from tests.e2e.site import IMAGE, manifest
from tests.gitrepo import Repository
from tests.lab.command import run
from tests.lab.disk import DISK, DiskHost
from tests.terraform import tools

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.lab.command import Completed
    from tests.lab.laptop import Laptop
    from tests.lab.outer import Outer

GIT = "/srv/git/environments.git"
_WRITTEN = "/etc/containarium/host.yaml /etc/containarium/sync.yaml /opt/containarium/installed"
_LOOK = f"stat -c '%n %a %U %i %Y' {_WRITTEN}; systemctl show --property=MainPID --value {UNIT}"


@dataclass
class Machine:
    """A machine of a cloud: it has a data disk, and is given a script to run at every boot."""

    site: LivingSite
    terraform: tools.Terraform
    wheel: Path
    repository: Path

    def script(self, **variables: Any) -> str:
        """The script as Terraform renders it for this machine."""
        host = self.site.host
        package = f"/srv/{self.wheel.name}"
        asked: dict[str, Any] = {
            "cloud": "none",
            "instance_name": host.name,
            "jump_server_count": 1,
            "login_address": host.address,
            "admin_ssh_keys": {"ops": [self.site.person("ops").public()]},
            "storage_driver": "btrfs",
            "disks": {f"{host.name}-1": DISK},
            "containarium_package": package,
            "sync": {"repository": f"file://{GIT}"},
        }
        scripts = self.terraform.decide(**asked | variables)["startup_scripts"]
        return str(scripts[f"{host.name}-1"])

    def boot(self, script: str, *, env: dict[str, str] | None = None) -> Completed:
        """What a cloud's agent does at a boot."""
        self.site.host.push("/var/lib/startup-script", script, 0o700)
        done = self.site.host.run(["/var/lib/startup-script"], check=False, timeout=600, env=env)
        self.site.spare_from_bans(self.site.laptop.address)
        return done

    def offer(self) -> None:
        """Put there what on a real machine is elsewhere: the package."""
        self.site.host.push_file(self.wheel, f"/srv/{self.wheel.name}")

    def serve(self) -> None:
        """The same for the repository."""
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w") as archive:
            archive.add(self.repository, ".")
        self.site.host.run(["mkdir", "-p", GIT])
        self.site.host.run(["tar", "-x", "--no-same-owner", "-C", GIT], input=buffer.getvalue())

    def look(self) -> str:
        """What the script wrote, and which controller runs."""
        return self.site.host.run(["sh", "-c", _LOOK]).stdout

    def timers(self) -> list[str]:
        """The attempts that wait."""
        listed = ["list-units", "--plain", "--no-legend", "containarium-startup-*.timer"]
        return [line.split()[0] for line in self.site.host.run(["systemctl", *listed]).stdout.splitlines()]


@pytest.fixture(scope="module")
def machine(outer: Outer, laptop: Laptop, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """Give a machine on which nothing has run yet, and a repository that declares alice."""
    tools.require_terraform()
    folder = tmp_path_factory.mktemp("startup")
    build = ["-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", str(folder), "."]
    run([sys.executable, *build], timeout=120, cwd=tools.REPOSITORY)
    (wheel,) = folder.glob("*.whl")
    host = DiskHost(outer, "startup")
    host.create()
    try:
        site = LivingSite(host, laptop)
        repository = Repository(folder / "work")
        repository.write("environments/alice.yaml", manifest("alice", sshKeys=[site.person("alice").public()]))
        repository.commit()
        repository.git("clone", "--quiet", "--bare", ".", str(folder / "bare"))
        yield Machine(site, tools.Terraform(folder / "terraform"), wheel, folder / "bare")
    finally:
        host.delete()


@pytest.fixture(scope="module")
def config(machine: Machine) -> Path:
    """Give what alice has of her first login: nobody exports anew. She is declared once the host is there."""
    machine.offer()
    done = machine.boot(machine.script())
    assert (done.returncode, "containarium-startup: ready" in done.stderr) == (0, True), done.stderr
    machine.site.host.import_guest_image(IMAGE)
    machine.serve()
    machine.site.wait_ready("alice")
    config = machine.site.export("alice")
    machine.site.wait_login("alice", config)
    machine.site.person("alice").ssh(config, "alice", "echo of alice > ~/letter")
    return config


def reads_her_letter(machine: Machine, config: Path) -> bool:
    machine.site.wait_login("alice", config, timeout=120)
    return machine.site.person("alice").ssh(config, "alice", "cat ~/letter").stdout == "of alice\n"


@pytest.mark.usefixtures("config")
def test_the_machine_is_what_its_manifest_says(machine: Machine) -> None:
    host = machine.site.host
    assert host.run(["hostname"]).stdout == f"{host.name}-1\n"
    assert host.run(["findmnt", "--noheadings", "--output=FSTYPE", "/var/lib/incus"]).stdout == "btrfs\n"
    assert host.run(["blkid", "-p", "-s", "LABEL", "-o", "value", DISK]).stdout == "containarium\n"
    assert host.run(["runuser", "-u", "ops", "--", "sudo", "-n", "id", "-un"]).stdout == "root\n"
    assert [line.split()[1:3] for line in machine.look().splitlines()[:3]] == [["644", "root"]] * 3


@pytest.mark.usefixtures("config")
def test_what_it_says_is_in_the_journal(machine: Machine) -> None:
    said = machine.site.host.run(["journalctl", "-t", "containarium-startup", "-o", "cat", "--no-pager"]).stdout
    assert "installing /srv/containarium-" in said
    assert said.endswith("ready\n")


def test_a_second_time_changes_nothing(machine: Machine, config: Path) -> None:
    before, looked = machine.site.snapshot(), machine.look()
    done = machine.boot(machine.script())
    assert done.returncode == 0, done.stderr
    assert "installing" not in done.stderr
    assert "wrote" not in done.stderr
    assert "nothing had to be changed" in done.stderr
    assert (machine.site.snapshot(), machine.look()) == (before, looked)
    assert reads_her_letter(machine, config)


def test_a_host_that_is_not_ready_says_so_and_comes_again(machine: Machine, config: Path) -> None:
    """The disk holds btrfs: making it something else is refused, and nobody notices."""
    done = machine.boot(machine.script(storage_driver="dir"))
    assert done.returncode != 0
    assert "not ready: containarium host prepare ended with" in done.stderr
    assert machine.timers() == ["containarium-startup-1.timer"]
    assert reads_her_letter(machine, config)


@pytest.mark.usefixtures("config")
def test_without_a_network_what_is_installed_goes_on(machine: Machine) -> None:
    """It also mends what the test before left, and the attempt that waits is not needed any more."""
    newer = machine.script(containarium_package="containarium==999.0.0")
    done = machine.boot(newer, env={"PIP_NO_INDEX": "1"})
    assert done.returncode == 0, done.stderr
    assert "warning: containarium==999.0.0 could not be installed; what is here goes on" in done.stderr
    assert machine.timers() == []


def test_a_new_boot_disk_with_the_old_data_disk(machine: Machine, config: Path) -> None:
    """Her configuration has the keys of host and guest that she saw first, and nothing is learned from the network."""
    host = machine.site.host
    addresses = machine.site.environment("alice").address
    host.new_boot_disk()
    assert host.run(["ls", "/etc/containarium"], check=False).returncode != 0
    machine.offer()
    machine.serve()
    done = machine.boot(machine.script())
    assert done.returncode == 0, done.stderr
    assert reads_her_letter(machine, config)
    assert machine.site.environment("alice").address == addresses
