"""host prepare and doctor: what they ask for, print and return."""

from __future__ import annotations

import pytest

from containarium.host.doctor import Finding, Level
from containarium.host.prepare import Step
from tests.unit.cli.conftest import Shell


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
