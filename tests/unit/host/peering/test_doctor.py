"""doctor: what is wrong between hosts, and how it is mended."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from containarium.host.command import Completed
from containarium.host.doctor.finding import Finding, Patient
from containarium.host.doctor.fleet import membership, neighbours
from containarium.host.firewall import fleet_file
from containarium.host.peering import account
from containarium.host.peering.fleet import fleet_of
from containarium.host.peering.membership import LISTEN
from containarium.host.peering.neighbours import Answer
from containarium.host.peering.wire import Told
from containarium.host.settings import HostSettings
from containarium.host.sshd import peer_directives
from containarium.model.host import RetryableError
from containarium.model.manifest import Declaration, DeclaredHost
from tests.builders import public_key
from tests.unit.host.etcfiles import FakeRun, write_etc
from tests.unit.host.peering.hosts import declared, host
from tests.unit.host.peering.memory import MemoryIncus

HOSTS = declared(host(1), host(2), host(3))


class Stage:
    """jump-1, as it should be; ``effective`` is what sshd says for the account."""

    def __init__(self, tmp_path: Path) -> None:
        line = f"+containarium-peer:x:980:980:{account.COMMENT}:/nonexistent:/bin/sh\n"
        self.settings: HostSettings = write_etc(tmp_path, passwd=line, group="+containarium-peer:x:980:\n")
        self.incus = MemoryIncus(self.settings)
        self.incus.config[LISTEN] = "10.128.0.1:8443"
        self.effective = dict(peer_directives(self.settings))
        self.relay = 0
        self.hosts: tuple[DeclaredHost, ...] = HOSTS
        account.write_keys(self.settings, account.key_lines(fleet_of(HOSTS, "jump-1")))
        ssh = self.settings.etc / "ssh"
        (ssh / "ssh_host_ed25519_key.pub").write_text(public_key("host-1"))
        self.settings.peer_key.parent.mkdir(parents=True)
        self.settings.peer_key.with_name("id_ed25519.pub").write_text(public_key("peer-1"))

    def _run(self, args: list[str]) -> Completed:
        if args[0] == "runuser":
            return Completed(self.relay, "", "")
        if "-T" in args:
            return Completed(0, "".join(f"{k.lower()} {v}\n" for k, v in self.effective.items()), "")
        if args[:2] == ["/usr/sbin/nft", "list"]:
            listed = 'iifname != "incusbr0" accept\n' * 2 + "reject with x\n" * 6 + "!= @ports drop"
            return Completed(0, listed, "")
        return Completed(0, "", "")

    @property
    def patient(self) -> Patient:
        own = next((each for each in self.hosts if each.name == "jump-1"), None)
        declaration = Declaration(own, self.hosts)
        return Patient(self.settings, FakeRun(self._run), self.incus, True, True, declaration)

    def levels(self) -> list[str]:
        return [finding.level.value for finding in membership(self.patient)]

    def failures(self) -> list[Finding]:
        return [finding for finding in membership(self.patient) if finding.level.value == "fail"]


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    return Stage(tmp_path)


def test_all_is_well(stage: Stage) -> None:
    assert stage.levels() == ["ok", "ok"]


def test_a_host_that_is_in_no_fleet_is_asked_nothing(stage: Stage) -> None:
    for hosts in ((), HOSTS[1:], declared(host(1, network={"subnet": "10.0.11.1/24"}))):
        stage.hosts = hosts
        assert list(membership(stage.patient)) == []
        assert list(neighbours(stage.patient, lambda *_: pytest.fail("nobody is asked"))) == []


def _withdrawn(stage: Stage) -> None:
    account.write_keys(stage.settings, ())


def _another_key(stage: Stage) -> None:
    stage.settings.peer_key.with_name("id_ed25519.pub").write_text(public_key("another"))


def _another_host_key(stage: Stage) -> None:
    (stage.settings.etc / "ssh" / "ssh_host_ed25519_key.pub").write_text(public_key("another"))


def _no_account(stage: Stage) -> None:
    (stage.settings.etc / "passwd").write_text("root:x:0:0:root:/root:/bin/bash\n")


def _no_identity(stage: Stage) -> None:
    stage.hosts = declared(host(1, identity=None), host(2), host(3))


def _without_its_table(stage: Stage) -> None:
    fleet_file(stage.settings).parent.mkdir(parents=True, exist_ok=True)
    fleet_file(stage.settings).write_text("reject with a\n" * 9)


WRONG = {
    "the keys were changed": (_withdrawn, "who may ask"),
    "another key": (_another_key, "another peerKey"),
    "another host key": (_another_host_key, "none of the host keys"),
    "no account": (_no_account, "no account containarium-peer"),
    "no identity": (_no_identity, "has no identity"),
    "sshd allows more": (lambda stage: stage.effective.update(AllowTcpForwarding="yes"), "AllowTcpForwarding is yes"),
    "the program cannot be run": (lambda stage: setattr(stage, "relay", 1), "cannot run"),
    "Incus does not listen": (lambda stage: stage.incus.config.clear(), "does not listen"),
    "the firewall is open": (_without_its_table, "does not keep strangers"),
}


@pytest.mark.parametrize("what", WRONG)
def test_what_is_wrong_is_told_with_its_remedy(stage: Stage, what: str) -> None:
    break_it, words = WRONG[what]
    break_it(stage)
    (found,) = stage.failures()
    assert words in found.message
    assert found.remedy


def test_each_of_the_others(stage: Stage) -> None:
    silent = RetryableError("jump-3 does not answer", remedy="see that it runs", reason="PeerSilent")

    def ask(settings: HostSettings, name: str, hosts: Sequence[DeclaredHost]) -> Sequence[Answer]:
        assert (name, [each.name for each in hosts]) == ("jump-1", ["jump-1", "jump-2", "jump-3"])
        told = Told({}, "1", 0.0)
        return [Answer("jump-2", told), Answer("jump-4", told, skew=-90.0), Answer("jump-3", error=silent)]

    found = {each.check: (each.level.value, each.message, each.remedy) for each in neighbours(stage.patient, ask)}
    assert found["peer jump-2"] == ("ok", "answers, with 0 environments", "")
    assert found["peer jump-3"] == ("fail", "jump-3 does not answer", "see that it runs")
    assert found["peer jump-4"][:2] == ("warn", "answers, and its clock is 90 s behind")
