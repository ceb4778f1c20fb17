"""Builds the lab's images from the machine's own mirrors and caches them by the hash of what goes into them."""

from __future__ import annotations

import hashlib
import io
import json
import os
import platform
import shutil
import sys
import tarfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from tests.lab import packages
from tests.lab.command import LabError, run
from tests.lab.leftovers import unmount_under
from tests.lab.recipes import VENV, Recipe

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.lab.outer import Outer

FORMAT = 1  # raise when the code below builds something else from the same recipe
KEPT_VERSIONS = 3
CA_BUNDLE = Path("/etc/ssl/certs/ca-certificates.crt")
_APT_ARCHIVES = "/var/cache/apt/archives"
_TEMPLATES = {
    "/etc/hostname": ("hostname.tpl", "{{ container.name }}\n"),
    "/etc/hosts": ("hosts.tpl", "127.0.0.1 localhost\n127.0.1.1 {{ container.name }}\n"),
}


@dataclass(frozen=True)
class Image:
    """A finished image: two files for `incus image import`, and its alias on the outer daemon."""

    alias: str
    metadata: Path
    rootfs: Path


class ImageStore:
    """The images of one lab."""

    def __init__(self, outer: Outer) -> None:
        """Nothing is built before `ensure`."""
        self._outer = outer
        self._settings = outer.settings

    def ensure_all(self, recipes: Sequence[Recipe]) -> list[Image]:
        """Build what is missing, two at a time: one waits for the mirror while the other unpacks."""
        with ThreadPoolExecutor(max_workers=2) as pool:
            return list(pool.map(self.ensure, recipes))

    def ensure(self, recipe: Recipe) -> Image:
        """Return the image of `recipe`, built if the cache lacks it and imported if the outer daemon lacks it."""
        image = self.files(recipe)
        with self._outer.locked(f"import-{recipe.name}"):
            known = self._outer.incus("image", "alias", "list", "--format=json", image.alias)
            if not any(alias["name"] == image.alias for alias in json.loads(known.stdout) or []):
                self._outer.incus("image", "import", image.metadata, image.rootfs, "--alias", image.alias, timeout=120)
        return image

    def files(self, recipe: Recipe) -> Image:
        """Return the files of the image of `recipe`, built if need be."""
        folder = self._settings.images_dir / f"{recipe.name}-{_key(recipe)}"
        image = Image(folder.name, folder / "metadata.tar.gz", folder / "rootfs.squashfs")
        with self._outer.locked(f"build-{recipe.name}"):
            if not folder.exists():
                self._build(recipe, folder)
                self._forget_old(recipe.name)
        return image

    def _build(self, recipe: Recipe, folder: Path) -> None:
        started = time.monotonic()
        work = self._settings.build_dir / recipe.name
        unmount_under(work)  # of a build that was killed: the machine's own /sys and /dev/shm
        shutil.rmtree(work, ignore_errors=True)
        (work / "out").mkdir(parents=True)
        root = work / "root"
        if recipe.requirements:
            base = self.files(recipe.without_requirements())
            run(["unsquashfs", "-no-progress", "-quiet", "-dest", root, base.rootfs], timeout=300)
            _make_venv(root, recipe.requirements)
        else:
            self._bootstrap(recipe, root)
            _customise(root, recipe)
        _squash(root, work / "out/rootfs.squashfs")
        (work / "out/metadata.tar.gz").write_bytes(_metadata(recipe))
        folder.parent.mkdir(parents=True, exist_ok=True)
        (work / "out").rename(folder)
        shutil.rmtree(work)
        print(f"lab: built image {folder.name} in {time.monotonic() - started:.0f} s", flush=True)

    def _bootstrap(self, recipe: Recipe, root: Path) -> None:
        """Unpack the distribution with mmdebstrap; downloaded packages are kept for the next build."""
        cache = self._settings.packages_dir
        cache.mkdir(parents=True, exist_ok=True)
        suite = packages.codename()
        names = [*recipe.packages]
        names += [f"{p}/{suite}-backports" if suite == "bookworm" else p for p in recipe.backports]
        options = ['Acquire::Languages "none"', *packages.image_apt_options()]
        run(
            [
                "mmdebstrap", "--mode=root", "--variant=minbase", "--format=directory", "--quiet",
                f"--include={','.join(names)}",
                *(f"--dpkgopt=path-exclude=/usr/share/{d}/*" for d in ("man", "doc", "locale", "info")),
                *(f"--aptopt={o}" for o in options),
                "--skip=download/empty", "--skip=essential/unlink",
                f'--setup-hook=mkdir -p "$1"{_APT_ARCHIVES}',
                f"--setup-hook=sync-in {cache} {_APT_ARCHIVES}",
                f"--customize-hook=sync-out {_APT_ARCHIVES} {cache}",
                suite, root,
                *self.sources(recipe),
            ],
            timeout=1800,
        )  # fmt: skip

    def sources(self, recipe: Recipe) -> list[str]:
        """Return the lines of sources.list that an image is made from."""
        return packages.image_sources(backports=bool(recipe.backports))

    def _forget_old(self, name: str) -> None:
        """Drop all but the newest versions of an image, the cached files and the imported copies."""
        size = len(name) + 1 + len("0" * 12)
        folders = [p for p in self._settings.images_dir.glob(f"{name}-*") if len(p.name) == size]
        for folder in sorted(folders, key=lambda p: p.stat().st_mtime)[:-KEPT_VERSIONS]:
            self._outer.incus("image", "delete", folder.name, check=False)
            shutil.rmtree(folder)


def _squash(root: Path, file: Path) -> None:
    options = ["-comp", "lz4", "-noappend", "-quiet", "-no-progress"]
    run(["mksquashfs", str(root), str(file), *options], timeout=300)


def _key(recipe: Recipe) -> str:
    packages.ensure_lists()
    parts = {
        "recipe": asdict(recipe),
        "format": FORMAT,
        "suite": packages.codename(),
        "sources": packages.image_sources(backports=True),
        "options": packages.image_apt_options(),
        "pip": _pip_configuration(),
        "certificates": hashlib.sha256(CA_BUNDLE.read_bytes()).hexdigest() if CA_BUNDLE.exists() else "",
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:12]


def _customise(root: Path, recipe: Recipe) -> None:
    """Put in the recipe's files and the machine's certificates and pip settings; take out what every instance makes."""
    (root / "etc/machine-id").write_text("")
    (root / "var/lib/dbus/machine-id").unlink(missing_ok=True)
    for key in (root / "etc/ssh").glob("ssh_host_*"):
        key.unlink()
    if CA_BUNDLE.exists():
        shutil.copy(CA_BUNDLE, _inside(root, str(CA_BUNDLE)))
    _inside(root, "/etc/pip.conf").write_text(_pip_configuration())
    for file in recipe.files:
        target = _inside(root, file.path)
        target.write_text(file.text)
        target.chmod(file.mode)
    for path, to in recipe.links:
        link = _inside(root, path)
        link.unlink(missing_ok=True)
        link.symlink_to(to)
    for path in recipe.removed:
        _inside(root, path).unlink(missing_ok=True)
    for path in ("etc/resolv.conf", "etc/hostname"):
        (root / path).unlink(missing_ok=True)
        (root / path).write_text("")


def _inside(root: Path, path: str) -> Path:
    target = root / path.lstrip("/")
    target.parent.mkdir(parents=True, exist_ok=True)
    return target


def _make_venv(root: Path, requirements: Sequence[str]) -> None:
    """Make the project's virtual environment with the image's own Python."""
    resolver = root / "etc/resolv.conf"
    shutil.copy(Path("/etc/resolv.conf"), resolver)
    proxies = [f"{k}={v}" for k, v in os.environ.items() if k.lower() in {"http_proxy", "https_proxy", "no_proxy"}]
    path = "PATH=/usr/sbin:/usr/bin:/sbin:/bin"
    chroot = ["env", "--ignore-environment", path, "HOME=/root", *proxies, "chroot", str(root)]
    run([*chroot, "python3", "-m", "venv", VENV], timeout=120)
    run([*chroot, f"{VENV}/bin/pip", "install", "--quiet", "--no-cache-dir", *requirements], timeout=600)
    resolver.write_text("")


@cache
def _pip_configuration() -> str:
    """Return the machine's pip settings as /etc/pip.conf of an image; its certificates are in the image already."""
    listing = run([sys.executable, "-m", "pip", "config", "list"], timeout=60, check=False).stdout
    settings = {}
    for line in listing.splitlines():
        name, _, value = line.partition("=")
        section, _, option = name.rpartition(".")
        if section in {"global", "install", ":env:"} and option != "find-links":
            settings[option] = str(CA_BUNDLE) if option == "cert" else value.strip("'\"")
    return "".join(["[global]\n", *(f"{option} = {value}\n" for option, value in sorted(settings.items()))])


def _metadata(recipe: Recipe) -> bytes:
    """Return metadata.tar.gz: what Incus wants to know, and templates for hostname and hosts."""
    machine = platform.machine()
    if not machine:
        raise LabError("the machine does not name its architecture")
    about = {
        "architecture": machine,
        "creation_date": int(time.time()),
        "properties": {"description": f"containarium test {recipe.name}", "release": packages.codename()},
        "templates": {path: {"when": ["create", "copy"], "template": name} for path, (name, _) in _TEMPLATES.items()},
    }
    contents = {"metadata.yaml": json.dumps(about)}  # JSON is YAML
    contents.update({f"templates/{name}": text for name, text in _TEMPLATES.values()})
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, text in contents.items():
            info = tarfile.TarInfo(name)
            info.size = len(text.encode())
            archive.addfile(info, io.BytesIO(text.encode()))
    return buffer.getvalue()
