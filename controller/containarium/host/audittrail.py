"""The trail of who changed what: one line of JSON per change, in the journal (or the syslog where there is no journal).

``record`` is for everybody who changes something for somebody: the command line and the API call the same function. The
system's logger adds what nobody can forge: the time, the process, its user id and its login id.

The schema of a line (``v`` 1): ``event`` is always ``audit``; ``who`` is a name, ``via`` how they came (``cli``,
``socket``, ``mtls``), ``uid`` the user id that asked and ``login`` the one that logged in, where either is known,
``sudo`` what sudo says, ``certificate`` a fingerprint; ``action`` what they asked for; ``environments`` whom it is
about; ``result`` is ``ok``, ``refused`` or ``failed``; ``before`` and ``after`` are digests of the manifests;
``details`` are short texts. What is empty is left out.
"""

from __future__ import annotations

import json
import os
import pwd
import socket
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

IDENTIFIER = "containarium-audit"
"""By which the lines are found again (SYSLOG_IDENTIFIER)."""
VERSION = 1
LONGEST = 200
"""Characters of one text."""
_MOST = 50
"""Environments, and details, that one line names."""
_NOBODY = 2**32 - 1
"""The login id of a process that nobody logged in for: services, timers."""
SOCKETS = (Path("/run/systemd/journal/dev-log"), Path("/dev/log"))
"""Where loggers take lines: journald's own, then whoever's."""
_PRIORITY = 10 << 3 | 5
"""Facility authpriv, severity notice."""
_PATIENCE = 2.0
"""Seconds that a logger which takes nothing is waited for."""
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")

Send = Callable[[str], bool]


@dataclass(frozen=True, slots=True)
class Who:
    """Somebody who asked for a change. ``name`` is for people; the rest says how far to believe it."""

    name: str
    via: str
    uid: int | None = None
    login: int | None = None
    """The id they logged in with, which the kernel keeps and sudo does not change."""
    sudo: str = ""
    certificate: str = ""


def caller(environ: Mapping[str, str] | None = None, proc: Path = Path("/proc/self")) -> Who:
    """Who runs this process: the login id where there is one, then what sudo says, then the user id."""
    environ = os.environ if environ is None else environ
    uid, login, sudo = os.getuid(), _login(proc), environ.get("SUDO_USER", "")
    name = _account(login) if login is not None else sudo or _account(uid)
    return Who(name, "cli", uid, login, sudo)


def peer(uid: int, via: str = "socket") -> Who:
    """Whoever is at the other end of a unix socket, by the credentials that the kernel vouches for."""
    return Who(_account(uid), via, uid)


def record(
    who: Who,
    action: str,
    details: Mapping[str, Any] | None = None,
    *,
    environments: Iterable[str] = (),
    result: str = "ok",
    before: str = "",
    after: str = "",
    send: Send | None = None,
) -> bool:
    """Write one line. Returns False where no logger takes it, and never raises: a change that was made was made.

    ``details`` are plain values; no secrets. ``before`` and ``after`` are digests.
    """
    found: dict[str, Any] = {
        "event": "audit",
        "v": VERSION,
        "who": _text(who.name),
        "via": who.via,
        "uid": who.uid,
        "login": who.login,
        "sudo": _text(who.sudo),
        "certificate": _text(who.certificate),
        "action": _text(action),
        "environments": [_text(name) for name in environments][:_MOST],
        "result": result,
        "before": before,
        "after": after,
        "details": {_text(key): _value(value) for key, value in list((details or {}).items())[:_MOST]},
    }
    line = json.dumps({key: value for key, value in found.items() if value not in ("", None, [], {})})
    return (send or deliver)(line)


def deliver(line: str, sockets: Sequence[Path] = SOCKETS, patience: float = _PATIENCE) -> bool:
    """Give one line to the first logger that is there, as RFC 3164 has it; False where none takes it in ``patience``
    seconds.

    Over a socket of its own: syslog(3) has one name for the whole process, and waits for ever where a logger is stuck.
    """
    message = f"<{_PRIORITY}>{_stamp()} {IDENTIFIER}[{os.getpid()}]: {line}".encode("ascii", "backslashreplace")
    for path in sockets:
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as logger:
                logger.settimeout(patience)
                logger.connect(str(path))
                logger.send(message)
        except TimeoutError:
            return False  # the next one is mostly the same by another name
        except OSError:
            continue
        return True
    return False


def _stamp() -> str:
    """This host's time, in English whatever its language is."""
    now = time.localtime()
    return f"{_MONTHS[now.tm_mon - 1]} {now.tm_mday:2} {time.strftime('%H:%M:%S', now)}"


def _login(proc: Path) -> int | None:
    try:
        number = int((proc / "loginuid").read_text())
    except (OSError, ValueError):
        return None
    return None if number == _NOBODY else number


def _account(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _text(value: object) -> str:
    text = str(value)
    return text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"


def _value(value: Any) -> Any:
    """A detail as JSON can have it, bounded."""
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, list | tuple | set | frozenset):
        return [_text(item) for item in list(value)[:_MOST]]
    return _text(value)
