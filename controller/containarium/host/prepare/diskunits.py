"""What mounts the data disk at every boot, and keeps Incus from starting without it.

A boot without its data disk goes on, so that admins get in; but Incus would find an empty folder on the boot disk and
begin anew there. So its units are told to start nowhere but on a mount; and no longer than there is a disk to wait for:
a manifest with an unusable disk takes Incus from nobody whose data is on the boot disk.
"""

from __future__ import annotations

from pathlib import Path

from containarium.host.prepare import disk
from containarium.host.prepare.service import DISK_SERVICE, Installation, folder, rendered
from containarium.host.prepare.steps import Context, Step
from containarium.host.settings import HostSettings

NAME = "disk units"
GUARDED = ("incus.socket", "incus.service", "incus-startup.service", "incus-user.socket", "incus-user.service")
_GUARD = "containarium-disk.conf"
_OURS = "# Written by containarium"


def guard_text(settings: HostSettings) -> str:
    """The addition to each unit of Incus. Assert and not Condition: whoever starts it is told why it does not."""
    return (
        f"{_OURS}: Incus' data is on a disk of its own, and without that nothing is to begin anew.\n"
        "[Unit]\n"
        f"Wants={DISK_SERVICE}\n"
        f"After={DISK_SERVICE}\n"
        f"RequiresMountsFor={settings.incus_dir}\n"
        f"AssertPathIsMountPoint={settings.incus_dir}\n"
    )


def install(context: Context, installation: Installation | None = None) -> Step:
    """Install both before the disk is mounted for the first time, so that no crash leaves it unguarded.

    Where no disk is to be waited for, what an earlier manifest has left is taken away.
    """
    spec = context.spec
    named = spec is not None and spec.storage.disk is not None
    if not is_due(context.settings, named=named):
        why = "Incus' data is on the boot disk: it starts there" if named else "there is no data disk"
        return Step(NAME, _remove_guards(context), why)
    if not context.systemd:
        return Step(NAME, False, warning="without systemd nothing mounts the data disk at the next boot: run this then")
    units = folder(context.settings)
    text = rendered(DISK_SERVICE, installation or Installation.own())
    written = [context.write(units / DISK_SERVICE, text)]
    written += [context.write(units / f"{unit}.d" / _GUARD, guard_text(context.settings)) for unit in GUARDED]
    if any(written):
        context.run(["systemctl", "daemon-reload"], timeout=60)
    enabled = context.run(["systemctl", "is-enabled", "--quiet", DISK_SERVICE], timeout=30, check=False).code == 0
    if not enabled:
        context.receipt.add("service", DISK_SERVICE)
        context.run(["systemctl", "enable", DISK_SERVICE], timeout=60)
    return Step(NAME, any(written) or not enabled, f"{DISK_SERVICE}, and Incus only on the mount")


def is_due(settings: HostSettings, *, named: bool) -> bool:
    """Whether Incus has to wait for a disk: for the one that is known, and for one that is only ``named`` where Incus'
    folder is on it already, or holds nothing that a start without it could miss.
    """
    if disk.read(settings) is not None:
        return True
    return named and (disk.mounted_at(settings.incus_dir) is not None or not disk.holds_data(settings.incus_dir))


def guarded(settings: HostSettings) -> bool:
    """Whether every unit of Incus is kept from starting without the disk."""
    text = guard_text(settings)
    return all(path.is_file() and path.read_text(errors="replace") == text for path in _guards(settings))


def guards_left(settings: HostSettings) -> bool:
    """Whether any unit of Incus is kept from starting off a mount, by us."""
    return any(_is_ours(path) for path in _guards(settings))


def _guards(settings: HostSettings) -> list[Path]:
    return [folder(settings) / f"{unit}.d" / _GUARD for unit in GUARDED]


def _is_ours(path: Path) -> bool:
    return path.is_file() and path.read_text(errors="replace").startswith(_OURS)


def _remove_guards(context: Context) -> bool:
    """Returns whether there were any."""
    ours = [path for path in _guards(context.settings) if _is_ours(path)]
    for path in ours:
        path.unlink()
        context.receipt.drop("file", str(path))
        if not any(path.parent.iterdir()):
            path.parent.rmdir()
    if ours and context.systemd:
        context.run(["systemctl", "daemon-reload"], timeout=60)
    return bool(ours)
