"""Puts the working tree onto a host as if `pip install --editable` had, but in well under a second."""

from __future__ import annotations

import io
import tarfile
import tomllib
from typing import TYPE_CHECKING

from tests.lab.command import run
from tests.lab.recipes import VENV

if TYPE_CHECKING:
    from pathlib import Path

    from tests.lab.host import LabHost

SOURCE = "/opt/containarium/src"
_SITE_PACKAGES = f"{VENV}/lib/python3.11/site-packages"
_NOT_INSTALLED = ("tests/", ".ci/", "docs/")
_SCRIPT = """#!{venv}/bin/python
import sys
from {module} import {function}
sys.exit({function}())
"""


def install(host: LabHost, repository: Path) -> None:
    """Copy the tree's files (those git would commit) and make the venv's `containarium` run them."""
    copy(host, repository, SOURCE, left_out=_NOT_INSTALLED)
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for path, (text, mode) in _installed_files(repository).items():
            info = tarfile.TarInfo(path.lstrip("/"))
            info.size, info.mode = len(text.encode()), mode
            archive.addfile(info, io.BytesIO(text.encode()))
    _extract(host, buffer.getvalue(), "/")
    host.run(["ln", "-sf", f"{VENV}/bin/containarium", "/usr/local/bin/containarium"])


def copy(host: LabHost, repository: Path, destination: str, left_out: tuple[str, ...] = ()) -> None:
    """Copy the tree as a fresh clone would have it: no ignored files; what was there is replaced."""
    listing = run(
        ["git", "-C", repository, "ls-files", "-z", "--cached", "--others", "--exclude-standard"], timeout=30
    ).stdout
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name in listing.split("\0"):
            if name and not name.startswith(left_out) and (repository / name).is_file():
                archive.add(repository / name, name, recursive=False)
    host.run(["rm", "-rf", destination])
    _extract(host, buffer.getvalue(), destination)


def _extract(host: LabHost, archive: bytes, destination: str) -> None:
    host.run(["mkdir", "-p", destination])
    host.run(["tar", "--extract", "--no-same-owner", "--directory", destination], input=archive, timeout=60)


def _installed_files(repository: Path) -> dict[str, tuple[str, int]]:
    """Return what pip would write: path file, metadata (importlib.metadata reads it) and the scripts."""
    about = tomllib.loads((repository / "pyproject.toml").read_text())["project"]
    name, version = about["name"], about.get("version", "0")
    metadata = f"{_SITE_PACKAGES}/{name}-{version}.dist-info"
    scripts = about.get("scripts", {})
    entry_points = "".join(f"{command} = {target}\n" for command, target in scripts.items())
    files = {
        f"{_SITE_PACKAGES}/{name}.pth": (f"{SOURCE}/controller\n", 0o644),
        f"{metadata}/METADATA": (f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n", 0o644),
        f"{metadata}/entry_points.txt": (f"[console_scripts]\n{entry_points}", 0o644),
        f"{metadata}/INSTALLER": ("containarium-lab\n", 0o644),
    }
    for command, target in scripts.items():
        module, _, function = target.partition(":")
        files[f"{VENV}/bin/{command}"] = (_SCRIPT.format(venv=VENV, module=module, function=function), 0o755)
    return files
