"""The machine's root disk, with kernel and initial ramdisk beside it, cached by the hash of what went into it."""

from __future__ import annotations

import hashlib
import shutil
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.lab.command import LabError, run
from tests.vm.recipe import CONTROL_KEYS, FILES, LINKS, RootStore, zfs

if TYPE_CHECKING:
    from pathlib import Path

    from tests.lab.outer import Outer

FORMAT = 2  # raise when the code below builds something else of the same parts
KEPT_VERSIONS = 2
SIZE = "12G"  # sparse


@dataclass(frozen=True)
class Boot:
    """What a machine starts from. Nobody writes to these files: each machine has an overlay of its own."""

    folder: Path

    @property
    def kernel(self) -> Path:
        """Debian's cloud kernel."""
        return self.folder / "vmlinuz"

    @property
    def initrd(self) -> Path:
        """Its initial ramdisk."""
        return self.folder / "initrd.img"

    @property
    def root(self) -> Path:
        """The root file system, ext4 on a whole raw disk."""
        return self.folder / "root.img"

    @property
    def key(self) -> Path:
        """The private key that lets the tests in beside the machine's own sshd."""
        return self.folder / "id"


def boot_disk(outer: Outer) -> Boot:
    """Return the newest root disk, built where the cache lacks it (some minutes: dkms compiles ZFS)."""
    store = RootStore(outer)
    tree = store.files(zfs())
    digest = hashlib.sha256(repr((tree.alias, FORMAT, SIZE, FILES, LINKS)).encode()).hexdigest()[:12]
    cache = outer.settings.cache / "vm" / "disks"
    boot = Boot(cache / digest)
    with outer.locked("build-vm-disk"):
        if not boot.folder.exists():
            _build(tree.rootfs, boot, outer.settings.build_dir / "vm-disk")
            for old in sorted(cache.iterdir(), key=lambda p: p.stat().st_mtime)[:-KEPT_VERSIONS]:
                shutil.rmtree(old)
    return boot


def _build(tree: Path, boot: Boot, work: Path) -> None:
    started = time.monotonic()
    shutil.rmtree(work, ignore_errors=True)
    new = Boot(work / "out")
    new.folder.mkdir(parents=True, mode=0o700)
    root = work / "root"
    run(["unsquashfs", "-no-progress", "-quiet", "-dest", root, tree], timeout=600)
    if not list(root.glob("lib/modules/*/**/zfs.ko*")):
        raise LabError("dkms built no zfs module for the kernel of the root disk")
    shutil.copy(_only(root, "boot/vmlinuz-*"), new.kernel)
    shutil.copy(_only(root, "boot/initrd.img-*"), new.initrd)
    run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "vm-control", "-f", new.key], timeout=30)
    _put(root, CONTROL_KEYS, new.key.with_suffix(".pub").read_text())
    for file in FILES:
        _put(root, file.path, file.text, file.mode)
    for path, target in LINKS:
        link = root / path.lstrip("/")
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(target)
    # Packages made one; each root disk is to be another system to ZFS, as each machine of a cloud is.
    (root / "etc/hostid").unlink(missing_ok=True)
    _put(root, "/etc/hostname", "vm\n")
    _put(root, "/etc/hosts", "127.0.0.1 localhost\n127.0.1.1 vm\n")
    run(["mke2fs", "-q", "-t", "ext4", "-L", "root", "-d", root, new.root, SIZE], timeout=600)
    boot.folder.parent.mkdir(parents=True, exist_ok=True)
    new.folder.rename(boot.folder)
    shutil.rmtree(work)
    print(f"vm: built root disk {boot.folder.name} in {time.monotonic() - started:.0f} s", flush=True)


def _only(root: Path, pattern: str) -> Path:
    found = list(root.glob(pattern))
    if len(found) != 1:
        raise LabError(f"{pattern} of the root disk: {len(found)} files instead of one")
    return found[0]


def _put(root: Path, path: str, text: str, mode: int = 0o644) -> None:
    target = root / path.lstrip("/")
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(text)
    target.chmod(mode)
