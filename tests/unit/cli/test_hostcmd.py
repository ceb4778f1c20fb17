"""host prepare and doctor: what they ask for, print and return."""

from __future__ import annotations

import pytest
import yaml

from containarium.host.doctor import Finding, Level
from containarium.host.hostname import own_name
from containarium.host.prepare import Step
from containarium.model.host import TerminalError
from tests.builders import public_key
from tests.unit.cli.conftest import FakeHostKeys, Shell


def test_prepare(shell: Shell) -> None:
    shell.steps = (
        Step("folders", False, "there"),
        Step("storage pool", True, "default: a plain folder", "disk limits do not hold there"),
    )
    done = shell("host", "prepare")
    assert done.code == 0
    assert done.out.splitlines() == [
        "making the bridge",
        "    folders       there",
        "  + storage pool  default: a plain folder",
        "  ! storage pool: disk limits do not hold there",
        "This host is ready: 1 step of 2 changed something.",
    ]
    assert shell.prepared == [(shell.settings, False)]


def test_prepare_again(shell: Shell) -> None:
    shell.steps = (Step("folders", False, "there"),)
    assert shell("host", "prepare").out.endswith("This host is ready: nothing had to be changed.\n")


def test_prepare_may_install_and_choose_the_subnet(shell: Shell) -> None:
    assert shell("host", "prepare", "--install", "--subnet", "10.77.0.1/16").code == 0
    ((settings, install),) = shell.prepared
    assert (settings.subnet, install) == ("10.77.0.1/16", True)


@pytest.mark.parametrize(
    ("subnet", "words"),
    [
        ("ten", "no IPv4 address"),
        ("10.0.3.1", "/32 is no size"),
        ("10.0.3.0/24", "write --subnet 10.0.3.1/24"),
        ("8.8.8.1/24", "private network"),
        ("127.0.0.1/24", "private network"),
        ("fd00::1/64", "no IPv4 address"),
    ],
)
def test_a_wrong_subnet_prepares_nothing(shell: Shell, subnet: str, words: str) -> None:
    done = shell("host", "prepare", "--subnet", subnet)
    assert (done.code, done.out) == (1, "")
    assert words in done.err
    assert shell.prepared == []


def test_prepare_needs_root(shell: Shell) -> None:
    shell.root = False
    done = shell("host", "prepare")
    assert done.code == 1
    assert done.err == "containarium: error: needs root: sudo containarium host prepare\n"
    assert shell.prepared == []


FINDINGS = (
    Finding("incus", Level.OK, "6.0.4 answers"),
    Finding("sysctl", Level.WARN, "fs.inotify.max_user_instances is 128", "containarium host prepare"),
    Finding("sshd", Level.FAIL, "the drop-in is not in force", "containarium host prepare"),
)


@pytest.mark.parametrize(("number", "code"), [(1, 0), (2, 0), (3, 1)])
def test_doctor_fails_only_when_something_fails(shell: Shell, number: int, code: int) -> None:
    shell.findings = FINDINGS[:number]
    assert shell("doctor").code == code
    assert shell("doctor", "-o", "json").code == code


def test_doctor_says_how_to_mend(shell: Shell) -> None:
    shell.findings = FINDINGS
    assert shell("doctor").out.splitlines() == [
        "  ok    incus: 6.0.4 answers",
        "  warn  sysctl: fs.inotify.max_user_instances is 128",
        "        -> containarium host prepare",
        "  fail  sshd: the drop-in is not in force",
        "        -> containarium host prepare",
        "3 checks: 1 fine, 1 to look at, 1 to mend.",
    ]


def test_doctor_in_json(shell: Shell) -> None:
    shell.findings = FINDINGS
    assert shell("doctor", "-o", "json").json[1] == {
        "check": "sysctl",
        "level": "warn",
        "message": "fs.inotify.max_user_instances is 128",
        "remedy": "containarium host prepare",
    }


# -- Host manifests


def _own(shell: Shell, **spec: object) -> str:
    """Write this machine's Host manifest where its start-up script would; returns its file."""
    file = shell.settings.host_manifest
    file.parent.mkdir(parents=True, exist_ok=True)
    head = {"apiVersion": "containarium.dev/v1", "kind": "Host", "metadata": {"name": own_name()}}
    file.write_text(yaml.safe_dump({**head, "spec": spec}))
    return str(file)


def test_prepare_carries_out_this_machine_s_manifest(shell: Shell) -> None:
    file = _own(shell, logs={"retention": "30d"})
    assert shell("host", "prepare").code == 0
    (declaration,) = shell.declared
    assert declaration.own is not None
    assert declaration.own.origin.file == file


def test_a_broken_one_is_told_line_by_line_and_nothing_is_prepared(shell: Shell) -> None:
    file = _own(shell, logs={"retention": "1s"}, storage={"driver": "ext9"})
    done = shell("host", "prepare", "--install", "--service")
    assert (done.code, done.out, shell.prepared) == (1, "", [])
    assert f"{file}:" in done.err
    assert "spec.logs.retention" in done.err
    assert "write zfs, btrfs, dir" in done.err
    assert "2 problems in this machine's Host manifest; nothing was changed" in done.err


def test_what_is_declared_while_another_preparation_runs_is_carried_out(shell: Shell) -> None:
    _own(shell, logs={"retention": "30d"})
    shell.runs = True

    def end(_seconds: float) -> None:
        _own(shell, logs={"retention": "60d"})
        shell.runs = False

    shell.sleep = end
    assert shell("host", "prepare").code == 0
    found = [declaration.own.manifest.spec.logs.retention for declaration in shell.declared if declaration.own]
    assert [str(retention) for retention in found] == ["30d", "60d"]


def test_a_manifest_that_says_no_subnet_leaves_it_to_the_command(shell: Shell) -> None:
    _own(shell)
    assert shell("host", "prepare", "--subnet", "10.0.5.1/24").code == 0
    _own(shell, network={"address": "10.128.0.2"})
    assert shell("host", "prepare", "--subnet", "10.0.5.1/24").code == 1, "the other hosts count on it"


def test_a_subnet_that_contradicts_it_is_refused(shell: Shell) -> None:
    file = _own(shell, network={"subnet": "10.0.4.1/24"})
    assert shell("host", "prepare", "--subnet", "10.0.4.1/24").code == 0
    done = shell("host", "prepare", "--subnet", "10.0.5.1/24")
    assert done.code == 1
    assert f"contradicts {file}:" in done.err
    assert len(shell.prepared) == 1


def test_a_file_that_is_named_counts_and_is_said_to_be_for_once(shell: Shell) -> None:
    _own(shell)
    other = shell.settings.host_manifest.with_name("other.yaml")
    other.write_text(shell.settings.host_manifest.read_text().replace("{}", "{logs: {retention: 7d}}"))
    done = shell("host", "prepare", "--manifest", str(other))
    assert done.code == 0
    assert "the next boot does not read" in done.err
    assert shell.declared[0].own is not None
    assert str(shell.declared[0].own.manifest.spec.logs.retention) == "7d"
    assert shell("host", "prepare", "--manifest", "/nowhere").code == 1


def test_steps_that_fail_are_told_with_their_remedy(shell: Shell) -> None:
    missing = TerminalError("the data disk is not there", remedy="attach it", reason="DiskMissing")
    shell.steps = (Step("data disk", False, error=missing), Step("sysctls", True, "raised"))
    done = shell("host", "prepare")
    assert done.code == 1
    assert "  x data disk  the data disk is not there; attach it" in done.err
    assert "  + sysctls    raised" in done.out
    assert "not ready: 1 step of 2 could not be done" in done.err


def test_what_systemd_starts_leaves_it_to_another_that_runs(shell: Shell) -> None:
    shell.runs, shell.sleep = True, lambda _seconds: None
    assert shell("host", "prepare", "--unless-running").code == 0
    assert "does not end" in shell("host", "prepare").err


def test_manifest_is_printed_with_the_identity(shell: Shell) -> None:
    _own(shell, network={"subnet": "10.0.4.1/24"}, admins=[{"name": "ops", "sshKeys": [public_key("ops")]}])
    refused = shell("host", "manifest")
    assert refused.code == 1
    assert "no key for its peers" in refused.err
    shell.peer_key = public_key("peer")
    shell.keys = FakeHostKeys(jump=(public_key("jump").rsplit(" ", 1)[0],))
    shown = yaml.safe_load(shell("host", "manifest").out)
    assert shown["spec"]["network"] == {"subnet": "10.0.4.1/24"}
    assert shown["spec"]["admins"][0]["name"] == "ops"
    assert shown["spec"]["identity"] == {"hostKeys": list(shell.keys.of_jump_host()), "peerKey": public_key("peer")}
    text = shell("host", "manifest").out
    shell.settings.host_manifest.write_text(text)
    assert shell("host", "prepare").code == 0, "what it prints is a manifest"
    assert shell("host", "manifest").out == text


@pytest.mark.parametrize("has_disk", [True, False])
def test_mount(shell: Shell, has_disk: bool) -> None:
    shell.has_disk = has_disk
    assert ("is mounted" in shell("host", "mount").out) is has_disk
