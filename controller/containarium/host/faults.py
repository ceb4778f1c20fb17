"""What Incus' error messages mean to us: which may pass by themselves, which need a person, and what to do then."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from containarium.model.host import HostError, RetryableError, TerminalError, WaitingError

COMMAND_LOST = "GuestCommandLost"
"""Reason of the error for a guest command that may or may not have run: nobody knows its exit code."""
_LONGEST = 300
_MEMORY_RETRY = 300.0
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]+")


@dataclass(frozen=True, slots=True)
class _Rule:
    """First match wins. ``status`` 0 fits every status."""

    status: int
    pattern: str
    kind: type[HostError]
    reason: str
    remedy: str = ""

    def fits(self, status: int, message: str) -> bool:
        return self.status in (0, status) and re.search(self.pattern, message, re.IGNORECASE) is not None


_RULES = (
    _Rule(
        # seen with security.syscalls.intercept.*, for one command in a hundred: it runs, but its exit code is lost
        0,
        r"retrieve PID of executing child",
        RetryableError,
        COMMAND_LOST,
        "it is tried again",
    ),
    _Rule(412, "", RetryableError, "Conflict", "somebody else changed it at the same time; it is tried again"),
    _Rule(
        0,
        r"setting cgroup item|cannot lower memory|failed to (write|set).*memory",
        WaitingError,
        "MemoryInUse",
        "the limit is below what is in use: free memory in the environment, restart it, or raise resources.memory",
    ),
    _Rule(
        0,
        r"quota|no space left|disk full|exceeds the maximum|saving config file for the container failed",
        TerminalError,
        "QuotaExceeded",
        "grow resources.disk, or free space in the environment or on the storage pool",
    ),
    _Rule(
        0,
        r"UNIQUE constraint failed|already exists|already in use by (an )?instance",
        RetryableError,
        "Conflict",
        "an object of this name is there already; look again (containarium plan)",
    ),
    _Rule(
        0,
        r"IP address .* (is )?already|address already (defined|in use)|already defined on another NIC|duplicate",
        TerminalError,
        "AddressInUse",
        "give the environment another network.ipv4, or take it from whoever holds it (incus network list-leases)",
    ),
    _Rule(
        0,
        r"requested image couldn.t be found|alias .* doesn.t exist",
        TerminalError,
        "ImageUnavailable",
        "the image server has no such image: correct spec.image",
    ),
    _Rule(
        0,
        r"remote image info|failed getting (remote )?image|image not (provided|found)|parsing stream"
        r"|no matching image",
        RetryableError,
        "ImageUnavailable",
        "check spec.image and that this host reaches the image server, or use bootstrap:debian/12",
    ),
    _Rule(
        0,
        r"busy running|locked|operation is already running|instance is (being|currently)",
        RetryableError,
        "Busy",
        "another operation still runs on it; it is tried again",
    ),
    _Rule(0, r"instance is not running", RetryableError, "NotRunning", "it stopped meanwhile; it is tried again"),
    _Rule(0, r"instance is (already )?running", RetryableError, "Busy", "it was started meanwhile; it is tried again"),
    _Rule(
        0,
        r"protected (from|against) (being )?delet|prevented from being deleted|security\.protection\.delete",
        TerminalError,
        "Protected",
        "protection stands on the object: set deletion.protect to false first",
    ),
    _Rule(
        0,
        r"unknown configuration key|invalid config|invalid devices?|invalid value|device validation failed"
        r"|cannot update root disk device",
        TerminalError,
        "InvalidConfiguration",
        "this Incus refuses the setting: correct the manifest or update Incus (containarium doctor)",
    ),
    _Rule(
        0,
        r"no root device|storage pool(?! volume).*not found|network.*not found|failed loading network",
        TerminalError,
        "HostNotPrepared",
        "make the host ready: containarium host prepare",
    ),
    _Rule(
        0,
        r"not enough (uid|gid)|(uid|gid)s? (are )?available|no (uid|gid) allocation|failed .*allocat.* idmap",
        TerminalError,
        "IdsExhausted",
        "give root more ids in /etc/subuid and /etc/subgid (root:1000000:1000000000), then restart Incus",
    ),
    _Rule(
        0,
        r"context deadline exceeded|timed? ?out",
        RetryableError,
        "IncusTimeout",
        "it is tried again; see `incus list`",
    ),
    _Rule(
        0,
        r"context canceled|shutting down|daemon is stopping|not ready",
        RetryableError,
        "IncusUnreachable",
        "Incus is restarting; it is tried again",
    ),
    _Rule(
        400,
        r"command not found",
        TerminalError,
        "CommandMissing",
        "the image lacks a command that is needed: use a Debian or Ubuntu image",
    ),
    _Rule(403, "", TerminalError, "IncusForbidden", "run as root, or as a member of the group incus-admin"),
    _Rule(404, "", TerminalError, "NotFound", "look again: containarium plan"),
    _Rule(409, "", RetryableError, "Conflict", "it is tried again"),
    _Rule(400, "", TerminalError, "BadRequest", "this Incus refuses the request: see containarium doctor"),
)


def clean(text: str, limit: int = _LONGEST) -> str:
    """One printable line of at most ``limit`` characters. Guests and daemons write what they like."""
    line = _UNPRINTABLE.sub(" ", text).strip()
    return line if len(line) <= limit else line[: limit - 1] + "…"


def classify(status: int, message: str) -> HostError:
    """The error for an answer of Incus. What no rule knows is retried: giving up needs a reason."""
    text = clean(message)
    for rule in _RULES:
        if rule.fits(status, text):
            if rule.kind is WaitingError:
                return WaitingError(text, retry_after=_MEMORY_RETRY, remedy=rule.remedy, reason=rule.reason)
            return rule.kind(text, remedy=rule.remedy, reason=rule.reason)
    return RetryableError(text, remedy="see `incus monitor` and the Incus log", reason="IncusError")


def timed_out(timeout: float) -> HostError:
    """Incus kept silent for ``timeout`` seconds."""
    return RetryableError(
        f"Incus did not answer within {timeout:.0f} s",
        remedy="see whether it is overloaded or hung: systemctl status incus",
        reason="IncusTimeout",
    )


def unreachable(path: Path, error: BaseException) -> HostError:
    """There is nobody, or nobody for us, behind the socket."""
    text = str(error)
    if "Permission denied" in text:
        return TerminalError(
            f"no permission to use Incus at {path}",
            remedy="run as root, or as a member of the group incus-admin",
            reason="IncusForbidden",
        )
    known = (
        "No such file or directory",
        "Connection refused",
        "Connection reset",
        "Connection broken",
        "Remote end closed",
        "Broken pipe",
    )
    why = next((words for words in known if words in text), clean(text, 120))
    return RetryableError(
        f"cannot reach Incus at {path}: {why}",
        remedy="start it (systemctl start incus), or name its socket with INCUS_SOCKET",
        reason="IncusUnreachable",
    )
