"""Cases about the jump accounts of the host."""

from __future__ import annotations

from collections.abc import Callable

from containarium.model import marks
from containarium.model.observed import Look, Password
from tests.conformance.operators import Operator
from tests.conformance.stage import Stage

KEY_ONE = (
    'restrict,port-forwarding,permitopen="10.0.3.100:22" ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAAAAAAAAAAA one@laptop'
)
KEY_TWO = (
    'restrict,port-forwarding,permitopen="10.0.3.100:22" ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAAAAAAAAAAB two@laptop'
)


def an_account_is_made_and_stays(stage: Stage) -> None:
    person = stage.person()
    stage.run(person.ensure_account())
    account = stage.account(person)
    assert account.group == marks.JUMP_GROUP
    assert account.comment == marks.account_comment(person.name)
    assert account.shell == marks.JUMP_SHELL
    assert account.password is Password.NONE
    assert not account.expired
    assert account.groups == frozenset()
    assert not account.subordinate_ids
    assert account.keys is None
    stage.run(person.ensure_account())
    assert stage.account(person) == account


def _repairs(stage: Stage, harm: Callable[[Operator, str], None]) -> None:
    person = stage.person()
    stage.run(person.ensure_account())
    right = stage.account(person)
    harm(stage.operator, person.name)
    assert stage.account(person) != right
    stage.run(person.ensure_account())
    assert stage.account(person) == right


def a_changed_shell_is_repaired(stage: Stage) -> None:
    _repairs(stage, lambda operator, name: operator.give_shell(name))


def a_locked_password_is_repaired(stage: Stage) -> None:
    _repairs(stage, lambda operator, name: operator.set_password_state(name, Password.LOCKED))


def a_set_password_is_repaired(stage: Stage) -> None:
    _repairs(stage, lambda operator, name: operator.set_password_state(name, Password.USABLE))


def an_empty_password_is_repaired(stage: Stage) -> None:
    _repairs(stage, lambda operator, name: operator.set_password_state(name, Password.EMPTY))


def an_extra_group_is_repaired(stage: Stage) -> None:
    _repairs(stage, lambda operator, name: operator.add_to_group(name, "games"))


def an_expiry_is_repaired(stage: Stage) -> None:
    _repairs(stage, lambda operator, name: operator.expire(name))


def subordinate_ids_are_repaired(stage: Stage) -> None:
    _repairs(stage, lambda operator, name: operator.give_subordinate_ids(name))


def a_half_made_account_is_completed(stage: Stage) -> None:
    _repairs(stage, lambda operator, name: operator.remove_shadow(name))


def a_lost_account_comes_back_to_its_keys(stage: Stage) -> None:
    person = stage.person()
    stage.run(person.ensure_account(), person.write_account_keys(KEY_ONE))
    stage.operator.remove_account(person.name)
    observed = stage.look(Look.SHALLOW)
    assert person.name not in observed.accounts
    assert person.name in observed.orphan_keys
    stage.run(person.ensure_account())
    assert stage.account(person).keys == (KEY_ONE,)


def keys_are_written_whole_and_removed(stage: Stage) -> None:
    person = stage.person()
    stage.run(person.ensure_account(), person.write_account_keys(KEY_ONE, KEY_TWO))
    assert stage.account(person).keys == (KEY_ONE, KEY_TWO)
    stage.run(person.write_account_keys(KEY_TWO))
    assert stage.account(person).keys == (KEY_TWO,)
    stage.operator.append_host_key(person.name, KEY_ONE)
    assert stage.account(person).keys == (KEY_TWO, KEY_ONE)
    stage.run(person.write_account_keys(KEY_TWO))
    assert stage.account(person).keys == (KEY_TWO,)
    stage.run(person.write_account_keys(), person.write_account_keys())
    assert stage.account(person).keys is None


def keys_may_come_before_the_account(stage: Stage) -> None:
    person = stage.person()
    stage.run(person.write_account_keys(KEY_ONE))
    assert person.name in stage.look(Look.SHALLOW).orphan_keys
    stage.run(person.ensure_account())
    assert stage.account(person).keys == (KEY_ONE,)


def locking_expires_until_it_is_ensured_again(stage: Stage) -> None:
    person = stage.person()
    stage.run(person.lock_account())  # there is none, which is locked enough
    stage.run(person.ensure_account(), person.write_account_keys(KEY_ONE), person.lock_account(), person.lock_account())
    locked = stage.account(person)
    assert locked.expired
    assert locked.keys == (KEY_ONE,)
    stage.run(person.ensure_account())
    assert not stage.account(person).expired


def deleting_takes_the_keys_along(stage: Stage) -> None:
    person = stage.person()
    stage.run(person.ensure_account(), person.write_account_keys(KEY_ONE), person.delete_account())
    observed = stage.look(Look.SHALLOW)
    assert person.name not in observed.accounts
    assert person.name not in observed.orphan_keys
    stage.run(person.delete_account(), person.write_account_keys(KEY_ONE), person.delete_account())
    assert person.name not in stage.look(Look.SHALLOW).orphan_keys


def _foreign(stage: Stage, *, comment: str) -> None:
    person = stage.person()
    stage.operator.add_account(person.name, comment=comment)
    before = stage.account(person)
    actions = (
        person.ensure_account(),
        person.write_account_keys(KEY_ONE),
        person.write_account_keys(),
        person.lock_account(),
        person.delete_account(),
    )
    for action in actions:
        assert stage.refusal(action) == "TerminalError Conflict", action.kind
    assert stage.account(person) == before


def a_foreign_account_is_refused_to_every_action(stage: Stage) -> None:
    _foreign(stage, comment="Alice Example")


def our_comment_alone_does_not_make_it_ours(stage: Stage) -> None:
    _foreign(stage, comment=marks.account_comment("conf1"))


CASES = tuple(
    value
    for name, value in list(vars().items())
    if getattr(value, "__module__", "") == __name__ and not name.startswith("_")
)
