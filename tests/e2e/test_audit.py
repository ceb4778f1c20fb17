"""Who came, who was refused, who is here, who changed what: as the host wrote it down, whatever strangers write."""

from __future__ import annotations

import csv
import io
import json
import re
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

from tests.lab.command import run

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.e2e.living import LivingSite
    from tests.e2e.people import Person

NAME, OTHER = "uma", "vito"
REPORT = "containarium-report.service"


@pytest.fixture(scope="module")
def uma(living_site: LivingSite) -> Iterator[LivingSite]:
    """Give the living host with two people on it."""
    site = living_site
    for name in (NAME, OTHER):
        site.declare(name)
    site.wait_ready(NAME, OTHER)
    yield site
    site.purge([NAME, OTHER])


def audit(site: LivingSite, *arguments: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(site.containarium("audit", *arguments, "--output=json").stdout)
    return found


def entries(site: LivingSite, *arguments: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = audit(site, *arguments)["entries"]
    return found


def fingerprint(person: Person, label: str = "") -> str:
    said = run(["ssh-keygen", "-lf", str(person.key(label=label).with_suffix(".pub"))], timeout=30).stdout
    return str(said.split()[1])


def test_a_login_is_told_with_its_key_its_place_and_its_time(uma: LivingSite) -> None:
    person, config = uma.person(NAME), uma.export(NAME)
    uma.wait_login(NAME, config)
    before = len([entry for entry in entries(uma, NAME) if entry["event"] == "login"])
    assert person.ssh(config, NAME, "sleep", "3").returncode == 0

    def ended() -> list[dict[str, Any]]:
        found = [entry for entry in entries(uma, NAME) if entry["event"] == "login"]
        return [entry for entry in found[before:] if entry["seconds"] is not None]

    uma.until("the end of the login to be written down", ended)
    (entry,) = ended()
    assert entry["key"] == fingerprint(person)
    assert entry["from"] == uma.laptop.address
    assert 2 <= entry["seconds"] < 60
    assert entry["environment"] == NAME
    logins = [entry for entry in entries(uma) if entry["event"] == "login"]
    assert {entry["from"] for entry in logins} == {uma.laptop.address}, "the probe is nobody"


def test_who_is_connected_is_seen_while_it_is_so(uma: LivingSite) -> None:
    person, config = uma.person(NAME), uma.export(NAME)
    uma.wait_login(NAME, config)

    def connected() -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = json.loads(uma.containarium("sessions", "--output=json").stdout)
        return found

    uma.until("nobody to be connected", lambda: not connected())
    with ThreadPoolExecutor(max_workers=1) as pool:
        working = pool.submit(person.ssh, config, NAME, "sleep", "12", timeout=60)
        uma.until("her to be connected", connected)
        (one,) = connected()
        assert (one["name"], one["from"], one["forwards"]) == (NAME, uma.laptop.address, 1)
        assert uma.laptop.address in uma.containarium("sessions", NAME).stdout
        assert "not connected" in uma.containarium("sessions", OTHER).stdout
        assert working.result().returncode == 0
    uma.until("nobody to be connected", lambda: not connected())


def test_refusals_are_told_and_nobody_can_write_somebody_elses(uma: LivingSite) -> None:
    person, address = uma.person("mallory"), uma.host.address
    before = len(entries(uma))
    names = (
        NAME,
        f"{OTHER} from 9.9.9.9 port 22",
        f"{OTHER} from 9.9.9.9 port 22 ssh2: ED25519 SHA256:{'a' * 43}",
        "=cmd|' /C calc'!A0",
        "\x1b[31mroot",
    )
    options = ["-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null"]
    for name in names:
        argv = ["ssh", "-i", str(person.key()), "-o", "IdentitiesOnly=yes", *options, "-l", name, address, "true"]
        assert uma.laptop.run(argv, check=False, timeout=30).returncode != 0
    uma.until("the refusal to be written down", lambda: len(entries(uma)) > before)
    fresh = [entry for entry in entries(uma)[before:] if entry["from"] != "127.0.0.1"]
    assert [(entry["event"], entry["environment"], entry["from"]) for entry in fresh] == [
        ("refused", NAME, uma.laptop.address)
    ]
    text = uma.containarium("audit", "--output=csv").stdout
    assert "9.9.9.9" not in text
    assert "\x1b" not in text
    rows = list(csv.DictReader(io.StringIO(text)))
    assert not [cell for row in rows for cell in row.values() if cell.startswith(("=", "+", "-", "@"))]


def test_each_change_is_told_with_who_made_it(uma: LivingSite) -> None:
    uma.host.run(["containarium", "suspend", NAME], env={"SUDO_USER": "anna"})
    uma.containarium("resume", NAME)
    changes = [entry for entry in entries(uma, NAME) if entry["event"] == "change"]
    assert [(c["what"], c["who"], c["via"], c["result"]) for c in changes[-2:]] == [
        ("suspend", "anna", "cli", "ok"),
        ("resume", "root", "cli", "ok"),
    ]
    uma.containarium("undelete", NAME, check=False)
    last = [entry for entry in entries(uma, NAME) if entry["event"] == "change"][-1]
    assert (last["what"], last["result"]) == ("undelete", "failed")
    forged = json.dumps({"event": "audit", "action": "apply", "who": "forged", "environments": [NAME]})
    uma.host.run(["setpriv", "--reuid=65534", "logger", "-t", "containarium-audit", "--", forged])
    journal = ["journalctl", "-t", "containarium-audit", "-o", "cat"]
    uma.until("the forged line to be written down", lambda: "forged" in uma.host.run(journal).stdout)
    assert not [entry for entry in entries(uma) if entry["who"] == "forged"], "only root's lines count"


def test_bans_are_told_and_their_absence_too(uma: LivingSite) -> None:
    uma.host.run(["fail2ban-client", "set", "sshd", "banip", "203.0.113.7"])
    try:
        (ban,) = audit(uma)["bans"]
        assert (ban["address"], ban["jail"]) == ("203.0.113.7", "sshd")
        assert ban["until"] > ban["since"]
        assert "203.0.113.7" in uma.containarium("audit").stdout
        assert "203.0.113.7" in uma.containarium("report").stdout
    finally:
        uma.host.run(["fail2ban-client", "set", "sshd", "unbanip", "203.0.113.7"])
    uma.host.run(["systemctl", "stop", "fail2ban"])
    try:
        assert "fail2ban does not answer" in uma.containarium("audit").stderr
    finally:
        uma.host.run(["systemctl", "start", "fail2ban"])


def test_logins_are_counted_for_our_people_alone(uma: LivingSite) -> None:
    def counted(name: str, result: str) -> int | None:
        sample = rf'containarium_logins_total{{environment="{name}",result="{result}"}} (\d+)'
        found = re.search(sample, _metrics(uma))
        return int(found[1]) if found else None

    said = [entry["event"] for entry in entries(uma, NAME)]
    assert said.count("login") >= 2
    assert said.count("refused") >= 1
    uma.until("the newest to be counted", lambda: counted(NAME, "accepted") == said.count("login"), timeout=180)
    assert counted(NAME, "refused") == said.count("refused")
    assert counted("mallory", "accepted") is None
    assert "SHA256" not in _metrics(uma)


def _metrics(site: LivingSite) -> str:
    script = "import urllib.request as u; print(u.urlopen('http://127.0.0.1:9465/metrics', timeout=10).read().decode())"
    return site.host.run(["python3", "-c", script]).stdout


def test_the_report_is_made_by_its_unit(uma: LivingSite) -> None:
    assert uma.host.run(["systemctl", "is-active", "containarium-report.timer"]).stdout.strip() == "active"
    uma.host.run(["systemctl", "start", REPORT], timeout=120)
    text = uma.host.run(["journalctl", "--unit", REPORT, "--output=cat", "--no-pager"]).stdout
    for part in ("environments", "Drift:", "Logins:", "Bans:", "Leaving:", "Disk: the pool is"):
        assert part in text
    assert "not known" not in text, "its sandbox lets it see everything"
