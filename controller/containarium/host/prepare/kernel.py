"""Limits of the kernel that many guests run into, and the ids that their users are mapped to."""

from __future__ import annotations

from pathlib import Path

from containarium.host.passwd import read_account_files
from containarium.host.prepare.steps import Context, Step

SYSCTLS = {
    "fs.inotify.max_user_instances": 1048576,  # the default of 128 ends at about 11 guests: further ones stop silently
    "kernel.keys.maxkeys": 2000,
    "kernel.keys.maxbytes": 2000000,
    "net.ipv4.ip_forward": 1,
}
SYSCTL_FILE = "sysctl.d/60-containarium.conf"
SUBORDINATE_IDS = "1000000-1000999999"
PROC = Path("/proc/sys")


def sysctls(context: Context, proc: Path = PROC) -> Step:
    """Write the file that holds at every boot, and raise now what is lower.

    Nothing is ever lowered, not even when a preparation is taken back: other programs may count on it by then.
    """
    text = "# Written by containarium: room for many guests.\n"
    text += "".join(f"{name} = {value}\n" for name, value in SYSCTLS.items())
    changed = context.write(context.settings.etc / SYSCTL_FILE, text)
    refused = []
    for name, wanted in SYSCTLS.items():
        now = read_sysctl(name, proc)
        if now is not None and now >= wanted:
            continue
        try:
            (proc / name.replace(".", "/")).write_text(f"{wanted}\n")
        except OSError:
            refused.append(name)
            continue
        changed = True
    warning = f"the kernel does not let these be set here: {', '.join(refused)}" if refused else ""
    return Step("sysctls", changed, ", ".join(SYSCTLS), warning)


def read_sysctl(name: str, proc: Path = PROC) -> int | None:
    """A numeric sysctl's value; None where the kernel has none of that name."""
    try:
        return int((proc / name.replace(".", "/")).read_text().split()[0])
    except (OSError, ValueError, IndexError):
        return None


def subordinate_ids(context: Context) -> Step:
    """Give root a range of ids for its guests where it has none; one that is there stays as it is."""
    etc = context.settings.etc
    files = read_account_files(etc)
    added = []
    for name, option, ranges in (("subuid", "--add-subuids", files.subuid), ("subgid", "--add-subgids", files.subgid)):
        if any(r.owner in ("root", "0") and r.count > 0 for r in ranges):
            continue
        (etc / name).touch(mode=0o644)  # usermod refuses where there is no such file
        context.run(["usermod", option, SUBORDINATE_IDS, "--", "root"], timeout=60)
        context.receipt.add("subordinate ids", name, SUBORDINATE_IDS)
        added.append(name)
    return Step(
        "subordinate ids", bool(added), f"root has {SUBORDINATE_IDS} in {', '.join(added)}" if added else "there"
    )
