"""What follows the list of the declared hosts, and that it goes when they do."""

from __future__ import annotations

import sys
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

import pytest

from containarium.host.command import Completed
from containarium.host.firewall import Firewall, fleet_file, fleet_rules, rules
from containarium.host.peering import account
from containarium.host.peering.fleet import fleet_of
from containarium.host.peering.membership import LISTEN, Membership
from containarium.host.settings import HostSettings
from containarium.model.host import TerminalError
from containarium.model.manifest import DeclaredHost
from tests.builders import public_key
from tests.unit.host.etcfiles import FakeRun, settings, write_etc
from tests.unit.host.peering.hosts import declared, host
from tests.unit.host.peering.memory import MemoryIncus

HOSTS = declared(host(1), host(2), host(3))
COMMAND = f"{sys.executable} -I -m containarium.host.peering.relay"


class Wall(FakeRun):
    """nft: what it loaded last is what it lists, as it stood in the fleet's file then."""

    def __init__(self, file: Path) -> None:
        super().__init__(self.nft)
        self.file = file
        self.table = "table inet containarium-fleet {\n}\n"
        self.breaks = False

    def nft(self, args: list[str]) -> Completed:
        if args[0].endswith("nft") and "-f" in args:
            if self.breaks:
                raise TerminalError("nft was killed", reason="CommandFailed")
            self.table = self.file.read_text() if self.file.exists() else "table inet containarium-fleet {\n}\n"
        return Completed(0, self.table if "list" in args else "", "")

    @property
    def loads(self) -> int:
        return sum("-f" in command for command in self.commands)


class Stage:
    """jump-1."""

    def __init__(self, tmp_path: Path) -> None:
        self.settings: HostSettings = write_etc(tmp_path)
        self.incus = MemoryIncus(self.settings)
        self.run = Wall(fleet_file(self.settings))
        self.member = Membership(self.settings, self.incus, "jump-1", self.run)

    @property
    def keys(self) -> list[str]:
        path = self.settings.peer_keys / "containarium-peer"
        return path.read_text().splitlines() if path.exists() else []


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    return Stage(tmp_path)


def test_each_other_host_may_ask_with_its_key_from_its_address_and_by_its_name(stage: Stage) -> None:
    stage.member.settle(HOSTS)
    assert stage.keys == [
        f'restrict,from="10.128.0.{n}",command="{COMMAND} jump-{n}" '
        f"{public_key(f'peer-{n}').rpartition(' ')[0]} jump-{n}"
        for n in (2, 3)
    ]
    assert stage.incus.config[LISTEN] == "10.128.0.1:8443"


def test_settling_twice_changes_nothing(stage: Stage) -> None:
    assert stage.member.settle(HOSTS) == ("the firewall", "who may ask", "where Incus listens")
    assert stage.member.settle(HOSTS) == ()
    assert stage.run.loads == 1


@pytest.mark.parametrize("now", [HOSTS[:2], declared(host(1), host(2), host(4)), ()])
def test_rules_that_were_not_loaded_are_loaded_the_next_time(stage: Stage, now: tuple[DeclaredHost, ...]) -> None:
    stage.member.settle(HOSTS)
    stage.run.breaks = True
    with pytest.raises(TerminalError):
        stage.member.settle(now)
    stage.run.breaks = False
    assert "the firewall" in stage.member.settle(now)
    assert ("10.128.0.3" in stage.run.table, stage.run.loads) == (False, 3)
    assert stage.member.settle(now) == ()


def test_who_has_no_identity_or_address_may_not_ask(stage: Stage) -> None:
    stage.member.settle(declared(host(1), host(2, identity=None), host(3, network={"subnet": "10.0.13.1/24"})))
    assert stage.keys == []


@pytest.mark.parametrize("left", [(), HOSTS[1:], declared(host(1, network={"subnet": "10.0.11.1/24"}), host(2))])
def test_a_host_that_is_in_no_fleet_any_more_is_shut(stage: Stage, left: tuple[object, ...]) -> None:
    stage.member.settle(HOSTS)
    stage.member.settle(left)  # type: ignore[arg-type]
    assert stage.keys == []
    assert not fleet_file(stage.settings).exists()
    assert stage.incus.config == {}


def test_who_leaves_may_ask_no_more(stage: Stage) -> None:
    stage.member.settle(HOSTS)
    assert stage.member.settle(HOSTS[:2]) == ("the firewall", "who may ask")
    assert [line.rpartition(" ")[2] for line in stage.keys] == ["jump-2"]


def test_where_an_admin_has_incus_listen_it_stays(stage: Stage) -> None:
    stage.incus.config[LISTEN] = "[::]:8443"
    stage.member.settle(HOSTS)
    assert stage.incus.config == {LISTEN: "[::]:8443"}
    stage.member.settle(())
    assert stage.incus.config == {LISTEN: "[::]:8443"}
    stage.incus.config[LISTEN] = "192.168.1.1:9999"
    with pytest.raises(TerminalError) as raised:
        stage.member.settle(HOSTS)
    assert raised.value.reason == "ListenForeign"
    assert stage.incus.config == {LISTEN: "192.168.1.1:9999"}


def test_fail2ban_spares_the_others_for_as_long_as_they_are_there(stage: Stage) -> None:
    (stage.settings.etc / "fail2ban").mkdir()
    stage.member.settle(HOSTS)
    jail = stage.settings.etc / "fail2ban/jail.d/containarium-fleet.local"
    assert "ignoreip = 127.0.0.1/8 ::1 10.128.0.2 10.128.0.3\n" in jail.read_text()
    stage.member.settle(())
    assert not jail.exists()


def test_the_firewall_lets_only_the_others_in(tmp_path: Path) -> None:
    own, others = IPv4Address("10.128.0.1"), [IPv4Address("10.128.0.2"), IPv4Address("10.128.0.3")]
    text = fleet_rules(settings(tmp_path), own, others, [IPv4Network("10.0.12.0/24")])
    lines = [line.strip() for line in text.splitlines()]
    allowed = lines.index("ip saddr { 10.128.0.2, 10.128.0.3 } tcp dport 8443 accept")
    assert lines[allowed + 1] == "tcp dport 8443 reject with tcp reset"
    kept = "10.0.12.0/24, 10.128.0.1, 10.128.0.2, 10.128.0.3"
    assert f'iifname "incusbr0" ip daddr {{ {kept} }} reject with icmpx admin-prohibited' in lines
    assert (
        lines.index("ip saddr { 10.128.0.2, 10.128.0.3 } tcp dport 22 accept")
        == lines.index("ct status dnat accept") + 1
    )
    alone = fleet_rules(settings(tmp_path), own, [], [])
    assert "tcp dport 8443 reject with tcp reset" in alone
    assert "{  }" not in alone


def test_the_firewall_is_not_in_force_without_the_fleets_part(tmp_path: Path) -> None:
    host_settings = settings(tmp_path)
    listed = rules(host_settings, IPv4Network("10.0.3.0/24"))
    fleet = fleet_rules(host_settings, IPv4Address("10.128.0.1"), [IPv4Address("10.128.0.2")], [])
    fleet_file(host_settings).parent.mkdir(parents=True)
    fleet_file(host_settings).write_text(fleet)

    def wall(found: Completed) -> Firewall:
        return Firewall(
            host_settings, FakeRun(lambda args: found if "containarium-fleet" in args else Completed(0, listed, ""))
        )

    assert wall(Completed(0, fleet, "")).in_force()
    assert not wall(Completed(1, "", "No such file")).in_force()
    assert not wall(Completed(0, fleet.replace("reject with tcp reset", "accept"), "")).in_force()
    older = fleet_rules(host_settings, IPv4Address("10.128.0.1"), [IPv4Address("10.128.0.3")], [])
    assert not wall(Completed(0, older, "")).in_force()
    fleet_file(host_settings).unlink()
    assert not wall(Completed(0, older, "")).in_force()
    assert wall(Completed(0, "table inet containarium-fleet {\n}\n", "")).in_force()
    assert wall(Completed(1, "", "No such file")).in_force()


def test_the_account_can_do_what_a_forced_command_needs_and_no_more(stage: Stage) -> None:
    etc = stage.settings.etc

    def tool(args: list[str]) -> Completed:
        if args[0] == "groupadd":
            (etc / "group").write_text((etc / "group").read_text() + "containarium-peer:x:980:\n")
        elif args[0] == "useradd":
            line = f"containarium-peer:x:980:980:{account.COMMENT}:/nonexistent:/bin/sh\n"
            (etc / "passwd").write_text((etc / "passwd").read_text() + line)
            (etc / "shadow").write_text((etc / "shadow").read_text() + "containarium-peer:*:19000::::::\n")
        return Completed(0, "", "")

    run = FakeRun(tool)
    assert account.ensure_account(stage.settings, run)
    assert [command[0] for command in run.commands] == ["groupadd", "useradd"]
    made = run.commands[1]
    assert [made[made.index(option) + 1] for option in ("-d", "-s", "-p")] == ["/nonexistent", "/bin/sh", "*"]
    assert account.group_number(stage.settings) == 980
    assert not account.ensure_account(stage.settings, run)


def test_an_account_of_somebody_else_stays(stage: Stage) -> None:
    etc = stage.settings.etc
    (etc / "group").write_text((etc / "group").read_text() + "containarium-peer:x:980:\n")
    (etc / "passwd").write_text((etc / "passwd").read_text() + "containarium-peer:x:980:980:Pete:/home/p:/bin/bash\n")
    with pytest.raises(TerminalError, match="exists and is not containarium's"):
        account.ensure_account(stage.settings, stage.run)
    assert stage.run.commands == []


def test_whether_this_host_is_in_a_fleet() -> None:
    fleet = fleet_of(HOSTS, "jump-1")
    assert fleet is not None
    assert [str(address) for address in fleet.addresses] == ["10.128.0.2", "10.128.0.3"]
    assert [str(subnet) for subnet in fleet.subnets] == ["10.0.12.0/24", "10.0.13.0/24"]
    assert fleet_of(HOSTS, "jump-9") is None
    assert fleet_of((), "jump-1") is None
