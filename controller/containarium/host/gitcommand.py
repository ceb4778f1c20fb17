"""How git is run: with nothing of the caller's environment, a configuration of our own, and bounds on all it does."""

from __future__ import annotations

import fcntl
import os
import shlex
import shutil
import stat
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from containarium.host.bounded import Limits, Output, run_bounded
from containarium.host.files import make_folder, write_atomically
from containarium.host.gitfaults import gist
from containarium.host.gittree import MAX_BYTES
from containarium.model.host import HostError, RetryableError, TerminalError
from containarium.model.syncing import SyncConfig

Bounded = Callable[..., Output]
"""``run_bounded``, or what a test puts in its place."""

_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_PROXIES: Final = ("http_proxy", "https_proxy", "all_proxy", "no_proxy", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")
_SSH_OPTIONS: Final = (
    *("BatchMode=yes", "StrictHostKeyChecking=yes", "ConnectTimeout=15", "ServerAliveInterval=10"),
    *("ForwardAgent=no", "ClearAllForwardings=yes", "PermitLocalCommand=no", "ControlPath=none"),
)
_BUSY: Final = 75
_CONFIG: Final = """\
# Written by containarium sync before each run.
[core]
	hooksPath = /dev/null
	attributesFile = /dev/null
	fsmonitor = false
	bigFileThreshold = 4m
	packedGitWindowSize = 32m
	packedGitLimit = 256m
[transfer]
	fsckObjects = true
	unpackLimit = 1
[fetch]
	fsckObjects = true
	unpackLimit = 1
	recurseSubmodules = false
[fetch "fsck"]
	zeroPaddedFilemode = ignore
	badTimezone = ignore
[pack]
	threads = 1
[gc]
	auto = 0
[maintenance]
	auto = false
[credential]
	helper =
[http]
	lowSpeedLimit = 1000
	lowSpeedTime = 30
"""
"""Memory is bounded, objects are looked at as they come, and nothing is run in the background."""


class GitCommand:
    """Git on one repository below ``folder``, for one configuration."""

    def __init__(self, folder: Path, config: SyncConfig, run: Bounded = run_bounded) -> None:
        """Nothing happens before ``ready``."""
        self.folder = folder
        self.repository = folder / "repository.git"
        self.config = config
        self._run = run
        self._seconds = config.timeout.delta.total_seconds()

    def ready(self) -> None:
        """See that everything needed is there and that nothing of a killed sync still works. Raises HostError."""
        for program, package in self._programs():
            if shutil.which(program, path=_PATH) is None:
                raise TerminalError(
                    f"{program} is not installed", remedy=f"install it: apt install {package}", reason="CommandMissing"
                )
        verify = self.config.verify
        for path in (
            verify.ssh.allowed_signers if verify.ssh else None,
            verify.gpg.keyring if verify.gpg else None,
            self.config.known_hosts,
            self.config.identity,
        ):
            if path is not None:
                check_trusted(Path(path))
        make_folder(self.folder)
        self._await_orphans()
        write_atomically(self.folder / "gitconfig", _CONFIG + self._signing())

    def __call__(
        self,
        *args: str,
        env: Mapping[str, str] | None = None,
        output: int = 1 << 20,
        file: int = MAX_BYTES,
        stdin: bytes = b"",
    ) -> Output:
        """Run git under the lock that outlives us, and with an end that does, too. Raises HostError."""
        lock = ("flock", "--no-fork", "--nonblock", f"--conflict-exit-code={_BUSY}", str(self.folder / "git.lock"))
        end = ("timeout", "--signal=KILL", f"{self._seconds + 1:.0f}")
        limits = Limits(self._seconds, output=output, file=file)
        try:
            done = self._run(
                [*end, *lock, "git", *args], limits, env={**self._environment(), **(env or {})}, stdin=stdin
            )
        except HostError as error:
            if error.reason == "OutputTooLarge":
                raise TerminalError(
                    f"git {args[0]} printed more than is read",
                    remedy="look at what is in the repository",
                    reason=error.reason,
                ) from None
            if error.reason != "CommandTimeout":
                raise
            raise RetryableError(
                f"git {args[0]} did not end within {self._seconds:.0f} s",
                remedy="look at the network, or write a longer timeout to sync.yaml",
                reason=error.reason,
            ) from None
        if done.code == _BUSY:
            raise RetryableError("another git works on the mirror", remedy="wait for it", reason="Locked")
        return done

    def keyring(self, home: Path) -> dict[str, str]:
        """Make a home for gpg with the allowed keys in it and no others. Returns what git needs to find it."""
        gpg = self.config.verify.gpg
        if gpg is None:
            return {}
        shutil.rmtree(home, ignore_errors=True)
        make_folder(home, 0o700)
        found = {"GNUPGHOME": str(home)}
        options = ("--batch", "--no-autostart", "--quiet", "--no-auto-key-retrieve")
        limits = Limits(self._seconds, file=MAX_BYTES)
        done = self._run(["gpg", *options, "--import", "--", gpg.keyring], limits, env={**self._environment(), **found})
        if done.code != 0:
            raise TerminalError(
                f"gpg cannot read the keys in {gpg.keyring} ({gist(done.err)})",
                remedy="write them with gpg --export",
                reason="KeyringUnusable",
            )
        return found

    # -- details

    def _await_orphans(self) -> None:
        """Git that a killed sync has started holds this lock until it ends, which it does in time by itself."""
        deadline = time.monotonic() + self._seconds
        with (self.folder / "git.lock").open("a") as lock:
            while True:
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    if time.monotonic() > deadline:
                        raise RetryableError(
                            "git of an earlier sync is still at work", remedy="wait for it", reason="Locked"
                        ) from None
                    time.sleep(0.05)
                else:
                    return

    def _programs(self) -> tuple[tuple[str, str], ...]:
        config = self.config
        wanted = [("git", "git")]
        if config.scheme == "ssh":
            wanted.append(("ssh", "openssh-client"))
        if config.verify.ssh:
            wanted.append(("ssh-keygen", "openssh-client"))
        if config.verify.gpg:
            wanted.append(("gpg", "gnupg"))
        return tuple(wanted)

    def _signing(self) -> str:
        """Only the wanted kind of signature can be checked: the others' programs are none."""
        verify = self.config.verify
        ssh, gpg = ("ssh-keygen" if verify.ssh else "/bin/false"), ("gpg" if verify.gpg else "/bin/false")
        text = f'[gpg "openpgp"]\n\tprogram = {gpg}\n[gpg "x509"]\n\tprogram = /bin/false\n'
        text += f'[gpg "ssh"]\n\tprogram = {ssh}\n'
        return text + (f"\tallowedSignersFile = {verify.ssh.allowed_signers}\n" if verify.ssh else "")

    def _environment(self) -> dict[str, str]:
        """All that git gets to see: nothing of the caller's but the proxies."""
        return {
            **{name: os.environ[name] for name in _PROXIES if name in os.environ},
            "PATH": _PATH,
            "LC_ALL": "C.UTF-8",
            "HOME": str(self.folder),
            "GIT_DIR": str(self.repository),
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_CONFIG_GLOBAL": str(self.folder / "gitconfig"),
            "GIT_ATTR_NOSYSTEM": "1",
            "GIT_ALLOW_PROTOCOL": self.config.scheme,
            "GIT_TERMINAL_PROMPT": "0",
            "GIT_NO_REPLACE_OBJECTS": "1",
            "GIT_NO_LAZY_FETCH": "1",
            "GIT_LITERAL_PATHSPECS": "1",
            "GIT_SSH_COMMAND": shlex.join(self._ssh()),
            "GIT_SSH_VARIANT": "ssh",
        }

    def _ssh(self) -> list[str]:
        """Git takes this as text for a shell; the paths in it were checked to have nothing that a shell could obey."""
        options = [f"-o{option}" for option in _SSH_OPTIONS]
        if self.config.known_hosts:
            options += [f"-oUserKnownHostsFile={self.config.known_hosts}", "-oGlobalKnownHostsFile=/dev/null"]
        if self.config.identity:
            options += ["-i", self.config.identity, "-oIdentitiesOnly=yes"]
        return ["ssh", *options]


def check_trusted(path: Path) -> None:
    """Raise TerminalError unless only root (or whoever runs this) can change the file: it decides what is believed."""
    try:
        found = path.stat()
    except OSError as error:
        raise TerminalError(
            f"cannot read {path}: {error.strerror}",
            remedy="write it, or mend its path in sync.yaml",
            reason="FileMissing",
        ) from None
    if not stat.S_ISREG(found.st_mode) or found.st_uid not in (0, os.geteuid()) or found.st_mode & 0o022:
        raise TerminalError(
            f"{path} can be changed by others than root",
            remedy=f"make it a plain file of root's: chown root {path} && chmod go-w {path}",
            reason="FileUntrusted",
        )
