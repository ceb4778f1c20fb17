"""Incus and lxcfs, running: by systemd where it runs the machine, else started by hand with pid files and logs."""

from __future__ import annotations

from pathlib import Path

from containarium.host.daemon import Daemon
from containarium.host.files import read_small
from containarium.host.prepare.steps import Context, Step
from containarium.model.host import HostError, RetryableError, TerminalError

_INCUSD = (Path("/usr/libexec/incus/incusd"), Path("/usr/lib/incus/incusd"), Path("/opt/incus/bin/incusd"))
_LXCFS = Path("/usr/bin/lxcfs")
_LXCFS_MOUNT = Path("/var/lib/lxcfs")
_READY = 90
_SHUTDOWN_MINUTES = "1"
_BOOT = Path("/etc/systemd/system/multi-user.target.d/containarium.conf")
_AT_BOOT = """# Written by containarium.
# By itself Incus starts at boot only where an orderly shutdown has left word of instances to start: no kill does.
[Unit]
Wants=incus.service
"""


def incusd(context: Context) -> Daemon | None:
    """The daemon as it is started without systemd; None where Incus is not installed."""
    program = next((path for path in _INCUSD if path.exists()), None)
    if program is None:
        return None
    settings = context.settings
    return Daemon(
        command=(str(program), "--group", "incus-admin"),
        pid_file=settings.runtime / "incusd.pid",
        log=settings.state / "incusd.log",
        run=context.run,
    )


def lxcfs(context: Context) -> Daemon:
    """lxcfs as it is started without systemd."""
    settings = context.settings
    return Daemon(
        command=(str(_LXCFS), "-f", str(_LXCFS_MOUNT)),
        pid_file=settings.runtime / "lxcfs.pid",
        log=settings.state / "lxcfs.log",
        run=context.run,
    )


def start_lxcfs(context: Context) -> Step:
    """With lxcfs, guests see their own limits in ``free`` and ``nproc``. Never worth failing for."""
    if lxcfs_is_mounted():
        return Step("lxcfs", False, "runs")
    try:
        if context.systemd:
            context.run(["systemctl", "enable", "--now", "lxcfs.service"], timeout=60)
        elif _LXCFS.exists():
            _LXCFS_MOUNT.mkdir(exist_ok=True)
            if lxcfs(context).start(context.environment()):
                context.receipt.add("daemon", "lxcfs")
    except HostError as error:
        return Step("lxcfs", False, warning=f"guests will see the host's memory and processors: {error}")
    return Step("lxcfs", True, "started")


def lxcfs_is_mounted() -> bool:
    """Whether lxcfs serves its files."""
    return f" {_LXCFS_MOUNT} " in (read_small(Path("/proc/self/mounts")) or "")


def start_incus(context: Context) -> Step:
    """Make Incus run and wait until it is ready. Raises RetryableError (IncusNotReady) when it does not get so."""
    running = context.settings.incus_socket.exists() and _answers(context)
    written = context.systemd and context.write(_BOOT, _AT_BOOT)
    if written:
        context.run(["systemctl", "daemon-reload"], timeout=60)
    if not running:
        context.progress("starting Incus")
        if context.systemd:
            _enable(context)
        else:
            daemon = incusd(context)
            if daemon is None:
                raise TerminalError(
                    "Incus is not installed",
                    remedy="containarium host prepare --install",
                    reason="CommandMissing",
                )
            context.note_incus_folder()
            if daemon.start(context.environment()):
                context.receipt.add("daemon", "incusd")
    waited = context.run(
        ["incus", "admin", "waitready", f"--timeout={_READY}"],
        timeout=_READY + 15,
        check=False,
        env=context.environment(),
    )
    if waited.code != 0:
        raise RetryableError(
            f"Incus did not get ready within {_READY} s: {waited.tail}",
            remedy="journalctl -u incus" if context.systemd else f"read {context.settings.state / 'incusd.log'}",
            reason="IncusNotReady",
        )
    version = context.incus.get().get("environment", {}).get("server_version", "")
    return Step("Incus", written or not running, f"version {version} is ready")


def server_settings(context: Context) -> Step:
    """Bound how long Incus waits for running operations at shutdown: its five minutes overrun a spot notice."""
    key = "core.shutdown_timeout"
    if key in context.incus.get().get("config", {}):
        return Step("Incus settings", False, f"{key} is set")
    context.incus.patch(body={"config": {key: _SHUTDOWN_MINUTES}})
    context.receipt.add("incus setting", key)
    return Step("Incus settings", True, f"{key} is {_SHUTDOWN_MINUTES} minute")


def _enable(context: Context) -> None:
    for unit in ("incus.socket", "incus.service"):
        enabled = context.run(["systemctl", "is-enabled", "--quiet", unit], timeout=30, check=False)
        active = context.run(["systemctl", "is-active", "--quiet", unit], timeout=30, check=False)
        if active.code != 0:
            context.run(["systemctl", "enable", "--now", "--no-block", unit], timeout=60)
            if enabled.code != 0:
                context.receipt.add("unit", unit)


def _answers(context: Context) -> bool:
    try:
        context.incus.get()
    except RetryableError:
        return False
    return True
