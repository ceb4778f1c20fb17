"""sshd for everybody on this machine: no passwords, few attempts, and root only by key, or not at all.

A drop-in of its own, whose name sorts before a cloud's: of what is said twice, sshd takes what it reads first.
"""

from __future__ import annotations

from pathlib import Path

from containarium.host import homekeys
from containarium.host.files import read_small
from containarium.host.homekeys import Home
from containarium.host.prepare import wayin
from containarium.host.prepare.steps import Context, Step
from containarium.host.settings import HostSettings
from containarium.host.sshd import Sshd

NAME = "sshd server"
_FILE = "ssh/sshd_config.d/05-containarium-server.conf"


def drop_in(settings: HostSettings) -> Path:
    """Where it stands."""
    return settings.etc / _FILE


def directives(settings: HostSettings, root: Home = homekeys.ROOT) -> dict[str, str]:
    """What is to hold for everybody. Passwords stay as they are while nobody would get in without one, and root stays
    out only where an admin of the manifest gets in.
    """
    served, found = wayin.served(settings), {"MaxAuthTries": "3"}
    if not (served or _somebody(settings, root) or _is_shut(settings)):
        return found
    return {
        "PasswordAuthentication": "no",
        "KbdInteractiveAuthentication": "no",
        "PermitRootLogin": "no" if served else "prohibit-password",
        **found,
    }


def sshd_server(context: Context, root: Home = homekeys.ROOT) -> Step:
    """Write the drop-in, have ``sshd -t`` accept the whole, reload. Raises TerminalError (SshdConfigRefused)."""
    if context.spec is None:
        return Step(NAME, False, "no Host manifest asks for it")
    path, wanted = drop_in(context.settings), directives(context.settings, root)
    text = "# Written by containarium: how everybody gets in. For changes, a file that sorts before this one.\n"
    text += "".join(f"{keyword} {value}\n" for keyword, value in wanted.items())
    before = read_small(path)
    changed = Sshd(context.settings, context.run).put(path, text, context.progress)
    if changed and before is None:
        context.receipt.add("sshd file", str(path))
    warning = ""
    if "PasswordAuthentication" not in wanted:
        warning = "passwords stay allowed: without one nobody would get in (name an admin with a key)"
    elif not (wayin.served(context.settings) or _somebody(context.settings, root)):
        warning = f"passwords stay shut, and nobody is known to get in: name an admin with a key (or remove {path})"
    return Step(NAME, changed, ", ".join(f"{keyword} {value}" for keyword, value in wanted.items()), warning)


def _somebody(settings: HostSettings, root: Home) -> bool:
    """Whether root, or an account that is not ours, gets in with a key."""
    return bool(wayin.others(settings)) or homekeys.opens(root)


def _is_shut(settings: HostSettings) -> bool:
    """Whether passwords are shut by our own file already: nothing opens them again by itself."""
    return "PasswordAuthentication no" in (read_small(drop_in(settings)) or "").splitlines()
