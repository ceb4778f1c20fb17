"""What mounts the data disk at every boot, and keeps Incus from starting without it.

A boot without its data disk goes on, so that admins get in; but Incus would find an empty folder on the boot disk and
begin anew there. So its units are told to start nowhere but on a mount.
"""

from __future__ import annotations

from containarium.host.prepare import disk
from containarium.host.prepare.service import DISK_SERVICE, Installation, folder, rendered
from containarium.host.prepare.steps import Context, Step
from containarium.host.settings import HostSettings

NAME = "disk units"
GUARDED = ("incus.socket", "incus.service", "incus-startup.service", "incus-user.socket", "incus-user.service")
_GUARD = "containarium-disk.conf"


def guard_text(settings: HostSettings) -> str:
    """The addition to each unit of Incus. Assert and not Condition: whoever starts it is told why it does not."""
    return (
        "# Written by containarium: Incus' data is on a disk of its own, and without that nothing is to begin anew.\n"
        "[Unit]\n"
        f"Wants={DISK_SERVICE}\n"
        f"After={DISK_SERVICE}\n"
        f"RequiresMountsFor={settings.incus_dir}\n"
        f"AssertPathIsMountPoint={settings.incus_dir}\n"
    )


def install(context: Context, installation: Installation | None = None) -> Step:
    """Install both before the disk is mounted for the first time, so that no crash leaves it unguarded."""
    spec, known = context.spec, disk.read(context.settings)
    if known is None and (spec is None or spec.storage.disk is None):
        return Step(NAME, False, "there is no data disk")
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


def guarded(settings: HostSettings) -> bool:
    """Whether every unit of Incus is kept from starting without the disk."""
    text = guard_text(settings)
    paths = (folder(settings) / f"{unit}.d" / _GUARD for unit in GUARDED)
    return all(path.is_file() and path.read_text(errors="replace") == text for path in paths)
