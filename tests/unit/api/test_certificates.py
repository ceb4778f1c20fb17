"""The folder of certificates and the commands over it; their dates as a metric."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from containarium.api.store import CertificateStore
from containarium.api.who import Role
from containarium.cli.main import run_command
from containarium.cli.wiring import Wiring
from containarium.model.host import TerminalError
from containarium.report.certificates import CertificateDates
from tests.unit.api.conftest import YEAR, utc
from tests.unit.cli.conftest import Ended

Command = Callable[..., Ended]


@pytest.fixture
def cert(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Command:
    """Give ``containarium cert`` over a folder of the test's own."""

    def run(*arguments: str) -> Ended:
        code = run_command(["cert", *arguments, "--output-dir", str(tmp_path / "certs")], Wiring(is_root=lambda: False))
        out, err = capsys.readouterr()
        return Ended(code, out, err)

    return run


def test_generate_makes_everything_once_and_keys_are_private(cert: Command, tmp_path: Path) -> None:
    made = cert("generate", "--server-ip", "203.0.113.7", "--dns", "Jump.example.org", "--duration", "90d")
    assert made.code == 0, made
    folder = tmp_path / "certs"
    for key in folder.rglob("*.key"):
        assert key.stat().st_mode & 0o777 == 0o600, key
    assert (folder / "clients").stat().st_mode & 0o777 == 0o700
    assert {path.name for path in (folder / "clients" / "admin").iterdir()} == {"ca.crt", "client.crt", "client.key"}
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert cert("generate", "--server-ip", "203.0.113.9").code == 0
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} | before == before | {
        folder / "index.json": (folder / "index.json").read_bytes()
    }


def test_openssl_agrees(cert: Command, tmp_path: Path) -> None:
    cert("generate", "--server-ip", "203.0.113.7", "--dns", "jump.example.org")
    folder = tmp_path / "certs"

    def openssl(*arguments: str) -> str:
        done = subprocess.run(["openssl", *arguments], capture_output=True, text=True, timeout=30, check=True)
        return done.stdout

    server, client = str(folder / "server.crt"), str(folder / "clients" / "admin" / "client.crt")
    chain = ["verify", "-x509_strict", "-CAfile", str(folder / "ca.crt")]
    assert "OK" in openssl(*chain, "-purpose", "sslserver", "-verify_ip", "203.0.113.7", server)
    assert "OK" in openssl(*chain, "-purpose", "sslserver", "-verify_hostname", "jump.example.org", server)
    assert "OK" in openssl(*chain, "-purpose", "sslclient", client)
    assert "OU = containarium-admin, CN = admin" in openssl("x509", "-noout", "-subject", "-in", client)
    cert("revoke", "admin")
    listed = openssl("crl", "-noout", "-text", "-CAfile", str(folder / "ca.crt"), "-in", str(folder / "crl.pem"))
    assert listed.count("Serial Number:") == 1


def test_list_client_renew_and_revoke(cert: Command) -> None:
    cert("generate", "--dns", "jump.example.org")
    assert cert("client", "vera", "--duration", "10d").code == 0
    listed = cert("list")
    assert "vera ends on" in listed.err
    assert cert("renew", "vera", "--duration", "200d").code == 0
    states = [(e["name"], e["role"], e["state"]) for e in cert("list", "-o", "json").json if e["kind"] == "client"]
    assert states == [("admin", "admin", "valid"), ("vera", "viewer", "valid"), ("vera", "viewer", "replaced")]
    assert cert("revoke", "vera").out.count(",") == 1
    assert [e["state"] for e in cert("list", "-o", "json").json if e["name"] == "vera"] == ["revoked", "revoked"]
    assert cert("client", "vera").code == 0
    for what in ("server", "ca"):
        assert cert("renew", what).code == 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("generate",), "give --server-ip or --dns"),
        (("generate", "--server-ip", "jump"), "'jump' is no address"),
        (("generate", "--dns", "a b"), "'a b' is no host name"),
        (("generate", "--dns", "a", "--duration", "soon"), "--duration"),
        (("list",), "cert generate"),
        (("revoke", "vera"), "cert generate"),
    ],
)
def test_mistakes_are_one_line(cert: Command, arguments: tuple[str, ...], words: str) -> None:
    said = cert(*arguments)
    assert said.code == 1
    assert words in said.err
    assert said.err.count("\n") == 1


def test_a_name_leads_nowhere(certificates: CertificateStore) -> None:
    for name in ("../evil", "a/b", "", ".", "x" * 65):
        with pytest.raises(TerminalError):
            certificates.issue(name, Role.VIEWER, YEAR)


def test_renewal_does_not_grow_and_the_role_stays(certificates: CertificateStore) -> None:
    before = next(e for e in certificates.entries() if e.name == "vera")
    for _ in range(3):
        certificates.renew("vera")
    after = next(e for e in certificates.entries() if e.name == "vera" and e.current)
    assert after.not_after - after.not_before == before.not_after - before.not_before
    assert after.role == "viewer"
    assert after.serial != before.serial


def test_two_revocations_at_once_are_both_kept(certificates: CertificateStore) -> None:
    """The second begins when the first has read the list and not yet written it."""
    started: list[threading.Thread] = []

    def meanwhile() -> datetime:
        if not started:
            started.append(threading.Thread(target=lambda: CertificateStore(certificates.folder).revoke("admin")))
            started[0].start()
            started[0].join(0.5)
        return utc()

    CertificateStore(certificates.folder, meanwhile).revoke("vera")
    started[0].join(10)
    revoked = {entry.name for entry in certificates.entries() if entry.revoked}
    assert revoked == {"admin", "vera"}


@pytest.mark.parametrize("change", ["issue", "renew", "revoke", "generate"])
def test_a_list_that_is_gone_is_made_again_from_the_index(certificates: CertificateStore, change: str) -> None:
    certificates.revoke("vera")
    before = next(entry for entry in certificates.entries() if entry.name == "vera")
    (certificates.folder / "crl.pem").unlink()
    assert next(entry for entry in certificates.entries() if entry.name == "vera") == before, "looking is enough"
    match change:
        case "issue":
            certificates.issue("olga", Role.VIEWER, YEAR)
        case "renew":
            certificates.renew("server")
        case "revoke":
            certificates.revoke("admin")
        case _:
            assert "the revocation list" in " ".join(certificates.generate([], [], YEAR))
    (certificates.folder / "index.json").unlink()
    assert next(entry for entry in certificates.entries() if entry.name == "vera") == before


@pytest.mark.parametrize("index", [None, "", "null", "[1]", '[{"serial": "x", "revoked": null}]'])
def test_a_list_that_is_gone_with_its_index_is_not_an_empty_one(
    certificates: CertificateStore, index: str | None
) -> None:
    certificates.revoke("vera")
    (certificates.folder / "crl.pem").unlink()
    (certificates.folder / "index.json").unlink()
    if index is not None:
        (certificates.folder / "index.json").write_text(index)
    for do in (
        certificates.entries,
        lambda: certificates.generate([], [], YEAR),
        lambda: certificates.issue("olga", Role.VIEWER, YEAR),
        lambda: certificates.revoke("admin"),
    ):
        with pytest.raises(TerminalError, match=r"crl\.pem.*does not say who was revoked; .*back from a backup"):
            do()
    assert not (certificates.folder / "crl.pem").exists()


def test_nothing_is_made_without_a_name_for_the_server(tmp_path: Path) -> None:
    with pytest.raises(TerminalError, match="give --server-ip or --dns"):
        CertificateStore(tmp_path / "new").generate([], [], YEAR)
    assert not (tmp_path / "new").exists()


def test_only_its_owner_can_keep_the_folder_locked(certificates: CertificateStore) -> None:
    assert (certificates.folder / ".lock").stat().st_mode & 0o777 == 0o600


def test_dates_are_a_metric_without_revoked_and_replaced_ones(certificates: CertificateStore) -> None:
    certificates.issue("olga", Role.ADMIN, timedelta(days=1))
    certificates.renew("vera")
    certificates.revoke("olga")
    registry = CollectorRegistry()
    registry.register(CertificateDates(certificates.folder / "index.json"))
    lines = [line for line in generate_latest(registry).decode().splitlines() if not line.startswith("#")]
    names = sorted(line.partition("{")[2].partition("}")[0] for line in lines)
    assert names == [
        'kind="ca",name="Containarium CA"',
        'kind="client",name="admin"',
        'kind="client",name="vera"',
        'kind="server",name="localhost"',
    ]
    ends = float(next(line for line in lines if "admin" in line).rpartition(" ")[2])
    assert abs(ends - (utc() + YEAR).timestamp()) < 120


@pytest.mark.parametrize("text", ["", "[", "{}", '[{"kind": 1}]', "null"])
def test_an_index_that_makes_no_sense_has_no_series(tmp_path: Path, text: str) -> None:
    path = tmp_path / "index.json"
    path.write_text(text)
    (family,) = CertificateDates(path).collect()
    assert family.samples == []
