"""What git says when it cannot fetch, and what a person can do about it."""

from __future__ import annotations

from typing import Final, NamedTuple

from containarium.model.host import HostError, RetryableError, TerminalError

_LONGEST = 300


class _Known(NamedTuple):
    said: str
    error: type[HostError]
    message: str
    remedy: str
    reason: str


_KNOWN: Final = (
    _Known(
        "couldn't find remote ref", TerminalError, "there is no {ref} in {repository}",
        "push it, or name another one in sync.yaml", "RefMissing",
    ),
    _Known(
        "dubious ownership", TerminalError, "{repository} belongs to another account, whose settings git would obey",
        "let root own it, or reach it over ssh", "RepositoryForeign",
    ),
    _Known(
        "Host key verification failed", TerminalError, "the ssh host key of {repository} is not known, or has changed",
        "compare it, then write it to the file that knownHosts names (ssh-keyscan HOST)", "HostKeyUnknown",
    ),
    _Known(
        "Permission denied (publickey", TerminalError, "{repository} does not accept this host's ssh key",
        "add its deploy key there, and name the private half as identity in sync.yaml", "AccessDenied",
    ),
    _Known(
        "could not read Username", TerminalError, "{repository} does not exist or wants a password",
        "use ssh with a deploy key (identity)", "AccessDenied",
    ),
    _Known(
        "Authentication failed", TerminalError, "{repository} wants a password",
        "use ssh with a deploy key (identity)", "AccessDenied",
    ),
    _Known(
        "No space left on device", RetryableError, "the disk is full",
        "make room where /var/lib/containarium is", "DiskFull",
    ),
    _Known(
        "died of signal 25", TerminalError, "{repository} is larger than is taken",
        "keep manifests in a repository of their own", "TooLarge",
    ),
    _Known(
        "Out of memory", TerminalError, "{repository} holds more than fits into memory",
        "keep manifests in a repository of their own", "TooLarge",
    ),
    _Known(
        "fsck error", TerminalError, "there is something malformed in {repository} ({detail})",
        "mend it with git fsck, or start a new history", "Malformed",
    ),
    _Known(
        "does not appear to be a git repository", RetryableError, "there is no repository at {repository}",
        "mend the address in sync.yaml, or bring it back", "RepositoryMissing",
    ),
    _Known(
        "epository not found", RetryableError, "there is no repository at {repository}, or it is not for this host",
        "mend the address in sync.yaml, or give this host access", "RepositoryMissing",
    ),
)  # fmt: skip
_NETWORK: Final = (
    "Could not resolve host",
    "Connection refused",
    "Connection timed out",
    "Connection reset",
    "Connection closed",
    "Network is unreachable",
    "No route to host",
    "Failed to connect",
    "Operation timed out",
    "Operation too slow",
    "Temporary failure in name resolution",
    "returned error: 5",
    "the remote end hung up unexpectedly",
)


def known_fault(said: str, repository: str, ref: str) -> HostError | None:
    """The error that a failed fetch stands for; None where its words are not known."""
    for known in _KNOWN:
        if known.said in said:
            message = known.message.format(repository=repository, ref=ref, detail=gist(said))
            return known.error(message, remedy=known.remedy, reason=known.reason)
    if any(words in said for words in _NETWORK):
        return RetryableError(
            f"{repository} cannot be reached ({gist(said)})", remedy="it is tried again", reason="FetchFailed"
        )
    return None


def unknown_fault(said: str, repository: str) -> HostError:
    """An error for words that nobody foresaw."""
    return RetryableError(f"cannot fetch from {repository}: {gist(said)}", reason="FetchFailed")


def gist(said: str) -> str:
    """The line that says most, short enough for a sentence."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    telling = [line for line in lines if line.startswith(("fatal:", "error:", "ssh:"))] or lines[-1:]
    return telling[0][:_LONGEST] if telling else "it said nothing"
