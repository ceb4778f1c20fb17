"""What somebody with a jump account and a laptop may try, as data, each with the words of the refusal that must come.

`{own}`, `{other}`, `{bridge}`, `{host}`, `{laptop}` are addresses; see GROUND in test_jump_matrix.
"""

from __future__ import annotations

from dataclasses import dataclass

NO_SESSION = r"^channel 0: open failed: connect failed: open failed$"
"""What MaxSessions 0 answers to everything that needs a session: shell, command, terminal, subsystem."""
PROHIBITED = r"^channel \d+: open failed: administratively prohibited: open failed$"
NO_TUNNEL = r"Server has rejected tunnel device forwarding"
NO_SOCKET = r"^channel \d+: open failed: connect failed: open failed$"
"""For a unix socket sshd gives the same answer, whatever the reason: see `logged`."""
NO_LISTENER = r"^Error: remote port forwarding failed for listen "
DENIED = r": Permission denied \(publickey\)\.$"
"""No other way than a key is even offered."""
DENIED_AT_ALL = r": Permission denied \(publickey(,password)?\)\.$"
"""Of accounts that are none of ours: whether they may have passwords is the admin's matter."""


@dataclass(frozen=True)
class Attempt:
    """Arguments for `ssh -F config`; the jump host is `{jump}`."""

    name: str
    args: tuple[str, ...]
    says: str
    program: str = "ssh"
    code: int = 255
    logged: str = ""
    """What sshd writes into its own log on the host."""


_TUNNEL = ("-v", "-N", "-o", "ExitOnForwardFailure=yes")


def _session(name: str, *args: str) -> Attempt:
    return Attempt(name, args, NO_SESSION)


SESSIONS = (
    _session("run a command", "{jump}", "id"),
    _session("a shell without a terminal", "-T", "{jump}"),
    _session("a shell with a terminal", "-tt", "{jump}"),
    _session("a command with a terminal", "-tt", "{jump}", "id"),
    _session("the SFTP subsystem", "-s", "{jump}", "sftp"),
    _session("a subsystem that does not exist", "-s", "{jump}", "netconf"),
    _session("agent forwarding", "-A", "{jump}", "ssh-add -l"),
    _session("X11 forwarding", "-X", "{jump}", "xterm"),
    _session("trusted X11 forwarding", "-Y", "{jump}", "xterm"),
    _session("an environment of one's own", "-o", "SetEnv=LD_PRELOAD=/tmp/x.so LC_ALL=C", "{jump}", "env"),
    Attempt("sftp to the host", ("{jump}:/etc/passwd", "/dev/null"), NO_SESSION, "sftp"),
    Attempt("scp from the host", ("{jump}:/etc/passwd", "{home}/stolen"), NO_SESSION, "scp"),
    Attempt("scp to the host", ("{key}", "{jump}:/tmp/planted"), NO_SESSION, "scp"),
    Attempt("scp by the old protocol", ("-O", "{key}", "{jump}:/tmp/planted"), NO_SESSION, "scp", code=1),
    Attempt("a tunnel device", (*_TUNNEL, "-w", "any:any", "{jump}"), NO_TUNNEL),
    Attempt("an Ethernet tunnel device", (*_TUNNEL, "-o", "Tunnel=ethernet", "-w", "any:any", "{jump}"), NO_TUNNEL),
)

_PLACES = {
    "the host's own sshd": "127.0.0.1:22",
    "the host's own sshd by name": "localhost:22",
    "the host's own sshd over IPv6": "[::1]:22",
    "the host's sshd at its outer address": "{host}:22",
    "the host's sshd at the bridge": "{bridge}:22",
    "a service on the host's loopback": "127.0.0.1:7001",
    "a service on the host's IPv6 loopback": "[::1]:7001",
    "a service on the host's loopback, written as a number": "2130706433:7001",
    "a service on all of the host's addresses": "0.0.0.0:7001",
    "a service at the bridge": "{bridge}:7003",
    "the bridge's DNS": "{bridge}:53",
    "another user's box": "{other}:22",
    "another user's box by name": "alice-container:22",
    "another user's box by its full name": "alice-container.incus:22",
    "another user's box as mapped IPv6": "[::ffff:{other}]:22",
    "a service in another user's box": "{other}:7002",
    "a service in one's own box": "{own}:7002",
    "one's own box by name": "bob-container:22",
    "one's own box as mapped IPv6": "[::ffff:{own}]:22",
    "one's own box, next door": "{own}:23",
    "the cloud's metadata": "169.254.169.254:80",
    "the cloud's metadata at port 22": "169.254.169.254:22",
    "the cloud's metadata by name": "metadata.google.internal:80",
    "a name of the internet": "www.example.com:443",
    "a name of the internet at port 22": "internet.example:22",
    "a computer beside the host": "{laptop}:22",
    "everything": "*:22",
}
DIRECT = tuple(Attempt(f"-W to {name}", ("-W", place, "{jump}"), PROHIBITED) for name, place in _PLACES.items())

_PORT = "127.0.0.1:17001"


def _local(name: str, place: str) -> Attempt:
    """Forward a port of the laptop to an address or to a unix socket of the host."""
    args = ("-L", f"{_PORT}:{place}")
    if place.startswith("/"):
        return Attempt(f"-L to {name}", args, NO_SOCKET, logged=f"refused streamlocal port forward: .*{place}")
    return Attempt(f"-L to {name}", args, PROHIBITED)


LOCAL = (
    _local("a service on the host's loopback", "127.0.0.1:7001"),
    _local("the host's own sshd", "localhost:22"),
    _local("another user's box", "{other}:22"),
    _local("a service in one's own box", "{own}:7002"),
    _local("Incus", "/var/lib/incus/unix.socket"),
    _local("the system bus, which is open to all", "/run/dbus/system_bus_socket"),
)
"""Tried through a real listener on the laptop's port 17001."""

DYNAMIC = (
    ("127.0.0.1", 7001), ("localhost", 22), ("{other}", 22), ("{own}", 7002), ("169.254.169.254", 80),
    ("www.example.com", 443),
)  # fmt: skip
"""Asked of a SOCKS proxy made with -D."""

_REMOTE = {
    "a port on the loopback": "127.0.0.1:17002:127.0.0.1:22",
    "a port on every address": "*:17002:127.0.0.1:22",
    "a port of the server's choice": "0:127.0.0.1:22",
    "a port at the bridge": "{bridge}:17002:127.0.0.1:22",
    "a proxy into the laptop's network": "17002",
    "a unix socket": "/tmp/planted.sock:127.0.0.1:22",
    "a unix socket in place of Incus": "/var/lib/incus/unix.socket:127.0.0.1:22",
}
REMOTE = tuple(
    Attempt(f"-R of {name}", ("-N", "-o", "ExitOnForwardFailure=yes", "-R", what, "{jump}"), NO_LISTENER)
    for name, what in _REMOTE.items()
)

_NO_KEY = ("-o", "PubkeyAuthentication=no", "-o", "BatchMode=no", "-o", "NumberOfPasswordPrompts=1")
LOGINS = (
    Attempt("the right password", (*_NO_KEY, "-o", "PreferredAuthentications=password", "{jump}"), DENIED),
    Attempt(
        "the right password, asked for by PAM",
        (*_NO_KEY, "-o", "PreferredAuthentications=keyboard-interactive", "{jump}"),
        DENIED,
    ),
    Attempt("no authentication at all", ("-o", "PreferredAuthentications=none", "{jump}"), DENIED),
    Attempt("host-based trust", ("-o", "PreferredAuthentications=hostbased", "{jump}"), DENIED),
    Attempt("root with one's own key", ("-l", "root", "-W", "{own}:22", "{jump}"), DENIED_AT_ALL),
    Attempt("another user with one's own key", ("-l", "alice", "-W", "{other}:22", "{jump}"), DENIED),
    Attempt("a system account with one's own key", ("-l", "nobody", "-W", "{own}:22", "{jump}"), DENIED_AT_ALL),
    Attempt("an account that does not exist", ("-l", "mallory", "-W", "{own}:22", "{jump}"), DENIED_AT_ALL),
)
"""The account's password is set to PASSWORD while these are tried."""

PASSWORD = "correct horse"
ALL = (*SESSIONS, *DIRECT, *REMOTE)
