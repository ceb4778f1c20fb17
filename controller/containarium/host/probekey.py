"""The SSH probe's key: made once by ``host prepare``, looked at by every look, never made or mended by one."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path

from containarium.host.command import Run
from containarium.host.files import make_folder, read_small, write_atomically
from containarium.host.settings import HostSettings
from containarium.model.host import TerminalError
from containarium.model.sshkey import SSHKey
from containarium.plan.desired import PROBE_COMMENT

_KIND = "ed25519"


def public_half(settings: HostSettings) -> str:
    """``ssh-ed25519 BLOB`` of the probe's key; empty where there is none that ssh would use and root alone can read."""
    path = settings.probe_key
    return _parsed(_public(path)) if _private(path.parent, stat.S_ISDIR) and _private(path, stat.S_ISREG) else ""


def ensure(settings: HostSettings, run: Run) -> bool:
    """Make the key where there is none, mend modes and a lost public half. Returns whether anything changed.

    Whoever read the key meanwhile gained nothing, as it opens from this host what this host's users reach anyway; so
    one whose mode was opened is kept. Raises TerminalError where something else stands in its place.
    """
    path = settings.probe_key
    changed = make_folder(path.parent, 0o700)
    for there, is_kind, mode in ((path.parent, stat.S_ISDIR, 0o700), (path, stat.S_ISREG, 0o600)):
        if os.path.lexists(there) and not _private(there, is_kind):
            _close(there, is_kind, mode)
            changed = True
    derived = _derived(path, run) if path.exists() else ""
    if not derived:
        forget(settings, folder=False)
        run(["ssh-keygen", "-q", "-t", _KIND, "-N", "", "-C", PROBE_COMMENT, "-f", str(path)], timeout=30)
        return True
    if _parsed(_public(path)) != derived:  # half-made, or somebody's edit
        write_atomically(_public(path), f"{derived} {PROBE_COMMENT}\n")
        changed = True
    return changed


def forget(settings: HostSettings, *, folder: bool = True) -> None:
    """Remove the key, and its folder where nothing else is in it."""
    path = settings.probe_key
    for file in (path, _public(path)):
        file.unlink(missing_ok=True)
    if folder and path.parent.is_dir():
        path.parent.rmdir()


def _public(path: Path) -> Path:
    return path.with_name(f"{path.name}.pub")


def _parsed(path: Path) -> str:
    try:
        key = SSHKey.parse(read_small(path) or "")
    except ValueError:
        return ""
    return key.identity if key.type == f"ssh-{_KIND}" else ""


def _derived(path: Path, run: Run) -> str:
    """The public half of the private key; empty where that is damaged, as after a kill in the midst of its making."""
    done = run(["ssh-keygen", "-y", "-P", "", "-f", str(path)], timeout=30, check=False)
    try:
        return SSHKey.parse(done.out).identity if done.code == 0 else ""
    except ValueError:
        return ""


def _private(path: Path, is_kind: Callable[[int], bool]) -> bool:
    """Whether only root gets at it. A link is never followed."""
    try:
        status = path.lstat()
    except OSError:
        return False
    return is_kind(status.st_mode) and status.st_uid in (0, os.geteuid()) and not status.st_mode & 0o077


def _close(path: Path, is_kind: Callable[[int], bool], mode: int) -> None:
    status = path.lstat()
    if not is_kind(status.st_mode) or status.st_uid not in (0, os.geteuid()):
        raise TerminalError(
            f"{path} is not root's own file or folder", remedy="look at it, then move it away", reason="ProbeKeyForeign"
        )
    path.chmod(mode)
