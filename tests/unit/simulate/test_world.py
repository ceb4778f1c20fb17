"""The simulated machine: what it remembers, what Incus would refuse, and what half a job looks like."""

from __future__ import annotations

import threading
import time
from dataclasses import replace

import pytest

from containarium.model import marks
from containarium.model.action import (
    Action,
    AwaitLogin,
    CreateInstance,
    DeleteAccount,
    DeleteInstance,
    EnsureAccount,
    InstallPackages,
    LockAccount,
    LockGuestRoot,
    RestartInstance,
    SetUpUser,
    StartInstance,
    StopInstance,
    UpdateInstance,
    WriteAccountKeys,
    WriteGuestKeys,
)
from containarium.model.host import Host, HostError, RetryableError, TerminalError, WaitingError
from containarium.model.observed import Account, Instance, InstanceStatus, Look, Password
from containarium.simulate import incus
from containarium.simulate.clock import SimClock
from containarium.simulate.faults import Kill, Scripted
from containarium.simulate.host import SimulatedHost
from containarium.simulate.incus import NEVER_USED, POWER, TEMPLATE
from containarium.simulate.inside import MIB
from containarium.simulate.somebody import Somebody
from containarium.simulate.world import World

ALICE = "alice-container"
ADDRESS = "10.0.3.100"
BASH = "/bin/bash"


def create(name: str = "alice", address: str = ADDRESS, image: str = "guest", **config: str) -> CreateInstance:
    return CreateInstance(
        environment=name,
        instance=marks.instance_name(name),
        image=image,
        config={marks.ENVIRONMENT: name, "limits.memory": "512MiB", "boot.autostart": "true"} | config,
        devices={
            "root": {"type": "disk", "path": "/", "pool": "default", "size": "10GiB"},
            "eth0": {"type": "nic", "name": "eth0", "network": "incusbr0", "ipv4.address": address},
        },
    )


def start(name: str = "alice") -> StartInstance:
    return StartInstance(environment=name, instance=marks.instance_name(name))


def stop(name: str = "alice") -> StopInstance:
    return StopInstance(environment=name, instance=marks.instance_name(name))


def update(config: dict[str, str] | None = None, devices: dict[str, dict[str, str]] | None = None) -> UpdateInstance:
    return UpdateInstance(environment="alice", instance=ALICE, config=config or {}, devices=devices or {})


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def host(world: World) -> SimulatedHost:
    return SimulatedHost(world)


@pytest.fixture
def somebody(world: World) -> Somebody:
    return Somebody(world)


def run(host: Host, *actions: Action) -> None:
    for action in actions:
        host.execute(action)


def reason_of(host: Host, action: Action) -> tuple[type[HostError], str]:
    with pytest.raises(HostError) as caught:
        host.execute(action)
    return type(caught.value), caught.value.reason


class TestLife:
    def test_it_is_a_host(self, world: World) -> None:
        host: Host = SimulatedHost(world)
        assert host.observe().instances == {}

    def test_a_created_instance_is_stopped_and_may_start(self, host: SimulatedHost) -> None:
        run(host, create())
        instance = host.observe().instances[ALICE]
        assert instance.status is InstanceStatus.STOPPED
        assert instance.config[TEMPLATE] == "create"
        assert POWER not in instance.config
        assert instance.addresses == (ADDRESS,)
        assert instance.last_used_at == NEVER_USED

    def test_starting_and_stopping_write_what_incus_writes(self, host: SimulatedHost, world: World) -> None:
        run(host, create(), start())
        running = host.observe().instances[ALICE]
        assert running.status is InstanceStatus.RUNNING
        assert running.config[POWER] == "RUNNING"
        assert TEMPLATE not in running.config
        assert running.created_at < running.last_used_at <= world.clock.stamp()
        run(host, stop())
        assert host.observe().instances[ALICE].config[POWER] == "STOPPED"

    def test_only_a_start_moves_last_used_at(self, host: SimulatedHost) -> None:
        run(host, create(), start())
        first = host.observe().instances[ALICE].last_used_at
        run(host, start(), update({"limits.cpu": "2"}))
        assert host.observe().instances[ALICE].last_used_at == first
        run(host, RestartInstance(environment="alice", instance=ALICE))
        assert host.observe().instances[ALICE].last_used_at > first

    def test_a_frozen_instance_thaws(self, host: SimulatedHost, somebody: Somebody) -> None:
        run(host, create(), start())
        somebody.freeze(ALICE)
        run(host, start())
        assert host.observe().instances[ALICE].status is InstanceStatus.RUNNING

    def test_a_reboot_starts_what_is_to_start(self, host: SimulatedHost, somebody: Somebody) -> None:
        run(host, create("a", "10.0.3.2"), create("b", "10.0.3.3", **{"boot.autostart": "false"}), start("b"))
        run(host, create("c", "10.0.3.4", **{"boot.autostart": ""}), start("c"))
        run(host, create("d", "10.0.3.5", **{"boot.autostart": ""}), start("d"), stop("d"))
        somebody.reboot()
        running = {i.name for i in host.observe().instances.values() if i.status is InstanceStatus.RUNNING}
        assert running == {"a-container", "c-container"}

    def test_a_new_boot_disk_has_no_jump_accounts(self, host: SimulatedHost, somebody: Somebody) -> None:
        somebody.add_account("admin")
        run(host, create(), EnsureAccount(environment="alice", account="alice"))
        run(host, WriteAccountKeys(environment="alice", account="alice", lines=("key",)))
        somebody.lose_boot_disk()
        observed = host.observe()
        assert set(observed.accounts) == {"admin"}
        assert observed.orphan_keys == frozenset()
        assert observed.instances[ALICE].status is InstanceStatus.RUNNING


class TestLook:
    def test_what_was_seen_does_not_change(self, host: SimulatedHost) -> None:
        run(host, create(), start())
        before = host.observe()
        instance = before.instances[ALICE]
        run(host, update({"limits.cpu": "2"}), DeleteAccount(environment="alice", account="alice"), stop())
        assert before.instances[ALICE] is instance
        assert "limits.cpu" not in instance.config
        assert ALICE in before.guests
        with pytest.raises(TypeError):
            instance.config["limits.cpu"] = "3"  # type: ignore[index]

    def test_only_a_deep_look_goes_inside(self, host: SimulatedHost, somebody: Somebody) -> None:
        run(host, create(), start(), create("bob", "10.0.3.101"))
        somebody.foreign_instance("other", running=True)
        assert set(host.observe(Look.DEEP).guests) == {ALICE}
        assert host.observe(Look.SHALLOW).guests == {}

    def test_leases_are_static_and_dynamic(self, host: SimulatedHost, somebody: Somebody) -> None:
        run(host, create())
        somebody.foreign_instance("other", running=True)
        assert host.observe().host.leases == {ADDRESS: ALICE, "10.0.3.2": "other", "10.0.3.1": "incusbr0.gw"}
        somebody.remove_instance("other")
        run(host, DeleteInstance(environment="alice", instance=ALICE, reason="test"))
        assert host.observe().host.leases == {"10.0.3.1": "incusbr0.gw"}

    def test_a_silent_guest_is_not_looked_into(self, host: SimulatedHost, somebody: Somebody) -> None:
        run(host, create(), start())
        somebody.silence(ALICE)
        assert host.observe().guests == {}
        assert reason_of(host, LockGuestRoot(environment="alice", instance=ALICE)) == (RetryableError, "GuestSilent")

    def test_addresses_of_profiles_count(self, host: SimulatedHost, world: World) -> None:
        world.put_instance(Instance("other", InstanceStatus.STOPPED), profile_addresses=[ADDRESS])
        assert host.observe().instances["other"].addresses == (ADDRESS,)
        run(host, create())
        assert reason_of(host, start()) == (TerminalError, "AddressInUse")

    def test_ten_thousand_are_looked_at_in_time(self, world: World, host: SimulatedHost) -> None:
        for number in range(10_000):
            name = f"u{number}"
            instance = Instance(marks.instance_name(name), InstanceStatus.STOPPED, {marks.ENVIRONMENT: name})
            world.put_instance(instance)
            world.put_account(Account(name, number, marks.JUMP_GROUP))
        host.observe()
        world.change_account("u7", shell=BASH)
        began = time.perf_counter()
        observed = host.observe()
        assert time.perf_counter() - began < 0.1  # about 0.001 measured
        assert len(observed.instances) == len(observed.accounts) == 10_000

    def test_a_copy_goes_its_own_way(self, host: SimulatedHost, world: World) -> None:
        run(host, create(), start(), EnsureAccount(environment="alice", account="alice"))
        twin = world.copy()
        assert twin.snapshot() == world.snapshot()
        before = twin.snapshot()
        run(host, stop(), DeleteAccount(environment="alice", account="alice"))
        assert twin.snapshot() == before
        assert twin.snapshot() != world.snapshot()

    def test_many_threads_lose_nothing(self, host: SimulatedHost) -> None:
        def work(number: int) -> None:
            name = f"u{number}"
            run(host, create(name, f"10.0.3.{number + 2}"), start(name))
            run(host, EnsureAccount(environment=name, account=name))
            host.observe()

        threads = [threading.Thread(target=work, args=(number,)) for number in range(32)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        observed = host.observe()
        assert len(observed.guests) == len(observed.accounts) == 32
        assert len({account.uid for account in observed.accounts.values()}) == 32


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

    def test_a_full_disk_takes_changes_with_an_error_and_does_not_start(
        self, host: SimulatedHost, somebody: Somebody
    ) -> None:
        run(host, create(), start())
        somebody.fill_disk(ALICE)
        assert reason_of(host, update({"limits.cpu": "1"})) == (TerminalError, "QuotaExceeded")
        assert host.observe().instances[ALICE].config["limits.cpu"] == "1"
        run(host, stop())
        assert reason_of(host, start()) == (TerminalError, "QuotaExceeded")
        root = {"type": "disk", "path": "/", "pool": "default", "size": "20GiB"}
        run(host, update(devices={"root": root}), start())

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


class TestClock:
    def test_it_moves_forward_by_hand(self) -> None:
        clock = SimClock()
        clock.advance(61.5)
        assert clock.stamp() == "2026-01-01T00:01:01.500000Z"
        assert clock.monotonic() == 61.5
        with pytest.raises(ValueError, match="backwards"):
            clock.advance(-1)
