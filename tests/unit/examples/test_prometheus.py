"""Alerts and dashboard: right in themselves, and about metrics that the controller really has."""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from containarium.report.metrics import Metrics
from containarium.report.snapshot import Probe, Revision, Trouble, Work
from containarium.report.status import build
from tests.builders import NOW, Site, load, manifest
from tests.lab import prometheus
from tests.lab.command import run
from tests.unit.report.passes import DAEMON, snapshot

EXAMPLES = Path(__file__).parents[3] / "examples"
PROMETHEUS = EXAMPLES / "prometheus"
RULES = PROMETHEUS / "containarium.rules.yml"
TESTS = PROMETHEUS / "containarium.test.yml"
DASHBOARD = EXAMPLES / "grafana" / "containarium.json"
METRIC = re.compile(r"\b(?:containarium_\w+|process_\w+|up)\b")
FOREIGN = {"up"}
"""What Prometheus itself makes."""


@pytest.fixture(scope="session")
def promtool() -> Path:
    """Give promtool."""
    if not prometheus.available() and os.environ.get("CI") != "true":
        pytest.skip("no promtool here, and no apt to fetch it")
    return prometheus.program("promtool")


@pytest.fixture(scope="module")
def metrics(tmp_path_factory: pytest.TempPathFactory) -> Metrics:
    """Give metrics that were told of everything that there can be."""
    from containarium.model.problem import Location, Problem
    from containarium.model.status import Condition, ConditionStatus
    from containarium.report.certificates import CertificateDates

    site = Site(*(manifest(f"p{number}") for number in range(6)))
    site.run()
    site.load = load(manifest("p0"), manifest("p6"), problems=[Problem(Location("x.yaml"), "", "no", "mend it")])
    seen = snapshot(
        site,
        troubles={"p6": Trouble("CreateInstance", "Timeout", "no", 2, NOW, NOW)},
        working={"p6": Work("create", "CreateInstance", NOW)},
        probes={"p0": Probe(NOW, 0.2), "p1": Probe(NOW, 4.0, "refused")},
        revision=Revision("aaa", "bbb", "x.yaml: no", NOW.isoformat()),
        conditions=(Condition("DataDisk", ConditionStatus.FALSE, "DiskMissing"),),
        preempted="GCE takes it away",
        recovered=12.5,
    )
    metrics = Metrics()
    metrics.observe(seen, build(seen, None, DAEMON))
    metrics.action("StartInstance", 1.5, ok=True)
    metrics.edited(2.0)
    metrics.drift(found=["account.keys"], repaired=["account.keys"])
    metrics.recipes(2, 1)
    metrics.baked(40.0, ok=True)
    metrics.logged_in({"p0": (3, 1)})
    index = tmp_path_factory.mktemp("certs") / "index.json"
    kinds = (("ca", "ca"), ("server", "server"), ("client", "vera"))
    ends = {"not_after": NOW.isoformat(), "current": True, "revoked": None}
    index.write_text(json.dumps([{"kind": kind, "name": name, **ends} for kind, name in kinds]))
    metrics.registry.register(CertificateDates(index))
    return metrics


def names(metrics: Metrics) -> set[str]:
    """Every name that a query may use."""
    lines = metrics.render().decode().splitlines()
    return {match[0] for line in lines if not line.startswith("#") and (match := re.match(r"\w+", line))}


def rules() -> list[dict[str, Any]]:
    return [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]


def dashboard() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(DASHBOARD.read_text())
    return found


def panels() -> list[dict[str, Any]]:
    return [panel for panel in dashboard()["panels"] if panel["type"] != "row"]


def queries() -> Iterator[tuple[str, str]]:
    """Title and expression of everything that the dashboard asks, its variables filled in."""
    for panel in panels():
        for target in panel["targets"]:
            yield panel["title"], filled(target["expr"])
    for annotation in dashboard()["annotations"]["list"]:
        if "expr" in annotation:
            yield annotation["name"], filled(annotation["expr"])


def filled(expression: str) -> str:
    return expression.replace("$__rate_interval", "5m").replace("$instance", ".*")


# -- promtool


def test_the_metrics_are_as_they_should_be(promtool: Path, metrics: Metrics) -> None:
    done = run([promtool, "check", "metrics"], timeout=60, input=metrics.render(), check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_promtool_would_say_so(promtool: Path) -> None:
    done = run([promtool, "check", "metrics"], timeout=60, input=b"# TYPE a_count gauge\na_count 1\n", check=False)
    assert done.returncode != 0


def test_rules_and_configuration_are_valid(promtool: Path) -> None:
    done = run([promtool, "check", "config", PROMETHEUS / "prometheus.yml"], timeout=60)
    assert f"{len(rules())} rules found" in run([promtool, "check", "rules", RULES], timeout=60).stdout
    assert "1 rule files found" in done.stdout


def test_alerts_fire_when_they_should_and_not_before(promtool: Path) -> None:
    run([promtool, "test", "rules", TESTS.name], timeout=120, cwd=PROMETHEUS)


def test_the_dashboard_s_queries_are_valid(promtool: Path, tmp_path: Path) -> None:
    recorded = [{"record": f"query:{number}", "expr": expr} for number, (_, expr) in enumerate(queries())]
    file = tmp_path / "queries.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": recorded}]}))
    assert f"{len(recorded)} rules found" in run([promtool, "check", "rules", file], timeout=60).stdout


# -- about metrics that there are


def test_alerts_are_about_metrics_that_there_are(metrics: Metrics) -> None:
    known = names(metrics) | FOREIGN
    for rule in rules():
        used = set(METRIC.findall(rule["expr"]))
        assert used
        assert used <= known, rule["alert"]


def test_the_dashboard_shows_metrics_that_there_are(metrics: Metrics) -> None:
    known = names(metrics) | FOREIGN
    for title, expression in queries():
        used = set(METRIC.findall(expression))
        assert used, title
        assert used <= known, title


def test_labels_in_queries_are_labels_that_there_are(metrics: Metrics) -> None:
    """A label that a metric does not have would match nothing, for ever."""
    lines = metrics.render().decode().splitlines()
    labels = {match[0]: set(re.findall(r"(\w+)=", line)) for line in lines if (match := re.match(r"\w+", line))}
    added = {"job", "instance", "le"}
    expressions = [rule["expr"] for rule in rules()] + [expression for _, expression in queries()]
    for expression in expressions:
        for name, matchers in re.findall(r"(\w+)\{([^}]*)\}", expression):
            used = set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", matchers))
            assert used <= labels.get(name, set()) | added, f"{name} in {expression}"


def test_values_of_labels_in_queries_are_values_that_there_are(metrics: Metrics) -> None:
    text = metrics.render().decode()
    for expression in [rule["expr"] for rule in rules()] + [expression for _, expression in queries()]:
        for label, value in re.findall(r'(condition|status|result)="(\w+)"', expression):
            assert f'{label}="{value}"' in text
        for values in re.findall(r'reason!~"([\w|]+)"', expression):
            assert all(f'reason="{value}"' in text for value in values.split("|"))


def test_every_metric_of_ours_is_on_the_dashboard_or_in_an_alert(metrics: Metrics) -> None:
    used = " ".join([*(rule["expr"] for rule in rules()), *(expression for _, expression in queries())])
    families = {family.name for family in metrics.registry.collect() if family.name.startswith("containarium_")}
    unused = {name for name in families if name not in used}
    assert unused <= {
        "containarium_environment_ssh_probe_timestamp_seconds",
        "containarium_environments_beyond_series",
    }


# -- complete


def test_every_alert_has_a_case_in_which_it_fires_and_one_in_which_it_does_not() -> None:
    fires, rests = Counter[str](), Counter[str]()
    for test in yaml.safe_load(TESTS.read_text())["tests"]:
        for case in test["alert_rule_test"]:
            (fires if case["exp_alerts"] else rests)[case["alertname"]] += 1
    alerts = {rule["alert"] for rule in rules()}
    assert fires.keys() == alerts
    assert rests.keys() == alerts


def test_every_alert_says_what_to_do() -> None:
    for rule in rules():
        assert rule["alert"].startswith("Containarium")
        assert rule["labels"]["severity"] in {"page", "ticket", "info"}
        assert rule["annotations"].keys() == {"summary", "description"}
    assert len({rule["alert"] for rule in rules()}) == len(rules())


def test_commands_in_alerts_are_commands_that_there_are() -> None:
    from containarium.cli.main import app

    known = {c.name for c in app.registered_commands} | {group.name for group in app.registered_groups}
    for rule in rules():
        for command in re.findall(r"containarium ([a-z]+)", rule["annotations"]["description"]):
            assert command in known, rule["alert"]


# -- what Grafana wants of a dashboard


def test_the_dashboard_is_one() -> None:
    board = dashboard()
    assert board["schemaVersion"] >= 36
    assert board["uid"] == "containarium"
    assert "id" not in board
    assert {variable["name"] for variable in board["templating"]["list"]} == {"datasource", "instance"}
    ids = [panel["id"] for panel in board["panels"]]
    assert len(ids) == len(set(ids))


def test_every_panel_asks_the_chosen_data_source() -> None:
    source = {"type": "prometheus", "uid": "${datasource}"}
    for panel in panels():
        assert panel["type"] in {"stat", "timeseries", "table", "state-timeline"}
        assert panel["datasource"] == source
        assert panel["title"]
        references = [target["refId"] for target in panel["targets"]]
        assert references
        assert len(references) == len(set(references))
        assert all(target["datasource"] == source for target in panel["targets"])
        assert panel["fieldConfig"]["defaults"]["unit"]


def test_panels_fit_the_grid_and_do_not_overlap() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in dashboard()["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert cells
        assert all(0 <= x < 24 for x, _ in cells), panel["title"]
        assert not cells & taken, panel["title"]
        taken |= cells
