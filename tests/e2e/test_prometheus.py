"""A real Prometheus scrapes a real controller: all queries of the dashboard answer, alerts fire when they should."""

from __future__ import annotations

import json
import re
import shutil
import socket
import subprocess
import urllib.parse
import urllib.request
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from tests.lab import prometheus
from tests.lab.command import wait_until
from tests.unit.examples.test_prometheus import METRIC, PROMETHEUS, RULES, queries, rules

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.e2e.site import Site

NAME = "ivan"
PORT = 9465
UNIT = "containarium-under-test"


@dataclass(frozen=True)
class Server:
    """A running Prometheus."""

    address: str

    def ask(self, path: str, **parameters: str) -> Any:
        """What its API says under `data`."""
        url = f"http://{self.address}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
        with urllib.request.urlopen(url, timeout=10) as answer:
            said = json.load(answer)
        assert said["status"] == "success"
        return said["data"]

    def values(self, query: str) -> list[float]:
        """The present values of an expression."""
        return [float(sample["value"][1]) for sample in self.ask("query", query=query)["result"]]

    def firing(self) -> set[str]:
        """Names of the alerts that fire."""
        alerts = self.ask("alerts")["alerts"]
        return {alert["labels"]["alertname"] for alert in alerts if alert["state"] == "firing"}

    def await_values(self, query: str, values: list[float], timeout: float = 60) -> None:
        """Wait until an expression has exactly these values."""
        wait_until(f"{query} to be {values}", lambda: self.values(query) == values, timeout=timeout)


def start_controller(site: Site) -> None:
    """Start the controller as systemd would."""
    site.host.run(["systemctl", "reset-failed", UNIT], check=False)
    options = ["--property=Type=notify", "--property=NotifyAccess=all", f"--unit={UNIT}"]
    command = ["containarium", "daemon", "--metrics", f"{site.host.address}:{PORT}", "--spot", "off"]
    site.host.run(["systemd-run", *options, *command], timeout=120)


def get(site: Site, path: str) -> tuple[int, str]:
    """Ask the controller's own server."""
    with socket.create_connection((site.host.address, PORT), timeout=10) as client:
        client.sendall(f"GET {path} HTTP/1.1\r\n\r\n".encode())
        answer = b"".join(iter(lambda: client.recv(65536), b"")).decode()
    return int(answer.split()[1]), answer.partition("\r\n\r\n")[2]


@pytest.fixture(scope="module")
def watched(site: Site) -> Iterator[Site]:
    """Give a host on which ivan is as declared, with a controller."""
    site.purge(site.declared())
    site.declare(NAME)
    site.apply()
    start_controller(site)
    yield site
    site.host.run(["systemctl", "stop", UNIT], check=False, timeout=120)
    site.purge([NAME])


@pytest.fixture(scope="module")
def server(watched: Site, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Give a Prometheus with the example's configuration, but in a hurry."""
    folder = tmp_path_factory.mktemp("prometheus")
    config = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text())
    config["global"] = {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"}
    config["scrape_configs"][0]["static_configs"][0]["targets"] = [f"{watched.host.address}:{PORT}"]
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
    (folder / RULES.name).write_text(re.sub(r"for: \d+m", "for: 3s", RULES.read_text()))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    command = [
        str(prometheus.program("prometheus")),
        f"--config.file={folder / 'prometheus.yml'}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address={address}",
    ]
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
    try:
        server = Server(address)
        wait_until("Prometheus", lambda: _scraped(server), timeout=60)
        yield server
    finally:
        process.terminate()
        process.wait(timeout=30)
        shutil.rmtree(folder / "data", ignore_errors=True)


def _scraped(server: Server) -> bool:
    try:
        return server.values('up{job="containarium"}') == [1]
    except OSError:
        return False


def test_what_the_controller_says_is_what_there_is(watched: Site, server: Server) -> None:
    server.await_values("containarium_environment_ready", [1])
    server.await_values("containarium_environments_desired", [1])
    server.await_values("containarium_environment_ssh_probe_success", [1], timeout=120)
    server.await_values("containarium_jump_accounts_missing", [0])
    assert server.values("time() - containarium_last_successful_pass_timestamp_seconds")[0] < 180
    assert get(watched, "/healthz") == (200, "ok\n")
    assert get(watched, "/readyz") == (200, "ok\n")


def test_drift_is_counted_and_somebody_is_named(watched: Site, server: Server) -> None:
    repaired = 'containarium_drift_repaired_total{field="spec.resources.cpu"}'
    before = server.values(repaired)
    watched.host.incus("config", "set", f"{NAME}-container", "limits.cpu=2")
    server.await_values(repaired, [before[0] + 1])
    server.await_values("containarium_environment_ready", [1])
    said = json.loads(watched.containarium("events", NAME, "-o", "json").stdout)
    drift = {event["reason"]: event for event in said if "spec.resources.cpu" in event.get("fields", [])}
    assert drift.keys() == {"DriftFound", "DriftRepaired"}
    assert all(event["by"] for event in drift.values())


def test_every_query_of_the_dashboard_answers(server: Server) -> None:
    asked = 0
    for title, expression in queries():
        server.ask("query", query=expression)
        for name in METRIC.findall(expression):
            # What has no value at present (no boot seen, no git) is known by its description at least.
            known = server.values(f"count({name})") or server.ask("metadata", metric=name)
            assert known, f"{title}: {name}"
        asked += 1
    assert asked > 30


def test_all_rules_are_evaluated_and_nothing_fires(server: Server) -> None:
    groups = server.ask("rules")["groups"]
    found = {rule["name"]: rule["health"] for group in groups for rule in group["rules"]}
    assert found == {rule["alert"]: "ok" for rule in rules()}
    assert server.firing() == set()


def test_status_and_list_need_no_incus(watched: Site, server: Server) -> None:
    """While Incus is stopped, what the controller found last is there to be read."""
    server.await_values("containarium_environment_ready", [1])
    (row,) = json.loads(watched.containarium("list", "-o", "json").stdout)
    assert (row["name"], row["status"], row["ready"]["status"], row["ssh"]["result"]) == (NAME, "Running", "True", "ok")
    assert row == {**json.loads(watched.containarium("list", "--live", "-o", "json").stdout)[0], "ssh": row["ssh"]}
    done = watched.containarium("status")
    assert "1 Ready=True" in done.stdout
    anybody = watched.host.run(["setpriv", "--reuid=65534", "--clear-groups", "containarium", "list"])
    assert anybody.stdout.splitlines()[1].split()[:2] == [NAME, "Running"]


def test_a_broken_manifest_raises_an_alert_and_its_end_ends_it(watched: Site, server: Server) -> None:
    watched.write("broken.yaml", "a: [")
    wait_until("alert", lambda: "ContainariumManifestErrors" in server.firing(), timeout=30)
    assert watched.containarium("status", check=False).returncode == 1
    watched.withdraw("broken")
    wait_until("end of the alert", lambda: "ContainariumManifestErrors" not in server.firing(), timeout=30)
    watched.containarium("status")


def test_a_controller_that_is_gone_raises_an_alert(watched: Site, server: Server) -> None:
    watched.host.run(["systemctl", "stop", UNIT], timeout=120)
    wait_until("alert", lambda: "ContainariumDown" in server.firing(), timeout=30)
    done = watched.containarium("status", check=False)
    assert done.returncode == 1
    assert "NOT RUNNING" in done.stdout
    # And list looks for itself.
    (row,) = json.loads(watched.containarium("list", "-o", "json").stdout)
    assert (row["name"], row["ssh"]) == (NAME, None)
    start_controller(watched)
    wait_until("end of the alert", lambda: "ContainariumDown" not in server.firing(), timeout=60)
