"""probe: who can be probed, and how the result is told."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
import typer

from containarium.cli.output import Format
from containarium.cli.probe import carry_out
from containarium.cli.wiring import Wiring
from containarium.host.probe import ProbeResult
from containarium.simulate.host import SimulatedHost
from tests.unit.cli.conftest import Shell

REFUSED = ProbeResult(0.25, "the jump account is refused (it has expired)", "Connection closed", "AccountRefused")


@dataclass
class Prober:
    """Answers what a test says, and notes what was asked."""

    result: ProbeResult
    asked: list[tuple[str, str, str]] = field(default_factory=list)

    def __call__(self, environment: str, instance: str, address: str) -> ProbeResult:
        """One probe."""
        self.asked.append((environment, instance, address))
        return self.result


@pytest.fixture
def ready(shell: Shell) -> Shell:
    """Give a shell whose host has alice."""
    shell.declare("alice")
    shell("apply")
    return shell


def _carry_out(shell: Shell, prober: Prober, output: Format = Format.TEXT) -> int:
    wired = Wiring(settings=shell.settings, host=lambda _settings: SimulatedHost(shell.world))
    try:
        carry_out(wired, prober, "alice", output)
    except typer.Exit as ended:
        return ended.exit_code
    return 0


def test_one_that_gets_through(ready: Shell, capsys: pytest.CaptureFixture[str]) -> None:
    prober = Prober(ProbeResult(0.184))
    assert _carry_out(ready, prober) == 0
    assert prober.asked == [("alice", "alice-container", "10.0.3.2")]
    assert capsys.readouterr().out == "alice: SSH gets through to the host key of the container in 0.18 s\n"


def test_one_that_does_not(ready: Shell, capsys: pytest.CaptureFixture[str]) -> None:
    assert _carry_out(ready, Prober(REFUSED)) == 1
    assert capsys.readouterr().out == "alice: the jump account is refused (it has expired)\n  Connection closed\n"


def test_as_json(ready: Shell, capsys: pytest.CaptureFixture[str]) -> None:
    assert _carry_out(ready, Prober(REFUSED), Format.JSON) == 1
    assert capsys.readouterr().out == (
        '{\n  "name": "alice",\n  "address": "10.0.3.2",\n  "ok": false,\n  "seconds": 0.25,\n'
        '  "error": "the jump account is refused (it has expired)",\n  "detail": "Connection closed",\n'
        '  "reason": "AccountRefused"\n}\n'
    )


def test_without_a_key_it_says_what_makes_one(ready: Shell) -> None:
    done = ready("probe", "alice")
    assert (done.code, done.out) == (1, "")
    assert done.err == (
        f"containarium: error: there is no key for the SSH probe in {ready.settings.probe_key}; "
        "containarium host prepare makes one\n"
    )


def test_nobody_is_probed_who_cannot_log_in(ready: Shell) -> None:
    assert "there is no environment carol" in ready("probe", "carol").err
    ready.somebody.foreign_instance("web-container", address="10.0.3.9")
    assert "there is no environment web" in ready("probe", "web").err
    ready.declare("bob")
    ready("apply")
    (ready.folder / "alice.yaml").unlink()
    ready("apply")
    assert "alice is retired" in ready("probe", "alice").err


def test_only_root_can_read_the_key(ready: Shell) -> None:
    ready.root = False
    assert "needs root: sudo containarium probe alice" in ready("probe", "alice").err


def test_the_probes_key_is_nobodys_undeclared_one(ready: Shell) -> None:
    """It is among the account's keys, and info shows the person's alone."""
    account = ready.world.account("alice")
    assert account is not None
    assert account.keys is not None
    assert account.keys[-1].endswith(" containarium-probe")
    (key,) = ready("info", "alice", "-o", "json").json["keys"]
    assert (key["declared"], key["installed"]) == (True, True)
