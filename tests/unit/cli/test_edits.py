"""resize, start and stop: one field of a manifest, and the host with it."""

from __future__ import annotations

import pytest

from containarium.model.action import StartInstance
from containarium.model.observed import InstanceStatus
from containarium.simulate.faults import Boundary, Fail, Fault
from tests.builders import public_key
from tests.unit.cli.conftest import Shell

BOX = "alice-container"
ALICE = f"""\
# alice works on the report until summer
apiVersion: containarium.dev/v1
kind: Environment
metadata: {{name: alice}}   # one per person
spec:
    image: bootstrap:debian/12
    resources:
        cpu: 2      # she asked for two
        memory: '1GiB'
    sshKeys:
    - {public_key("alice")} # laptop
"""


@pytest.fixture
def alice(shell: Shell) -> Shell:
    """Alice is there, and bob."""
    shell.write("alice.yaml", ALICE)
    shell.declare("bob")
    assert shell("apply").code == 0
    return shell


def text(shell: Shell) -> str:
    return (shell.folder / "alice.yaml").read_text()


def test_limits_change_in_the_file_and_on_the_host(alice: Shell) -> None:
    ended = alice("resize", "alice", "--cpu", "0-3", "--memory", "8GiB", "--disk", "60GiB")
    assert ended.code == 0, ended.err
    assert "alice: cpu 2 -> 0-3, memory 1GiB -> 8GiB, disk 50GiB -> 60GiB" in ended.out
    assert text(alice) == ALICE.replace("cpu: 2 ", "cpu: 0-3 ").replace("'1GiB'\n", "'8GiB'\n        disk: 60GiB\n")
    config = alice.world.instances[BOX].config
    assert (config["limits.cpu"], config["limits.memory"]) == ("0-3", "8GiB")
    assert alice.world.instances[BOX].status is InstanceStatus.RUNNING
    assert alice("plan", "--detailed-exitcode").code == 0


def test_each_change_is_shown_where_that_is_asked_for(alice: Shell) -> None:
    ended = alice("resize", "alice", "--memory", "8GiB", "-v")
    assert "spec.resources.memory" in ended.out
    assert "1GiB -> 8GiB  [live]" in ended.out


def test_a_limit_that_is_there_already_changes_nothing(alice: Shell) -> None:
    ended = alice("resize", "alice", "--cpu", "2", "--memory", "1GiB")
    assert (ended.code, ended.out) == (0, "alice has that already: cpu 2, memory 1GiB, disk 50GiB\n")
    assert text(alice) == ALICE


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        ([], "there is nothing to change; containarium resize alice --cpu 4"),
        (["--memory", "8G"], "--memory: '8G' is not a size; write 8GiB"),
        (["--cpu", "3-1"], "--cpu: the range 3-1 runs backwards"),
        (["--disk", "0GiB"], "--disk: '0GiB' is not a size"),
        (["--cpu", "1", "--disk", "10GiB"], "alice: the disk has 50GiB and cannot shrink"),
    ],
)
def test_what_cannot_be_is_refused_and_nothing_is_written(alice: Shell, flags: list[str], told: str) -> None:
    ended = alice("resize", "alice", *flags)
    assert ended.code == 1
    assert ended.err.startswith(f"containarium: error: {told}"), ended.err
    assert text(alice) == ALICE
    assert alice.world.instances[BOX].config["limits.cpu"] == "2"


def test_nobody_of_that_name(alice: Shell) -> None:
    ended = alice("resize", "carol", "--cpu", "1")
    assert ended.code == 1
    assert f"no manifest in {alice.folder} names carol" in ended.err


def test_only_that_environment_is_touched(alice: Shell) -> None:
    alice.somebody.set_config("bob-container", "limits.memory", "1MiB")
    alice("resize", "alice", "--cpu", "4")
    assert alice.world.instances["bob-container"].config["limits.memory"] == "1MiB"


def test_stop_and_start_stay_in_the_manifest(alice: Shell) -> None:
    ended = alice("stop", "alice", "bob")
    assert ended.code == 0, ended.err
    assert "alice, bob: stopped" in ended.out
    assert text(alice) == ALICE + "    running: false\n"
    assert {i.status for i in alice.world.instances.values()} == {InstanceStatus.STOPPED}
    assert alice("start", "alice").code == 0
    assert text(alice) == ALICE + "    running: true\n"
    assert alice.world.instances[BOX].status is InstanceStatus.RUNNING
    assert alice.world.instances["bob-container"].status is InstanceStatus.STOPPED


def test_start_starts_what_somebody_has_stopped_without_a_change(alice: Shell) -> None:
    alice.somebody.stop(BOX)
    ended = alice("start", "alice")
    assert ended.code == 0, ended.err
    assert "declared as running already" in ended.out
    assert text(alice) == ALICE
    assert alice.world.instances[BOX].status is InstanceStatus.RUNNING


def test_a_host_that_does_not_follow_is_told(alice: Shell) -> None:
    def faults(boundary: Boundary) -> Fault | None:
        return Fail("NoMemory") if isinstance(boundary.action, StartInstance) else None

    alice("stop", "alice")
    alice.faults = faults
    ended = alice("start", "alice")
    assert ended.code == 1
    assert "alice: StartInstance failed: injected fault" in ended.err
    assert "the manifest is written, and the host does not follow yet" in ended.out


def test_another_command_that_works_is_waited_for_no_longer_than_asked(alice: Shell) -> None:
    from containarium.host.lock import only_controller

    with only_controller(alice.settings.runtime):
        ended = alice("resize", "alice", "--cpu", "4", "--wait", "0.2")
    assert ended.code == 1
    assert "is working on this host" in ended.err
    assert "cpu: 4" in text(alice), "it is written, and the next apply carries it out"


def test_a_suspended_one_is_told(alice: Shell) -> None:
    annotated = '{name: alice, annotations: {containarium.dev/suspend: "true"}}'
    alice.write("alice.yaml", ALICE.replace("{name: alice}", annotated))
    ended = alice("resize", "alice", "--cpu", "4")
    assert ended.code == 0
    assert "alice: is suspended, so nothing was done yet" in ended.err
