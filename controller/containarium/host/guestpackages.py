"""Packages in a guest, by its own apt. Its failures are told apart: what passes, what the manifest must mend."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence

from containarium.host import guestfiles
from containarium.host.command import Completed
from containarium.host.faults import clean
from containarium.host.incus import Incus
from containarium.model.host import HostError, Progress, RetryableError, TerminalError

INSTALL_TIMEOUT = 900
"""Seconds for one run of apt-get."""
_CONFIGURE_TIMEOUT = 300
_UPDATE_TIMEOUT = 180
_SHORT = 30.0
_LISTS_PATIENCE = 60.0
_LISTS_PAUSE = 1.0
_STATUS_LIMIT = 32 * 1024 * 1024
_FRESH = 24 * 3600
_LISTS = "/var/lib/apt/lists"
_PACKAGE = re.compile(r"[a-z0-9]([a-z0-9+.-]*[a-z0-9+.])?(:[a-z0-9-]*[a-z0-9])?")
_ENVIRONMENT = {
    "DEBIAN_FRONTEND": "noninteractive",
    "DEBIAN_PRIORITY": "critical",
    "NEEDRESTART_MODE": "a",
    "APT_LISTCHANGES_FRONTEND": "none",
}
_OPTIONS = ("-q", "-y", "-o", "DPkg::Lock::Timeout=60", "-o", "Dpkg::Use-Pty=0", "-o", "Acquire::Retries=2")
_INSTALL = (
    *("-o", "Dpkg::Options::=--force-confdef", "-o", "Dpkg::Options::=--force-confold"),
    *("install", "--no-install-recommends", "--"),
)
_UNKNOWN = re.compile(r"Unable to locate package (\S+)|Package '?([^'\s]+)'? has no installation candidate")
_STALE = re.compile(r"404\s+Not Found|Hash Sum mismatch|maybe run apt-get update", re.IGNORECASE)
_BROKEN = re.compile(r"--fix-broken|dpkg was interrupted|unmet dependencies", re.IGNORECASE)
_LOCKED = re.compile(r"Could not get lock|Unable to lock|is another process using it|lock-frontend", re.IGNORECASE)
_FULL = re.compile(r"No space left|Disk quota exceeded|enough free space", re.IGNORECASE)
_NETWORK = re.compile(
    r"Temporary failure resolving|Could not (connect|resolve)|Connection (timed out|failed|refused)"
    r"|Network is unreachable|Failed to fetch|index files failed to download|Unable to fetch|No route to host"
    r"|Unable to connect",
    re.IGNORECASE,
)


class Packages:
    """Installs packages in running guests."""

    def __init__(self, incus: Incus) -> None:
        self._incus = incus

    def install(self, instance: str, packages: Sequence[str], progress: Progress) -> None:
        """Install packages, after repairing an interrupted dpkg and refreshing lists that are missing or a day old."""
        for name in packages:
            if not _PACKAGE.fullmatch(name):
                raise TerminalError(
                    f"{clean(name, 60)!r} is no package name", remedy="fix spec.packages", reason="PackageUnknown"
                )
        packages = self.missing(instance, packages)
        if not packages:
            return
        if self._incus.read_file(instance, "/usr/bin/apt-get", 0) is None:
            raise _no_apt(instance)
        self._run(instance, ["dpkg", "--configure", "-a"], _CONFIGURE_TIMEOUT)
        fresh = self._fresh(instance)
        if not fresh:
            self._update(instance, progress)
        progress(f"installing {', '.join(packages)}")
        done = self._apt(instance, [*_INSTALL, *packages])
        if done.code != 0 and _BROKEN.search(done.err + done.out):
            progress("repairing an interrupted installation")
            self._apt(instance, ["--fix-broken", "install"])
            done = self._apt(instance, [*_INSTALL, *packages])
        text = done.err + done.out
        if done.code != 0 and (_STALE.search(text) or (fresh and _UNKNOWN.search(text))):
            self._update(instance, progress)
            done = self._apt(instance, [*_INSTALL, *packages])
        if done.code != 0:
            raise apt_error(done)

    def missing(self, instance: str, packages: Sequence[str]) -> list[str]:
        """What dpkg does not have: most images bring what every guest needs, and asking apt takes seconds."""
        status = self._incus.read_file(instance, "/var/lib/dpkg/status", _STATUS_LIMIT)
        there = guestfiles.installed_packages(status.data) if status and status.kind == "file" else frozenset()
        return [name for name in packages if name not in there]

    def _update(self, instance: str, progress: Progress) -> None:
        progress("refreshing the package lists")
        deadline = time.monotonic() + _LISTS_PATIENCE
        while True:
            done = self._apt(instance, ["-o", "APT::Update::Error-Mode=any", "update"], _UPDATE_TIMEOUT)
            if done.code == 0:
                return
            error = apt_error(done)
            # apt waits for dpkg's lock, but not for that of the lists: a killed controller's update may still hold it
            if error.reason != "GuestBusy" or time.monotonic() > deadline:
                raise error
            self._incus.cancellation.sleep(_LISTS_PAUSE)

    def _fresh(self, instance: str) -> bool:
        """Whether there are package lists, and the folder was renewed within a day."""
        show = ["find", _LISTS, "-maxdepth", "1", "(", "-name", "*_Packages*", "-o", "-path", _LISTS, ")"]
        done = self._incus.execute(instance, [*show, "-printf", "%y %T@\n"], timeout=_SHORT)
        lines = [line.split() for line in done.out.splitlines()]
        renewed = [float(line[1]) for line in lines if len(line) == 2 and line[0] == "d" and line[1][:1].isdigit()]
        return any(line[:1] == ["f"] for line in lines) and bool(renewed) and renewed[0] > time.time() - _FRESH

    def _apt(self, instance: str, args: Sequence[str], timeout: int = INSTALL_TIMEOUT) -> Completed:
        return self._run(instance, ["apt-get", *_OPTIONS, *args], timeout)

    def _run(self, instance: str, args: Sequence[str], timeout: int) -> Completed:
        # the guest's own timeout ends dpkg and its scripts too; ours is for a guest whose timeout does not work
        bounded = ["timeout", "-k", "15", str(timeout), *args]
        return self._incus.execute(instance, bounded, timeout=timeout + 30.0, env=_ENVIRONMENT)


def apt_error(done: Completed) -> HostError:
    """The error for a failed run of apt-get, with apt's own words."""
    text = done.err + done.out
    words = clean(_own_words(done))
    unknown = _UNKNOWN.search(text)
    if done.code in (124, 137):
        return RetryableError(
            f"apt-get was killed: {words or 'it took too long'}", remedy="it is tried again", reason="GuestTimeout"
        )
    if _FULL.search(text):
        return TerminalError(
            f"the disk is full: {words}",
            remedy="grow resources.disk or free space in the environment",
            reason="QuotaExceeded",
        )
    if _LOCKED.search(text):
        return RetryableError(f"apt is in use in the guest: {words}", remedy="it is tried again", reason="GuestBusy")
    if unknown:
        name = clean(unknown.group(1) or unknown.group(2), 60)
        return TerminalError(
            f"package {name} is not in the image's archive: {words}",
            remedy="fix spec.packages",
            reason="PackageUnknown",
        )
    if _NETWORK.search(text):
        return RetryableError(
            f"the guest cannot reach its package mirror: {words}",
            remedy="check the bridge's NAT and DNS: containarium doctor",
            reason="MirrorUnreachable",
        )
    if done.code == 127:
        return _no_apt("the guest")
    return RetryableError(f"apt-get failed with exit code {done.code}: {words}", reason="PackagesFailed")


def _own_words(done: Completed) -> str:
    """apt's error lines; where there are none, its last lines."""
    errors = [line.strip() for line in (done.err + done.out).splitlines() if line.startswith(("E: ", "dpkg: error"))]
    return " | ".join(errors[-4:]) if errors else done.tail


def _no_apt(where: str) -> TerminalError:
    return TerminalError(
        f"{where} has no apt",
        remedy="use a Debian or Ubuntu image, or leave spec.packages empty",
        reason="CommandMissing",
    )
