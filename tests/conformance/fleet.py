"""Cases about what one host of a fleet does alone: doors to other hosts, and marks of a move."""

from __future__ import annotations

from containarium.model import marks
from containarium.model.fleet import Box, Presence
from containarium.plan.presence import arriving, box_of, boxes
from tests.conformance.stage import Stage


def a_door_leads_to_another_hosts_box_with_nothing_of_it_here(stage: Stage) -> None:
    person = stage.person()
    line = 'restrict,port-forwarding,permitopen="10.99.0.7:22" ssh-ed25519 AAAA one'
    stage.run(person.ensure_account(), person.write_account_keys(line))
    assert stage.account(person).keys == (line,)
    assert person.instance not in stage.look().instances
    stage.run(person.write_account_keys(), person.delete_account())
    assert person.name not in stage.look().accounts


def the_marks_of_a_move_stand_on_the_instance_and_go_again(stage: Stage) -> None:
    person = stage.person()
    stage.run(person.create())
    name, address = person.name, person.address
    for config, told in (
        ({}, Box(name, Presence.HERE, address)),
        ({marks.LEAVING: "jump-2"}, Box(name, Presence.LEAVING, address, "jump-2")),
        ({marks.LEAVING: "", marks.MOVED: "jump-2"}, Box(name, Presence.MOVED, address, "jump-2")),
        ({marks.ARRIVING: arriving("jump-3", whole=True)}, Box(name, Presence.ARRIVING, address, "jump-3")),
        ({marks.ARRIVING: "", marks.MOVED: ""}, Box(name, Presence.HERE, address)),
    ):
        if config:
            stage.run(person.update(config))
        observed = stage.look()
        assert box_of(name, observed.instances[person.instance]) == told
        assert boxes(observed)[name] == told


def only_what_a_move_has_marked_is_deleted_as_an_old_copy(stage: Stage) -> None:
    person = stage.person()
    stage.run(person.create())
    assert stage.refusal(person.delete_old_copy()) == "RetryableError Changed"
    assert stage.instance(person).name == person.instance
    stage.run(person.update({marks.MOVED: "jump-2"}), person.delete_old_copy())
    assert person.instance not in stage.look().instances


CASES = tuple(value for value in list(vars().values()) if getattr(value, "__module__", "") == __name__)
