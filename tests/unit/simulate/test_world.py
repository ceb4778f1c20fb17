"""The simulated machine: what it remembers, and what a look at it shows."""

from __future__ import annotations

import threading
import time

import pytest

from containarium.model import marks
from containarium.model.action import (
    DeleteAccount,
    DeleteInstance,
    EnsureAccount,
    LockGuestRoot,
    RestartInstance,
    WriteAccountKeys,
)
from containarium.model.host import Host, RetryableError, TerminalError
from containarium.model.observed import Account, Instance, InstanceStatus, Look
from containarium.simulate.clock import SimClock
from containarium.simulate.host import SimulatedHost
from containarium.simulate.incus import NEVER_USED, POWER, TEMPLATE
from containarium.simulate.somebody import Somebody
from containarium.simulate.world import World
from tests.unit.simulate.acting import ADDRESS, ALICE, BASH, create, reason_of, run, start, stop, update


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

    def test_what_cannot_start_delays_a_boot(self, world: World, somebody: Somebody) -> None:
        somebody.half_born("a-container", "a")
        somebody.half_born("b-container", "b")
        somebody.set_config("a-container", "boot.autostart", "true")
        before = world.clock.monotonic()
        somebody.reboot(seconds=60.0)
        assert world.clock.monotonic() - before == pytest.approx(70.0)

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


class TestClock:
    def test_it_moves_forward_by_hand(self) -> None:
        clock = SimClock()
        clock.advance(61.5)
        assert clock.stamp() == "2026-01-01T00:01:01.500000Z"
        assert clock.monotonic() == 61.5
        with pytest.raises(ValueError, match="backwards"):
            clock.advance(-1)
