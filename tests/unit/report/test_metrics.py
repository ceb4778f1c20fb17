"""What Prometheus is told."""

from __future__ import annotations

import itertools
import re
from dataclasses import replace
from pathlib import Path

import pytest

import containarium.plan
from containarium.plan.compare import CONFIG_FIELDS
from containarium.report.gauges import MOST_ENVIRONMENTS
from containarium.report.metrics import FIELDS, Metrics
from containarium.report.snapshot import Probe, Revision, Snapshot, Trouble, Work
from containarium.report.status import build
from containarium.report.statusfile import EnvironmentStatus
from containarium.simulate.somebody import Somebody
from tests.builders import NOW, Site, load, manifest
from tests.unit.report.passes import DAEMON, snapshot, unseen

SAMPLE = re.compile(r"^(\w+(?:\{[^}]*\})?) (\S+)$")


def samples(metrics: Metrics) -> dict[str, float]:
    lines = metrics.render().decode().splitlines()
    return {found[1]: float(found[2]) for line in lines if (found := SAMPLE.match(line))}


_numbers = itertools.count()


def observe(metrics: Metrics, seen: Snapshot) -> None:
    """Tell of a pass; each is one of its own."""
    metrics.observe(replace(seen, id=str(next(_numbers))), build(seen, None, DAEMON))


@pytest.fixture
def metrics() -> Metrics:
    """Give metrics that nobody has told anything."""
    return Metrics()


@pytest.fixture
def site() -> Site:
    """Give a host with alice and bob, as declared."""
    site = Site(manifest("alice"), manifest("bob"))
    site.run()
    return site


def test_what_is_known_starts_at_0(metrics: Metrics) -> None:
    found = samples(metrics)
    for name in (
        'reconcile_total{result="success"}',
        'reconcile_total{result="error"}',
        "reconcile_errors_total",
        "workqueue_retries_total",
        "workqueue_depth",
        "active_workers",
        'environments{condition="Ready",status="True"}',
        'environments{condition="Drifted",status="True"}',
        'drift_found_total{field="spec.resources.memory"}',
        'drift_repaired_total{field="other"}',
        'prune_blocked{reason="Budget"}',
        'actions_total{kind="CreateInstance",result="error"}',
        'wakeups_total{trigger="incus"}',
        'ssh_probes_total{result="failure"}',
        'recipe_builds_total{result="success"}',
        'recipe_builds_total{result="error"}',
        "reconcile_time_seconds_count",
        "convergence_time_seconds_count",
        "preempted",
    ):
        assert found["containarium_" + name] == 0, name


def test_what_is_not_known_is_not_there(metrics: Metrics) -> None:
    found = samples(metrics)
    assert "containarium_last_successful_pass_timestamp_seconds" not in found
    assert "containarium_recovery_time_seconds" not in found
    assert "containarium_manifests_complete" not in found
    assert not [name for name in found if name.startswith(("containarium_recipes", "containarium_recipe_last"))]


def test_a_pass(metrics: Metrics, site: Site) -> None:
    observe(metrics, snapshot(site, triggers=("incus", "manifests", "something new")))
    found = samples(metrics)
    assert found['containarium_reconcile_total{result="success"}'] == 1
    assert found["containarium_reconcile_time_seconds_sum"] == pytest.approx(0.061)
    assert found['containarium_environments{condition="Ready",status="True"}'] == 2
    assert found["containarium_environments_desired"] == 2
    assert found["containarium_environments_observed"] == 2
    assert found["containarium_last_successful_pass_timestamp_seconds"] == NOW.timestamp()
    assert found["containarium_last_pass_timestamp_seconds"] == pytest.approx(NOW.timestamp() + 0.061)
    assert found["containarium_controller_start_timestamp_seconds"] == DAEMON.started.timestamp()
    assert found["containarium_manifests_complete"] == 1
    assert found["containarium_jump_accounts_missing"] == 0
    assert found['containarium_environment_ready{environment="alice"}'] == 1
    assert {trigger: found[f'containarium_wakeups_total{{trigger="{trigger}"}}'] for trigger in ("incus", "other")} == {
        "incus": 1,
        "other": 1,
    }


def test_a_pass_that_could_not_look(metrics: Metrics, site: Site) -> None:
    observe(metrics, unseen(site))
    found = samples(metrics)
    assert found['containarium_reconcile_total{result="error"}'] == 1
    assert found["containarium_reconcile_errors_total"] == 1
    assert found['containarium_reconcile_total{result="success"}'] == 0


def test_series_end_with_their_environment(metrics: Metrics, site: Site) -> None:
    observe(metrics, snapshot(site, probes={"bob": Probe(NOW, 0.1)}))
    assert 'environment="bob"' in metrics.render().decode()
    site.declare(manifest("alice"))
    site.run()
    observe(metrics, snapshot(site))
    text = metrics.render().decode()
    assert 'environment="bob"' not in text
    assert 'environment="alice"' in text
    assert samples(metrics)["containarium_environments_retired"] == 1


def test_series_are_bounded(metrics: Metrics, site: Site) -> None:
    seen = snapshot(site)
    many = tuple(EnvironmentStatus(f"p{number}", "Running") for number in range(MOST_ENVIRONMENTS + 5))
    metrics.observe(seen, replace(build(seen, None, DAEMON), environments=many))
    assert metrics.render().decode().count("containarium_environment_ready{") == MOST_ENVIRONMENTS
    assert samples(metrics)["containarium_environments_beyond_series"] == 5


def test_a_missing_jump_account(metrics: Metrics, site: Site) -> None:
    Somebody(site.world).remove_account("bob")
    observe(metrics, snapshot(site))
    assert samples(metrics)["containarium_jump_accounts_missing"] == 1


def test_failed_attempts_are_counted_once_each(metrics: Metrics, site: Site) -> None:
    def errors_and_retries(attempts: int | None) -> tuple[float, float]:
        trouble = Trouble("StartInstance", "Timeout", "no", attempts or 0, NOW, NOW)
        observe(metrics, snapshot(site, troubles={"alice": trouble} if attempts else {}))
        found = samples(metrics)
        return found["containarium_reconcile_errors_total"], found["containarium_workqueue_retries_total"]

    assert errors_and_retries(1) == (1, 0)
    assert errors_and_retries(1) == (1, 0)
    assert errors_and_retries(2) == (2, 1)
    assert errors_and_retries(4) == (4, 3)
    assert errors_and_retries(None) == (4, 3)
    assert errors_and_retries(1) == (5, 3)
    assert errors_and_retries(3) == (7, 5)
    assert errors_and_retries(1) == (8, 5)  # another manifest: counted from the start again


def test_work_that_waits_and_work_that_is_done(metrics: Metrics, site: Site) -> None:
    site.declare(manifest("alice"), manifest("bob"), manifest("carol"), manifest("dave"))
    observe(metrics, snapshot(site, working={"carol": Work("create", "CreateInstance", NOW)}))
    found = samples(metrics)
    assert (found["containarium_workqueue_depth"], found["containarium_active_workers"]) == (1, 1)


def test_probes_are_counted_once_each(metrics: Metrics, site: Site) -> None:
    probes = {"alice": Probe(NOW, 0.2), "bob": Probe(NOW, 4.0, "refused")}
    observe(metrics, snapshot(site, probes=probes))
    observe(metrics, snapshot(site, probes=probes))
    found = samples(metrics)
    assert found['containarium_ssh_probes_total{result="success"}'] == 1
    assert found['containarium_ssh_probes_total{result="failure"}'] == 1
    assert found["containarium_ssh_probe_time_seconds_sum"] == pytest.approx(4.2)
    assert found['containarium_environment_ssh_probe_success{environment="bob"}'] == 0
    assert found['containarium_environment_ready{environment="bob"}'] == 0
    assert found["containarium_ssh_unreachable"] == 1


def test_what_is_held_back(metrics: Metrics) -> None:
    site = Site(*(manifest(f"p{number}") for number in range(6)))
    site.run()
    site.declare(manifest("p0"))
    observe(metrics, snapshot(site))
    assert samples(metrics)['containarium_prune_blocked{reason="Budget"}'] == 5


def test_the_revision(metrics: Metrics, site: Site) -> None:
    observe(metrics, snapshot(site, revision=Revision("aaa", "bbb", "alice.yaml: no such field", NOW.isoformat())))
    found = samples(metrics)
    assert found['containarium_manifest_revision_info{revision="aaa",state="applied"}'] == 1
    assert found['containarium_manifest_revision_info{revision="bbb",state="tried"}'] == 1
    assert found["containarium_manifest_sync_failing"] == 1
    assert found["containarium_manifest_sync_timestamp_seconds"] == NOW.timestamp()
    observe(metrics, snapshot(site, revision=Revision("bbb", "bbb", "", "not a time")))
    text = metrics.render().decode()
    assert "aaa" not in text
    assert samples(metrics)["containarium_manifest_sync_failing"] == 0


def test_recovery_preemption_and_broken_manifests(metrics: Metrics, site: Site) -> None:
    from containarium.model.problem import Location, Problem

    site.load = load(manifest("alice"), complete=False, problems=[Problem(Location("bob.yaml"), "", "no", "mend it")])
    observe(metrics, snapshot(site, recovered=12.5, preempted="GCE takes it away"))
    found = samples(metrics)
    assert found["containarium_recovery_time_seconds"] == 12.5
    assert found["containarium_preempted"] == 1
    assert found["containarium_manifest_errors"] == 1
    assert found["containarium_manifests_complete"] == 0


def test_what_the_loop_counts(metrics: Metrics) -> None:
    metrics.action("StartInstance", 1.5, ok=True)
    metrics.action("StartInstance", 1.5, ok=False)
    metrics.action("Invented", 1.5, ok=True)
    metrics.edited(2.0)
    metrics.drift(found=["spec.cpu", "account.keys"], repaired=["account.keys"])
    found = samples(metrics)
    assert found['containarium_actions_total{kind="StartInstance",result="success"}'] == 1
    assert found['containarium_actions_total{kind="StartInstance",result="error"}'] == 1
    assert found["containarium_action_time_seconds_count"] == 2
    assert "Invented" not in metrics.render().decode()
    assert found["containarium_convergence_time_seconds_sum"] == 2
    assert found['containarium_drift_found_total{field="other"}'] == 1
    assert found['containarium_drift_found_total{field="account.keys"}'] == 1
    assert found['containarium_drift_repaired_total{field="account.keys"}'] == 1


def test_baked_images(metrics: Metrics) -> None:
    metrics.recipes(3, 1)
    metrics.recipes(1, 2)
    metrics.baked(31.5, ok=True)
    metrics.baked(12.0, ok=True)
    metrics.baked(300.0, ok=False)
    found = {name: value for name, value in samples(metrics).items() if name.startswith("containarium_recipe")}
    assert found == {
        'containarium_recipes{state="current"}': 1,
        'containarium_recipes{state="outdated"}': 2,
        'containarium_recipe_builds_total{result="success"}': 2,
        'containarium_recipe_builds_total{result="error"}': 1,
        'containarium_recipe_last_build_seconds{result="success"}': 12.0,
        'containarium_recipe_last_build_seconds{result="error"}': 300.0,
    }


def test_no_series_is_a_time_of_creation_of_another(metrics: Metrics) -> None:
    assert "_created" not in metrics.render().decode()


def test_what_is_told_of_this_process(metrics: Metrics) -> None:
    found = samples(metrics)
    assert found["process_resident_memory_bytes"] > 1e6
    assert any(name.startswith("containarium_build_info{") for name in found)


def test_every_field_that_plan_can_name_is_known() -> None:
    """A field that plan/ gains and the table does not would be counted as "other"."""
    texts = [path.read_text() for path in Path(containarium.plan.__path__[0]).glob("*.py")]
    made = re.compile(r'(?:Change|Lack)\((?:[A-Z]+(?:_[A-Z]+)*,)?\s*"([a-z][\w.]*)"')
    named = {name for text in texts for name in made.findall(text)}
    assert {"account.keys", "guest.sudo", "spec.running", "isolation.filters"} <= named
    books = {"backup", "retired", "host", "host.mark"}  # what the controller notes for itself, never drift
    assert named - FIELDS - books == set()
    assert {field.name for field in CONFIG_FIELDS.values()} <= FIELDS


def test_logins_are_counted_for_those_whose_environment_is_here(metrics: Metrics, site: Site) -> None:
    observe(metrics, snapshot(site))
    assert not [name for name in samples(metrics) if "logins" in name], "nobody counts yet"
    metrics.logged_in({"alice": (1, 0), "root": (0, 99), "nobody-here": (5, 5)})
    metrics.logged_in({"alice": (2, 3)})
    name = 'containarium_logins_total{environment="%s",result="%s"}'
    found = {key: value for key, value in samples(metrics).items() if "logins" in key}
    assert found == {
        name % ("alice", "accepted"): 3,
        name % ("alice", "refused"): 3,
        name % ("bob", "accepted"): 0,
        name % ("bob", "refused"): 0,
    }
    site.declare(manifest("alice"))
    site.run()
    observe(metrics, snapshot(site))
    assert not [name for name in samples(metrics) if "logins" in name and "bob" in name], "gone with the environment"


def test_the_logins_of_somebody_who_was_suspended_meanwhile_go_on_counting(metrics: Metrics, site: Site) -> None:
    observe(metrics, snapshot(site))
    metrics.logged_in({"alice": (1, 0), "bob": (7, 0)})
    site.declare(manifest("alice", annotations={"containarium.dev/suspend": "true"}), manifest("bob"))
    site.run()
    observe(metrics, snapshot(site))
    metrics.logged_in({"alice": (1, 1)})
    found = samples(metrics)
    assert found['containarium_logins_total{environment="alice",result="accepted"}'] == 2
    assert found['containarium_logins_total{environment="alice",result="refused"}'] == 1
