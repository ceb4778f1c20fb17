"""Cases about instances: their life, what is written on them, and what is refused."""

from __future__ import annotations

from containarium.model import marks
from containarium.model.observed import InstanceStatus, Look, Password
from tests.conformance.stage import Person, Stage

TEMPLATE = "volatile.apply_template"
POWER = "volatile.last_state.power"
FOREIGN_KEY = "user.somebody.note"


def creating_shows_what_was_asked_for(stage: Stage) -> None:
    person = stage.person()
    stage.run(person.create({"limits.cpu": "1", "limits.processes": "500", "user.empty": ""}))
    observed = stage.look()
    instance = observed.instances[person.instance]
    assert instance.status is InstanceStatus.STOPPED
    assert instance.config[marks.ENVIRONMENT] == person.name
    assert instance.config["limits.processes"] == "500"
    assert "user.empty" not in instance.config
    assert instance.devices == {"root": person.root, "eth0": person.nic}
    assert instance.addresses == (person.address,)
    assert TEMPLATE in instance.config
    assert POWER not in instance.config
    assert person.instance not in observed.guests
    assert observed.host.leases[person.address] == person.instance


def creating_twice_changes_nothing(stage: Stage) -> None:
    person = stage.person()
    stage.run(person.create())
    before = stage.instance(person)
    stage.run(person.create({"limits.cpu": "1"}))
    assert stage.instance(person) == before


def creating_a_running_one_changes_nothing(stage: Stage) -> None:
    person = stage.shared()
    before = stage.instance(person)
    stage.run(person.create({"limits.cpu": "1"}))
    assert stage.instance(person) == before


def an_unknown_image_is_refused(stage: Stage) -> None:
    person = stage.person()
    unknown = Person(person.name, person.address, "no-such-image", person.bridge, person.pool)
    assert stage.refusal(unknown.create()).endswith(" ImageUnavailable")
    assert person.instance not in stage.look(Look.SHALLOW).instances


def a_clone_of_a_recipe_lacks_only_the_person(stage: Stage) -> None:
    recipe = ("hello", "openssh-server", "sudo")
    for person in (stage.person(), stage.person()):
        stage.run(person.create(packages=recipe), person.start())
        guest = stage.guest(person)
        assert {"hello", "openssh-server", "sudo"} <= guest.packages
        assert guest.ssh
        assert not guest.docker
        assert guest.root_password is Password.NONE
        assert not guest.user
        stage.run(person.set_up_user(), person.write_guest_keys("ssh-ed25519 AAAA one"), person.await_login())
        assert stage.guest(person).user


def a_recipe_with_an_unknown_package_makes_nothing(stage: Stage) -> None:
    person = stage.person()
    assert stage.refusal(person.create(packages=("no-such-package", "sudo"))) == "TerminalError PackageUnknown"
    assert person.instance not in stage.look(Look.SHALLOW).instances


def half_born_is_recognised_and_made_anew(stage: Stage) -> None:
    person = stage.person()
    stage.operator.half_born(person.instance, person.name)
    instance = stage.instance(person)
    assert instance.status is InstanceStatus.STOPPED
    assert instance.config[marks.ENVIRONMENT] == person.name
    assert not {TEMPLATE, POWER} & set(instance.config)
    stage.run(person.create())
    assert TEMPLATE in stage.instance(person).config


def half_born_cannot_start(stage: Stage) -> None:
    person = stage.person()
    stage.operator.half_born(person.instance, person.name)
    assert stage.refusal(person.start()) == "TerminalError HalfBorn"
    stage.run(person.delete())
    assert person.instance not in stage.look(Look.SHALLOW).instances


def starting_stopping_and_restarting(stage: Stage) -> None:
    person = stage.person()
    stage.run(person.create(), person.start())
    first = stage.instance(person)
    assert first.status is InstanceStatus.RUNNING
    assert first.config[POWER] == "RUNNING"
    assert TEMPLATE not in first.config
    assert first.last_used_at > first.created_at
    stage.run(person.start())
    assert stage.instance(person) == first
    stage.run(person.restart())
    second = stage.instance(person)
    assert second.status is InstanceStatus.RUNNING
    assert second.last_used_at > first.last_used_at
    stage.run(person.stop())
    stopped = stage.instance(person)
    assert stopped.status is InstanceStatus.STOPPED
    assert stopped.config[POWER] == "STOPPED"
    assert stopped.last_used_at == second.last_used_at
    stage.run(person.stop())
    assert stage.instance(person) == stopped
    stage.run(person.restart(), person.delete())  # a stopped one is started, a running one deleted by force
    assert person.instance not in stage.look().instances


def freezing_and_stopping_by_others_is_seen_and_undone(stage: Stage) -> None:
    person = stage.person()
    stage.run(person.create(), person.start())
    stage.operator.freeze(person.instance)
    observed = stage.look()
    assert observed.instances[person.instance].status is InstanceStatus.FROZEN
    assert person.instance not in observed.guests
    stage.run(person.start())
    assert stage.instance(person).status is InstanceStatus.RUNNING
    stage.operator.stop(person.instance)
    stopped = stage.instance(person)
    assert (stopped.status, stopped.config[POWER]) == (InstanceStatus.STOPPED, "STOPPED")
    stage.run(person.start())
    assert stage.instance(person).status is InstanceStatus.RUNNING


def an_update_merges_and_removes(stage: Stage) -> None:
    person = stage.person()
    stage.run(person.create({"limits.cpu": "1", "limits.processes": "500"}))
    stage.operator.set_config(person.instance, FOREIGN_KEY, "mine")
    stage.run(person.update({"limits.cpu": "2", "limits.processes": "", marks.APPLIED: "digest", "user.absent": ""}))
    config = stage.instance(person).config
    assert config["limits.cpu"] == "2"
    assert "limits.processes" not in config
    assert config[marks.APPLIED] == "digest"
    assert config["limits.memory"] == "512MiB"
    assert config[FOREIGN_KEY] == "mine"


def a_device_is_replaced_whole(stage: Stage) -> None:
    person = stage.person()
    stage.run(person.create())
    stage.operator.set_device(person.instance, "eth0", person.nic | {"limits.max": "100Mbit"})
    stage.operator.set_device(person.instance, "spare", {"type": "none"})
    assert stage.instance(person).devices["eth0"]["limits.max"] == "100Mbit"
    nic = person.nic | {"security.mac_filtering": "true"}
    stage.run(person.update(devices={"eth0": nic}))
    assert stage.instance(person).devices == {"eth0": nic, "root": person.root, "spare": {"type": "none"}}


def live_changes_need_no_restart(stage: Stage) -> None:
    person = stage.shared()
    before = stage.instance(person)
    changes = {"limits.cpu": "1", "limits.memory": "768MiB", "limits.processes": "1000", "boot.autostart": "true"}
    stage.run(person.update(changes, {"root": person.root | {"size": "3GiB"}}))
    after = stage.instance(person)
    assert changes.items() <= after.config.items()
    assert after.devices["root"]["size"] == "3GiB"
    assert (after.status, after.last_used_at) == (InstanceStatus.RUNNING, before.last_used_at)


def memory_below_use_is_refused(stage: Stage) -> None:
    person = stage.shared()
    before = stage.instance(person)
    assert stage.refusal(person.update({"limits.memory": "1MiB"})) == "WaitingError MemoryInUse"
    assert stage.instance(person) == before


def a_disk_does_not_shrink(stage: Stage) -> None:
    person = stage.person()
    stage.run(person.create())
    before = stage.instance(person)
    smaller = person.root | {"size": "1GiB"}
    assert stage.refusal(person.update(devices={"root": smaller})) == "TerminalError ShrinkRefused"
    assert stage.instance(person) == before


def what_incus_cannot_read_is_refused(stage: Stage) -> None:
    person = stage.person()
    stage.run(person.create())
    before = stage.instance(person)
    assert stage.refusal(person.update({"limits.memory": "lots"})) == "TerminalError InvalidConfiguration"
    assert stage.refusal(person.update(devices={"eth0": {"name": "eth0"}})) == "TerminalError InvalidConfiguration"
    assert stage.instance(person) == before


def a_duplicate_address_is_refused_at_start(stage: Stage) -> None:
    holder, late = stage.shared(), stage.person()
    twin = Person(late.name, holder.address, late.image, late.bridge, late.pool)
    stage.run(twin.create())
    assert stage.refusal(twin.start()) == "TerminalError AddressInUse"
    assert stage.instance(twin).status is InstanceStatus.STOPPED
    stage.run(twin.update(devices={"eth0": late.nic}), late.start())
    assert stage.instance(late).status is InstanceStatus.RUNNING


def a_change_to_anothers_address_is_refused(stage: Stage) -> None:
    holder, other = stage.shared(), stage.person()
    stage.run(other.create())
    before = stage.instance(other)
    assert stage.refusal(other.update(devices={"eth0": holder.nic})) == "TerminalError AddressInUse"
    assert stage.instance(other) == before


def a_full_disk_takes_changes_with_an_error_until_it_grows(stage: Stage) -> None:
    person = stage.person()
    stage.run(person.create())
    stage.operator.set_device(person.instance, "root", person.root | {"size": "400MiB"})
    stage.run(person.start())
    stage.operator.fill_disk(person.instance)
    assert stage.refusal(person.update({"limits.processes": "600"})) == "TerminalError QuotaExceeded"
    assert stage.instance(person).config["limits.processes"] == "600"
    stage.run(person.stop(), person.start())
    assert stage.instance(person).status is InstanceStatus.RUNNING, "its person has to get at it to make room"
    stage.run(person.stop())
    stage.insist(person.update(devices={"root": person.root}))  # now and then btrfs has no room for this either
    stage.run(person.start())
    assert stage.instance(person).status is InstanceStatus.RUNNING


def a_stopped_instance_holds_its_address_too(stage: Stage) -> None:
    holder, late = stage.person(), stage.person()
    twin = Person(late.name, holder.address, late.image, late.bridge, late.pool)
    stage.run(holder.create(), twin.create())
    assert stage.refusal(twin.start()) == "TerminalError AddressInUse"


def a_foreign_instance_is_refused_to_every_action(stage: Stage) -> None:
    person = stage.person()
    stage.operator.foreign_instance(person.instance, address=person.address)
    before = stage.instance(person)
    lives = (person.create(), person.start(), person.stop(), person.restart(), person.delete())
    for action in (*lives, person.update({"limits.cpu": "1"}), *person.guest_actions()):
        assert stage.refusal(action) == "TerminalError Conflict", action.kind
    assert stage.instance(person) == before


def another_environments_instance_is_foreign(stage: Stage) -> None:
    person = stage.person()
    stage.run(person.create())
    stage.operator.set_config(person.instance, marks.ENVIRONMENT, "somebody-else")
    assert stage.refusal(person.update({"limits.cpu": "1"})) == "TerminalError Conflict"
    assert stage.refusal(person.delete()) == "TerminalError Conflict"
    stage.operator.unset_config(person.instance, marks.ENVIRONMENT)
    assert stage.refusal(person.start()) == "TerminalError Conflict"


def deleting_twice_is_no_error(stage: Stage) -> None:
    person = stage.person()
    stage.run(person.create(), person.delete(), person.delete())
    observed = stage.look(Look.SHALLOW)
    assert person.instance not in observed.instances
    assert person.address not in observed.host.leases


def protection_refuses_deletion(stage: Stage) -> None:
    person = stage.person()
    stage.run(person.create({"security.protection.delete": "true"}))
    assert stage.refusal(person.delete()) == "TerminalError Protected"
    assert person.instance in stage.look(Look.SHALLOW).instances
    stage.run(person.update({"security.protection.delete": ""}), person.delete())
    assert person.instance not in stage.look(Look.SHALLOW).instances


def an_instance_that_is_gone_is_not_found(stage: Stage) -> None:
    person = stage.person()
    for action in (person.start(), person.stop(), person.restart(), person.update({"limits.cpu": "1"})):
        assert stage.refusal(action) == "TerminalError NotFound", action.kind


def only_a_deep_look_goes_into_running_guests_of_ours(stage: Stage) -> None:
    shared, stopped, foreign = stage.shared(), stage.person(), stage.person()
    stage.run(stopped.create())
    stage.operator.foreign_instance(foreign.instance, running=True)
    assert stage.look(Look.SHALLOW).guests == {}
    observed = stage.look(Look.DEEP)
    assert observed.instances[foreign.instance].status is InstanceStatus.RUNNING
    assert set(observed.guests) == {shared.instance}


def no_command_runs_in_a_stopped_guest(stage: Stage) -> None:
    person = stage.person()
    stage.run(person.create())
    for action in person.guest_actions():
        assert stage.refusal(action) == "WaitingError NotRunning", action.kind


CASES = tuple(value for value in list(vars().values()) if getattr(value, "__module__", "") == __name__)
