"""An SSH server of our own on a loopback port, for machines where none runs. Only jump accounts get in."""

from __future__ import annotations

import socket
import time
from pathlib import Path

from containarium.host.command import Run, run
from containarium.host.daemon import Daemon
from containarium.host.files import make_folder, read_small, write_atomically
from containarium.host.settings import HostSettings
from containarium.host.sshd import SSHD, make_privsep_folder
from containarium.model.host import TerminalError
from containarium.model.marks import JUMP_GROUP

_PATIENCE = 10.0


def standalone_config(settings: HostSettings, port: int, host_key_dir: Path) -> str:
    """The configuration of that server. PAM is off, so it works where no PAM stack was set up for sshd."""
    return (
        f"Port {port}\n"
        "ListenAddress 127.0.0.1\n"
        f"HostKey {host_key_dir / 'ssh_host_ed25519_key'}\n"
        "PidFile none\n"
        "UsePAM no\n"
        "UseDNS no\n"
        "PermitRootLogin no\n"
        "PasswordAuthentication no\n"
        "KbdInteractiveAuthentication no\n"
        f"AllowGroups {JUMP_GROUP}\n"
        f"Include {settings.sshd_drop_in}\n"
    )


class OwnSshd:
    """Starts and stops it. Its pid file is below ``settings.runtime``, its key and log below ``settings.state``."""

    def __init__(self, settings: HostSettings, run: Run = run) -> None:
        self._run = run
        self._settings = settings
        self._config = settings.runtime / "sshd_config"
        self._keys = settings.state / "ssh"
        self._daemon = Daemon(
            command=(SSHD, "-D", "-e", "-f", str(self._config)),
            pid_file=settings.runtime / "sshd.pid",
            log=settings.state / "sshd.log",
            run=run,
        )

    def start(self, port: int) -> bool:
        """Start it detached and wait until it answers on the port. Returns False when it was running already.

        Raises TerminalError (SshdNotStarted) when it ends at once or the port belongs to another program.
        """
        wanted = standalone_config(self._settings, port, self._keys)
        if self.pid() is not None:
            if read_small(self._config) == wanted and _answers(port):
                return False
            self.stop()
        if _answers(port):
            raise _not_started(f"port {port} is taken", "choose another port")
        make_folder(self._keys, 0o700)
        key = self._keys / "ssh_host_ed25519_key"
        if not key.exists():
            self._run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "containarium", "-f", str(key)], timeout=30)
        write_atomically(self._config, wanted)
        make_privsep_folder()
        self._run([SSHD, "-t", "-f", str(self._config)], timeout=30)
        self._daemon.start()
        deadline = time.monotonic() + _PATIENCE
        while not _answers(port):
            if time.monotonic() > deadline:
                raise _not_started(f"it does not answer on port {port}", f"read {self._daemon.log}")
            time.sleep(0.05)
        return True

    def stop(self) -> bool:
        """End it (open sessions go on until their accounts are locked). Returns False when it was not running."""
        return self._daemon.stop()

    def pid(self) -> int | None:
        """Its process id while it runs."""
        return self._daemon.pid()

    def host_key(self) -> str:
        """Its public host key as ``TYPE BASE64``; empty before the first start."""
        return " ".join((read_small(self._keys / "ssh_host_ed25519_key.pub") or "").split()[:2])


def _answers(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=2) as connection:
            return connection.recv(4) == b"SSH-"
    except OSError:
        return False


def _not_started(why: str, remedy: str) -> TerminalError:
    return TerminalError(f"sshd did not start: {why}", remedy=remedy, reason="SshdNotStarted")
