"""The SSH probe: logs in to this host as a jump account, is forwarded to the guest, and turns round at its host key.

It goes the way that a person goes and finds what a person would find: sshd down, the account refused, a wrong
``permitopen``, a firewall, the guest's sshd dead or another one in its place. Its key opens port 22 of the one guest,
from this host only, and the guest itself does not know it: nobody ever logs in with it.
"""

from __future__ import annotations

import ipaddress
import re
import secrets
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from containarium.host import command, probekey
from containarium.host.accounts import Accounts
from containarium.host.files import make_folder, read_small, write_atomically
from containarium.host.hostkeys import MachineHostKeys
from containarium.host.incus import GuestFile, Incus
from containarium.host.jumpaccount import is_ours
from containarium.host.keyfiles import UNSAFE
from containarium.host.ownsshd import OwnSshd
from containarium.host.probewords import NOT_FORWARDED, REFUSED, Asked, Said, Verdict, judge
from containarium.host.rooted import Tree
from containarium.host.settings import HostSettings
from containarium.host.sshd import Sshd
from containarium.model.host import HostError, RetryableError, TerminalError
from containarium.plan.desired import probe_line

TIMEOUT = 10.0
"""Seconds that a probe takes at most, whatever sshd and the guest do."""
_PATIENCE = 8
"""Seconds within which the guest has to begin to speak, the login to the host included."""
_NAME = re.compile(r"[a-z][a-z0-9-]{0,31}")
_STALE = 60.0
"""Age in seconds from which a folder is what a killed probe left behind."""
_LIMITS = ("--cpu=3", "--fsize=1048576", "--core=0")
"""What each ssh may use: seconds of a processor, bytes of its log. A guest that floods it gets no further."""
_LOGGED = (
    "sshconnect.c:check_host_key*,sshconnect.c:verify_host_key*,kex.c:kex_input_newkeys*,"
    "compat.c:compat_banner*,packet.c:sshpkt_vfatal*"
)
"""The places in ssh whose lines are wanted. A higher LogLevel would let the guest write as much as it likes."""


@dataclass(frozen=True, slots=True)
class ProbeResult:
    """How a probe ended. ``error`` is a line for a person, empty where it reached the guest's own host key.

    ``seconds`` is what the connection took. ``detail`` is what ssh said, printable and short; ``reason`` a constant in
    CamelCase for the error.
    """

    seconds: float
    error: str = ""
    detail: str = ""
    reason: str = ""


class HostKeys(Protocol):
    """Where the host keys stand that are expected: in files, never on the network."""

    def of_guest(self, instance: str) -> Sequence[str]: ...

    def of_jump_host(self) -> Sequence[str]: ...


@dataclass(frozen=True, slots=True)
class _Door:
    """Where this host's sshd listens, the address to come from, and its host keys."""

    address: str
    source: str
    port: int
    keys: tuple[str, ...]


class SSHProbe:
    """Probes environments of this host. Safe to share between threads; remembers where sshd listens."""

    def __init__(
        self, settings: HostSettings, run: command.Run = command.run, *, host_keys: HostKeys | None = None
    ) -> None:
        self._settings = settings
        self._run = run
        self._host_keys = host_keys or MachineHostKeys(settings, PoolFiles(settings))
        self._known: tuple[object, _Door] | None = None

    def probe(self, environment: str, instance: str, address: str) -> ProbeResult:
        """Connect once, within TIMEOUT seconds.

        Raises HostError where the probe itself cannot be carried out: no key for it (NoProbeKey), no ssh, not root,
        the guest's files out of reach.
        """
        _require_plain(environment, address)
        if not probekey.public_half(self._settings):
            raise TerminalError(
                f"there is no key for the SSH probe in {self._settings.probe_key}",
                remedy="containarium host prepare makes one",
                reason="NoProbeKey",
            )
        guest_keys = self._host_keys.of_guest(instance)
        if not guest_keys:
            error = "the container has no SSH host keys on its disk"
            return ProbeResult(0.0, error, "ssh-keygen -A in it makes some", "NoGuestHostKeys")
        door = self._door()
        asked = Asked(environment, address, door.port, f"guest-{secrets.token_hex(8)}", TIMEOUT)
        began = time.monotonic()
        said = self._connect(door, asked, guest_keys)
        seconds = time.monotonic() - began
        verdict = self._explained(judge(said, asked), asked)
        return ProbeResult(seconds, verdict.error, verdict.detail, verdict.reason)

    def _connect(self, door: _Door, asked: Asked, guest_keys: Sequence[str]) -> Said:
        with self._folder() as folder:
            known, config, log = folder / "known_hosts", folder / "config", folder / "log"
            lines = [f"jump {key}" for key in door.keys] + [f"{asked.alias} {key}" for key in guest_keys]
            write_atomically(known, "".join(f"{line}\n" for line in lines), 0o600)
            write_atomically(config, client_config(self._settings, asked, folder, door.address, door.source), 0o600)
            ssh = ["ssh", "-F", str(config), "-E", str(log), "-N", "-n", "-T", "guest"]
            try:
                done = self._run(
                    ["prlimit", *_LIMITS, "--", *ssh], timeout=TIMEOUT, check=False, env={"SHELL": "/bin/sh"}
                )
            except RetryableError as error:
                if error.reason != "CommandTimeout":
                    raise
                return Said("", read_small(log) or "", ended=False)
            if done.code in (126, 127):
                raise TerminalError(
                    f"cannot run ssh: {done.tail}", remedy="install openssh-client", reason="CommandMissing"
                )
            return Said(done.err, read_small(log) or "")

    @contextmanager
    def _folder(self) -> Iterator[Path]:
        """A folder of root's own for one probe's files; what killed probes left is swept away."""
        above = self._settings.runtime / "probe"
        try:
            make_folder(above, 0o700)
            for old in above.iterdir():
                with suppress(FileNotFoundError):  # another probe that has just ended
                    if time.time() - old.lstat().st_mtime > _STALE:
                        shutil.rmtree(old, ignore_errors=True)
            folder = Path(tempfile.mkdtemp(dir=above))
        except OSError as error:
            raise RetryableError(
                f"cannot write {above}: {error.strerror}", remedy="run it as root", reason="ProbeNotRun"
            ) from error
        try:
            yield folder
        except OSError as error:
            raise RetryableError(f"cannot write {folder}: {error.strerror}", reason="ProbeNotRun") from error
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def _door(self) -> _Door:
        """Asked of sshd once, and again when a file of its configuration has changed."""
        own = OwnSshd(self._settings, self._run)
        host_key = own.host_key() if own.pid() is not None else ""
        config = self._settings.runtime / "sshd_config" if host_key else None
        stamp = (host_key, _stamps(config or self._settings.etc / "ssh" / "sshd_config"))
        if self._known is not None and self._known[0] == stamp:
            return self._known[1]
        try:
            listens = Sshd(self._settings, self._run).effective("root", config).get("listenaddress", "")
        except HostError:  # a server that has not read its broken configuration yet may run all the same
            listens = ""
        address, port = _nearest(listens)
        keys = (host_key,) if host_key else tuple(self._host_keys.of_jump_host())
        door = _Door(str(address), "127.0.0.1" if address.version == 4 else "::1", port, keys)
        self._known = (stamp, door)
        return door

    def _explained(self, verdict: Verdict, asked: Asked) -> Verdict:
        """To a client sshd does not say why it refuses an account: the account's own files do."""
        if verdict.reason not in (REFUSED, NOT_FORWARDED):
            return verdict
        why = self._fault(asked) or verdict.detail
        return Verdict(verdict.reason, f"{verdict.error} ({why})" if why else verdict.error, verdict.detail)

    def _fault(self, asked: Asked) -> str:
        try:
            accounts, _ = Accounts(self._settings, self._run).observe()
        except HostError:
            return ""
        account = accounts.get(asked.user)
        if account is None:
            return "there is no such account"
        if not is_ours(account):
            return "the account of that name is not containarium's"
        if account.expired:
            return "it has expired"
        if account.keys is None:
            return "it has no keys file"
        if UNSAFE in account.keys:
            return "others than root can write its keys file, or sshd cannot read it"
        if probe_line(asked.address, probekey.public_half(self._settings)) not in account.keys:
            return "its keys file does not let the probe in as containarium apply writes it"
        return ""


class PoolFiles:
    """Reads guests' files where the pool is mounted on this host; through Incus, which costs far more, elsewhere."""

    def __init__(self, settings: HostSettings) -> None:
        self._containers = settings.incus_dir / "storage-pools" / settings.pool / "containers"
        self._incus = Incus(settings)

    def read_file(self, instance: str, path: str, limit: int) -> GuestFile | None:
        """A regular file, at most ``limit`` bytes of it; no link leads out of the guest."""
        try:
            with Tree(self._containers / instance / "rootfs") as tree:
                found = tree.file(path)
                data = tree.read(found, limit) if found is not None else None
        except OSError:  # the guest does not run, its pool is another one, or the kernel is too old
            return self._incus.read_file(instance, path, limit)
        return GuestFile("file", 0, 0, 0o644, data) if data is not None else None


def client_config(settings: HostSettings, asked: Asked, folder: Path, address: str, source: str) -> str:
    """ssh's configuration for one probe: two hosts, nothing of anybody's own, no key that it learns by itself.

    At the guest no way to log in is tried. Should it let anybody in without, a forwarding that cannot be set up ends
    the connection at once.
    """
    user = f"    User {asked.user}\n"
    return (
        "Host guest\n"
        f"    HostName {asked.address}\n"
        f"    HostKeyAlias {asked.alias}\n"
        "    ProxyJump jump\n"
        "    PreferredAuthentications none\n"
        f"    ConnectTimeout {_PATIENCE}\n"
        "    LogLevel ERROR\n"
        f"    LogVerbose {_LOGGED}\n"
        "    ExitOnForwardFailure yes\n"
        f"    LocalForward {_quoted(folder / 'none' / 'socket')} {_quoted(folder / 'none' / 'socket')}\n"
        f"{user}"
        "Host jump\n"
        f"    HostName {address}\n"
        f"    BindAddress {source}\n"
        f"    Port {asked.port}\n"
        "    HostKeyAlias jump\n"
        "    PreferredAuthentications publickey\n"
        f"    IdentityFile {_quoted(settings.probe_key)}\n"
        "    ConnectTimeout 3\n"
        "    ConnectionAttempts 2\n"  # a server that reloads is away for a moment
        "    LogLevel VERBOSE\n"
        f"{user}"
        "Host *\n"
        "    BatchMode yes\n"
        "    IdentitiesOnly yes\n"
        "    IdentityAgent none\n"
        "    StrictHostKeyChecking yes\n"
        f"    UserKnownHostsFile {_quoted(folder / 'known_hosts')}\n"
        "    GlobalKnownHostsFile none\n"
        "    UpdateHostKeys no\n"
        "    CheckHostIP no\n"
        "    HashKnownHosts no\n"
        "    ControlPath none\n"
        "    CanonicalizeHostname no\n"
        "    KexAlgorithms ^curve25519-sha256\n"  # what ssh prefers by itself costs seven times as much
    )


def _require_plain(environment: str, address: str) -> None:
    """Both go into ssh's configuration."""
    if not _NAME.fullmatch(environment):
        raise TerminalError(f"{environment!r} is no account name", reason="InvalidName")
    try:
        ipaddress.IPv4Address(address)
    except ValueError:
        raise TerminalError(f"{address!r} is no IPv4 address", reason="InvalidAddress") from None


def _quoted(path: Path) -> str:
    return '"' + str(path).replace("%", "%%") + '"'


def _stamps(config: Path) -> tuple[tuple[str, int, int], ...]:
    """Changes whenever a file of sshd's configuration does."""
    found = []
    for path in (config, *sorted(config.with_name("sshd_config.d").glob("*.conf"))):
        try:
            status = path.stat()
        except OSError:
            continue
        found.append((str(path), status.st_mtime_ns, status.st_ino))
    return tuple(found)


_Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def _nearest(listens: str) -> tuple[_Address, int]:
    """Where to reach an sshd that listens on these addresses (``0.0.0.0:22 [::]:22``): on the loopback if possible."""
    found: list[tuple[_Address, int]] = []
    for place in listens.split():
        host, _, port = place.rpartition(":")
        try:
            address = ipaddress.ip_address(host.strip("[]"))
        except ValueError:
            continue
        if address.is_unspecified:
            address = ipaddress.ip_address("127.0.0.1" if address.version == 4 else "::1")
        found.append((address, int(port)))
    loopback = [place for place in found if place[0].is_loopback]
    return next(iter(sorted(loopback, key=lambda place: place[0].version) or found), (_LOOPBACK, 22))


_LOOPBACK = ipaddress.IPv4Address("127.0.0.1")
