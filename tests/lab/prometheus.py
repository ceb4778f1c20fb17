"""prometheus and promtool from the distribution's package: fetched by apt, unpacked into the cache, never installed."""

from __future__ import annotations

import fcntl
import shutil
from functools import cache
from pathlib import Path

from tests.lab.command import LabError, run
from tests.lab.packages import APT_ENVIRONMENT, ensure_lists
from tests.lab.settings import Settings

_PACKAGE = "prometheus"


def available() -> bool:
    """Whether this machine has the tools, or a package manager that could fetch them."""
    return bool(shutil.which("promtool") and shutil.which("prometheus")) or shutil.which("apt-get") is not None


@cache
def program(name: str) -> Path:
    """Path of `prometheus` or `promtool`: the machine's own, where it has one."""
    installed = shutil.which(name)
    return Path(installed) if installed else _unpacked() / "usr" / "bin" / name


def _unpacked() -> Path:
    """Folder with the package's files; the first process fetches it, others wait."""
    cache_folder = Settings.from_environment().cache
    cache_folder.mkdir(parents=True, exist_ok=True)
    folder = cache_folder / "prometheus"
    with (cache_folder / "prometheus.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "usr" / "bin" / "promtool").exists():
            _fetch(folder)
    return folder


def _fetch(folder: Path) -> None:
    work = folder.with_suffix(".new")
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir()
    download = ["apt-get", "--quiet", "-o", "APT::Sandbox::User=root", "download", _PACKAGE]
    if run(download, timeout=300, env=APT_ENVIRONMENT, cwd=work, check=False).returncode != 0:
        ensure_lists()
        run(download, timeout=300, env=APT_ENVIRONMENT, cwd=work)
    files = sorted(work.glob("*.deb"))
    if not files:
        raise LabError(f"apt-get download {_PACKAGE} left no package")
    run(["dpkg", "-x", files[-1], work], timeout=120)
    for file in files:
        file.unlink()
    shutil.rmtree(folder, ignore_errors=True)
    work.rename(folder)
