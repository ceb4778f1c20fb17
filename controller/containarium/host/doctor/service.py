"""Checks of the controller as a service, of the manifests' sync, and of what would survive a new boot disk."""

from __future__ import annotations

import re
from collections.abc import Iterator

from containarium.host.doctor.finding import PREPARE, Finding, Patient, fail, ok, warn
from containarium.host.files import read_small
from containarium.host.prepare import vault as kept
from containarium.host.prepare.service import (
    SERVICE,
    SYNC_SERVICE,
    SYNC_TIMER,
    UNITS,
    Installation,
    folder,
    rendered,
    wants_sync,
)

_INSTALL = f"{PREPARE} --service"
_MANY = 3
"""Restarts since the last boot that are worth a look."""
_LONGEST = 160


def service(patient: Patient, installation: Installation | None = None) -> Iterator[Finding]:
    """Where the controller is a service: it runs, is watched, comes back at boot, and is this version."""
    if read_small(folder(patient.settings) / SERVICE) is None:
        yield ok("service", f"not installed ({_INSTALL}): whoever runs containarium apply is the controller")
        return
    if not patient.systemd:
        yield fail("service", "its unit is there, but systemd does not run this machine", "containarium daemon")
        return
    shown = _show(patient, SERVICE)
    state, said = shown.get("ActiveState", ""), _printable(shown.get("StatusText", ""))
    journal = f"journalctl -u {SERVICE}"
    if state == "active":
        yield ok("service", f"runs{f': {said}' if said else ''}")
    elif state in ("activating", "reloading"):
        yield warn("service", f"is not ready yet{f': {said}' if said else ''}", journal)
    else:
        yield fail("service", f"is {state or 'unknown'} ({shown.get('Result', '')})", f"systemctl restart {SERVICE}")
    if shown.get("UnitFileState") != "enabled":
        yield warn("service at boot", "it is not started at boot", f"systemctl enable {SERVICE}")
    if shown.get("WatchdogUSec", "0") in ("0", "infinity"):
        yield warn(
            "watchdog", "nobody notices when the controller hangs", f"systemctl edit {SERVICE}: WatchdogSec=2min"
        )
    restarts = int(shown.get("NRestarts") or 0)
    if restarts > _MANY:
        yield warn("restarts", f"systemd has restarted the controller {restarts} times", journal)
    yield from _units(patient, installation or Installation.own(), unread=shown.get("NeedDaemonReload") == "yes")


def sync(patient: Patient) -> Iterator[Finding]:
    """Where a sync is configured beside the service: its timer runs, and the last one worked."""
    installed = read_small(folder(patient.settings) / SYNC_TIMER) is not None
    if not (patient.systemd and installed and wants_sync(patient.settings)):
        return
    if _show(patient, SYNC_TIMER).get("ActiveState") != "active":
        yield fail("sync", "sync.yaml is there, but nothing runs it", _INSTALL)
        return
    result = _show(patient, SYNC_SERVICE).get("Result", "")
    if result == "success":
        yield ok("sync", "its timer runs, and the last sync worked")
    else:
        yield fail("sync", f"the last sync failed ({result})", f"journalctl -u {SYNC_SERVICE}; or: containarium sync")


def vault(patient: Patient) -> Iterator[Finding]:
    """A new boot disk would come back with the same host keys."""
    if not patient.root:
        yield warn("vault", "can only be read by root", "sudo containarium doctor")
        return
    why = kept.differs(patient.settings)
    if why:
        yield warn("vault", f"a new boot disk would not get this one's host keys: {why}", PREPARE)
    else:
        yield ok("vault", f"{patient.settings.vault} keeps what a new boot disk needs")


def _units(patient: Patient, installation: Installation, *, unread: bool) -> Iterator[Finding]:
    other = [name for name in UNITS if read_small(folder(patient.settings) / name) != rendered(name, installation)]
    if other:
        yield warn("units", f"not as this version writes them: {', '.join(other)}", _INSTALL)
    elif unread:
        yield warn("units", "systemd has not read the latest change", "systemctl daemon-reload")
    else:
        yield ok("units", "as this version writes them")


def _show(patient: Patient, unit: str) -> dict[str, str]:
    wanted = "ActiveState,UnitFileState,Result,StatusText,WatchdogUSec,NRestarts,NeedDaemonReload"
    shown = patient.run(["systemctl", "show", f"--property={wanted}", unit], timeout=30).out
    return {key: value for key, _, value in (line.partition("=") for line in shown.splitlines())}


def _printable(text: str) -> str:
    return re.sub(r"[^ -~]", "?", text)[:_LONGEST]


CHECKS = (service, sync, vault)
