"""What Incus would refuse, what half a job looks like, and how accounts are repaired."""

from __future__ import annotations

from dataclasses import replace

import pytest

from containarium.model import marks
from containarium.model.action import (
    Action,
    AwaitLogin,
    DeleteAccount,
    DeleteInstance,
    EnsureAccount,
    InstallPackages,
    LockAccount,
    LockGuestRoot,
    SetUpUser,
    WriteAccountKeys,
    WriteGuestKeys,
)
from containarium.model.host import TerminalError, WaitingError
from containarium.model.observed import Account, InstanceStatus, Password
from containarium.simulate import incus
from containarium.simulate.faults import Kill, Scripted
from containarium.simulate.host import SimulatedHost
from containarium.simulate.incus import POWER, TEMPLATE
from containarium.simulate.inside import MIB
from containarium.simulate.somebody import Somebody
from containarium.simulate.world import World
from tests.unit.simulate.acting import ADDRESS, ALICE, BASH, create, reason_of, run, start, stop, update


class TestRefusals:
    def test_half_born(self, world: World) -> None:
        dying = SimulatedHost(world, Scripted({2: Kill()}))
        with pytest.raises(BaseException, match="unpacking"):
            dying.execute(create())
        host = SimulatedHost(world)
        instance = host.observe().instances[ALICE]
        assert instance.status is InstanceStatus.STOPPED
        assert not {TEMPLATE, POWER} & set(instance.config)
        assert reason_of(host, start()) == (TerminalError, "HalfBorn")
        run(host, create(), start())
        assert host.observe().instances[ALICE].status is InstanceStatus.RUNNING

    def test_a_duplicate_address_is_refused_at_start_only(self, host: SimulatedHost) -> None:
        run(host, create(), start(), create("bob", ADDRESS))
        assert reason_of(host, start("bob")) == (TerminalError, "AddressInUse")

    def test_memory_below_use(self, host: SimulatedHost, somebody: Somebody) -> None:
        run(host, create(), start())
        somebody.use_memory(ALICE, 300 * MIB)
        assert reason_of(host, update({"limits.memory": "256MiB"})) == (WaitingError, "MemoryInUse")
        assert host.observe().instances[ALICE].config["limits.memory"] == "512MiB"
        run(host, stop(), update({"limits.memory": "256MiB"}))

    def test_disks_do_not_shrink(self, host: SimulatedHost) -> None:
        run(host, create())
        root = {"type": "disk", "path": "/", "pool": "default", "size": "9GiB"}
        assert reason_of(host, update(devices={"root": root})) == (TerminalError, "ShrinkRefused")
        run(host, update(devices={"root": root | {"size": "11GiB"}}))

    def test_a_disk_below_use(self, world: World, somebody: Somebody, host: SimulatedHost) -> None:
        run(host, create())
        somebody.use_disk(ALICE, 5 * 2**30)
        with pytest.raises(TerminalError, match="more disk"):
            incus.patch(world, ALICE, {}, {"root": {"type": "disk", "size": "4GiB"}})
        assert host.observe().instances[ALICE].devices["root"]["size"] == "10GiB"

    def test_a_full_disk_takes_changes_with_an_error_and_starts(self, host: SimulatedHost, somebody: Somebody) -> None:
        run(host, create(), start())
        somebody.fill_disk(ALICE)
        assert reason_of(host, update({"limits.cpu": "1"})) == (TerminalError, "QuotaExceeded")
        assert host.observe().instances[ALICE].config["limits.cpu"] == "1"
        run(host, stop())
        run(host, start())
        root = {"type": "disk", "path": "/", "pool": "default", "size": "20GiB"}
        run(host, update(devices={"root": root}))

    def test_a_change_to_anothers_address_is_refused(self, host: SimulatedHost) -> None:
        run(host, create(), create("bob", "10.0.3.101"))
        nic = {"type": "nic", "network": "incusbr0", "ipv4.address": "10.0.3.101"}
        assert reason_of(host, update(devices={"eth0": nic})) == (TerminalError, "AddressInUse")
        run(host, update(devices={"eth0": nic | {"ipv4.address": "10.0.3.102"}}))

    def test_groups_to_leave_are_left_and_others_stay(self, host: SimulatedHost, somebody: Somebody) -> None:
        run(host, create(), start())
        set_up = SetUpUser(environment="alice", instance=ALICE, user="alice", shell=BASH, groups=("sudo",))
        run(host, set_up)
        somebody.join_group(ALICE, "alice", "docker")
        somebody.join_group(ALICE, "alice", "games")
        run(host, replace(set_up, without=("docker",)))
        assert host.observe().guests[ALICE].groups == {"alice", "sudo", "games"}

    def test_protection(self, host: SimulatedHost) -> None:
        run(host, create(**{"security.protection.delete": "true"}))
        delete = DeleteInstance(environment="alice", instance=ALICE, reason="test")
        assert reason_of(host, delete) == (TerminalError, "Protected")
        run(host, update({"security.protection.delete": ""}), delete, delete)
        assert host.observe().instances == {}

    @pytest.mark.parametrize(
        "action",
        [
            SetUpUser(environment="alice", instance=ALICE, user="alice", shell=BASH, groups=()),
            WriteGuestKeys(environment="alice", instance=ALICE, user="alice", keys=()),
            InstallPackages(environment="alice", instance=ALICE, packages=("git",)),
            LockGuestRoot(environment="alice", instance=ALICE),
            AwaitLogin(environment="alice", instance=ALICE, address=ADDRESS),
        ],
        ids=lambda action: action.kind,
    )
    def test_no_command_runs_in_a_stopped_guest(self, host: SimulatedHost, action: Action) -> None:
        run(host, create())
        assert reason_of(host, action) == (WaitingError, "NotRunning")

    def test_unknown_packages_and_images(self, host: SimulatedHost) -> None:
        run(host, create(), start())
        install = InstallPackages(environment="alice", instance=ALICE, packages=("git", "no-such"))
        assert reason_of(host, install) == (TerminalError, "PackageUnknown")
        assert "git" not in host.observe().guests[ALICE].packages
        assert reason_of(host, create("bob", image="nowhere"))[1] == "ImageUnavailable"

    def test_an_instance_that_is_gone(self, host: SimulatedHost) -> None:
        assert reason_of(host, start()) == (TerminalError, "NotFound")

    def test_foreign_objects_stay_as_they_are(self, host: SimulatedHost, somebody: Somebody, world: World) -> None:
        somebody.foreign_instance(ALICE, running=True)
        somebody.add_account("alice")
        before = world.snapshot()
        for action in (
            create(),
            start(),
            stop(),
            update({"limits.cpu": "1"}),
            EnsureAccount(environment="alice", account="alice"),
        ):
            assert reason_of(host, action) == (TerminalError, "Conflict")
        assert world.snapshot() == before

    def test_a_comment_of_another_environment_is_foreign(self, host: SimulatedHost, world: World) -> None:
        world.put_account(Account("alice", 1, marks.JUMP_GROUP, marks.account_comment("bob")))
        assert reason_of(host, LockAccount(environment="alice", account="alice")) == (TerminalError, "Conflict")


class TestAccounts:
    def test_a_half_made_account_has_no_shadow_entry(self, world: World) -> None:
        ensure = EnsureAccount(environment="alice", account="alice")
        with pytest.raises(BaseException, match="password"):
            SimulatedHost(world, Scripted({2: Kill()})).execute(ensure)
        half = world.snapshot().accounts["alice"]
        assert half.password is Password.MISSING
        assert (half.group, half.comment) == (marks.JUMP_GROUP, marks.account_comment("alice"))
        SimulatedHost(world).execute(ensure)
        assert world.snapshot().accounts["alice"] == replace(half, password=Password.NONE)

    def test_everything_is_repaired(self, host: SimulatedHost, somebody: Somebody) -> None:
        ensure = EnsureAccount(environment="alice", account="alice")
        run(host, ensure)
        right = host.observe().accounts["alice"]
        somebody.give_shell("alice")
        somebody.set_password_state("alice", Password.USABLE)
        somebody.add_to_group("alice", "sudo")
        somebody.expire("alice")
        somebody.give_subordinate_ids("alice")
        assert host.observe().accounts["alice"] != right
        run(host, ensure)
        assert host.observe().accounts["alice"] == right

    def test_keys_without_an_account_are_orphans(self, host: SimulatedHost, somebody: Somebody) -> None:
        run(host, EnsureAccount(environment="alice", account="alice"))
        run(host, WriteAccountKeys(environment="alice", account="alice", lines=("one", "two")))
        assert host.observe().accounts["alice"].keys == ("one", "two")
        somebody.remove_account("alice")
        assert host.observe().orphan_keys == {"alice"}
        run(host, DeleteAccount(environment="alice", account="alice"))
        assert host.observe().orphan_keys == frozenset()
