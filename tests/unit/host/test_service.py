"""The controller's units: what they are made of, when something is started anew, and what doctor says of them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import pytest

import containarium
from containarium.host.command import Completed
from containarium.host.doctor import Finding
from containarium.host.doctor import service as doctor
from containarium.host.doctor.finding import Check, Patient
from containarium.host.incus import Incus
from containarium.host.prepare.receipt import Made, Receipt
from containarium.host.prepare.service import (
    HOST_PATH,
    HOST_SERVICE,
    HOST_TIMER,
    REPORT_SERVICE,
    REPORT_TIMER,
    SERVICE,
    SYNC_SERVICE,
    SYNC_TIMER,
    UNITS,
    Installation,
    rendered,
    service,
)
from containarium.host.prepare.steps import Context
from containarium.host.prepare.undo import undo
from containarium.host.settings import HostSettings
from containarium.model.host import RetryableError, TerminalError, silent
from tests.unit.host.etcfiles import FakeRun, settings, write_etc

REPOSITORY = Path(__file__).parents[3]
WAITING = {REPORT_TIMER, HOST_TIMER, HOST_PATH}
"""What starts others, and is there on every host."""


class FakeSystemd(FakeRun):
    """Knows which units are enabled and active. ``start`` is what starting a unit does: its exit code, or an error."""

    def __init__(self, start: int | Exception = 0) -> None:
        super().__init__(self._systemctl)
        self.enabled: set[str] = set()
        self.active: set[str] = set()
        self.shown: Mapping[str, str] = {}
        self.start = start

    def _systemctl(self, args: list[str]) -> Completed:
        verb, unit = args[1], args[-1]
        if verb in ("is-enabled", "is-active"):
            return Completed(int(unit not in (self.enabled if verb == "is-enabled" else self.active)), "", "")
        if verb == "enable":
            self.enabled.add(unit)
        elif verb == "disable":
            self.enabled.discard(unit)
            self.active.discard(unit)
        elif unit.endswith((".timer", ".path")) and verb in ("start", "restart"):
            self.active.add(unit)
        elif verb in ("start", "restart"):
            if isinstance(self.start, Exception):
                raise self.start
            if self.start == 0:
                self.active.add(unit)
            return Completed(self.start, "", "Job failed")
        elif verb == "show":
            return Completed(0, "".join(f"{key}={value}\n" for key, value in self.shown.items()), "")
        return Completed(0, "", "")

    def started(self) -> list[str]:
        """Units that were started or restarted, in order."""
        return [command[-1] for command in self.commands if command[1] in ("start", "restart")]


def _context(root: Path, run: FakeRun, *, systemd: bool = True) -> Context:
    host = settings(root)
    return Context(host, run, Incus(host), Receipt(root / "state" / "prepared.json"), silent, systemd)


def _installation(command: str = "/opt/containarium/bin/containarium", part: str = "/usr/bin/python3") -> Installation:
    return Installation(Path(command), (Path(command), Path(part)), REPOSITORY / "systemd")


def _units(host: HostSettings) -> Path:
    return host.etc / "systemd" / "system"


def _configure_sync(host: HostSettings) -> None:
    (host.etc / "containarium").mkdir(parents=True, exist_ok=True)
    (host.etc / "containarium" / "sync.yaml").write_text("repository: https://git.example/environments\n")


# -- the text


def test_own_installation_has_units_and_a_command() -> None:
    own = Installation.own()
    assert own.command.name == "containarium"
    for name in UNITS:
        assert own.unit(name) == (REPOSITORY / "systemd" / name).read_text()


def test_every_command_in_the_units_is_this_installations() -> None:
    found = [line for name in UNITS for line in rendered(name, _installation()).splitlines() if "ExecStart=" in line]
    assert found == [
        "ExecStart=/opt/containarium/bin/containarium daemon $CONTAINARIUM_OPTIONS",
        "ExecStart=/opt/containarium/bin/containarium sync",
        "ExecStart=/opt/containarium/bin/containarium report",
        "ExecStart=/opt/containarium/bin/containarium api $CONTAINARIUM_API_OPTIONS",
        "ExecStart=/opt/containarium/bin/containarium host mount",
        "ExecStart=/opt/containarium/bin/containarium host prepare --unless-running",
    ]


def test_the_text_changes_with_the_version() -> None:
    assert f" {containarium.__version__}. " in rendered(SERVICE, _installation()).splitlines()[0]


def test_homes_are_shut_unless_it_is_installed_in_one() -> None:
    assert "\nProtectHome=yes\n" in rendered(SERVICE, _installation())
    at_home = rendered(SERVICE, _installation(part="/root/containarium/controller/containarium"))
    assert "\nProtectHome=read-only\n" in at_home


@pytest.mark.parametrize(
    "installation",
    [
        _installation("/opt/my programs/containarium"),
        _installation("/opt/100%/containarium"),
        _installation("/opt/a\nExecStartPre=/bin/sh/containarium"),
        _installation("/tmp/venv/bin/containarium"),
        _installation(part="/var/tmp/venv/bin/python3"),
    ],
)
def test_what_systemd_could_not_run_is_refused(installation: Installation) -> None:
    with pytest.raises(TerminalError, match="below /opt") as refused:
        rendered(SERVICE, installation)
    assert refused.value.reason == "CommandUnusable"


def test_an_installation_without_units_says_so(tmp_path: Path) -> None:
    with pytest.raises(TerminalError) as refused:
        Installation(Path("/opt/containarium"), (), tmp_path).unit(SERVICE)
    assert refused.value.reason == "UnitsMissing"


@pytest.mark.parametrize("name", [SERVICE, SYNC_SERVICE, REPORT_SERVICE])
def test_only_what_has_to_be_written_can_be(name: str) -> None:
    text = (REPOSITORY / "systemd" / name).read_text()
    assert "\nProtectSystem=strict\n" in text
    writable = {path.lstrip("-") for line in re.findall(r"(?m)^ReadWritePaths=(.*)$", text) for path in line.split()}
    assert writable <= {
        *("/etc", "/etc/ssh/containarium", "/var/log/lastlog", "/var/log/faillog", "/var/lib/incus/containarium"),
        "/var/lib/incus/storage-pools",  # quotas
        "/etc/containarium",
    }


# -- the step


def test_the_controller_is_installed_enabled_and_started(tmp_path: Path) -> None:
    systemd = FakeSystemd()
    step = service(_context(tmp_path, systemd), _installation())
    assert (step.changed, step.warning) == (True, "")
    assert "/opt/containarium/bin/containarium daemon" in step.detail
    assert sorted(path.name for path in _units(settings(tmp_path)).iterdir()) == sorted(UNITS)
    assert (systemd.enabled, systemd.active) == ({SERVICE, HOST_SERVICE, *WAITING}, {SERVICE, *WAITING})
    verbs = [command[1] for command in systemd.commands]
    assert verbs.index("daemon-reload") < verbs.index("enable") < verbs.index("start")


def test_a_second_time_nothing_is_touched(tmp_path: Path) -> None:
    systemd = FakeSystemd()
    service(_context(tmp_path, systemd), _installation())
    systemd.commands.clear()
    step = service(_context(tmp_path, systemd), _installation())
    assert (step.changed, step.warning) == (False, "")
    assert {command[1] for command in systemd.commands} <= {"is-enabled", "is-active"}


def test_an_update_restarts_it(tmp_path: Path) -> None:
    systemd = FakeSystemd()
    service(_context(tmp_path, systemd), _installation())
    assert service(_context(tmp_path, systemd), _installation("/opt/newer/bin/containarium")).changed
    assert [unit for unit in systemd.started() if unit == SERVICE] == [SERVICE, SERVICE]


def test_one_that_was_stopped_is_started(tmp_path: Path) -> None:
    systemd = FakeSystemd()
    service(_context(tmp_path, systemd), _installation())
    systemd.active.clear()
    assert service(_context(tmp_path, systemd), _installation()).changed
    assert systemd.active == {SERVICE, *WAITING}


def test_the_timer_runs_only_where_a_sync_is_configured(tmp_path: Path) -> None:
    systemd, host = FakeSystemd(), settings(tmp_path)
    service(_context(tmp_path, systemd), _installation())
    _configure_sync(host)
    assert service(_context(tmp_path, systemd), _installation()).changed
    assert SYNC_TIMER in systemd.enabled & systemd.active
    assert not service(_context(tmp_path, systemd), _installation()).changed
    (host.etc / "containarium" / "sync.yaml").unlink()
    assert service(_context(tmp_path, systemd), _installation()).changed
    assert SYNC_TIMER not in systemd.enabled | systemd.active
    assert not service(_context(tmp_path, systemd), _installation()).changed


@pytest.mark.parametrize("start", [1, RetryableError("systemctl did not end within 120 s")])
def test_a_controller_that_does_not_get_ready_is_a_warning(tmp_path: Path, start: int | Exception) -> None:
    step = service(_context(tmp_path, FakeSystemd(start)), _installation())
    assert f"journalctl -u {SERVICE}" in step.warning


def test_without_systemd_nothing_is_written(tmp_path: Path) -> None:
    run = FakeRun()
    step = service(_context(tmp_path, run, systemd=False), _installation())
    assert "containarium daemon" in step.warning
    assert run.commands == []
    assert not settings(tmp_path).etc.exists()


def test_what_only_this_command_was_told_is_not_lost_silently(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INCUS_DIR", "/srv/incus")
    assert "INCUS_DIR" in service(_context(tmp_path, FakeSystemd()), _installation()).warning
    default = settings(tmp_path).etc / "default" / "containarium"
    default.parent.mkdir()
    default.write_text("INCUS_DIR=/srv/incus\n")
    assert service(_context(tmp_path, FakeSystemd()), _installation()).warning == ""


def test_it_is_taken_back_before_anything_else(tmp_path: Path) -> None:
    write_etc(tmp_path)
    systemd, host = FakeSystemd(), settings(tmp_path)
    _configure_sync(host)
    service(_context(tmp_path, systemd), _installation())
    later = _context(tmp_path, systemd)
    later.receipt.add("unit", "fail2ban.service")
    systemd.commands.clear()
    assert {step.warning for step in undo(later)} == {""}
    assert (systemd.enabled, systemd.active) == (set(), set())
    assert list(_units(host).iterdir()) == []
    disabled = [command[-1] for command in systemd.commands if command[1] == "disable"]
    assert disabled == [REPORT_TIMER, SYNC_TIMER, HOST_PATH, HOST_TIMER, HOST_SERVICE, SERVICE, "fail2ban.service"]


def test_a_unit_that_was_enabled_before_us_stays_enabled(tmp_path: Path) -> None:
    systemd = FakeSystemd()
    systemd.enabled.add(SERVICE)
    context = _context(tmp_path, systemd)
    service(context, _installation())
    assert Made("service", SERVICE) not in list(context.receipt)


# -- doctor

RUNS = {
    "ActiveState": "active",
    "UnitFileState": "enabled",
    "Result": "success",
    "StatusText": "42 as declared",
    "WatchdogUSec": "2min",
    "NRestarts": "0",
    "NeedDaemonReload": "no",
}


SERVICE_CHECK = partial(doctor.service, installation=_installation())


def _examine(check: Check, root: Path, shown: Mapping[str, str], *, older: bool = False) -> dict[str, Finding]:
    host, systemd = settings(root), FakeSystemd()
    _units(host).mkdir(parents=True, exist_ok=True)
    for name in UNITS:
        installation = _installation("/opt/older/bin/containarium") if older else _installation()
        (_units(host) / name).write_text(rendered(name, installation))
    systemd.shown = shown
    return {found.check: found for found in check(Patient(host, systemd, Incus(host), True, True))}


@pytest.mark.parametrize(
    ("changed", "levels"),
    [
        ({}, {"service": "ok", "units": "ok"}),
        ({"ActiveState": "failed"}, {"service": "fail", "units": "ok"}),
        ({"ActiveState": "inactive"}, {"service": "fail", "units": "ok"}),
        ({"ActiveState": "activating"}, {"service": "warn", "units": "ok"}),
        ({"UnitFileState": "disabled"}, {"service": "ok", "service at boot": "warn", "units": "ok"}),
        ({"WatchdogUSec": "infinity"}, {"service": "ok", "watchdog": "warn", "units": "ok"}),
        ({"NRestarts": "9"}, {"service": "ok", "restarts": "warn", "units": "ok"}),
        ({"NeedDaemonReload": "yes"}, {"service": "ok", "units": "warn"}),
    ],
)
def test_doctor_judges_the_service(tmp_path: Path, changed: dict[str, str], levels: dict[str, str]) -> None:
    found = _examine(SERVICE_CHECK, tmp_path, {**RUNS, **changed})
    assert {name: finding.level.value for name, finding in found.items()} == levels
    assert all(finding.remedy for finding in found.values() if finding.level.value != "ok")


def test_doctor_notices_units_of_another_version(tmp_path: Path) -> None:
    found = _examine(SERVICE_CHECK, tmp_path, RUNS, older=True)
    assert found["units"].level.value == "warn"
    assert SERVICE in found["units"].message


def test_doctor_shows_no_control_characters_of_the_status(tmp_path: Path) -> None:
    found = _examine(SERVICE_CHECK, tmp_path, {**RUNS, "StatusText": "\x1b[31mred" + "x" * 500})
    assert "\x1b" not in found["service"].message
    assert len(found["service"].message) < 200


def test_doctor_takes_a_host_without_the_service_as_it_is(tmp_path: Path) -> None:
    host = settings(tmp_path)
    found = list(doctor.service(Patient(host, FakeSystemd(), Incus(host), True, True)))
    assert [finding.level.value for finding in found] == ["ok"]


@pytest.mark.parametrize(
    ("shown", "level"),
    [
        ({"ActiveState": "active", "Result": "success"}, "ok"),
        ({"ActiveState": "active", "Result": "exit-code"}, "fail"),
        ({"ActiveState": "inactive", "Result": "success"}, "fail"),
    ],
)
def test_doctor_judges_the_sync(tmp_path: Path, shown: dict[str, str], level: str) -> None:
    assert _examine(doctor.sync, tmp_path, shown) == {}, "none is configured"
    _configure_sync(settings(tmp_path))
    assert _examine(doctor.sync, tmp_path, shown)["sync"].level.value == level
