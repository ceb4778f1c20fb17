"""apt in a guest: what is run when, and what its failures mean."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest

from containarium.host.command import Completed
from containarium.host.guestpackages import Packages, apt_error
from containarium.host.incus import GuestFile, Incus
from containarium.host.settings import HostSettings
from containarium.model.host import HostError, RetryableError, TerminalError, silent

OK = Completed(0, "", "")
FRESH = Completed(0, "d 99999999999.0\nf 1700000000.0\n", "")
UNKNOWN = Completed(100, "", "E: Unable to locate package nope\n")
BROKEN = Completed(100, "", "E: dpkg was interrupted, you must manually run 'dpkg --configure -a'\n")
STALE = Completed(100, "", "E: Failed to fetch http://mirror/x.deb  404  Not Found [IP: 192.0.2.1 80]\n")


class AptGuest(Incus):
    """A guest whose apt answers installs one by one from a list, and everything else with success."""

    def __init__(self, installs: Sequence[Completed], *, lists: Completed = FRESH, apt: bool = True) -> None:
        super().__init__(HostSettings())
        self.ran: list[str] = []
        self._installs = list(installs)
        self._lists = lists
        self._apt = apt

    def read_file(self, instance: str, path: str, limit: int) -> GuestFile | None:
        if path == "/var/lib/dpkg/status":
            return GuestFile("file", 0, 0, 0o644, b"Package: sudo\nStatus: install ok installed\n\n")
        return GuestFile("file", 0, 0, 0o755) if self._apt else None

    def execute(
        self,
        instance: str,
        args: Sequence[str],
        *,
        timeout: float,
        env: Mapping[str, str] | None = None,
        keep: int = 0,
    ) -> Completed:
        words = [word for word in args if word in ("find", "dpkg", "update", "install", "--fix-broken")]
        self.ran.append(" ".join(words))
        if "find" in words:
            return self._lists
        return self._installs.pop(0) if words == ["install"] else OK


@pytest.mark.parametrize(
    ("installs", "lists", "ran"),
    [
        ([OK], FRESH, ["dpkg", "find", "install"]),
        ([OK], OK, ["dpkg", "find", "update", "install"]),
        ([BROKEN, OK], FRESH, ["dpkg", "find", "install", "--fix-broken install", "install"]),
        ([STALE, OK], FRESH, ["dpkg", "find", "install", "update", "install"]),
        ([UNKNOWN, OK], FRESH, ["dpkg", "find", "install", "update", "install"]),
    ],
)
def test_what_is_run(installs: list[Completed], lists: Completed, ran: list[str]) -> None:
    guest = AptGuest(installs, lists=lists)
    Packages(guest).install("alice-container", ["git"], silent)
    assert guest.ran == ran


def test_what_is_there_costs_nothing() -> None:
    guest = AptGuest([])
    Packages(guest).install("alice-container", ["sudo"], silent)
    assert guest.ran == []


def test_an_unknown_package_is_refused_after_fresh_lists() -> None:
    guest = AptGuest([UNKNOWN], lists=OK)
    with pytest.raises(TerminalError, match=r"nope is not in the image's archive: E: .* nope; fix spec\.packages"):
        Packages(guest).install("alice-container", ["nope"], silent)


def test_a_guest_without_apt() -> None:
    with pytest.raises(TerminalError, match="has no apt"):
        Packages(AptGuest([], apt=False)).install("alice-container", ["git"], silent)


@pytest.mark.parametrize("name", ["-o evil", "a b", "Git", "", "--help"])
def test_an_option_is_no_package(name: str) -> None:
    guest = AptGuest([OK])
    with pytest.raises(TerminalError):
        Packages(guest).install("alice-container", [name], silent)
    assert guest.ran == []


@pytest.mark.parametrize(
    ("code", "text", "kind", "reason"),
    [
        (100, "E: Package 'x' has no installation candidate", TerminalError, "PackageUnknown"),
        (
            100,
            "E: Could not get lock /var/lib/dpkg/lock-frontend. It is held by process 9",
            RetryableError,
            "GuestBusy",
        ),
        (
            100,
            "W: x\nE: Failed to fetch http://m/InRelease  Temporary failure resolving 'm'",
            RetryableError,
            "MirrorUnreachable",
        ),
        (100, "E: You don't have enough free space in /var/cache/apt/archives/.", TerminalError, "QuotaExceeded"),
        (100, "dpkg: error processing archive (--unpack): Disk quota exceeded", TerminalError, "QuotaExceeded"),
        (137, "", RetryableError, "GuestTimeout"),
        (1, "E: something else", RetryableError, "PackagesFailed"),
    ],
)
def test_failures(code: int, text: str, kind: type[HostError], reason: str) -> None:
    error = apt_error(Completed(code, "", text))
    assert (type(error), error.reason) == (kind, reason)
    assert "\n" not in str(error)
