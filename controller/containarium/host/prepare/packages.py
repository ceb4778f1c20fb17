"""The distribution's packages. Incus comes from Debian 12's backports, Debian 13's main or Ubuntu's universe."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from containarium.host.files import read_small
from containarium.host.prepare.steps import Context, Step
from containarium.model.host import HostError, TerminalError
from containarium.model.hostmanifest import Repository, StorageDriver

WANTED = (
    "dnsmasq-base", "nftables", "btrfs-progs", "squashfs-tools", "mmdebstrap", "uidmap", "lxcfs", "openssh-server",
    "iproute2", "kmod", "ca-certificates", "zstd",
)  # fmt: skip
"""Beside Incus itself. A base system has most of the last ones; a container image may not."""
DECLARED = ("fail2ban", "python3-systemd", "sudo")
"""What a Host manifest wants on top: bans, the journal for them to read, and sudo for the admins."""
REPOSITORY_NAME = "containarium-incus"
CONTRIB_NAME = "containarium-contrib"
_TOOLS = {StorageDriver.ZFS: "zpool", StorageDriver.BTRFS: "mkfs.btrfs", StorageDriver.DIR: "mkfs.ext4"}
_TOOL_PACKAGES = {StorageDriver.BTRFS: ("btrfs-progs",), StorageDriver.DIR: ("e2fsprogs",)}
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
BACKPORTS_NAME = "containarium-backports"
_BACKPORTS = {"bookworm": "bookworm-backports"}
"""Releases whose own archive has no Incus."""
_APT = ("apt-get", "-y", "-q", "-o", "DPkg::Lock::Timeout=120", "-o", "Acquire::Retries=3")
_QUIET = {"DEBIAN_FRONTEND": "noninteractive", "NEEDRESTART_MODE": "l"}
_UPDATE_TIMEOUT = 300.0
_INSTALL_TIMEOUT = 1200.0


def packages(context: Context) -> Step:
    """Where new packages are allowed, install what is missing. Nothing missing needs no network.

    Raises TerminalError (PackagesMissing) where no source has it, or none is reached.
    """
    written = _declare_repository(context)
    if not context.install:
        return Step("packages", written, "no new ones are asked for (--install)")
    before = _installed(context)
    wanted = WANTED if context.spec is None else (*WANTED, *DECLARED)
    missing = [name for name in wanted if name not in before]
    incus_there = {"incus-base", "incus"} & before and {"incus-client", "incus"} & before
    if not missing and incus_there:
        return Step("packages", written, "everything is installed")
    if not (context.spec and context.spec.incus.repository):
        _add_backports(context)
    _update(context)
    names = [*missing, *(() if incus_there else _incus_packages(context))]
    if not incus_there:
        context.note_incus_folder()
    new = _install(context, names, before)
    return Step("packages", True, f"installed {len(new)}: {', '.join(new)}")


def storage_tools(context: Context, path: str = _PATH) -> Step:
    """What a data disk is looked at and made with, before there is an Incus.

    Raises TerminalError (PackagesMissing) where they are missing and may not be installed, or cannot be had.
    """
    name = "storage tools"
    storage = context.spec.storage if context.spec is not None else None
    if storage is None or (storage.disk is None and storage.driver is not StorageDriver.ZFS):
        return Step(name, False, "none are needed")
    tool = _TOOLS[storage.driver]
    if shutil.which(tool, path=path):
        return Step(name, False, f"{tool} is there")
    if not context.install:
        raise TerminalError(
            f"{tool} is not installed", remedy="containarium host prepare --install", reason="PackagesMissing"
        )
    before = _installed(context)
    if storage.driver is StorageDriver.ZFS:
        names: Sequence[str] = _zfs_packages(context)
    else:
        _update(context)
        names = _TOOL_PACKAGES[storage.driver]
    new = _install(context, names, before)
    return Step(name, True, f"installed {', '.join(new)}")


def repository_source(repository: Repository, codename: str, keyring: Path) -> str:
    """The text of an apt source file for an Incus of its upstream's. Only what ``keyring`` signed is taken from it."""
    return (
        "# Written by containarium: Incus for this host, as its Host manifest says.\n"
        "Types: deb\n"
        f"URIs: {repository.url}\n"
        f"Suites: {repository.suite or codename}\n"
        f"Components: {' '.join(repository.components)}\n"
        f"Signed-By: {keyring}\n"
    )


def backports_source(sources: Mapping[str, str], codename: str) -> tuple[str, str] | None:
    """Name and text of an apt source file for the backports, made of the machine's own source of ``codename``.

    ``sources`` maps the names of apt's source files to their text. Everything but the suite stays as it is there:
    mirror, signature, options. None when no backports are needed, some source has them, or none has ``codename``.
    """
    suite = _BACKPORTS.get(codename)
    if suite is None:
        return None
    paragraphs = [paragraph for name, text in sorted(sources.items()) for paragraph in _paragraphs(name, text)]
    if any(suite in _suites(paragraph) for paragraph in paragraphs):
        return None
    found = next((paragraph for paragraph in paragraphs if codename in _suites(paragraph)), None)
    if found is None:
        return None
    text = f"# Written by containarium: Incus for this release.\n{_like(found, codename, suite, 'main')}\n"
    return f"{BACKPORTS_NAME}.{found[0]}", text


def contrib_source(sources: Mapping[str, str], codename: str) -> tuple[str, str] | None:
    """The same for Debian's contrib, where ZFS is. None where some source has it, or none has ``codename``."""
    paragraphs = [paragraph for name, text in sorted(sources.items()) for paragraph in _paragraphs(name, text)]
    mine = [paragraph for paragraph in paragraphs if codename in _suites(paragraph)]
    if not mine or any(re.search(r"\bcontrib\b", text) for _, text in mine):
        return None
    text = f"# Written by containarium: ZFS for this release.\n{_like(mine[0], codename, codename, 'contrib')}\n"
    return f"{CONTRIB_NAME}.{mine[0][0]}", text


def _like(paragraph: tuple[str, str], codename: str, suite: str, components: str) -> str:
    """A source like this one, of another suite or with other components."""
    kind, text = paragraph
    if kind == "sources":
        text = re.sub(r"(?im)^suites:.*(\n[ \t].*)*", f"Suites: {suite}", text)
        text = re.sub(r"(?im)^components:.*(\n[ \t].*)*", f"Components: {components}", text)
        text = re.sub(r"(?im)^types:.*(\n[ \t].*)*", "Types: deb", text)
    else:
        head = re.split(rf"\s+{re.escape(codename)}\s", text, maxsplit=1)[0]
        text = f"{head} {suite} {components}"
    return text.strip()


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
    _add_source(context, backports_source(apt_sources(context.settings.etc / "apt"), _release(context)))


def _add_source(context: Context, source: tuple[str, str] | None) -> None:
    if source:
        name, text = source
        context.progress(f"adding apt source {name}")
        context.write(context.settings.etc / "apt" / "sources.list.d" / name, text)


def _release(context: Context, field: str = "VERSION_CODENAME") -> str:
    text = read_small(context.settings.etc / "os-release") or ""
    found = re.search(rf'(?m)^{field}="?([a-z]+)', text)
    return found[1] if found else ""


def _declare_repository(context: Context) -> bool:
    """Write the source that the manifest names, or take away the one that an earlier manifest named."""
    apt = context.settings.etc / "apt"
    keyring, source = apt / "keyrings" / f"{REPOSITORY_NAME}.asc", apt / "sources.list.d" / f"{REPOSITORY_NAME}.sources"
    if context.spec is None:
        return False
    if (repository := context.spec.incus.repository) is not None:
        written = context.write(keyring, repository.key.strip() + "\n")
        return context.write(source, repository_source(repository, _release(context), keyring)) or written
    gone = [path for path in (source, keyring) if path.exists() and context.receipt.holds("file", str(path))]
    for path in gone:
        path.unlink()
        context.receipt.drop("file", str(path))
    return bool(gone)


def _zfs_packages(context: Context) -> list[str]:
    """Ubuntu's kernel has the module; Debian's is built here, from contrib, for the kernel that runs."""
    if _release(context, "ID") == "ubuntu":
        _update(context)
        return ["zfsutils-linux"]
    _add_source(context, contrib_source(apt_sources(context.settings.etc / "apt"), _release(context)))
    _update(context)
    names = [f"linux-headers-{os.uname().release}", "zfs-dkms", "zfsutils-linux"]
    unknown = [name for name in names if not _known(context, [name])]
    if unknown:
        raise TerminalError(
            f"ZFS cannot be had: no package source has {', '.join(unknown)}",
            remedy="boot a kernel of the distribution whose headers there are, or choose driver: btrfs",
            reason="PackagesMissing",
        )
    return names


def _known(context: Context, names: Sequence[str]) -> bool:
    known = context.run(["apt-cache", "show", "--no-all-versions", *names], timeout=60, check=False)
    return known.code == 0 and "\nPackage:" in f"\n{known.out}"


def _update(context: Context) -> None:
    context.progress("reading package lists")
    context.run([*_APT, "update"], timeout=_UPDATE_TIMEOUT, env=_QUIET)


def _install(context: Context, names: Sequence[str], before: set[str]) -> list[str]:
    """Install, note and return what is new."""
    context.progress(f"installing {', '.join(names)}")
    options = ["--no-install-recommends", "-o", "Dpkg::Options::=--force-confold"]
    try:
        context.run([*_APT, *options, "install", "--", *names], timeout=_INSTALL_TIMEOUT, env=_QUIET)
    except HostError as error:
        raise TerminalError(
            f"cannot install {', '.join(names)}: {error.message}",
            remedy="see to the network and the package sources (apt-get update), then run it again",
            reason="PackagesMissing",
        ) from error
    new = sorted(_installed(context) - before)
    for name in new:
        context.receipt.add("package", name)
    return new


def _incus_packages(context: Context) -> list[str]:
    """incus-base leaves virtual machines (and their hundred packages) out; older archives have one package only."""
    for names in (["incus-base", "incus-client"], ["incus"]):
        if _known(context, names):
            return names
    raise TerminalError(
        "none of this machine's package sources has Incus",
        remedy="Debian 12 needs bookworm-backports, Ubuntu 24.04 universe; then run it again",
        reason="PackagesMissing",
    )


def _installed(context: Context) -> set[str]:
    listed = context.run(["dpkg-query", "-W", "-f", "${db:Status-Abbrev} ${Package}\\n"], timeout=60)
    return {line.split()[1] for line in listed.out.splitlines() if line.startswith("ii ") and len(line.split()) > 1}
