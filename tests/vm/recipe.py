"""What the machine's root disk is made of: the lab's host, and what a container borrows from the machine below it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from tests.lab import packages, recipes
from tests.lab.images import ImageStore
from tests.lab.recipes import File

if TYPE_CHECKING:
    from tests.lab.recipes import Recipe

CONTROL_PORT = 2222
CONTROL_KEYS = "/etc/vm-control/authorized_keys"
_CONTROL_CONFIG = File(
    "/etc/vm-control/sshd_config",
    f"""Port {CONTROL_PORT}
HostKey /etc/vm-control/host_key
PidFile none
AuthorizedKeysFile {CONTROL_KEYS}
PermitRootLogin prohibit-password
PasswordAuthentication no
MaxSessions 100
SetEnv PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
""",
)
# The product owns the machine's own sshd. The tests come in beside it, as over a serial line.
_CONTROL = File(
    "/etc/systemd/system/vm-control.service",
    """[Unit]
Description=Another SSH server, for the tests
After=networking.service
[Service]
ExecStartPre=/bin/mkdir -p /run/sshd
ExecStartPre=/bin/sh -c 'test -e /etc/vm-control/host_key || ssh-keygen -q -t ed25519 -N "" -f /etc/vm-control/host_key'
ExecStart=/usr/sbin/sshd -D -f /etc/vm-control/sshd_config
[Install]
WantedBy=multi-user.target
""",
)
_FSTAB = File("/etc/fstab", "/dev/vda / ext4 defaults 0 1\n")
FILES = (_FSTAB, _CONTROL_CONFIG, _CONTROL)
"""Put onto the disk last: what is above it took minutes to build."""
LINKS = (("/etc/systemd/system/multi-user.target.wants/vm-control.service", "../vm-control.service"),)
_KERNEL = ("linux-image-cloud-amd64", "linux-headers-cloud-amd64", "initramfs-tools", "udev", "kmod")
_ZFS = ("zfs-dkms", "zfsutils-linux")


def zfs() -> Recipe:
    """Describe a machine before `containarium host prepare`, with its own kernel, ZFS and AppArmor."""
    host = recipes.host()
    borrowed = {file.path for file in recipes.MACHINE_FILES}
    return replace(
        host,
        name="zfs",
        packages=(*host.packages, *_KERNEL, *_ZFS, "apparmor", "e2fsprogs"),
        files=tuple(file for file in host.files if file.path not in borrowed),
        links=tuple(link for link in host.links if link not in recipes.MACHINE_LINKS),
    )


class RootStore(ImageStore):
    """Builds such root trees: mmdebstrap runs dkms in its chroot, at this machine's speed and not at the emulator's."""

    def sources(self, recipe: Recipe) -> list[str]:
        """Return the usual lines, with contrib for ZFS."""
        return [f"{line} contrib" for line in packages.image_sources(backports=bool(recipe.backports))]
