"""fleet, and an export of what lives on another host."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import pytest
import yaml

from containarium.host.peering.neighbours import Answer
from containarium.host.peering.wire import Told
from containarium.model.fleet import Box, Presence
from containarium.model.host import RetryableError
from containarium.model.manifest import DeclaredHost
from tests.builders import public_key
from tests.unit.cli.conftest import Shell
from tests.unit.host.peering.hosts import host

SILENT = RetryableError("jump-3 does not answer (timed out)", remedy="see that it runs", reason="PeerSilent")


@dataclass
class Others:
    """What the other hosts say. ``asked`` are those whose guests' keys were asked for."""

    boxes: dict[str, Box] = field(default_factory=dict)
    skew: float = 0.0
    name: str = "jump-1"
    asked: list[tuple[str, str]] = field(default_factory=list)
    learned: bool = False
    third: dict[str, Box] | None = None
    """What jump-3 has, where it answers."""

    def answers(self, hosts: Sequence[DeclaredHost]) -> Mapping[str, Answer]:
        self.learned = True
        told = Told(self.boxes, "9.9", 0.0)
        known = {"jump-2": Answer("jump-2", told, skew=self.skew), "jump-3": Answer("jump-3", error=SILENT)}
        if self.third is not None:
            known["jump-3"] = Answer("jump-3", Told(self.third, "9.9", 0.0))
        return {each.name: known[each.name] for each in hosts if each.name != self.name}

    def keys(self, host: str, environment: str) -> Sequence[str]:
        assert self.learned, "hosts have to be declared to it first"
        self.asked.append((host, environment))
        return ["ssh-ed25519 THERE"]


@pytest.fixture
def others(shell: Shell) -> Others:
    """Give the others of a fleet of three, whose manifests stand in the folder."""
    found = Others({"bob": Box("bob", Presence.HERE, "10.0.12.7"), "old": Box("old", Presence.MOVED, "10.0.12.8")})
    for number in (1, 2, 3):
        manifest = host(number, login={"address": "balancer.example.org", "port": 2222})
        document = manifest.model_dump(mode="json", by_alias=True, exclude_none=True)
        shell.write(f"host-{number}.yaml", yaml.safe_dump(document))
    shell.declare("alice")
    shell.more["neighbours"] = lambda _settings: replace(found, learned=False)
    return found


def test_the_table(shell: Shell, others: Others) -> None:
    done = shell("fleet")
    assert done.code == 0
    rows = [line.split(maxsplit=6) for line in done.out.splitlines()]
    assert rows[0] == ["NAME", "ENVIRONMENTS", "VERSION", "SUBNET", "ADDRESS", "LOGIN", "STATE"]
    assert rows[1][0] == "jump-1"
    assert rows[1][-1] == "this host"
    assert rows[2] == ["jump-2", "1", "9.9", "10.0.12.0/24", "10.128.0.2", "balancer.example.org", "answers"]
    assert rows[3][0] == "jump-3"
    assert rows[3][-1] == "jump-3 does not answer (timed out); see that it runs"


def test_as_json(shell: Shell, others: Others) -> None:
    others.skew = -40.0
    rows = {row["name"]: row for row in shell("fleet", "-o", "json").json}
    assert rows["jump-2"]["reachable"] is True
    assert rows["jump-2"]["state"] == "answers; its clock is -40 s off"
    assert rows["jump-3"]["reachable"] is False
    assert rows["jump-3"]["environments"] is None


def test_one_host_alone(shell: Shell) -> None:
    assert shell("fleet").out == "No Host manifest declares a host: this one is alone.\n"
    assert json.loads(shell("fleet", "-o", "json").out) == []


def test_it_needs_root(shell: Shell, others: Others) -> None:
    shell.root = False
    done = shell("fleet")
    assert (done.code, done.out) == (1, "")
    assert "needs root: sudo containarium fleet" in done.err


def test_what_lives_elsewhere_is_reached_through_the_balancer(shell: Shell, others: Others) -> None:
    done = shell("export", "bob")
    assert (done.code, done.err) == (0, "")
    assert "    HostName 10.0.12.7\n" in done.out
    assert "    HostName balancer.example.org\n    Port 2222\n" in done.out
    hosts = [public_key(f"host-{number}").rpartition(" ")[0] for number in (1, 2, 3)]
    for key in ("ssh-ed25519 JUMP", "ssh-rsa JUMP", *hosts):
        assert f"# [balancer.example.org]:2222 {key}\n" in done.out
    assert "# bob-container.balancer.example.org ssh-ed25519 THERE\n" in done.out
    assert others.asked == [("jump-2", "bob")]


def test_what_lives_here_is_asked_of_nobody(shell: Shell, others: Others) -> None:
    hosts = {path: path.read_text() for path in shell.folder.glob("host-*.yaml")}
    for path in hosts:
        path.unlink()
    shell("apply")
    for path, text in hosts.items():
        path.write_text(text)
    done = shell("export", "alice")
    assert done.code == 0
    assert "ssh-ed25519 GUEST" in done.out
    assert others.asked == []


def test_another_jump_host_is_trusted_with_this_hosts_keys_alone(shell: Shell, others: Others) -> None:
    done = shell("export", "bob", "--jump-host", "203.0.113.7")
    assert done.code == 0
    assert "# 203.0.113.7 ssh-ed25519 JUMP\n" in done.out
    assert public_key("host-2").split()[1] not in done.out


@pytest.mark.parametrize("name", ["carol", "old"])
def test_what_nobody_tells_of_may_be_on_who_is_silent(shell: Shell, others: Others, name: str) -> None:
    done = shell("export", name)
    assert done.code == 1
    assert f"there is no environment {name} on this host, and jump-3 does not answer" in done.err


HERE = {"bob": Box("bob", Presence.HERE, "10.0.13.9")}


def test_two_who_both_have_it_are_not_chosen_from(shell: Shell, others: Others) -> None:
    others.third = HERE
    done = shell("export", "bob")
    assert (done.code, done.out, others.asked) == (1, "", [])
    assert "jump-2 and jump-3 both say that they have bob; say with placement.host whose data counts" in done.err


@pytest.mark.parametrize(
    ("target", "third", "from_where"),
    [
        ("jump-3", HERE, "jump-3"),
        ("jump-2", HERE, "jump-2"),
        ("jump-3", {"bob": Box("bob", Presence.ARRIVING, "", "jump-2")}, "jump-2"),
        ("jump-1", {}, "jump-2"),
    ],
)
def test_the_host_that_the_manifest_names_is_believed(
    shell: Shell, others: Others, target: str, third: dict[str, Box], from_where: str
) -> None:
    shell.declare("bob", placement={"host": target})
    others.third = third
    done = shell("export", "bob")
    assert (done.code, done.err) == (0, "")
    assert others.asked == [(from_where, "bob")]


def test_nobody_else_is_believed_while_the_host_that_it_is_placed_on_is_silent(shell: Shell, others: Others) -> None:
    shell.declare("bob", placement={"host": "jump-3"})
    done = shell("export", "bob")
    assert (done.code, others.asked) == (1, [])
    assert "there is no environment bob on this host, and jump-3 does not answer" in done.err
