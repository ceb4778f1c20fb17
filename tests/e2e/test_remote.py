"""The API on a real host: the whole story over mutual TLS from another network namespace, and who is refused."""

from __future__ import annotations

import json
import shutil
import sys
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from containarium.api.store import CertificateStore
from tests.e2e.site import IMAGE
from tests.lab.command import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.e2e.living import LivingSite
    from tests.lab.command import Completed

CERTS = "/etc/containarium/certs"
COMMAND = str(Path(sys.executable).with_name("containarium"))
SMALL = ("--image", IMAGE, "--cpu", "1", "--memory", "512MiB", "--disk", "2GiB")


@dataclass
class Afar:
    """An admin's laptop with what ``cert generate`` made for it."""

    site: LivingSite
    certs: Path

    @property
    def server(self) -> str:
        """The host's service."""
        return f"{self.site.host.address}:50051"

    def __call__(self, *args: str, who: str = "admin", check: bool = True, timeout: float = 240) -> Completed:
        """Run one command line."""
        where = ["--server", self.server, "--certs-dir", str(self.certs / who)]
        return self.site.laptop.run([COMMAND, *where, *args], check=check, timeout=timeout)

    def json(self, *args: str, who: str = "admin") -> Any:
        """What it printed."""
        return json.loads(self(*args, "-o", "json", who=who).stdout)

    def fetch(self, who: str) -> None:
        """Copy a client's folder here, as an admin would."""
        folder = self.certs / who
        folder.mkdir(parents=True, mode=0o700, exist_ok=True)
        for name in ("ca.crt", "client.crt", "client.key"):
            (folder / name).write_text(self.site.host.pull(f"{CERTS}/clients/{who}/{name}"))
            (folder / name).chmod(0o600)


@pytest.fixture(scope="module")
def afar(living_site: LivingSite) -> Iterator[Afar]:
    """Give a laptop with certificates, and a host whose API is on."""
    site, host = living_site, living_site.host
    site.containarium("cert", "generate", "--server-ip", host.address, "--dns", "jump-1.example.org")
    site.containarium("cert", "client", "vera", "--role", "viewer")
    host.push("/etc/default/containarium-api", 'CONTAINARIUM_API_OPTIONS="--mtls"\n')
    host.run(["systemctl", "start", "containarium-api"], timeout=60)
    found = Afar(site, site.laptop.home / "certs")
    for who in ("admin", "vera"):
        found.fetch(who)
    yield found
    site.purge(site.declared())
    host.run(["systemctl", "stop", "containarium-api"], timeout=60)


def test_the_whole_story_from_a_laptop(afar: Afar) -> None:
    site, alice = afar.site, afar.site.person("alice")
    folder = alice.home / "given"
    made = afar("create", "alice", "--ssh-key", alice.public(), *SMALL, "--jump-ip", site.host.address,
                "--key", str(alice.key()), "--export", str(folder), timeout=400)  # fmt: skip
    assert "[7/7] alice: SSH" in made.stdout
    config = folder / "alice.ssh"
    assert alice.ssh(config, "alice", "id", "-un").stdout.strip() == "alice"
    assert [row["name"] for row in afar.json("list") if row["name"] == "alice"] == ["alice"]

    second = alice.key(label="second")
    afar("key", "add", "alice", str(second.with_suffix(".pub")))
    afar("key", "remove", "alice", alice.public())
    assert alice.ssh(config, "alice", "true", check=False).returncode != 0
    afar("export", "alice", "--jump-ip", site.host.address, "--key", str(second), "--output", str(config))
    assert alice.ssh(config, "alice", "id", "-un").stdout.strip() == "alice"

    afar("resize", "alice", "--memory", "768MiB")
    assert site.environment("alice").config["limits.memory"] == "768MiB"
    afar("stop", "alice")
    assert site.environment("alice").status == "Stopped"
    afar("start", "alice")
    site.wait_login("alice", config)
    assert afar.json("plan")["unchanged"].count("alice") == 1
    assert any(event["reason"] == "Created" for event in afar.json("events", "alice"))
    afar("create", "bob", "--ssh-key", site.person("bob").public(), *SMALL, timeout=400)

    alice.ssh(config, "alice", "echo thesis > ~/thesis")
    assert [one["name"] for one in afar.json("sessions")] == []
    assert "thesis-1" in afar("snapshot", "create", "alice", "thesis-1").stdout
    alice.ssh(config, "alice", "rm ~/thesis")
    afar("snapshot", "restore", "alice", "thesis-1", timeout=400)
    site.wait_login("alice", config)
    assert alice.ssh(config, "alice", "cat thesis").stdout.strip() == "thesis"
    assert "thesis-1" in [one["name"] for one in afar.json("snapshot", "list", "alice")]

    afar("delete", "alice")
    assert site.environment("alice").status == "Stopped"
    assert alice.ssh(config, "alice", "true", check=False).returncode != 0
    afar("undelete", "alice")
    site.wait_ready("alice")
    afar("delete", "alice", "--force", "--backup", timeout=400)
    assert not site.environment("alice").exists
    said = afar("restore", "alice", timeout=400)
    assert "The newest backup of alice is /var/lib/containarium/backups/alice-" in said.stdout
    afar("undelete", "alice")
    site.wait_ready("alice")
    site.wait_login("alice", config)
    assert alice.ssh(config, "alice", "cat thesis").stdout.strip() == "thesis"

    entries = afar.json("audit", "alice")["entries"]
    assert {"login", "change"} <= {entry["event"] for entry in entries}
    assert any(entry["via"] == "mtls" and entry["what"].startswith("Restore") for entry in entries)


def test_every_change_is_in_the_journal_with_its_certificate(afar: Afar) -> None:
    afar("suspend", "bob")
    afar("resume", "bob")
    journal = afar.site.host.run(["journalctl", "-t", "containarium-audit", "-o", "cat", "--no-pager"]).stdout
    lines = [line for line in map(json.loads, journal.splitlines()) if line["via"] == "mtls"]
    told = [(line["action"], line["who"], line["environments"], line["result"]) for line in lines]
    assert ("Suspend", "admin", ["bob"], "ok") in told
    assert all(line["certificate"].startswith("SHA256:") for line in lines)


@pytest.mark.parametrize("command", [("stop", "bob"), ("delete", "bob"), ("apply",), ("approve", "0123456789ab")])
def test_a_viewer_changes_nothing(afar: Afar, command: tuple[str, ...]) -> None:
    assert afar("list", who="vera").returncode == 0
    said = afar(*command, who="vera", check=False)
    assert said.returncode == 1
    assert "vera may look and change nothing (role viewer)" in said.stderr
    assert said.stderr.count("\n") == 1


def _refused(afar: Afar, who: str) -> str:
    said = afar("list", who=who, check=False)
    assert said.returncode == 1
    assert said.stderr.count("\n") == 1, said.stderr
    return said.stderr


def test_certificates_of_another_authority_and_of_another_time_are_refused(afar: Afar, tmp_path: Path) -> None:
    stranger = CertificateStore(tmp_path / "stranger")
    stranger.generate(["elsewhere.example"], [], timedelta(days=30))
    given = stranger.folder / "clients" / "admin"
    shutil.copytree(given, afar.certs / "stranger")
    assert "has a certificate of another authority than your ca.crt" in _refused(afar, "stranger")
    (afar.certs / "stranger" / "ca.crt").write_text((afar.certs / "admin" / "ca.crt").read_text())
    assert "your certificate is of another authority" in _refused(afar, "stranger")

    afar.site.containarium("cert", "client", "brief", "--role", "admin", "--duration", "3s")
    afar.fetch("brief")
    wait_until("it has expired", lambda: "expired" in afar("list", who="brief", check=False).stderr, timeout=30)
    assert "your certificate has expired on" in _refused(afar, "brief")


def test_who_is_too_large_too_many_or_too_slow_harms_nobody(afar: Afar) -> None:
    program = Path(__file__).with_name("clients.py")

    def run(what: str) -> Any:
        argv = [sys.executable, str(program), what, afar.server, str(afar.certs / "admin")]
        return json.loads(afar.site.laptop.run(argv, timeout=180).stdout)

    assert run("huge") == {"huge": "RESOURCE_EXHAUSTED", "then": "OK"}
    assert run("crowd")["codes"] == {"OK": 200}
    hung = run("hang")
    assert hung["then"] == "OK", "somebody else is served meanwhile"
    assert set(hung["codes"]) <= {"CANCELLED", "RESOURCE_EXHAUSTED"}
    assert sum(hung["codes"].values()) == 40
    assert afar("list").returncode == 0


def test_a_revoked_certificate_ends_at_once(afar: Afar) -> None:
    afar.site.containarium("cert", "client", "olga", "--role", "admin")
    afar.fetch("olga")
    assert afar("list", who="olga").returncode == 0
    afar.site.containarium("cert", "revoke", "olga")
    wait_until("olga is refused", lambda: afar("list", who="olga", check=False).returncode == 1, timeout=10)
    assert "the certificate of olga was revoked" in afar("list", who="olga", check=False).stderr


def test_renewal_needs_no_restart(afar: Afar) -> None:
    pid = afar.site.host.run(["systemctl", "show", "-P", "MainPID", "containarium-api"]).stdout
    afar.site.containarium("cert", "renew", "server")
    wait_until("the new one is served", lambda: afar("list", check=False).returncode == 0, timeout=10)
    assert afar.site.host.run(["systemctl", "show", "-P", "MainPID", "containarium-api"]).stdout == pid


def test_the_socket_is_for_root_and_the_admins_group(afar: Afar) -> None:
    host = afar.site.host
    for user, groups in (("mallory", ()), ("trudy", ("-G", "containarium-admin"))):
        host.run(["useradd", "--no-create-home", *groups, user], check=False)
    there = ["containarium", "--server", "/run/containarium/api.sock", "list", "-o", "json"]
    assert json.loads(host.run(["runuser", "-u", "trudy", "--", *there]).stdout)
    refused = host.run(["runuser", "-u", "mallory", "--", *there], check=False)
    assert refused.returncode == 1
    assert "lets nobody in but root and the group containarium-admin" in refused.stderr


def test_nothing_else_of_the_host_listens_for_it(afar: Afar) -> None:
    listening = afar.site.host.run(["ss", "-Hltnp"]).stdout
    ours = [line for line in listening.splitlines() if "50051" in line]
    assert len(ours) == 1
    plain = afar.site.laptop.run(
        ["curl", "--silent", "--max-time", "5", "--http2-prior-knowledge", f"http://{afar.server}/"], check=False
    )
    assert plain.returncode != 0
