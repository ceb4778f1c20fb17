"""Cases about what the kernel holds a running guest to, whatever its configuration says."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from containarium.model import marks
from containarium.model.action import EnforceLimits
from containarium.model.observed import Enforcement
from tests.conformance.operators import Operator
from tests.conformance.stage import Person, Stage

MIB = 2**20
_CONFIG = {"limits.memory": "512MiB", "limits.processes": "500", "limits.cpu": "1"}


def _nic(person: Person) -> dict[str, str]:
    filters = {"security.mac_filtering": "true", "security.ipv4_filtering": "true"}
    return person.nic | filters | {"hwaddr": marks.hardware_address(person.address)}


def _running(stage: Stage) -> Person:
    person = stage.person()
    create = person.create(_CONFIG)
    stage.run(replace(create, devices={"root": person.root, "eth0": _nic(person)}), person.start())
    return person


def _enforce(person: Person, *keys: str, **devices: dict[str, str]) -> EnforceLimits:
    config = {key: _CONFIG[key] for key in keys}
    return EnforceLimits(environment=person.name, instance=person.instance, config=config, devices=devices)


def _held(stage: Stage, person: Person) -> Enforcement:
    return stage.look().enforced[person.instance]


def a_start_puts_every_limit_in_force(stage: Stage) -> None:
    person = _running(stage)
    held = _held(stage, person)
    assert (held.memory, held.processes) == (512 * MIB, 500)
    assert len(held.cpus or ()) == 1
    assert held.disk == 2048 * MIB
    assert held.filters
    stage.run(person.stop())
    assert person.instance not in stage.look().enforced
    stage.run(_enforce(person, "limits.memory"))


def a_change_is_in_force_at_once(stage: Stage) -> None:
    person = _running(stage)
    stage.run(person.update({"limits.memory": "600MB", "limits.processes": "400", "limits.cpu": "0-1"}))
    held = _held(stage, person)
    assert held.memory == 600_000_000 // 4096 * 4096
    assert held.processes == 400
    assert held.cpus == frozenset({0, 1})


def _is_enforced_again(stage: Stage, harm: Callable[[Operator, str], None], action: Callable[[Person], str]) -> None:
    person = _running(stage)
    right, before = _held(stage, person), stage.instance(person)
    harm(stage.operator, person.instance)
    wrong = _held(stage, person)
    assert wrong != right
    key = action(person)
    devices = {"root": person.root, "eth0": _nic(person)}
    stage.run(_enforce(person, **{key: devices[key]}) if key in devices else _enforce(person, key))
    held = _held(stage, person)
    assert replace(held, cpus=None) == replace(right, cpus=None)
    assert len(held.cpus or ()) == 1
    assert stage.instance(person).config.keys() - {"volatile.eth0.host_name"} == before.config.keys() - {
        "volatile.eth0.host_name"
    }
    assert stage.instance(person).devices == before.devices


def a_raised_memory_limit_is_enforced_again(stage: Stage) -> None:
    _is_enforced_again(stage, lambda o, name: o.loosen_memory(name, 900 * MIB), lambda _: "limits.memory")


def a_raised_process_limit_is_enforced_again(stage: Stage) -> None:
    _is_enforced_again(stage, lambda o, name: o.loosen_processes(name, 9000), lambda _: "limits.processes")


def processors_are_enforced_again(stage: Stage) -> None:
    _is_enforced_again(stage, lambda o, name: o.loosen_cpus(name), lambda _: "limits.cpu")


def a_raised_disk_limit_is_enforced_again(stage: Stage) -> None:
    _is_enforced_again(stage, lambda o, name: o.limit_disk(name, 3000 * MIB), lambda _: "root")


def flushed_filters_are_enforced_again(stage: Stage) -> None:
    _is_enforced_again(stage, lambda o, name: o.flush_filters(name), lambda _: "eth0")


def a_disk_limit_below_use_makes_incus_refuse_until_it_is_enforced_again(stage: Stage) -> None:
    person = _running(stage)
    stage.operator.limit_disk(person.instance, 50 * MIB)
    assert stage.refusal(person.update({"user.note": "one"})) == "TerminalError QuotaExceeded"
    stage.run(_enforce(person, root=person.root), person.update({"user.note": "two"}))
    assert _held(stage, person).disk == 2048 * MIB
    assert stage.instance(person).config["user.note"] == "two"


def all_of_it_at_once_and_again(stage: Stage) -> None:
    person = _running(stage)
    stage.operator.limit_disk(person.instance, 50 * MIB)
    stage.operator.loosen_memory(person.instance, 900 * MIB)
    stage.operator.loosen_processes(person.instance, 9000)
    stage.operator.flush_filters(person.instance)
    action = _enforce(person, *_CONFIG, root=person.root, eth0=_nic(person))
    stage.run(action, action)
    held = _held(stage, person)
    assert (held.memory, held.processes, held.disk, held.filters) == (512 * MIB, 500, 2048 * MIB, True)


def what_is_configured_otherwise_by_now_is_looked_at_again(stage: Stage) -> None:
    person = _running(stage)
    stage.run(person.update({"limits.processes": "300"}))
    stage.operator.loosen_processes(person.instance, 9000)
    assert stage.refusal(_enforce(person, "limits.processes")) == "RetryableError Changed"


def nobody_elses_limits_are_enforced(stage: Stage) -> None:
    person = stage.person()
    stage.operator.foreign_instance(person.instance, running=True)
    assert stage.refusal(_enforce(person, "limits.memory")) == "TerminalError Conflict"
    assert person.instance not in stage.look().enforced


CASES = tuple(
    value
    for name, value in list(vars().items())
    if getattr(value, "__module__", "") == __name__ and not name.startswith("_")
)
