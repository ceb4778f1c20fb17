"""The machine's own package sources: what the lab needs is installed from them, and images are built from them.

Nothing about a mirror is written down here: apt is asked what it is configured with.
"""

from __future__ import annotations

import platform
import re
import shutil
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from tests.lab.command import LabError, run

if TYPE_CHECKING:
    from collections.abc import Mapping

APT_ENVIRONMENT = {"DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C"}
INCUSD_PATHS = (Path("/usr/libexec/incus/incusd"), Path("/usr/lib/incus/incusd"), Path("/opt/incus/bin/incusd"))
COMMANDS = {  # command the lab calls, or Incus calls for it -> package
    "incus": "incus-client",
    "mmdebstrap": "mmdebstrap",
    "mksquashfs": "squashfs-tools",
    "dnsmasq": "dnsmasq-base",
    "nft": "nftables",
    "btrfs": "btrfs-progs",
    "newuidmap": "uidmap",
    "setfattr": "attr",
    "xz": "xz-utils",
    "rsync": "rsync",
    "ip": "iproute2",
    "ssh": "openssh-client",
    "losetup": "mount",
}
# Settings of apt without which a mirror that works for this machine would not work for an image.
_ACQUIRE = re.compile(r'^(Acquire::(?:https?::[^ ]+|Check-Valid-Until|Check-Date|ForceIPv[46])) "(.+)";$')


@dataclass(frozen=True)
class Target:
    """One component of one suite that apt is configured with."""

    uri: str
    suite: str
    component: str
    origin: str


@cache
def codename() -> str:
    """Codename of the machine's distribution; images are made of the same."""
    return platform.freedesktop_os_release()["VERSION_CODENAME"]


@cache
def targets() -> list[Target]:
    """Return the distribution's own suites in apt's configuration; third parties' are left out."""
    wanted = "$(REPO_URI)|$(RELEASE)|$(COMPONENT)|$(ORIGIN)"
    command = ["apt-get", "indextargets", "--format", wanted, "Identifier: Packages"]
    lines = run(command, timeout=60, env=APT_ENVIRONMENT).stdout.split()
    found = [Target(*line.split("|", 3)) for line in lines if line.count("|") == 3]
    return [t for t in found if t.origin in {"Debian", "Ubuntu"} and t.suite.startswith(codename())]


def image_sources(*, backports: bool) -> list[str]:
    """Return sources.list lines for an image, from the machine's own mirrors."""
    chosen = [t for t in dict.fromkeys(targets()) if backports or not t.suite.endswith("-backports")]
    if not any(t.suite == codename() for t in chosen):
        raise LabError(f"apt knows no mirror for {codename()}: run apt-get update")
    return [f"deb {t.uri} {t.suite} {t.component}" for t in chosen]


@cache
def image_apt_options() -> list[str]:
    """Return apt settings (proxy, clock checks) that an image needs to reach the same mirrors."""
    dump = run(["apt-config", "dump"], timeout=60, env=APT_ENVIRONMENT).stdout
    found = (_ACQUIRE.match(line) for line in dump.splitlines())
    return [f'{m[1]} "{m[2]}"' for m in found if m and not m[1].endswith("::User-Agent")]


def incusd() -> Path:
    """Path of the daemon's program."""
    for path in INCUSD_PATHS:
        if path.exists():
            return path
    raise LabError("incusd is not installed")


def ensure_installed() -> None:
    """Install what is missing; when nothing is, no package manager is called."""
    missing = [package for command, package in COMMANDS.items() if shutil.which(command) is None]
    if not any(path.exists() for path in INCUSD_PATHS):
        missing.append("incus-base")
    if not missing:
        return
    if shutil.which("apt-get") is None:
        raise LabError(f"missing, and there is no apt to install it: {', '.join(missing)}")
    ensure_lists()
    if codename() == "bookworm":
        missing = [f"{p}/{codename()}-backports" if p.startswith("incus") else p for p in missing]
    _apt_get("update")
    _apt_get("install", "--yes", "--no-install-recommends", *missing)


def ensure_commands(wanted: Mapping[str, str]) -> None:
    """Install the packages of those commands (command -> package) that are missing."""
    missing = [package for command, package in wanted.items() if shutil.which(command) is None]
    if missing and shutil.which("apt-get") is None:
        raise LabError(f"missing, and there is no apt to install it: {', '.join(missing)}")
    if missing:
        ensure_lists()
        _apt_get("update")
        _apt_get("install", "--yes", "--no-install-recommends", *missing)


def ensure_lists() -> None:
    """See that apt knows its suites (a new machine has empty lists) and, on Debian 12, backports among them."""
    if not any(t.suite == codename() for t in targets()):
        _apt_get("update")
    if codename() == "bookworm":
        _ensure_backports()


def _ensure_backports() -> None:
    """Add the backports suite of the mirror that the machine already uses (Debian 12 has no Incus of its own)."""
    known = targets()
    if any(t.suite == f"{codename()}-backports" for t in known):
        return
    main = next((t for t in known if t.suite == codename()), None)
    if main is None:
        raise LabError(f"apt knows no mirror for {codename()}")
    lines = ["Types: deb", f"URIs: {main.uri}", f"Suites: {codename()}-backports", "Components: main"]
    keyring = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
    if keyring.exists():
        lines.append(f"Signed-By: {keyring}")
    Path("/etc/apt/sources.list.d/containarium-test-backports.sources").write_text("\n".join(lines) + "\n")
    _apt_get("update")


def _apt_get(*args: str) -> None:
    run(["apt-get", "--quiet", "-o", "DPkg::Lock::Timeout=300", *args], timeout=900, env=APT_ENVIRONMENT)
    targets.cache_clear()
