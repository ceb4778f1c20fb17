"""One row per thing that can differ: what somebody did or edited, and exactly what the next plan says about it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from containarium.model.action import CreateInstance, Impact, RestartInstance
from containarium.model.observed import Look, Password
from containarium.model.sshkey import SSHKey
from containarium.model.status import ConditionStatus
from containarium.plan import render
from containarium.plan.conditions import summarise
from containarium.plan.decision import EnvironmentPlan, Plan, Verb
from containarium.plan.planner import make_plan
from containarium.simulate.faults import Boundary, Crash, Kill, Scripted
from containarium.simulate.host import SimulatedHost, boundaries
from containarium.simulate.somebody import Somebody
from containarium.simulate.world import PROBE_KEY
from tests.builders import Site, load, manifest, public_key

BOX = "alice-container"
NIC = {
    "type": "nic",
    "name": "eth0",
    "network": "incusbr0",
    "ipv4.address": "10.0.3.2",
    "hwaddr": "02:63:0a:00:03:02",
    "host_name": "cnt-0a000302",
    "security.ipv4_filtering": "true",
    "security.mac_filtering": "true",
    "security.port_isolation": "true",
}


def plan_of(site: Site, **options: Any) -> EnvironmentPlan | None:
    plan = make_plan(site.load, site.host.observe(), site.now, **options)
    return next((environment for environment in plan.environments if environment.name == "alice"), None)


@dataclass(frozen=True)
class Drift:
    """Something done behind the controller's back, and the fields that the plan repairs because of it."""

    name: str
    act: Callable[[Somebody], object]
    fields: tuple[str, ...]
    actions: tuple[str, ...]
    spec: dict[str, Any] = field(default_factory=dict)


DRIFTS = [
    Drift(
        "privileged by a profile",
        lambda s: s.unset_config(BOX, "security.privileged"),
        ("isolation.privileged",),
        ("UpdateInstance",),
    ),
    Drift(
        "primary group",
        lambda s: s.change_primary_group("alice", "users"),
        ("account.group",),
        ("EnsureAccount",),
    ),
    Drift("cpu", lambda s: s.set_config(BOX, "limits.cpu", "1"), ("spec.resources.cpu",), ("UpdateInstance",)),
    Drift("cpu taken away", lambda s: s.unset_config(BOX, "limits.cpu"), ("spec.resources.cpu",), ("UpdateInstance",)),
    Drift(
        "memory", lambda s: s.set_config(BOX, "limits.memory", "1GiB"), ("spec.resources.memory",), ("UpdateInstance",)
    ),
    Drift(
        "processes",
        lambda s: s.unset_config(BOX, "limits.processes"),
        ("spec.resources.processes",),
        ("UpdateInstance",),
    ),
    Drift(
        "nesting",
        lambda s: s.set_config(BOX, "security.nesting", "true"),
        ("spec.docker.nesting",),
        ("UpdateInstance",),
    ),
    Drift(
        "privileged",
        lambda s: s.set_config(BOX, "security.privileged", "true"),
        ("isolation.privileged",),
        ("UpdateInstance",),
    ),
    Drift(
        "shared ids",
        lambda s: s.unset_config(BOX, "security.idmap.isolated"),
        ("isolation.idmap",),
        ("UpdateInstance",),
    ),
    Drift(
        "autostart", lambda s: s.set_config(BOX, "boot.autostart", "false"), ("spec.autostart",), ("UpdateInstance",)
    ),
    Drift(
        "snapshots",
        lambda s: s.set_config(BOX, "snapshots.schedule", "@hourly"),
        ("spec.snapshots.schedule",),
        ("UpdateInstance",),
    ),
    Drift(
        "filters",
        lambda s: s.set_device(BOX, "eth0", {**NIC, "security.ipv4_filtering": "false"}),
        ("isolation.ipv4_filtering",),
        ("UpdateInstance",),
    ),
    Drift(
        "address",
        lambda s: s.set_device(BOX, "eth0", {**NIC, "ipv4.address": "10.0.3.77"}),
        ("spec.network.ipv4",),
        ("UpdateInstance",),
        {"network": {"ipv4": "10.0.3.2"}},
    ),
    Drift("stopped", lambda s: s.stop(BOX), ("spec.running",), ("StartInstance", "AwaitLogin")),
    Drift("frozen", lambda s: s.freeze(BOX), ("spec.running",), ("StartInstance", "AwaitLogin")),
    Drift(
        "guest user",
        lambda s: s.remove_guest_user(BOX, "alice"),
        ("guest.user", "guest.keys"),
        ("SetUpUser", "WriteGuestKeys"),
    ),
    Drift("guest sudo", lambda s: s.revoke_sudo(BOX, "alice"), ("guest.sudo",), ("SetUpUser",)),
    Drift("guest group", lambda s: s.leave_group(BOX, "alice", "sudo"), ("guest.groups",), ("SetUpUser",)),
    Drift("guest keys", lambda s: s.remove_guest_keys(BOX, "alice"), ("guest.keys",), ("WriteGuestKeys",)),
    Drift("root password", lambda s: s.set_root_password(BOX), ("guest.root.password",), ("LockGuestRoot",)),
    Drift("package", lambda s: s.remove_package(BOX, "sudo"), ("spec.packages",), ("InstallPackages",)),
    Drift("guest sshd", lambda s: s.disable_service(BOX, "ssh"), ("guest.ssh",), ("EnableService", "AwaitLogin")),
    Drift(
        "account",
        lambda s: s.remove_account("alice"),
        ("account", "account.keys"),
        ("EnsureAccount", "WriteAccountKeys"),
    ),
    Drift("shell", lambda s: s.give_shell("alice"), ("account.shell",), ("EnsureAccount",)),
    Drift(
        "password", lambda s: s.set_password_state("alice", Password.USABLE), ("account.password",), ("EnsureAccount",)
    ),
    Drift(
        "locked by !",
        lambda s: s.set_password_state("alice", Password.LOCKED),
        ("account.password",),
        ("EnsureAccount",),
    ),
    Drift("half-made", lambda s: s.remove_shadow("alice"), ("account.password",), ("EnsureAccount",)),
    Drift("expiry", lambda s: s.expire("alice"), ("account.expiry",), ("EnsureAccount",)),
    Drift("group", lambda s: s.add_to_group("alice", "incus-admin"), ("account.groups",), ("EnsureAccount",)),
    Drift("ids", lambda s: s.give_subordinate_ids("alice"), ("account.subordinate_ids",), ("EnsureAccount",)),
    Drift(
        "host key",
        lambda s: s.append_host_key("alice", public_key("mallory")),
        ("account.keys",),
        ("WriteAccountKeys",),
    ),
    Drift("host keys", lambda s: s.remove_host_keys("alice"), ("account.keys",), ("WriteAccountKeys",)),
]


@pytest.mark.parametrize("case", DRIFTS, ids=lambda case: case.name)
def test_drift_is_repaired_exactly_and_named(case: Drift) -> None:
    site = Site(manifest("alice", **case.spec))
    assert site.run().converged
    case.act(Somebody(site.world))

    plan = plan_of(site)

    assert plan is not None
    assert plan.verb is Verb.REPAIR
    assert tuple(change.field for change in plan.changes) == case.fields
    assert all(change.drift for change in plan.changes)
    assert tuple(action.kind for action in plan.actions) == case.actions
    assert site.run().converged
    left = plan_of(site)
    assert left is None or not left.actions


FOREIGN: list[tuple[str, Callable[[Somebody], object]]] = [
    ("user key", lambda s: s.set_config(BOX, "user.backup", "weekly")),
    ("device", lambda s: s.set_device(BOX, "gpu", {"type": "gpu"})),
    ("nic limit", lambda s: s.set_device(BOX, "eth0", {**NIC, "limits.ingress": "1Gbit"})),
    ("own guest key", lambda s: s.append_guest_line(BOX, "alice", public_key("second laptop"))),
    ("own shell", lambda s: s.set_guest_shell(BOX, "alice", "/bin/zsh")),
    ("same bytes", lambda s: s.set_config(BOX, "limits.memory", "4096MiB")),
    ("false is unset", lambda s: s.set_config(BOX, "security.nesting", "false")),
    ("foreign instance", lambda s: s.foreign_instance("gitlab", address="10.0.3.2")),
    ("foreign account", lambda s: s.add_account("operator")),
]


@pytest.mark.parametrize(("name", "act"), FOREIGN, ids=[name for name, _ in FOREIGN])
def test_what_nobody_declared_is_not_mentioned(name: str, act: Callable[[Somebody], object]) -> None:
    site = Site(manifest("alice"))
    site.run()
    act(Somebody(site.world))
    assert plan_of(site) is None


def test_a_foreign_key_on_a_managed_device_survives_its_repair() -> None:
    site = Site(manifest("alice"))
    site.run()
    somebody = Somebody(site.world)
    somebody.set_device(BOX, "eth0", {**NIC, "limits.ingress": "1Gbit", "security.mac_filtering": ""})
    site.run()
    assert site.world.instances[BOX].devices["eth0"] == {**NIC, "limits.ingress": "1Gbit"}


@dataclass(frozen=True)
class Edit:
    """An edit of the manifest, and what the plan says: field, impact, and the kinds of action."""

    name: str
    spec: dict[str, Any]
    fields: tuple[tuple[str, Impact], ...]
    actions: tuple[str, ...]


EDITS = [
    Edit("cpu", {"resources": {"cpu": "2-3"}}, (("spec.resources.cpu", Impact.LIVE),), ("UpdateInstance",)),
    Edit("memory", {"resources": {"memory": "8GB"}}, (("spec.resources.memory", Impact.LIVE),), ("UpdateInstance",)),
    Edit("disk", {"resources": {"disk": "60GiB"}}, (("spec.resources.disk", Impact.LIVE),), ("UpdateInstance",)),
    Edit("packages", {"packages": ["git"]}, (("spec.packages", Impact.LIVE),), ("InstallPackages",)),
    Edit(
        "docker",
        {"docker": True},
        (
            ("spec.docker.nesting", Impact.RESTART),
            ("spec.docker.mknod", Impact.RESTART),
            ("spec.docker.setxattr", Impact.RESTART),
            ("spec.packages", Impact.LIVE),
            ("guest.groups", Impact.LIVE),
            ("guest.docker", Impact.LIVE),
        ),
        ("UpdateInstance", "InstallPackages", "SetUpUser", "EnableService", "AwaitLogin"),
    ),
    Edit("stop", {"running": False}, (("spec.running", Impact.LIVE),), ("StopInstance",)),
    Edit("autostart", {"autostart": False}, (("spec.autostart", Impact.LIVE),), ("UpdateInstance",)),
    Edit(
        "snapshots",
        {"snapshots": {"schedule": "@daily", "keep": "30d"}},
        (("spec.snapshots.schedule", Impact.LIVE), ("spec.snapshots.keep", Impact.LIVE)),
        ("UpdateInstance",),
    ),
    Edit(
        "hours",
        {"snapshots": {"schedule": "@daily", "keep": "12h"}},
        (("spec.snapshots.schedule", Impact.LIVE), ("spec.snapshots.keep", Impact.LIVE)),
        ("UpdateInstance",),
    ),
    Edit("protect", {"deletion": {"protect": True}}, (("spec.deletion.protect", Impact.LIVE),), ("UpdateInstance",)),
    Edit("grace", {"deletion": {"grace": "30d"}}, (("spec.deletion", Impact.LIVE),), ("UpdateInstance",)),
]


@pytest.mark.parametrize("edit", EDITS, ids=lambda edit: edit.name)
def test_an_edit_is_labelled_and_is_no_drift(edit: Edit) -> None:
    site = Site(manifest("alice"))
    site.run()
    site.declare(manifest("alice", **edit.spec))

    plan = plan_of(site)

    assert plan is not None
    assert plan.verb is Verb.UPDATE
    assert tuple((change.field, change.impact) for change in plan.changes) == edit.fields
    assert not any(change.drift for change in plan.changes)
    assert tuple(action.kind for action in plan.actions) == (*edit.actions, "UpdateInstance")
    result = site.run()
    assert not result.failures
    assert not result.last.pending


def test_rotated_keys_reach_both_doors() -> None:
    site = Site(manifest("alice", keys=[public_key("old")]))
    site.run()
    site.declare(manifest("alice", keys=[public_key("new")]))
    assert site.run().converged
    assert site.world.inside(BOX).guest.keys == (public_key("new"),)  # type: ignore[union-attr]
    account = site.world.account("alice")
    assert account is not None
    assert account.keys == (
        f'restrict,port-forwarding,permitopen="10.0.3.2:22" {public_key("new")}',
        f'restrict,port-forwarding,permitopen="10.0.3.2:22",from="127.0.0.1,::1" {PROBE_KEY} containarium-probe',
    )


def test_a_host_without_a_key_for_its_probe_lets_none_in() -> None:
    site = Site(manifest("alice"))
    site.world.facts = replace(site.world.facts, probe_key="")
    site.run()
    account = site.world.account("alice")
    assert account is not None
    assert account.keys == (f'restrict,port-forwarding,permitopen="10.0.3.2:22" {public_key("alice")}',)


def test_the_probes_new_key_is_an_update_and_no_drift() -> None:
    site = Site(manifest("alice"))
    site.run()
    site.world = site.world.copy()
    site.world.facts = replace(site.world.facts, probe_key=public_key("another").rpartition(" ")[0])
    site.host = SimulatedHost(site.world)
    (changed,) = make_plan(site.load, site.host.observe(), site.now).environments
    assert [change.field for action in changed.actions for change in action.changes] == ["account.keys"]
    assert not any(change.drift for action in changed.actions for change in action.changes)
    assert site.run().converged
    assert public_key("another").split()[1] in site.world.account("alice").keys[-1]  # type: ignore[union-attr,index]


def test_a_changed_image_is_reported_and_never_acted_on() -> None:
    site = Site(manifest("alice"))
    site.run()
    made = site.world.instances[BOX].created_at
    site.declare(manifest("alice", image="bootstrap:debian/13"))
    site.run()
    plan = plan_of(site)
    assert plan is not None
    assert plan.actions == ()
    assert [(change.field, change.impact) for change in plan.notices] == [("spec.image", Impact.RECREATE)]
    assert site.world.instances[BOX].created_at == made


def test_docker_waits_for_a_restart_that_only_an_admin_allows() -> None:
    site = Site(manifest("alice"))
    site.run()
    site.declare(manifest("alice", docker=True))
    started = site.world.instances[BOX].last_used_at
    site.run()
    plan = plan_of(site)
    assert plan is not None
    assert [change.impact for change in plan.notices] == [Impact.RESTART]
    assert site.world.instances[BOX].last_used_at == started

    site.run(restart=True)

    assert site.world.instances[BOX].last_used_at != started
    assert plan_of(site) is None


def test_protection_is_left_as_it_is_when_the_manifest_does_not_speak_of_it() -> None:
    site = Site(manifest("alice", deletion={"protect": True}))
    site.run()
    site.declare(manifest("alice"))
    site.run()
    assert site.world.instances[BOX].config["security.protection.delete"] == "true"
    site.declare(manifest("alice", deletion={"protect": False}))
    site.run()
    assert "security.protection.delete" not in site.world.instances[BOX].config


def test_a_lost_container_comes_back_with_its_address_and_is_called_drift() -> None:
    site = Site(manifest("adam"), manifest("alice"))
    site.run()
    address = site.world.instances[BOX].addresses
    Somebody(site.world).remove_instance(BOX)
    Somebody(site.world).remove_instance("adam-container")
    plan = plan_of(site)
    assert plan is not None
    assert plan.verb is Verb.CREATE
    assert all(change.drift for change in plan.changes if change.field == "instance")
    assert site.run().converged
    assert site.world.instances[BOX].addresses == address


def test_a_half_born_container_starts_over_and_one_that_has_run_never_does() -> None:
    site = Site(manifest("alice"))
    Somebody(site.world).half_born(BOX, "alice")
    plan = plan_of(site)
    assert plan is not None
    assert [action.kind for action in plan.actions[:2]] == ["DeleteInstance", "CreateInstance"]
    assert site.run().converged

    made = site.world.instances[BOX].created_at
    somebody = Somebody(site.world)
    somebody.unset_config(BOX, "user.containarium.applied")
    somebody.stop(BOX)
    assert site.run().converged
    assert site.world.instances[BOX].created_at == made


def test_a_snapshot_is_kept_in_the_units_of_incus_where_a_small_m_is_a_month() -> None:
    site = Site(manifest("alice", snapshots={"schedule": "@hourly", "keep": "90m"}))
    site.run()
    assert site.world.instances[BOX].config["snapshots.expiry"] == "90M"


def test_autostart_is_given_only_to_what_can_start() -> None:
    """Incus tries a half-born row that is to start for ten seconds at each of its own starts, before it answers."""
    site = Site(manifest("alice"))
    plan = plan_of(site)
    assert plan is not None
    created = next(action for action in plan.actions if isinstance(action, CreateInstance))
    assert created.config["boot.autostart"] == "false"
    assert site.run().converged
    assert site.world.instances[BOX].config["boot.autostart"] == "true"


def test_a_new_environment_is_shown_with_all_that_it_gets() -> None:
    site = Site(
        manifest("alice", docker=True, autostart=False, snapshots={"keep": "7d"}, deletion={"protect": True}),
        manifest("bob", running=False),
    )
    lines = [line.split("  [")[0].split() for line in render.text(site.run().first).splitlines()]
    assert ["+", "spec.docker", "true"] in lines
    assert ["+", "spec.autostart", "false"] in lines
    assert ["+", "spec.snapshots", "@daily,", "kept", "7d"] in lines
    assert ["+", "spec.deletion.protect", "true"] in lines
    assert ["+", "spec.running", "false"] in lines


def test_a_restart_that_was_asked_for_is_no_drift_and_is_not_forgotten_by_the_dying() -> None:
    site = Site(manifest("alice"))
    site.run()
    site.declare(manifest("alice", docker=True))
    (plan,) = site.run(restart=True).done
    assert plan.verb is Verb.UPDATE
    assert "spec.docker.nesting            true  [restart: made now]" in "\n".join(
        render.text(Plan((plan,))).splitlines()
    )

    site = Site(manifest("alice"))
    site.run()
    site.declare(manifest("alice", docker=True))
    site.host = SimulatedHost(site.world, _killed_before_the_restart)
    with pytest.raises(Crash):
        site.run(restart=True)
    site.host = SimulatedHost(site.world)
    notices = [notice.field for plan in site.run().last.environments for notice in plan.notices]
    assert notices == ["restart"]
    assert site.run(restart=True).converged
    assert not site.run().last.environments


def _killed_before_the_restart(boundary: Boundary) -> Kill | None:
    return Kill() if isinstance(boundary.action, RestartInstance) else None


def test_an_edit_of_the_inside_is_seen_without_looking_there() -> None:
    site = Site(manifest("alice"))
    site.run()
    site.declare(manifest("alice", packages=["git"]))
    observed = site.host.observe(Look.SHALLOW)
    plan = make_plan(site.load, observed, site.now)
    assert plan.pending
    assert render.summary(plan) == "Plan: 1 to update, 0 unchanged."
    (ready, *_) = summarise(plan, observed)["alice"]
    assert (ready.status, ready.reason) == (ConditionStatus.FALSE, "ToBeUpdated")


def test_the_summary_does_not_say_that_nothing_is_to_do_when_something_is_held_back() -> None:
    site = Site(manifest("alice"), manifest("bob", placement={"host": "other"}))
    site.run()
    empty = make_plan(load(complete=False), site.host.observe(), site.now)
    assert render.summary(empty) == "Plan: 0 unchanged, 1 held back."
    assert render.summary(site.run().last) == "Plan: nothing to do, 1 unchanged, 1 elsewhere."


def test_a_key_that_somebody_added_is_named_by_its_fingerprint() -> None:
    site = Site(manifest("alice"))
    site.run()
    intruder = SSHKey.parse(public_key("intruder"))
    Somebody(site.world).append_host_key("alice", intruder.line)
    Somebody(site.world).append_host_key("alice", "nonsense")
    plan = plan_of(site)
    assert plan is not None
    own = SSHKey.parse(public_key("alice")).fingerprint
    assert plan.changes[0].before == f"{own} {intruder.fingerprint} an unreadable line"


def test_what_no_manifest_speaks_of_is_drift_even_while_the_manifest_is_edited() -> None:
    site = Site(manifest("alice"))
    site.run()
    somebody = Somebody(site.world)
    somebody.give_shell("alice")
    somebody.set_config(BOX, "security.privileged", "true")
    site.declare(manifest("alice", resources={"cpu": "2"}))
    (plan,) = site.run().done
    assert plan.verb is Verb.UPDATE
    assert {change.field: change.drift for change in plan.changes} == {
        "spec.resources.cpu": False,
        "isolation.privileged": True,
        "account.shell": True,
    }


def test_a_killed_creation_of_a_protected_environment_is_finished() -> None:
    start = Site(manifest("alice", deletion={"protect": True}))
    plan = plan_of(start)
    assert plan is not None
    for number, boundary in enumerate(boundaries(start.world, plan.actions), start=1):
        site = Site(*start.load.manifests)
        site.host = SimulatedHost(site.world, Scripted({number: Kill()}))
        with suppress(Crash):
            site.run()
        site.host = SimulatedHost(site.world)
        assert site.run().converged, boundary
        assert site.world.instances[BOX].config["security.protection.delete"] == "true"
