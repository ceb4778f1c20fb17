"""The key with which this host asks the others of its fleet. It stands in their Host manifests, so it is kept."""

from __future__ import annotations

import os
import stat

from containarium.host.files import make_folder, read_small, write_atomically
from containarium.host.prepare.steps import Context, Step
from containarium.host.settings import HostSettings
from containarium.model.host import TerminalError
from containarium.model.sshkey import SSHKey

COMMENT = "containarium-peer"


def peer_key(context: Context) -> Step:
    """Make the key where there is none. One that is there stays: others know this host by it.

    Raises TerminalError (PeerKeyUnsafe) where others than root could have read or replaced it.
    """
    settings = context.settings
    path = settings.peer_key
    if not path.parent.exists():
        context.receipt.add("peer key", str(path))
    changed = make_folder(path.parent, 0o700)
    if not os.path.lexists(path):
        made = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", COMMENT, "-f", str(path)]
        context.run(made, timeout=30)
        return Step("peer key", True, f"made {path}")
    status = path.lstat()
    if not stat.S_ISREG(status.st_mode) or status.st_uid != os.geteuid() or status.st_mode & 0o077:
        raise TerminalError(
            f"others than root may have read or replaced {path}",
            remedy=f"rm {path}, run this again, and commit what containarium host manifest prints",
            reason="PeerKeyUnsafe",
        )
    if not public_half(settings):
        derived = context.run(["ssh-keygen", "-y", "-P", "", "-f", str(path)], timeout=30).out.strip()
        write_atomically(path.with_name(f"{path.name}.pub"), f"{derived} {COMMENT}\n")
        changed = True
    return Step("peer key", changed, str(path))


def public_half(settings: HostSettings) -> str:
    """``ssh-ed25519 BLOB COMMENT``; empty where there is none."""
    path = settings.peer_key.with_name(f"{settings.peer_key.name}.pub")
    try:
        return SSHKey.parse((read_small(path) or "").strip()).line
    except ValueError:
        return ""
