"""Builds a small guest image from a distribution's own mirror: for hosts that reach no image server.

Nothing that identifies a guest is baked in: no host keys, no machine-id, no user.
"""

from __future__ import annotations

import hashlib
import json
import platform
import shutil
import time
from dataclasses import dataclass
from pathlib import Path

import yaml

from containarium.host import firstboot
from containarium.host.aptsources import Source, as_line, debian_mirrors, read_sources
from containarium.host.command import Run
from containarium.model import marks
from containarium.model.host import Progress, TerminalError

RELEASES = {"debian/12": "bookworm", "debian/13": "trixie"}
"""What ``bootstrap:`` can build, and the code name of each."""
_VERSION = 2
"""Counts changes of the recipe that its text does not show."""
_CONTAINED = (
    *("setpriv", "--pdeathsig", "KILL"),
    *("unshare", "--mount", "--propagation", "private", "--pid", "--fork", "--kill-child", "--mount-proc"),
)
"""A build dies as a whole with whoever started it, and leaves nothing mounted."""
_BUILD_TIMEOUT = 1800.0
_PACK_TIMEOUT = 600.0
_PACKAGES = (
    "systemd",
    "systemd-sysv",
    "libpam-systemd",
    "dbus",
    "openssh-server",
    "sudo",
    "passwd",
    "ifupdown",
    "isc-dhcp-client",
    "iproute2",
    "netbase",
    "procps",
    "ca-certificates",
)
_EXCLUDED = ("/usr/share/man/*", "/usr/share/doc/*", "/usr/share/locale/*")
_FILES = {
    "etc/machine-id": "",
    "etc/hostname": "guest\n",
    "etc/resolv.conf": "",
    "etc/default/locale": "LANG=C.UTF-8\n",
    "etc/network/interfaces": "auto lo\niface lo inet loopback\n\nauto eth0\niface eth0 inet dhcp\n",
    f"etc/systemd/system/{firstboot.HOST_KEYS}": firstboot.UNITS[firstboot.HOST_KEYS],
}
_DHCP = "initial-interval 1;\nbackoff-cutoff 2;\n"
"""The first request goes out at once instead of after up to ten seconds."""
_TEMPLATES = {
    "hostname.tpl": "{{ container.name }}\n",
    "hosts.tpl": "127.0.0.1 localhost\n127.0.1.1 {{ container.name }}\n",
}
_DROPPED = ("var/lib/dbus/machine-id", "etc/dpkg/dpkg.cfg.d/99mmdebstrap")
"""The second would keep man pages away from whatever the person installs later."""


@dataclass(frozen=True, slots=True)
class Plan:
    """All that decides what the image holds."""

    release: str
    codename: str
    mirrors: tuple[Source, ...]
    certificates: tuple[Path, ...]

    @property
    def digest(self) -> str:
        """Changes whenever an image made now could differ by more than newer package versions."""
        parts = [
            _VERSION,
            self.codename,
            [as_line(mirror) for mirror in self.mirrors],
            _PACKAGES,
            _EXCLUDED,
            _FILES,
            _DHCP,
            _TEMPLATES,
            [hashlib.sha256(path.read_bytes()).hexdigest() for path in self.certificates],
        ]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class Built:
    """The two files of a split image."""

    metadata: Path
    rootfs: Path


def plan_build(release: str, etc: Path, certificates: Path) -> Plan:
    """The recipe of a release (``debian/12``) on this machine.

    Mirrors are those of ``etc``/apt. Certificate authorities that an admin added to this machine are added to the
    image too, since its guests sit behind the same proxy or mirror.
    """
    codename = RELEASES.get(release)
    if codename is None:
        raise TerminalError(
            f"there is no recipe for bootstrap:{release}",
            remedy="use one of " + ", ".join(f"bootstrap:{known}" for known in RELEASES),
            reason="ImageUnavailable",
        )
    mirrors = debian_mirrors(read_sources(etc / "apt"), codename)
    return Plan(release, codename, tuple(mirrors), tuple(sorted(certificates.glob("**/*.crt"))))


def build(plan: Plan, folder: Path, run: Run, progress: Progress) -> Built:
    """Build the image's two files in an empty folder. Takes half a minute to some minutes."""
    rootfs = folder / "rootfs"
    progress(f"building {plan.release} from its mirror (once, takes about a minute)")
    run(
        [*_CONTAINED, *_tool(plan, rootfs)],
        timeout=_BUILD_TIMEOUT,
        env={"TMPDIR": str(folder), "DEBIAN_FRONTEND": "noninteractive"},
    )
    progress("preparing the image")
    _customise(plan, rootfs, run)
    progress("packing the image")
    image = folder / "rootfs.squashfs"
    run(
        ["mksquashfs", str(rootfs), str(image), "-noappend", "-comp", "lz4", "-quiet", "-no-progress"],
        timeout=_PACK_TIMEOUT,
    )
    return Built(_metadata(plan, folder, run), image)


def _tool(plan: Plan, rootfs: Path) -> list[str]:
    include = f"--include={','.join(_PACKAGES)}"
    if shutil.which("mmdebstrap"):
        options = ["--mode=root", "--variant=minbase", "--quiet", include, '--aptopt=Acquire::Languages "none"']
        options += [f"--dpkgopt=path-exclude={path}" for path in _EXCLUDED]
        return ["mmdebstrap", *options, plan.codename, str(rootfs), *(as_line(mirror) for mirror in plan.mirrors)]
    if shutil.which("debootstrap"):
        keyring = [f"--keyring={plan.mirrors[0].keyring}"] if plan.mirrors else []
        mirror = [plan.mirrors[0].uri] if plan.mirrors else []
        return ["debootstrap", "--variant=minbase", include, *keyring, plan.codename, str(rootfs), *mirror]
    raise TerminalError(
        "neither mmdebstrap nor debootstrap is installed",
        remedy="apt-get install mmdebstrap squashfs-tools (or containarium host prepare --install)",
        reason="CommandMissing",
    )


def _customise(plan: Plan, rootfs: Path, run: Run) -> None:
    for path in [*_DROPPED, *(str(key.relative_to(rootfs)) for key in rootfs.glob("etc/ssh/ssh_host_*"))]:
        (rootfs / path).unlink(missing_ok=True)
    for path, text in _FILES.items():
        target = rootfs / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.unlink(missing_ok=True)
        target.write_text(text)
    wanted = rootfs / "etc/systemd/system/multi-user.target.wants" / firstboot.HOST_KEYS
    wanted.parent.mkdir(parents=True, exist_ok=True)
    wanted.unlink(missing_ok=True)
    wanted.symlink_to(f"/etc/systemd/system/{firstboot.HOST_KEYS}")
    with (rootfs / "etc/dhcp/dhclient.conf").open("a") as dhcp:
        dhcp.write(_DHCP)
    if plan.mirrors:
        lines = "".join(as_line(mirror) + "\n" for mirror in plan.mirrors)
        (rootfs / "etc/apt/sources.list").write_text(lines)
        for mirror in plan.mirrors:
            _copy_keyring(Path(mirror.keyring), rootfs)
    if plan.certificates:
        folder = rootfs / "usr/local/share/ca-certificates"
        folder.mkdir(parents=True, exist_ok=True)
        for certificate in plan.certificates:
            shutil.copyfile(certificate, folder / certificate.name)
        run(["chroot", str(rootfs), "update-ca-certificates"], timeout=120.0)
    shutil.rmtree(rootfs / "var/lib/apt/lists", ignore_errors=True)
    (rootfs / "var/lib/apt/lists/partial").mkdir(parents=True)


def _copy_keyring(keyring: Path, rootfs: Path) -> None:
    target = rootfs / keyring.relative_to("/")
    if keyring.is_file() and not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(keyring, target)


def _metadata(plan: Plan, folder: Path, run: Run) -> Path:
    meta = folder / "metadata"
    (meta / "templates").mkdir(parents=True)
    for name, text in _TEMPLATES.items():
        (meta / "templates" / name).write_text(text)
    document = {
        "architecture": platform.machine(),
        "creation_date": int(time.time()),
        "properties": {
            "description": f"{plan.release} ({plan.codename}), built by Containarium on this host",
            "os": plan.release.split("/")[0],
            "release": plan.codename,
            "variant": "containarium",
            marks.IMAGE_RECIPE: plan.digest,
        },
        "templates": {
            "/etc/hostname": {"when": ["create", "copy"], "template": "hostname.tpl"},
            "/etc/hosts": {"when": ["create", "copy"], "template": "hosts.tpl"},
        },
    }
    (meta / "metadata.yaml").write_text(yaml.safe_dump(document))
    archive = folder / "metadata.tar.gz"
    run(["tar", "-C", str(meta), "-czf", str(archive), "metadata.yaml", "templates"], timeout=60.0)
    return archive
