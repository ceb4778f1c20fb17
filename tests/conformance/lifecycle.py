"""Cases about the beginning and the end: taking over somebody's instance, and a backup before one goes."""

from __future__ import annotations

from containarium.model import marks
from containarium.model.observed import InstanceStatus
from tests.conformance.stage import Stage

FOREIGN_KEY = "user.somebody.note"
RETIRED = {marks.APPLIED: "retired", marks.RETIRED: "2026-01-01T00:00:00+00:00"}


def an_unmarked_instance_is_adopted_in_one_change(stage: Stage) -> None:
    person = stage.person()
    stage.operator.foreign_instance(person.instance, address=person.address)
    stage.operator.set_config(person.instance, FOREIGN_KEY, "mine")
    before = stage.instance(person)
    stage.run(person.adopt({"limits.cpu": "1"}, {"root": person.root}))
    after = stage.instance(person)
    assert after.config[marks.ENVIRONMENT] == person.name
    assert after.config[marks.APPLIED] == "adopted"
    assert after.config["limits.cpu"] == "1"
    assert after.config[FOREIGN_KEY] == "mine"
    assert after.devices == {**before.devices, "root": person.root}
    assert (after.status, after.created_at) == (before.status, before.created_at)
    stage.run(person.adopt({"limits.cpu": "2"}))  # it is ours already: what differs now is for a later plan
    assert stage.instance(person) == after


def what_cannot_be_changed_is_not_adopted_either(stage: Stage) -> None:
    person = stage.person()
    stage.operator.foreign_instance(person.instance)
    before = stage.instance(person)
    assert stage.refusal(person.adopt({"limits.memory": "lots"})) == "TerminalError InvalidConfiguration"
    assert stage.instance(person) == before


def another_environments_instance_is_not_adopted(stage: Stage) -> None:
    person = stage.person()
    stage.run(person.create())
    stage.operator.set_config(person.instance, marks.ENVIRONMENT, "somebody-else")
    before = stage.instance(person)
    assert stage.refusal(person.adopt()) == "TerminalError Conflict"
    assert stage.instance(person) == before
    assert stage.refusal(stage.person().adopt()) == "TerminalError NotFound"


def a_backup_changes_nothing_and_is_made_once(stage: Stage) -> None:
    person = stage.person()
    stage.run(person.create(), person.update(RETIRED))
    before = stage.instance(person)
    stage.run(person.back_up())
    assert stage.instance(person) == before
    stage.run(person.back_up(), person.delete())
    assert stage.operator.backups(person.instance) == 1


def one_that_was_started_since_is_backed_up_again(stage: Stage) -> None:
    person = stage.person()
    stage.run(person.create(), person.update(RETIRED), person.back_up(), person.start(), person.stop())
    assert stage.instance(person).status is InstanceStatus.STOPPED
    stage.run(person.back_up())
    assert stage.operator.backups(person.instance) == 2


def a_running_instance_is_not_backed_up(stage: Stage) -> None:
    person = stage.shared()
    assert stage.refusal(person.back_up()) == "RetryableError Running"
    assert stage.operator.backups(person.instance) == 0


CASES = tuple(value for value in list(vars().values()) if getattr(value, "__module__", "") == __name__)
