"""The command line from afar: the same words as on the host itself, and one line for whatever is wrong."""

from __future__ import annotations

import inspect
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import typer

from containarium.api.store import CertificateStore
from containarium.cli.main import app, run_command
from containarium.cli.remote import hoisted
from containarium.host.hostname import own_name
from containarium.model.observed import InstanceStatus
from tests.builders import public_key
from tests.unit.api.conftest import YEAR, Site
from tests.unit.cli.conftest import Ended


@dataclass
class Shells:
    """Runs command lines: on the host itself, or over its service."""

    site: Site
    capsys: pytest.CaptureFixture[str]
    folder: Path

    def here(self, *arguments: str) -> Ended:
        """On the host."""
        return self._run(arguments)

    def there(self, *arguments: str, who: str = "admin") -> Ended:
        """From a laptop."""
        folder = self.site.store.folder / "clients" / who
        return self._run((*arguments, "--server", self.site.address, "--certs-dir", str(folder)))

    def _run(self, arguments: tuple[str, ...]) -> Ended:
        code = run_command(arguments, self.site.wired)
        out, err = self.capsys.readouterr()
        return Ended(code, out, err)


@pytest.fixture
def shells(site: Site, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shells:
    """Give both, with a home of their own."""
    for name in ("CONTAINARIUM_SERVER", "CONTAINARIUM_CERTS_DIR", "CONTAINARIUM_CONTEXT", "CONTAINARIUM_DEBUG"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    return Shells(site, capsys, tmp_path)


def create(shells: Shells, *names: str) -> Ended:
    ended = shells.there("create", *names, "--ssh-key", public_key("alice"), "--image", "bootstrap:debian/12")
    assert ended.code == 0, ended
    return ended


def test_the_whole_story_from_afar(shells: Shells) -> None:
    world = shells.site.world
    made = create(shells, "alice")
    assert "[7/7] alice: SSH: ready" in made.out
    assert "ProxyJump alice-jump" in made.out
    assert "# jump.example.org ssh-ed25519 JUMP" in made.out
    laptop = public_key("second")
    assert shells.there("key", "add", "alice", laptop).code == 0
    assert len(world.accounts["alice"].keys or ()) >= 2
    assert shells.there("key", "remove", "alice", public_key("alice")).code == 0
    resized = shells.there("resize", "alice", "--memory", "8GiB")
    assert "alice: memory 4GiB -> 8GiB" in resized.out
    for command, status in (("stop", InstanceStatus.STOPPED), ("start", InstanceStatus.RUNNING)):
        assert shells.there(command, "alice").code == 0
        assert world.instances["alice-container"].status is status
    gone = shells.there("delete", "alice")
    assert gone.code == 0, gone
    assert "alice" in gone.out
    assert world.instances["alice-container"].status is InstanceStatus.STOPPED


@pytest.mark.parametrize(
    "command",
    [
        ("list", "--live"),
        ("list", "--live", "-o", "json"),
        ("list", "--live", "-o", "yaml"),
        ("plan",),
        ("plan", "-o", "json"),
        ("events", "-o", "json"),
        ("doctor",),
        ("export", "alice", "--jump-ip", "203.0.113.7"),
    ],
)
def test_what_is_printed_is_what_is_printed_there(shells: Shells, command: tuple[str, ...]) -> None:
    create(shells, "alice")
    here, there = shells.here(*command), shells.there(*command)
    assert (there.code, there.out) == (here.code, here.out)


def test_the_login_of_the_host_manifest_is_exported_port_and_all(shells: Shells) -> None:
    create(shells, "alice")
    login = "login: {address: balancer.example.org, port: 2222}"
    manifest = f"apiVersion: containarium.dev/v1\nkind: Host\nmetadata: {{name: {own_name()}}}\nspec: {{{login}}}\n"
    (shells.site.wired.settings.manifests / "host.yaml").write_text(manifest)
    for options, address, port in (
        ((), "balancer.example.org", 2222),
        (("--jump-port", "22"), "balancer.example.org", 22),
        (("--jump-host", "203.0.113.7"), "203.0.113.7", 22),
    ):
        here, there = shells.here("export", "alice", *options), shells.there("export", "alice", *options)
        assert (there.code, there.out) == (here.code, here.out)
        way = f"    HostName {address}\n" + (f"    Port {port}\n" if port != 22 else "")
        assert way in there.out, there


def test_list_filters_and_status(shells: Shells) -> None:
    create(shells, "alice")
    assert [row["name"] for row in shells.there("list", "--state", "running", "-o", "json").json] == ["alice"]
    assert shells.there("list", "--state", "stopped", "-o", "json").json == []
    assert shells.there("list", "--label", "team=ml", "-o", "json").json == []
    assert "AsDeclared" in shells.there("status", "alice").out
    assert shells.there("status", "-o", "json").json["alive"] is True


def test_apply_and_its_exit_code(shells: Shells) -> None:
    create(shells, "alice")
    done = shells.there("apply", "-o", "json")
    assert (done.code, done.json["converged"]) == (0, True)


def test_a_viewer_is_told_in_one_line(shells: Shells) -> None:
    create(shells, "alice")
    assert shells.there("list", who="vera").code == 0
    said = shells.there("stop", "alice", who="vera")
    assert said.code == 1
    assert said.err.count("\n") == 1
    assert "vera may look and change nothing (role viewer)" in said.err


def test_what_makes_no_sense_from_afar_is_refused(shells: Shells) -> None:
    assert "works on the host itself" in shells.there("host", "prepare").err
    assert "--manifests means something on the host itself alone" in shells.there("list", "-f", "/tmp").err
    assert shells.there("version").code == 0


def test_the_place_may_be_named_in_four_ways(shells: Shells, monkeypatch: pytest.MonkeyPatch) -> None:
    create(shells, "alice")
    site, admin = shells.site, str(shells.site.store.folder / "clients" / "admin")

    def names(ended: Ended) -> list[str]:
        assert ended.code == 0, ended
        return [row["name"] for row in json.loads(ended.out)]

    assert names(shells.here("list", "-o", "json", "--server", site.unix)) == ["alice"]
    monkeypatch.setenv("CONTAINARIUM_SERVER", site.address)
    monkeypatch.setenv("CONTAINARIUM_CERTS_DIR", admin)
    assert names(shells.here("list", "-o", "json")) == ["alice"]
    monkeypatch.delenv("CONTAINARIUM_SERVER")
    monkeypatch.delenv("CONTAINARIUM_CERTS_DIR")
    assert shells.here("context", "add", "prod", "--server", site.address, "--certs-dir", admin).code == 0
    assert (shells.folder / "config" / "containarium" / "config.yaml").stat().st_mode & 0o777 == 0o600
    assert "*  prod" in shells.here("context", "list").out
    assert names(shells.here("list", "-o", "json")) == ["alice"]
    assert shells.here("context", "use", "local").code == 0
    assert names(shells.here("--context", "prod", "list", "-o", "json")) == ["alice"]
    assert "there is no context nowhere" in shells.here("--context", "nowhere", "list").err
    assert shells.here("context", "remove", "prod").code == 0


@pytest.mark.parametrize(
    ("given", "hoisted_"),
    [
        (["list", "--server", "a:1", "-o", "json"], ["--server", "a:1", "list", "-o", "json"]),
        (["--context=x", "list"], ["--context=x", "list"]),
        (["create", "--", "--server"], ["create", "--", "--server"]),
        (["list", "--server"], ["--server", "list"]),
    ],
)
def test_where_options_stand_does_not_matter(given: list[str], hoisted_: list[str]) -> None:
    assert hoisted(given) == hoisted_


def test_an_unreachable_server_is_one_line(shells: Shells, free_port: Callable[[], int]) -> None:
    folder = shells.site.store.folder / "clients" / "admin"
    said = shells.here("list", "--server", f"127.0.0.1:{free_port()}", "--certs-dir", str(folder))
    assert said.code == 1
    assert said.err.startswith("containarium: error: nobody listens on 127.0.0.1:")
    assert said.err.count("\n") == 1


@pytest.fixture
def free_port() -> Callable[[], int]:
    """Give a function that finds a port where nobody listens."""
    import socket

    def find() -> int:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            return int(taken.getsockname()[1])

    return find


def test_every_command_that_may_be_sent_takes_the_context() -> None:
    for name, function in _commands(app):
        if not name.startswith(("validate", "schema", "version", "context ", "cert ")):
            assert "context" in inspect.signature(function).parameters, name


def _commands(of: typer.Typer, prefix: str = "") -> Iterator[tuple[str, Callable[..., object]]]:
    for command in of.registered_commands:
        if command.callback is not None:
            yield f"{prefix}{command.name or ''}", command.callback
    for group in of.registered_groups:
        if group.typer_instance is not None:
            yield from _commands(group.typer_instance, f"{prefix}{group.name} ")


def test_a_real_process_says_one_line_and_nothing_of_grpcs_own(shells: Shells, tmp_path: Path) -> None:
    other = CertificateStore(tmp_path / "other")
    other.generate(["localhost"], [], YEAR)
    folder = str(other.folder / "clients" / "admin")
    command = [sys.executable, "-m", "containarium", "list", "--server", shells.site.address, "--certs-dir", folder]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.count("\n") == 1, done.stderr
    assert "has a certificate of another authority than your ca.crt" in done.stderr
