"""What a Host manifest changes in preparation: packages, pool, subnet, logs, the key for the peers; and how doctor
judges it."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from containarium.host.command import Completed
from containarium.host.doctor import declared as doctor
from containarium.host.doctor.finding import Check, Finding, Patient
from containarium.host.homekeys import Home
from containarium.host.incus import Incus
from containarium.host.prepare import conditions, logs, network, packages, peerkey, storage
from containarium.host.prepare.receipt import Receipt
from containarium.host.prepare.steps import Context, Step
from containarium.host.settings import HostSettings
from containarium.model.host import TerminalError, silent
from containarium.model.manifest import Declaration
from tests.builders import NOW, public_key
from tests.unit.host.etcfiles import FakeRun, settings, write_etc
from tests.unit.host.hosts import declare

KEY = "-----BEGIN PGP PUBLIC KEY BLOCK-----\n\nmQINB=\n-----END PGP PUBLIC KEY BLOCK-----\n"
REPOSITORY = {"url": "https://packages.example.org/incus", "key": KEY}
DISK = {"driver": "zfs", "disk": "/dev/disk/by-id/data"}


class FakeIncus(Incus):
    """Answers with what a test says, by collection."""

    def __init__(self, host: HostSettings, answers: dict[str, Any]) -> None:
        super().__init__(host)
        self._answers = answers

    def get(self, *path: str, **_query: Any) -> Any:
        return self._answers.get("/".join(path), [])


def _context(
    root: Path, declaration: Declaration, run: FakeRun | None = None, *, install: bool = False, **answers: Any
) -> Context:
    host = settings(root)
    answers = {name.replace("_", "-"): value for name, value in answers.items()}
    receipt = Receipt(root / "state" / "prepared.json")
    return Context(
        host, run or FakeRun(), FakeIncus(host, answers), receipt, silent, False, declaration, install=install
    )


# -- packages


def _release(root: Path, text: str) -> None:
    (root / "etc" / "apt").mkdir(parents=True)
    (root / "etc" / "os-release").write_text(text)
    (root / "etc" / "apt" / "sources.list").write_text("deb http://mirror.example/debian bookworm main\n")


def test_the_repository_is_taken_from_with_its_own_key_alone(tmp_path: Path) -> None:
    _release(tmp_path, "VERSION_CODENAME=bookworm\n")
    context = _context(tmp_path, declare(tmp_path, incus={"repository": REPOSITORY}))
    assert packages.packages(context).changed
    apt = tmp_path / "etc" / "apt"
    keyring = apt / "keyrings" / "containarium-incus.asc"
    assert keyring.read_text() == KEY
    assert (apt / "sources.list.d" / "containarium-incus.sources").read_text().splitlines()[1:] == [
        "Types: deb",
        "URIs: https://packages.example.org/incus",
        "Suites: bookworm",
        "Components: main",
        f"Signed-By: {keyring}",
    ]
    assert not packages.packages(context).changed
    assert packages.packages(_context(tmp_path, declare(tmp_path))).changed, "it is not named any more"
    assert list((apt / "sources.list.d").iterdir()) == []


def test_what_is_installed_needs_no_network(tmp_path: Path) -> None:
    names = (*packages.WANTED, *packages.DECLARED, "incus-base", "incus-client")
    run = FakeRun(lambda _args: Completed(0, "".join(f"ii  {name}\n" for name in names), ""))
    step = packages.packages(_context(tmp_path, declare(tmp_path), run, install=True))
    assert (step.changed, {command[0] for command in run.commands}) == (False, {"dpkg-query"})


def test_packages_that_cannot_be_fetched_say_what_helps(tmp_path: Path) -> None:
    _release(tmp_path, "VERSION_CODENAME=trixie\n")

    def answer(args: list[str]) -> Completed:
        if "install" in args:
            raise TerminalError(
                "apt-get failed with exit code 100: Temporary failure resolving", reason="CommandFailed"
            )
        return Completed(0, "Package: incus-base\n" if args[0] == "apt-cache" else "", "")

    with pytest.raises(TerminalError, match="see to the network") as refused:
        packages.packages(_context(tmp_path, declare(tmp_path), FakeRun(answer), install=True))
    assert refused.value.reason == "PackagesMissing"


def test_zfs_on_debian_is_built_from_contrib(tmp_path: Path) -> None:
    _release(tmp_path, "ID=debian\nVERSION_CODENAME=bookworm\n")
    run = FakeRun(lambda args: Completed(0, "Package: x\n" if args[0] == "apt-cache" else "", ""))
    packages.storage_tools(_context(tmp_path, declare(tmp_path, storage=DISK), run, install=True), str(tmp_path))
    text = (tmp_path / "etc" / "apt" / "sources.list.d" / "containarium-contrib.list").read_text()
    assert text.splitlines()[1] == "deb http://mirror.example/debian bookworm contrib"
    (install,) = [command for command in run.commands if "install" in command]
    assert install[-2:] == ["zfs-dkms", "zfsutils-linux"]


def test_zfs_that_cannot_be_had_is_told(tmp_path: Path) -> None:
    _release(tmp_path, "ID=debian\nVERSION_CODENAME=bookworm\n")
    run = FakeRun(lambda args: Completed(1 if args[0] == "apt-cache" else 0, "", ""))
    with pytest.raises(TerminalError, match=r"no package source has linux-headers-.*, zfs-dkms"):
        packages.storage_tools(_context(tmp_path, declare(tmp_path, storage=DISK), run, install=True), str(tmp_path))
    assert not [command for command in run.commands if "install" in command]


@pytest.mark.parametrize("install", [True, False])
def test_tools_are_not_asked_for_without_need(tmp_path: Path, install: bool) -> None:
    run = FakeRun()
    assert not packages.storage_tools(_context(tmp_path, declare(tmp_path), run, install=install), "/none").changed
    assert run.commands == []


# -- pool and subnet


@pytest.mark.parametrize(
    ("spec", "driver", "fits"),
    [
        ({}, "dir", True),
        ({"storage": {"driver": "btrfs"}}, "dir", False),
        ({"storage": DISK}, "btrfs", False),
        ({"storage": DISK}, "zfs", True),
        ({"storage": {"disk": "/dev/sdb"}}, "dir", False),
    ],
)
def test_a_pool_of_another_driver_stays_and_is_told(tmp_path: Path, spec: Any, driver: str, fits: bool) -> None:
    context = _context(tmp_path, declare(tmp_path, **spec), storage_pools=[{"name": "default", "driver": driver}])
    if fits:
        assert not storage.pool(context).changed
        return
    with pytest.raises(TerminalError, match=f"write driver: {driver}") as refused:
        storage.pool(context)
    assert refused.value.reason == "DriverDiffers"


def _bridge(address: str) -> list[dict[str, Any]]:
    return [{"name": "incusbr0", "managed": True, "type": "bridge", "config": {"ipv4.address": address}}]


def test_a_bridge_in_another_subnet_stays_and_is_told(tmp_path: Path) -> None:
    wanted = declare(tmp_path, network={"subnet": "10.0.4.1/24"})
    assert not network.bridge(_context(tmp_path, wanted, networks=_bridge("10.0.4.1/24"))).changed
    with pytest.raises(TerminalError, match=r"write spec\.network\.subnet: 10\.9\.0\.1/24") as refused:
        network.bridge(_context(tmp_path, wanted, networks=_bridge("10.9.0.1/24")))
    assert refused.value.reason == "SubnetDiffers"
    assert not network.bridge(_context(tmp_path, Declaration(), networks=_bridge("10.9.0.1/24"))).changed


def test_a_manifest_that_says_no_subnet_contradicts_no_bridge(tmp_path: Path) -> None:
    there = _bridge("10.9.0.1/24")
    assert not network.bridge(_context(tmp_path, declare(tmp_path), networks=there)).changed
    fleet = _context(tmp_path, declare(tmp_path, network={"address": "10.128.0.2"}), networks=there)
    with pytest.raises(TerminalError, match=r"10\.0\.3\.1/24") as refused:
        network.bridge(fleet)
    assert refused.value.reason == "SubnetDiffers", "the other hosts count on it"


# -- logs, the peers' key


def test_the_journal_is_kept_for_at_least_so_long(tmp_path: Path) -> None:
    context = _context(tmp_path, declare(tmp_path, logs={"retention": "4w"}))
    assert logs.logs(context, tmp_path / "none", tmp_path).changed
    text = (tmp_path / "etc" / logs.JOURNAL).read_text()
    assert f"MaxRetentionSec={29 * 86400}\n" in text
    assert "Storage=persistent\n" in text
    assert not logs.logs(context, tmp_path / "none", tmp_path).changed
    assert not (tmp_path / "etc" / logs.ROTATE).exists(), "nobody writes an auth.log here"
    assert not logs.logs(_context(tmp_path, Declaration()), tmp_path / "none", tmp_path).changed


def test_the_log_of_logins_is_rotated_as_long(tmp_path: Path) -> None:
    (tmp_path / "etc" / "logrotate.d").mkdir(parents=True)
    (tmp_path / "syslog").write_text("")
    logs.logs(_context(tmp_path, declare(tmp_path)), tmp_path / "syslog", tmp_path)
    text = (tmp_path / "etc" / logs.ROTATE).read_text()
    assert "rotate 90\n" in text
    assert "ignoreduplicates\n" in text


def test_a_peer_key_that_others_could_read_is_not_used(tmp_path: Path) -> None:
    def make(args: list[str]) -> Completed:
        if "-y" not in args:
            path = Path(args[-1])
            path.write_text("private\n")
            path.chmod(0o600)
            path.with_name("id_ed25519.pub").write_text(public_key("peer") + "\n")
        return Completed(0, "", "")

    context = _context(tmp_path, Declaration(), FakeRun(make))
    assert peerkey.peer_key(context).changed
    assert not peerkey.peer_key(context).changed
    assert peerkey.public_half(context.settings) == public_key("peer")
    context.settings.peer_key.chmod(0o640)
    with pytest.raises(TerminalError) as refused:
        peerkey.peer_key(context)
    assert refused.value.reason == "PeerKeyUnsafe"


# -- doctor


def _look(
    root: Path, check: Check, declaration: Declaration, run: FakeRun | None = None, **answers: Any
) -> list[Finding]:
    host = settings(root)
    answers = {name.replace("_", "-"): value for name, value in answers.items()}
    patient = Patient(host, run or FakeRun(), FakeIncus(host, answers), True, False, declaration)
    return list(check(patient))


def _levels(findings: list[Finding]) -> list[str]:
    return [finding.level.value for finding in findings]


@pytest.mark.parametrize("check", doctor.CHECKS)
def test_without_a_manifest_nothing_is_judged(tmp_path: Path, check: Check) -> None:
    assert set(_levels(_look(tmp_path, check, Declaration()))) <= {"ok"}


def test_steps_that_failed_are_findings(tmp_path: Path) -> None:
    declaration, host = declare(tmp_path), settings(tmp_path)
    host.runtime.mkdir()
    missing = TerminalError("it is not there", remedy="attach it", reason="DiskMissing")
    conditions.write(host, [Step("data disk", False, error=missing), Step("logs", True)], declaration.digest, NOW)
    found = _look(tmp_path, doctor.preparation, declaration)
    assert _levels(found) == ["fail", "ok"]
    assert found[0].check == "step DataDisk"
    assert "attach it" in found[0].message
    assert _levels(_look(tmp_path, doctor.preparation, declare(tmp_path, logs={"retention": "7d"}))) == ["fail", "warn"]


def test_a_disk_that_is_not_mounted_is_a_finding(tmp_path: Path) -> None:
    (finding,) = _look(tmp_path, doctor.data_disk, declare(tmp_path, storage=DISK))
    assert finding.level.value == "fail"
    assert "not mounted" in finding.message


@pytest.mark.parametrize(("driver", "level"), [("btrfs", "ok"), ("dir", "fail")])
def test_the_pool_s_driver(tmp_path: Path, driver: str, level: str) -> None:
    declaration = declare(tmp_path, storage={"driver": "btrfs"})
    found = _look(tmp_path, doctor.declared_pool, declaration, storage_pools=[{"name": "default", "driver": driver}])
    assert _levels(found) == [level]


@pytest.mark.parametrize(("address", "level"), [("10.0.3.1/24", "ok"), ("10.0.9.1/24", "fail")])
def test_the_subnet(tmp_path: Path, address: str, level: str) -> None:
    for said in ({"subnet": "10.0.3.1/24"}, {"address": "10.128.0.2"}):
        declaration = declare(tmp_path, network=said)
        assert _levels(_look(tmp_path, doctor.subnet, declaration, networks=_bridge(address))) == [level]
    assert _levels(_look(tmp_path, doctor.subnet, declare(tmp_path), networks=_bridge(address))) == []


@pytest.mark.parametrize(("said", "level"), [("no", "ok"), ("yes", "fail")])
def test_what_holds_for_everybody(tmp_path: Path, said: str, level: str) -> None:
    write_etc(tmp_path)
    keys = tmp_path / "root" / ".ssh" / "authorized_keys"
    keys.parent.mkdir(parents=True)
    keys.write_text(public_key("root") + "\n")
    home = Home(tmp_path / "root", os.getuid(), os.getgid())
    shown = f"passwordauthentication {said}\nkbdinteractiveauthentication no\npermitrootlogin without-password\n"
    run = FakeRun(lambda _args: Completed(0, f"{shown}maxauthtries 3\n", ""))
    check = partial(doctor.sshd_for_all, root=home)
    assert _levels(_look(tmp_path, check, declare(tmp_path), run)) == [level]


def test_retention(tmp_path: Path) -> None:
    declaration = declare(tmp_path)
    assert _levels(_look(tmp_path, doctor.retention, declaration)) == ["warn"]
    logs.logs(_context(tmp_path, declaration), tmp_path / "none", tmp_path)
    assert _levels(_look(tmp_path, doctor.retention, declaration)) == ["ok"]
