"""The controller as a service of systemd: its units, written with the path of this installation's own command."""

from __future__ import annotations

import os
import re
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

import containarium
from containarium.host.files import read_small
from containarium.host.prepare.steps import Context, Step
from containarium.host.settings import HostSettings
from containarium.model.host import RetryableError, TerminalError

SERVICE = "containarium.service"
SYNC_SERVICE = "containarium-sync.service"
SYNC_TIMER = "containarium-sync.timer"
REPORT_SERVICE = "containarium-report.service"
REPORT_TIMER = "containarium-report.timer"
API_SERVICE = "containarium-api.service"
"""Installed with the others, and enabled by whoever wants it."""
DISK_SERVICE = "containarium-disk.service"
"""Enabled where there is a data disk, see diskunits."""
HOST_SERVICE = "containarium-host.service"
HOST_TIMER = "containarium-host.timer"
HOST_PATH = "containarium-host.path"
UNITS = (
    *(SERVICE, SYNC_SERVICE, SYNC_TIMER, REPORT_SERVICE, REPORT_TIMER, API_SERVICE),
    *(DISK_SERVICE, HOST_SERVICE, HOST_TIMER, HOST_PATH),
)
SYNC_CONFIG = "sync.yaml"
_COMMAND = "/usr/bin/containarium"
"""What the units of the package name as their command."""
_PLAIN = re.compile(r"/[A-Za-z0-9/._+-]+")
"""A path that means the same to systemd whatever it is quoted with."""
_HIDDEN = ("/tmp", "/var/tmp")  # noqa: S108 - PrivateTmp= puts others in their place
_HOMES = ("/home", "/root", "/run/user")
_FIRST_PASS = 120.0


@dataclass(frozen=True, slots=True)
class Installation:
    """Where this program is installed."""

    command: Path
    parts: tuple[Path, ...]
    """Everything that has to be there for it to run, links followed."""
    units: Path
    """Folder of the units as the package has them."""

    @classmethod
    def own(cls) -> Installation:
        """This very one. Raises TerminalError (CommandMissing) where there is a package, but no command."""
        beside = Path(sys.prefix) / "bin" / "containarium"
        found = str(beside) if os.access(beside, os.X_OK) else shutil.which("containarium")
        if found is None:
            raise TerminalError(
                "there is no command containarium that a service could run",
                remedy="install the package with pip, into a virtual environment of its own",
                reason="CommandMissing",
            )
        command, package = Path(found), Path(containarium.__file__).resolve().parent
        packed = package / "systemd"
        return cls(
            command=command,
            # The interpreter is a link out of its virtual environment.
            parts=(command, command.resolve(), Path(sys.executable).resolve(), package),
            units=packed
            if packed.is_dir()
            else package.parents[1] / "systemd",  # the repository's, where it is editable
        )

    def unit(self, name: str) -> str:
        """A unit as the package has it. Raises TerminalError (UnitsMissing)."""
        text = read_small(self.units / name)
        if text is None:
            raise TerminalError(
                f"this installation has no {name}",
                remedy="install containarium anew, from its wheel or its repository",
                reason="UnitsMissing",
            )
        return text

    def below(self, *folders: str) -> str:
        """The first part that lies below one of these folders; else empty."""
        return next((str(part) for part in self.parts if any(part.is_relative_to(folder) for folder in folders)), "")


def rendered(name: str, installation: Installation) -> str:
    """The text of a unit for this machine. It changes with the version, so that an update restarts the service.

    Raises TerminalError (CommandUnusable) where systemd could not run the command.
    """
    command = str(installation.command)
    unusable = command if not _PLAIN.fullmatch(command) else installation.below(*_HIDDEN)
    if unusable:
        raise TerminalError(
            f"a service cannot run what lies at {unusable!r}",
            remedy="install containarium below /opt, into what python3 -m venv /opt/containarium makes",
            reason="CommandUnusable",
        )
    text = installation.unit(name).replace(f"ExecStart={_COMMAND}", f"ExecStart={command}")
    if installation.below(*_HOMES):
        text = text.replace("ProtectHome=yes\n", "ProtectHome=read-only\n")
    return f"# Written by containarium {containarium.__version__}. To change it: systemctl edit {name}\n{text}"


def folder(settings: HostSettings) -> Path:
    """Where an admin's units are."""
    return settings.etc / "systemd" / "system"


def wants_sync(settings: HostSettings) -> bool:
    """Whether an admin has said where the manifests come from."""
    return (settings.etc / "containarium" / SYNC_CONFIG).is_file()


def service(context: Context, installation: Installation | None = None) -> Step:
    """Install the units and have the controller run, now and at every boot; the timer where a sync is configured.

    What runs from unchanged units is left alone. A controller that does not get ready is a warning: systemd goes on.
    """
    if not context.systemd:
        return Step("service", False, warning="systemd does not run this machine: run containarium daemon yourself")
    installation = installation or Installation.own()
    texts = {name: rendered(name, installation) for name in UNITS}
    written = [name for name, text in texts.items() if context.write(folder(context.settings) / name, text)]
    if written:
        context.run(["systemctl", "daemon-reload"], timeout=60)
    enabled = _enable(context, SERVICE)
    enabled |= _enable(context, HOST_SERVICE)
    for unit in (HOST_TIMER, HOST_PATH):
        enabled |= _running_timer(context, unit, anew=unit in written)
    synced = _timer(context, SYNC_TIMER in written)
    reported = _running_timer(context, REPORT_TIMER, anew=REPORT_TIMER in written)
    started, warning = _start(context, anew=SERVICE in written)
    warnings = [warning, _elsewhere(context.settings), _at_home(installation)]
    return Step(
        "service",
        bool(written) or enabled or synced or reported or started,
        f"{SERVICE} runs {installation.command} daemon" if not warning else "",
        "; ".join(filter(None, warnings)),
    )


def _enable(context: Context, unit: str) -> bool:
    if context.run(["systemctl", "is-enabled", "--quiet", unit], timeout=30, check=False).code == 0:
        return False
    context.receipt.add("service", unit)  # first: what is enabled and not noted would stay for ever
    context.run(["systemctl", "enable", unit], timeout=60)
    return True


def _start(context: Context, *, anew: bool) -> tuple[bool, str]:
    """Returns whether it was started, and why it does not run."""
    active = context.run(["systemctl", "is-active", "--quiet", SERVICE], timeout=30, check=False).code == 0
    if active and not anew:
        return False, ""
    context.progress("starting the controller, and waiting for its first pass")
    context.run(["systemctl", "reset-failed", SERVICE], timeout=30, check=False)
    try:
        done = context.run(["systemctl", "restart" if active else "start", SERVICE], timeout=_FIRST_PASS, check=False)
    except RetryableError:
        return True, f"{SERVICE} is not ready after {_FIRST_PASS:.0f} s: see journalctl -u {SERVICE}"
    return True, f"{SERVICE} does not get ready, and is tried again: see journalctl -u {SERVICE}" if done.code else ""


def _timer(context: Context, written: bool) -> bool:
    """The timer runs where a sync is configured, and only there."""
    if wants_sync(context.settings):
        return _running_timer(context, SYNC_TIMER, anew=written)
    ours = next((made for made in context.receipt if (made.kind, made.name) == ("service", SYNC_TIMER)), None)
    if ours is None:
        return False
    context.run(["systemctl", "disable", "--now", SYNC_TIMER], timeout=60)
    context.receipt.forget(ours)
    return True


def _running_timer(context: Context, timer: str, *, anew: bool) -> bool:
    """Enable and start a timer, or what else waits. Returns whether that changed anything."""
    enabled = _enable(context, timer)
    active = context.run(["systemctl", "is-active", "--quiet", timer], timeout=30, check=False).code == 0
    if not active or anew:
        context.run(["systemctl", "restart", timer], timeout=60)
    return enabled or not active


def _elsewhere(settings: HostSettings) -> str:
    """The service has an environment of its own, so what this command was told by its own has to be told there too."""
    said = read_small(settings.etc / "default" / "containarium") or ""
    found = [name for name in ("INCUS_DIR", "INCUS_SOCKET") if os.environ.get(name) and f"{name}=" not in said]
    if not found:
        return ""
    return f"the service does not know {' and '.join(found)}: write it to {settings.etc / 'default' / 'containarium'}"


def _at_home(installation: Installation) -> str:
    below = installation.below(*_HOMES)
    return f"it runs from {below}, which somebody may remove or change: better install it below /opt" if below else ""
