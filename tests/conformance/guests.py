"""Cases about the inside of a running guest. All of them share one, in which each puts right what it needs."""

from __future__ import annotations

from dataclasses import replace

from containarium.model.observed import Password
from tests.conformance.stage import PACKAGE, SHELL, Stage

KEY_ONE = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA one@laptop"
KEY_TWO = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAB two@laptop"
OWN_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAC own@phone"
HER_OWN_GROUP = "games"


def the_user_is_made_and_stays(stage: Stage) -> None:
    person = stage.shared()
    stage.operator.remove_guest_user(person.instance, person.name)
    missing = stage.guest(person)
    assert not missing.user
    assert missing.password is Password.MISSING
    stage.run(person.set_up_user())
    guest = stage.guest(person)
    assert guest.user
    assert guest.shell == SHELL
    assert "sudo" in guest.groups
    assert guest.password is Password.NONE
    assert guest.sudo
    stage.run(person.set_up_user())
    assert stage.guest(person) == guest


def the_user_is_repaired(stage: Stage) -> None:
    person = stage.shared()
    stage.run(person.set_up_user())
    stage.operator.leave_group(person.instance, person.name, "sudo")
    stage.operator.join_group(person.instance, person.name, HER_OWN_GROUP)
    stage.operator.set_guest_shell(person.instance, person.name, "/usr/sbin/nologin")
    stage.operator.revoke_sudo(person.instance, person.name)
    broken = stage.guest(person)
    assert "sudo" not in broken.groups
    assert not broken.sudo
    stage.run(person.set_up_user())
    guest = stage.guest(person)
    assert {"sudo", HER_OWN_GROUP} <= guest.groups
    assert guest.shell == SHELL
    assert guest.sudo


def a_shell_of_the_persons_choice_stays(stage: Stage) -> None:
    person = stage.shared()
    stage.run(person.set_up_user())
    stage.operator.set_guest_shell(person.instance, person.name, "/bin/sh")
    stage.run(person.set_up_user())
    assert stage.guest(person).shell == "/bin/sh"
    stage.operator.set_guest_shell(person.instance, person.name, SHELL)


def groups_to_leave_are_left(stage: Stage) -> None:
    person = stage.shared()
    stage.run(person.set_up_user())
    stage.operator.join_group(person.instance, person.name, "audio")
    assert "audio" in stage.guest(person).groups
    stage.run(replace(person.set_up_user(), without=("audio", "video")))
    assert "audio" not in stage.guest(person).groups


def keys_need_the_user(stage: Stage) -> None:
    person = stage.shared()
    stage.operator.remove_guest_user(person.instance, person.name)
    assert stage.refusal(person.write_guest_keys(KEY_ONE)) == "RetryableError UserMissing"
    stage.run(person.set_up_user(), person.write_guest_keys())
    assert stage.guest(person).keys == ()


def keys_are_exact_and_the_persons_own_lines_stay(stage: Stage) -> None:
    person = stage.shared()
    stage.run(person.set_up_user())
    stage.operator.remove_guest_keys(person.instance, person.name)
    assert stage.guest(person).keys is None
    stage.run(person.write_guest_keys(KEY_ONE))
    assert stage.guest(person).keys == (KEY_ONE,)
    stage.operator.append_guest_line(person.instance, person.name, OWN_KEY)
    assert stage.guest(person).keys == (KEY_ONE,)
    stage.run(person.write_guest_keys(KEY_ONE, KEY_TWO))
    assert stage.guest(person).keys == (KEY_ONE, KEY_TWO)
    stage.run(person.write_guest_keys(KEY_TWO))
    assert stage.guest(person).keys == (KEY_TWO,)
    assert stage.operator.guest_key_lines(person.instance, person.name) == (KEY_TWO, OWN_KEY)


def keys_that_others_took_away_come_back(stage: Stage) -> None:
    person = stage.shared()
    stage.run(person.set_up_user(), person.write_guest_keys(KEY_ONE, KEY_TWO))
    stage.operator.remove_guest_key(person.instance, person.name, KEY_ONE)
    assert stage.guest(person).keys == (KEY_TWO,)
    stage.run(person.write_guest_keys(KEY_ONE, KEY_TWO))
    stage.operator.remove_guest_keys(person.instance, person.name)
    assert stage.guest(person).keys is None
    stage.run(person.write_guest_keys(KEY_ONE, KEY_TWO))
    assert stage.guest(person).keys == (KEY_ONE, KEY_TWO)


def a_root_password_is_taken_away(stage: Stage) -> None:
    person = stage.shared()
    stage.operator.set_root_password(person.instance)
    assert stage.guest(person).root_password is Password.USABLE
    stage.run(person.lock_root(), person.lock_root())
    assert stage.guest(person).root_password is Password.NONE


def packages_are_installed(stage: Stage) -> None:
    person = stage.shared()
    stage.operator.remove_package(person.instance, PACKAGE)
    assert PACKAGE not in stage.guest(person).packages
    stage.run(person.install(PACKAGE), person.install(PACKAGE))
    assert PACKAGE in stage.guest(person).packages


def an_unknown_package_is_refused(stage: Stage) -> None:
    person = stage.shared()
    assert stage.refusal(person.install("no-such-package-anywhere")) == "TerminalError PackageUnknown"


def a_service_that_nothing_brought_is_missing(stage: Stage) -> None:
    assert stage.refusal(stage.shared().enable("docker")) == "TerminalError ServiceMissing"


def a_service_is_enabled_again(stage: Stage) -> None:
    person = stage.shared()
    stage.operator.disable_service(person.instance, "ssh")
    assert not stage.guest(person).ssh
    stage.run(person.enable("ssh"), person.enable("ssh"), person.await_login())
    assert stage.guest(person).ssh


CASES = tuple(value for value in list(vars().values()) if getattr(value, "__module__", "") == __name__)
