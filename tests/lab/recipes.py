"""What the lab's images are made of: data only, hashed to name the result."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, field, replace
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
VENV = "/opt/containarium/venv"


@dataclass(frozen=True)
class File:
    """A file put into an image."""

    path: str
    text: str
    mode: int = 0o644


@dataclass(frozen=True)
class Recipe:
    """An image: packages, files, units to enable or leave disabled, and Python requirements for a venv."""

    name: str
    packages: tuple[str, ...]
    backports: tuple[str, ...] = ()  # taken from the backports suite where the distribution needs it
    files: tuple[File, ...] = ()
    links: tuple[tuple[str, str], ...] = ()  # path -> target
    removed: tuple[str, ...] = ()
    requirements: tuple[str, ...] = field(default=())

    def without_requirements(self) -> Recipe:
        """Return the slow half, which stays cached when the requirements change."""
        return replace(self, name=f"{self.name}-base", requirements=())


def _wanted(unit: str, target: str) -> tuple[str, str]:
    return (f"/etc/systemd/system/{target}.wants/{unit}", f"../{unit}")


_NETWORK = (
    File("/etc/network/interfaces", "auto lo\niface lo inet loopback\nauto eth0\niface eth0 inet dhcp\n"),
    # dhclient's own defaults wait up to 10 s before they ask again
    File(
        "/etc/dhcp/dhclient.conf",
        "request subnet-mask, routers, domain-name-servers;\ntimeout 30;\ninitial-interval 1;\nbackoff-cutoff 2;\n",
    ),
)
_HOST_KEYS = File(
    "/etc/systemd/system/ssh-hostkeys.service",
    """[Unit]
Description=Make missing SSH host keys
Before=ssh.service
ConditionPathExists=!/etc/ssh/ssh_host_ed25519_key
[Service]
Type=oneshot
ExecStart=/usr/bin/ssh-keygen -A
[Install]
WantedBy=multi-user.target
""",
)
_MACHINE_SCRIPT = File(
    "/usr/local/sbin/lab-machine",
    """#!/bin/sh
# Makes a privileged container look like a machine.
set -eu
# Sysctls that a host sets for its guests can be written; the rest of the machine's stay out of reach.
for folder in /proc/sys/fs/inotify /proc/sys/kernel/keys; do
    mount --bind "$folder" "$folder"
    mount -o remount,bind,rw "$folder"
done
# A machine below that mounts the cgroup 1 controllers cpu and cpuacct apart: systemd tried to mount them together and
# left a folder without a mount, which breaks liblxc inside. Mount each apart.
[ -d "/sys/fs/cgroup/cpu,cpuacct" ] || exit 0
mount -o remount,rw /sys/fs/cgroup
cd /sys/fs/cgroup
for c in cpu cpuacct net_cls net_prio; do
    [ ! -L "$c" ] || rm -f "$c"
done
for c in cpu cpuacct; do
    mkdir -p "$c"
    mountpoint -q "$c" || mount -t cgroup -o "$c" cgroup "$c"
done
for c in "cpu,cpuacct" "net_cls,net_prio" net_cls net_prio hugetlb perf_event; do
    mountpoint -q "$c" || rmdir "$c" 2>/dev/null || true
done
""",
    mode=0o755,
)
_MACHINE_UNIT = File(
    "/etc/systemd/system/lab-machine.service",
    """[Unit]
Description=Make a container look like a machine (tests only)
DefaultDependencies=no
After=local-fs.target
Before=incus.service incus.socket incus-startup.service lxcfs.service systemd-sysctl.service sysinit.target
[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/usr/local/sbin/lab-machine
[Install]
WantedBy=sysinit.target
""",
)
# Twice in 74 starts a nested incusd hung; the unit of the package waits 600 s.
_INCUS_TIMEOUT = File(
    "/etc/systemd/system/incus.service.d/lab.conf",
    "[Service]\nTimeoutStartSec=60\nExecStartPost=\nExecStartPost=/usr/libexec/incus/incusd waitready --timeout=50\n",
)
# lxcfs does work in a privileged container, whatever its unit says; guests see their own limits through it.
_LXCFS = File("/etc/systemd/system/lxcfs.service.d/lab.conf", "[Unit]\nConditionVirtualization=\n")
# This limit is the whole machine's, and Incus' own package sets it lower at each boot.
_SYSCTLS = File("/etc/sysctl.d/99-lab.conf", "fs.inotify.max_user_instances = 1048576\n")
# What makes a container pass for a machine. Guests of its own Incus get none of it.
MACHINE_FILES = (_MACHINE_SCRIPT, _MACHINE_UNIT, _INCUS_TIMEOUT, _LXCFS, _SYSCTLS)
MACHINE_LINKS = (
    _wanted("lab-machine.service", "sysinit.target"),
    ("/etc/systemd/system/systemd-binfmt.service", "/dev/null"),
)
_SYSTEM = ("systemd", "systemd-sysv", "dbus", "iproute2", "procps", "ca-certificates", "ifupdown", "isc-dhcp-client")

GUEST = Recipe(
    name="guest",
    packages=(*_SYSTEM, "openssh-server", "sudo", "netbase"),
    files=(*_NETWORK, _HOST_KEYS),
    links=(_wanted("ssh-hostkeys.service", "multi-user.target"),),
)
GIT_PORT = 2222
BALANCER = Recipe(
    name="balancer",
    packages=(*_SYSTEM, "openssh-server", "netbase", "netcat-openbsd", "haproxy", "git"),
    # port 22 is the balancer's
    files=(*_NETWORK, _HOST_KEYS, File("/etc/ssh/sshd_config.d/lab.conf", f"Port {GIT_PORT}\n")),
    links=(_wanted("ssh-hostkeys.service", "multi-user.target"),),
)
BARE = Recipe(name="bare", packages=(*_SYSTEM, "netbase"), files=(*_NETWORK, *MACHINE_FILES), links=MACHINE_LINKS)


def requirements(pyproject: Path = REPOSITORY / "pyproject.toml") -> tuple[str, ...]:
    """Python packages that the project, its tests and an editable installation of it need."""
    project = tomllib.loads(pyproject.read_text())
    extras = project["project"].get("optional-dependencies", {})
    wanted = [*project["build-system"]["requires"], "editables", *project["project"]["dependencies"]]
    for extra, names in extras.items():
        if extra != "dev":
            wanted += names
    wanted += [n for n in extras.get("dev", []) if n.startswith(("pytest", "hypothesis"))]
    return tuple(sorted({n for n in wanted if not n.startswith("containarium")}))


def host() -> Recipe:
    """Describe a machine as it is before `containarium host prepare`: packages are there, nothing is set up."""
    return Recipe(
        name="host",
        packages=(
            *_SYSTEM, "openssh-server", "sudo", "netbase", "nftables", "dnsmasq-base", "btrfs-progs", "squashfs-tools",
            "zstd", "mmdebstrap", "lxcfs", "uidmap", "fuse3", "attr", "xz-utils", "fail2ban", "python3-systemd",
            "python3", "python3-venv", "rsync", "netcat-openbsd", "git",
        ),
        backports=("incus-base", "incus-client"),
        files=(*_NETWORK, _HOST_KEYS, *MACHINE_FILES),
        links=(_wanted("ssh-hostkeys.service", "multi-user.target"), *MACHINE_LINKS),
        # Debian's fail2ban fails at boot without /var/log/auth.log; the product configures and enables it
        removed=("/etc/systemd/system/multi-user.target.wants/fail2ban.service",),
        requirements=requirements(),
    )  # fmt: skip
