"""What an SSH probe found, in words: told from what the two ssh clients of one probe wrote. Pure.

The client on the way to the jump host and the one on the way to the guest write to different places, so a guest cannot
speak for the host. What it can put into the log of its own client does not make a failed probe look well: the alias
under which its host key is looked up is chosen anew for each probe and never sent.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from containarium.host.faults import clean

_LONGEST = 200
_TAG = re.compile(r"^(?:debug\d: )?[a-z0-9_-]+\.c:\w+\(\):\d+ \([^)]*\): ")
"""What a line begins with that was asked for by LogVerbose."""
_NOISE = re.compile(r"^(?:Authenticated to |Killed by signal|@|kex_exchange_identification: Connection closed)")


@dataclass(frozen=True, slots=True)
class Said:
    """What was said on the way: ``jump`` by the client that logs in to this host, ``guest`` by the one that runs
    through it. ``ended`` is false where the time was up; then ``jump`` is lost.
    """

    jump: str
    guest: str
    ended: bool = True


@dataclass(frozen=True, slots=True)
class Asked:
    """What the probe went for. ``port`` is that of the host's sshd, ``alias`` the guest's name in known_hosts."""

    user: str
    address: str
    port: int
    alias: str
    timeout: float


@dataclass(frozen=True, slots=True)
class Verdict:
    """``reason`` is a constant in CamelCase, ``error`` a line for a person, both empty where all is well.

    ``detail`` is what ssh itself said about it, printable and short.
    """

    reason: str = ""
    error: str = ""
    detail: str = ""


REFUSED = "AccountRefused"
NOT_FORWARDED = "ForwardingRefused"


def judge(said: Said, asked: Asked) -> Verdict:
    """Where the probe ended. Whatever the exit code says: a guest never lets it in, so that is never 0."""
    if _proven(said.guest.splitlines(), asked):
        return Verdict()
    if said.ended and "Authenticated to " not in said.jump:
        return _at_the_host(said, asked)
    return _on_the_way(said, asked) or _in_the_guest(said, asked)


def _proven(lines: list[str], asked: Asked) -> bool:
    """Whether the guest showed a known host key and then proved that it has it.

    The first line alone is written before the signature is checked; after a wrong signature nothing follows but an
    error.
    """
    known = (n for n, line in enumerate(lines) if f"Host '{asked.alias}' is known and matches" in line)
    first = next(known, len(lines))
    after = f"{asked.user}@{asked.address}: Permission denied"
    return any("SSH2_MSG_NEWKEYS received" in line or line.startswith(after) for line in lines[first + 1 :])


def _at_the_host(said: Said, asked: Asked) -> Verdict:
    jump = said.jump
    silent = f"the host's sshd does not answer on port {asked.port}"
    refused = re.search(r"(?m)^ssh: connect to host .*: (.*)$", jump)
    if refused:
        return Verdict("HostSilent", silent, clean(refused[1], _LONGEST))
    if "Host key verification failed" in jump:
        error = "the host's sshd shows another host key than the ones in its files"
        return Verdict("WrongKeyOfHost", error, "restart sshd if its keys were replaced")
    if "Permission denied (" in jump or "account has expired" in jump or "password has expired" in jump:
        return Verdict(REFUSED, "the jump account is refused", _last(jump))
    if not jump.strip() and "timed out" in said.guest:
        return Verdict("HostSlow", "the host's sshd lets nobody in in time", _last(said.guest))
    if "kex_exchange_identification" in jump or "timed out" in jump:
        return Verdict("HostSilent", silent, _last(jump))
    if "Connection closed by" in jump or "Received disconnect" in jump or "Connection reset" in jump:
        return Verdict(REFUSED, "the host's sshd ends the connection before the login", _last(jump))
    return Verdict("ProbeFailed", "ssh did not get as far as the host's sshd", _last(jump or said.guest))


def _on_the_way(said: Said, asked: Asked) -> Verdict | None:
    place = f"{asked.address}:22"
    failed = re.search(r"(?m)^channel \d+: open failed: (?P<why>[^:\n]*): (?P<text>.*)$", said.jump)
    if failed is None:
        return None
    if failed["why"] == "connect failed":
        return Verdict(
            "GuestSilent", f"the container's SSH does not answer on {place}", clean(failed["text"], _LONGEST)
        )
    return Verdict(NOT_FORWARDED, f"forwarding to {place} is refused", clean(failed["why"], _LONGEST))


def _in_the_guest(said: Said, asked: Asked) -> Verdict:
    guest = said.guest
    silent = f"the container's SSH does not answer on {asked.address}:22"
    if "Host key verification failed." in guest:
        shown = re.search(r"Server host key: (\S+ \S+)", guest)
        detail = f"it shows {shown[1]}" if shown else _last(guest)
        return Verdict("WrongHostKey", "the container's host key is not the one on its disk", clean(detail, _LONGEST))
    if "incorrect signature" in guest:
        return Verdict("WrongHostKey", "the container cannot prove the host key that it shows", _last(guest))
    if "compat_banner" in guest:
        if not said.ended:
            detail = f"no host key within {asked.timeout:.0f} s"
            return Verdict("GuestStalled", "the container's SSH begins to answer and then stalls", detail)
        return Verdict("GuestBroken", "the container's SSH ends the connection before its host key", _last(guest))
    if "timed out during banner exchange" in guest or not said.ended:
        return Verdict("GuestSilent", silent, "it says nothing")
    if "invalid characters" in guest or "No SSH version" in guest:
        return Verdict("GuestNotSSH", f"what answers on {asked.address}:22 is no SSH server", _last(guest))
    return Verdict("GuestSilent", silent, _last(guest) or "it closes the connection at once")


def _last(text: str) -> str:
    """The last line that says something."""
    lines = [_TAG.sub("", line).strip() for line in text.splitlines()]
    told = [line for line in lines if line and not _NOISE.match(line)]
    return clean(told[-1], _LONGEST) if told else ""
