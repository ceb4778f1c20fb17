"""The distribution's packages. Incus comes from Debian 12's backports, Debian 13's main or Ubuntu's universe."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from containarium.host.files import read_small
from containarium.host.prepare.steps import Context, Step
from containarium.model.host import TerminalError

WANTED = (
    "dnsmasq-base", "nftables", "btrfs-progs", "squashfs-tools", "mmdebstrap", "uidmap", "lxcfs", "openssh-server",
    "iproute2", "kmod", "ca-certificates", "zstd",
)  # fmt: skip
"""Beside Incus itself. A base system has most of the last ones; a container image may not."""
BACKPORTS_NAME = "containarium-backports"
_BACKPORTS = {"bookworm": "bookworm-backports"}
"""Releases whose own archive has no Incus."""
_APT = ("apt-get", "-y", "-q", "-o", "DPkg::Lock::Timeout=120", "-o", "Acquire::Retries=3")
_QUIET = {"DEBIAN_FRONTEND": "noninteractive", "NEEDRESTART_MODE": "l"}
_UPDATE_TIMEOUT = 300.0
_INSTALL_TIMEOUT = 1200.0


def packages(context: Context) -> Step:
    """Install what is missing. Raises TerminalError (PackagesMissing) where no source has it."""
    before = _installed(context)
    missing = [name for name in WANTED if name not in before]
    incus_there = {"incus-base", "incus"} & before and {"incus-client", "incus"} & before
    if not missing and incus_there:
        return Step("packages", False, "everything is installed")
    _add_backports(context)
    context.progress("reading package lists")
    context.run([*_APT, "update"], timeout=_UPDATE_TIMEOUT, env=_QUIET)
    wanted = [*missing, *(() if incus_there else _incus_packages(context))]
    if not incus_there:
        context.note_incus_folder()
    context.progress(f"installing {', '.join(wanted)}")
    context.run(
        [*_APT, "--no-install-recommends", "-o", "Dpkg::Options::=--force-confold", "install", "--", *wanted],
        timeout=_INSTALL_TIMEOUT,
        env=_QUIET,
    )
    new = sorted(_installed(context) - before)
    for name in new:
        context.receipt.add("package", name)
    return Step("packages", True, f"installed {len(new)}: {', '.join(new)}")


def backports_source(sources: Mapping[str, str], codename: str) -> tuple[str, str] | None:
    """Name and text of an apt source file for the backports, made of the machine's own source of ``codename``.

    ``sources`` maps the names of apt's source files to their text. Everything but the suite stays as it is there:
    mirror, signature, options. None when no backports are needed, some source has them, or none has ``codename``.
    """
    suite = _BACKPORTS.get(codename)
    if suite is None:
        return None
    found: tuple[str, str] | None = None
    for name, text in sorted(sources.items()):
        for paragraph in _paragraphs(name, text):
            suites = _suites(paragraph)
            if suite in suites:
                return None
            if codename in suites and found is None:
                found = paragraph
    if found is None:
        return None
    kind, text = found
    if kind == "sources":
        text = re.sub(r"(?im)^suites:.*(\n[ \t].*)*", f"Suites: {suite}", text)
        text = re.sub(r"(?im)^components:.*(\n[ \t].*)*", "Components: main", text)
        text = re.sub(r"(?im)^types:.*(\n[ \t].*)*", "Types: deb", text)
    else:
        head = re.split(rf"\s+{re.escape(codename)}\s", text, maxsplit=1)[0]
        text = f"{head} {suite} main"
    return f"{BACKPORTS_NAME}.{kind}", f"# Written by containarium: Incus for this release.\n{text.strip()}\n"


def apt_sources(apt: Path) -> dict[str, str]:
    """The text of every source file that apt reads in this folder, by name."""
    files = [
        apt / "sources.list",
        *(apt / "sources.list.d").glob("*.list"),
        *(apt / "sources.list.d").glob("*.sources"),
    ]
    return {file.name: text for file in files if (text := read_small(file)) is not None}


def _paragraphs(name: str, text: str) -> list[tuple[str, str]]:
    """The enabled binary sources of a file, each as (kind, text)."""
    if not name.endswith(".sources"):
        lines = (line.split("#", 1)[0].strip() for line in text.splitlines())
        return [("list", line) for line in lines if re.match(r"deb\s", line)]
    kept = "\n".join(line for line in text.splitlines() if not line.startswith("#"))
    paragraphs = (paragraph.strip("\n") for paragraph in re.split(r"\n\s*\n", kept))
    return [
        ("sources", paragraph)
        for paragraph in paragraphs
        if re.search(r"(?im)^types:.*\bdeb\b(?!-)", paragraph)
        and not re.search(r"(?im)^enabled:\s*(no|false|0)", paragraph)
    ]


def _suites(paragraph: tuple[str, str]) -> list[str]:
    kind, text = paragraph
    if kind == "sources":
        found = re.search(r"(?im)^suites:(.*(?:\n[ \t].*)*)", text)
        return found[1].split() if found else []
    words = re.sub(r"^deb\s+(\[[^\]]*\]\s*)?", "", text).split()
    return words[1:2]


def _add_backports(context: Context) -> None:
    apt = context.settings.etc / "apt"
    release = read_small(context.settings.etc / "os-release") or ""
    codename = re.search(r'(?m)^VERSION_CODENAME="?([a-z]+)', release)
    source = backports_source(apt_sources(apt), codename[1] if codename else "")
    if source:
        name, text = source
        context.progress(f"adding apt source {name}")
        context.write(apt / "sources.list.d" / name, text)


def _incus_packages(context: Context) -> list[str]:
    """incus-base leaves virtual machines (and their hundred packages) out; older archives have one package only."""
    for names in (["incus-base", "incus-client"], ["incus"]):
        known = context.run(["apt-cache", "show", "--no-all-versions", *names], timeout=60, check=False)
        if known.code == 0 and "\nPackage:" in f"\n{known.out}":
            return names
    raise TerminalError(
        "none of this machine's package sources has Incus",
        remedy="Debian 12 needs bookworm-backports, Ubuntu 24.04 universe; then run it again",
        reason="PackagesMissing",
    )


def _installed(context: Context) -> set[str]:
    listed = context.run(["dpkg-query", "-W", "-f", "${db:Status-Abbrev} ${Package}\\n"], timeout=60)
    return {line.split()[1] for line in listed.out.splitlines() if line.startswith("ii ") and len(line.split()) > 1}
