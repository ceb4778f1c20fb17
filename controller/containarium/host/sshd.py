"""The SSH server's side of jump accounts: a drop-in that leaves them one thing to do, tested before it counts."""

from __future__ import annotations

import contextlib
import fnmatch
import os
import signal
from pathlib import Path

from containarium.host.command import Run, run
from containarium.host.files import read_small, write_atomically
from containarium.host.settings import HostSettings
from containarium.model.host import Progress, TerminalError, silent
from containarium.model.marks import JUMP_GROUP, JUMP_SHELL

SSHD = "/usr/sbin/sshd"  # sshd starts itself again, so it insists on an absolute path
PEER_ACCOUNT = "containarium-peer"
"""Account, and group, as which other hosts come here and this one goes there."""
PRIVSEP = Path("/run/sshd")
"""sshd refuses even to test its configuration without this folder; a socket-activated one has not made it yet."""
_TIMEOUT = 20.0


def jump_directives(settings: HostSettings) -> dict[str, str]:
    """Every directive that must hold for a jump account, as ``keyword: value``, in the drop-in's order.

    MaxSessions 0 refuses shells, commands and subsystems while forwarding stays. The key's own ``permitopen`` says
    which address; PermitOpen keeps even a wrong key line to port 22. The ``none`` ones shut other ways to bring a key.
    """
    return {
        "AuthenticationMethods": "publickey",
        "PubkeyAuthentication": "yes",
        "AuthorizedKeysFile": f"{settings.jump_keys}/%u",
        "AuthorizedKeysCommand": "none",
        "TrustedUserCAKeys": "none",
        "AuthorizedPrincipalsFile": "none",
        "PasswordAuthentication": "no",
        "KbdInteractiveAuthentication": "no",
        "HostbasedAuthentication": "no",
        "PermitEmptyPasswords": "no",
        "MaxSessions": "0",
        "PermitTTY": "no",
        "ForceCommand": JUMP_SHELL,
        "PermitUserRC": "no",
        "AllowTcpForwarding": "local",
        "PermitOpen": "*:22",
        "PermitListen": "none",
        "GatewayPorts": "no",
        "AllowStreamLocalForwarding": "no",
        "PermitTunnel": "no",
        "AllowAgentForwarding": "no",
        "X11Forwarding": "no",
        "ClientAliveInterval": "60",
        "ClientAliveCountMax": "3",
    }


def peer_directives(settings: HostSettings) -> dict[str, str]:
    """The same for the account as which other hosts come here: the command of the key's line, and no more."""
    nothing = {
        "MaxSessions": "1",
        "AllowTcpForwarding": "no",
        "PermitOpen": "none",
        "ClientAliveInterval": "5",
    }
    kept = {key: value for key, value in jump_directives(settings).items() if key != "ForceCommand"}
    return {**kept, **nothing, "AuthorizedKeysFile": f"{settings.peer_keys}/%u"}


def drop_in_text(settings: HostSettings) -> str:
    """The drop-in's content."""
    lines = "".join(f"    {keyword} {value}\n" for keyword, value in jump_directives(settings).items())
    peers = "".join(f"    {keyword} {value}\n" for keyword, value in peer_directives(settings).items())
    return (
        "# Written by containarium: jump accounts may open port 22 of their own container and nothing else.\n"
        "# Changes made here are undone; see them in force with: sshd -T -C user=NAME,host=x,addr=192.0.2.1\n"
        f"Match Group {JUMP_GROUP}\n{lines}"
        f"# The other hosts of a fleet: the keys in that file, each for the one command beside it.\n"
        f"Match User {PEER_ACCOUNT}\n{peers}Match all\n"
    )


class Sshd:
    """The host's SSH server. Nothing is reloaded that ``sshd -t`` did not accept."""

    def __init__(self, settings: HostSettings, run: Run = run) -> None:
        self._settings = settings
        self._run = run
        self._config = settings.etc / "ssh" / "sshd_config"
        self._pending = settings.runtime / "sshd-reload-pending"

    def install(self, progress: Progress = silent) -> bool:
        """Write the drop-in, test the whole configuration, reload the server. Returns whether anything changed.

        A refused drop-in is taken back before TerminalError (SshdConfigRefused) is raised. Repeated after a crash it
        goes on where that left off. Raises TerminalError (SshdNotIncluding) where sshd_config reads no drop-ins.
        """
        return self.put(self._settings.sshd_drop_in, drop_in_text(self._settings), progress)

    def put(self, path: Path, text: str, progress: Progress = silent) -> bool:
        """The same for any file of ours that sshd_config includes."""
        self._require_include(path)
        before = read_small(path)
        if before == text and not self._pending.exists():
            return False
        if before != text:
            self.test("before any change of ours")
        write_atomically(self._pending, "")
        progress(f"writing {path}")
        write_atomically(path, text)
        try:
            self.test("with containarium's drop-in, which was taken back")
        except TerminalError:
            self._restore(path, before if before != text else None)
            raise
        self.reload(progress)
        self._pending.unlink(missing_ok=True)
        return True

    def remove(self, progress: Progress = silent, path: Path | None = None) -> bool:
        """Take the drop-in, or another file of ours, away and reload. Returns whether there was one."""
        path = path or self._settings.sshd_drop_in
        if not path.exists():
            return False
        progress(f"removing {path}")
        path.unlink()
        self._pending.unlink(missing_ok=True)
        self.reload(progress)
        return True

    def test(self, when: str) -> None:
        """Raise TerminalError (SshdConfigRefused) when sshd refuses its configuration."""
        make_privsep_folder()
        done = self._run([SSHD, "-t", "-f", str(self._config)], timeout=_TIMEOUT, check=False)
        if done.code != 0:
            raise TerminalError(
                f"sshd refuses its configuration {when}: {done.tail}",
                remedy=f"mend what it names ({SSHD} -t), then try again",
                reason="SshdConfigRefused",
            )

    def reload(self, progress: Progress = silent) -> bool:
        """Make a running server read its configuration again. Returns False when none runs, which is no fault."""
        if Path("/run/systemd/system").is_dir():
            active = self._run(["systemctl", "is-active", "--quiet", "ssh.service"], timeout=_TIMEOUT, check=False)
            if active.code != 0:
                return False
            progress("reloading sshd")
            self._run(["systemctl", "reload", "ssh.service"], timeout=_TIMEOUT)
            return True
        pid = master_pid(Path("/run/sshd.pid"))
        if pid is None:
            return False
        progress(f"reloading sshd (process {pid})")
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGHUP)
        return True

    def effective(self, account: str, config: Path | None = None) -> dict[str, str]:
        """What sshd would apply to a connection of ``account``, by lower-case keyword; repeated ones are joined.

        Raises TerminalError where sshd refuses to tell (not root, refused configuration, no host keys).
        """
        make_privsep_folder()
        connection = f"user={account},host=client.invalid,addr=192.0.2.1"  # an address of documentation only
        done = self._run([SSHD, "-T", "-f", str(config or self._config), "-C", connection], timeout=_TIMEOUT)
        found: dict[str, str] = {}
        for line in done.out.splitlines():
            keyword, _, value = line.partition(" ")
            found[keyword] = f"{found[keyword]} {value}" if keyword in found else value
        return found

    def not_in_force(self, account: str, config: Path | None = None) -> dict[str, tuple[str, str]]:
        """Directives that do not hold for the account: keyword to (wanted, found)."""
        found = self.effective(account, config)
        expected = (peer_directives if account == PEER_ACCOUNT else jump_directives)(self._settings)
        wanted = {keyword: (value, found.get(keyword.lower(), "")) for keyword, value in expected.items()}
        return {keyword: pair for keyword, pair in wanted.items() if pair[0] != pair[1]}

    def host_keys(self) -> list[str]:
        """The server's public host keys, each as ``TYPE BASE64``; empty where none were made yet."""
        files = sorted((self._settings.etc / "ssh").glob("ssh_host_*_key.pub"))
        keys = (" ".join((read_small(path) or "").split()[:2]) for path in files)
        return [key for key in keys if " " in key]

    def known_hosts(self, name: str, port: int = 22) -> list[str]:
        """Lines for a client's known_hosts under which it reaches this server as ``name``."""
        pattern = name if port == 22 else f"[{name}]:{port}"
        return [f"{pattern} {key}" for key in self.host_keys()]

    def _restore(self, path: Path, before: str | None) -> None:
        if before is None:
            path.unlink(missing_ok=True)
        else:
            write_atomically(path, before)
        self._pending.unlink(missing_ok=True)

    def _require_include(self, drop_in: Path) -> None:
        text = read_small(self._config)
        if text is None:
            raise TerminalError(
                f"there is no {self._config}", remedy="install openssh-server", reason="SshdNotIncluding"
            )
        if not includes(text, drop_in, self._config.parent):
            pattern = drop_in.parent / "*.conf"
            raise TerminalError(
                f"{self._config} does not read {drop_in}",
                remedy=f'make "Include {pattern}" its first line',
                reason="SshdNotIncluding",
            )


def includes(text: str, drop_in: Path, folder: Path) -> bool:
    """Whether an sshd_config reads ``drop_in`` from its global part; relative patterns count from ``folder``."""
    for line in text.splitlines():
        words = line.replace("=", " ", 1).split()
        if words and words[0].lower() == "match":
            return False
        if words and words[0].lower() == "include":
            patterns = (str(folder / word.strip('"')) for word in words[1:])
            if any(fnmatch.fnmatchcase(str(drop_in), pattern) for pattern in patterns):
                return True
    return False


def make_privsep_folder() -> None:
    """Make /run/sshd where it is missing; without root it is left to fail by itself."""
    with contextlib.suppress(OSError):
        PRIVSEP.mkdir(mode=0o755, exist_ok=True)


def master_pid(pid_file: Path, config: Path | None = None) -> int | None:
    """The process id in an sshd's pid file, if that process is an sshd (and was started with ``config``)."""
    try:
        pid = int((read_small(pid_file) or "").strip())
        words = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").replace("\0", " ")
    except (ValueError, OSError):
        return None
    return pid if "sshd" in words and (config is None or str(config) in words) else None
