"""Images: what a manifest names, turned into what Incus creates an instance from."""

from __future__ import annotations

import contextlib
import fcntl
import re
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from containarium.host import bootstrap
from containarium.host.command import Run
from containarium.host.incus import Incus
from containarium.host.settings import HostSettings
from containarium.model import marks
from containarium.model.host import HostError, Progress, RetryableError, TerminalError, silent

REMOTES = {
    "images": "https://images.linuxcontainers.org",
    "ubuntu": "https://cloud-images.ubuntu.com/releases",
    "ubuntu-daily": "https://cloud-images.ubuntu.com/daily",
}
"""Simplestreams servers behind the prefixes that manifests may use."""
ALIAS_PREFIX = "containarium/"
CERTIFICATES = Path("/usr/local/share/ca-certificates")
_FINGERPRINT = re.compile(r"[0-9a-f]{12,64}")
_IMPORT_TIMEOUT = 600.0
_LOCK_PATIENCE = 2400.0
_LOCK_PAUSE = 0.5


class Images:
    """Finds images, fetches nothing ahead of time, and builds what can only be built here."""

    def __init__(self, incus: Incus, settings: HostSettings, run: Run, certificates: Path = CERTIFICATES) -> None:
        self._incus = incus
        self._run = run
        self._etc = settings.etc
        self._folder = settings.state / "build"
        self._lock = settings.state / "build.lock"
        self._certificates = certificates

    def ensure(self, image: str, progress: Progress = silent) -> dict[str, Any]:
        """The ``source`` of a create request for an image as manifests name it.

        Remote ones are left for Incus to fetch and cache. ``bootstrap:`` ones are built first if they are missing or
        made from an older recipe; builds are made one at a time, by whichever process comes first. Raises
        TerminalError (ImageUnavailable) for a local image that is not there.
        """
        prefix, _, rest = image.partition(":")
        if prefix in REMOTES and rest:
            return {
                "type": "image",
                "mode": "pull",
                "server": REMOTES[prefix],
                "protocol": "simplestreams",
                "alias": rest,
            }
        if prefix == "bootstrap" and rest:
            return {"type": "image", "fingerprint": self._bootstrapped(rest, progress)}
        found = self._local(image)
        if found is None:
            raise TerminalError(
                f"this host has no image {image}",
                remedy="name one of `incus image list`, or use images:, ubuntu: or bootstrap:",
                reason="ImageUnavailable",
            )
        return {"type": "image", "fingerprint": found}

    def _local(self, image: str) -> str | None:
        alias = self._found("images", "aliases", image)
        if alias is not None:
            return str(alias["target"])
        if _FINGERPRINT.fullmatch(image):
            whole = self._found("images", image)
            return None if whole is None else str(whole["fingerprint"])
        return None

    def _bootstrapped(self, release: str, progress: Progress) -> str:
        plan = bootstrap.recipe(release, self._etc, self._certificates)
        alias = f"{ALIAS_PREFIX}bootstrap/{release}"
        ready = self._ready(alias, plan.digest)
        if ready is not None:
            return ready
        with self._building(progress):
            ready = self._ready(alias, plan.digest)  # somebody may have built it while we waited
            if ready is not None:
                return ready
            with _workshop(self._folder) as folder:
                built = bootstrap.build(plan, folder, self._run, progress)
                progress("importing the image")
                return self._import(built, alias)

    def _ready(self, alias: str, digest: str) -> str | None:
        target = self._found("images", "aliases", alias)
        image = None if target is None else self._found("images", target["target"])
        if image is None or (image.get("properties") or {}).get(marks.IMAGE_RECIPE) != digest:
            return None
        return str(image["fingerprint"])

    def _import(self, built: bootstrap.Built, alias: str) -> str:
        from requests_toolbelt import MultipartEncoder  # type: ignore[import-untyped]  # streams; only builds need it

        with built.metadata.open("rb") as metadata, built.rootfs.open("rb") as rootfs:
            body = MultipartEncoder(
                {
                    "metadata": (built.metadata.name, metadata, "application/octet-stream"),
                    "rootfs": (built.rootfs.name, rootfs, "application/octet-stream"),
                }
            )
            headers = {"Content-Type": body.content_type, "X-Incus-public": "0"}
            done = self._incus.post("images", body=body, headers=headers, timeout=_IMPORT_TIMEOUT)
        fingerprint = str(done["fingerprint"])
        old = self._found("images", "aliases", alias)
        if old is None:
            self._incus.post("images", "aliases", body={"name": alias, "target": fingerprint})
        else:
            self._incus.put("images", "aliases", alias, body={"target": fingerprint, "description": ""})
            if old["target"] != fingerprint:
                with contextlib.suppress(HostError):  # instances keep what they unpacked; the old one is only ballast
                    self._incus.delete("images", old["target"])
        return fingerprint

    def _found(self, *path: str) -> Any:
        try:
            return self._incus.get(*path)
        except TerminalError as error:
            if error.reason == "NotFound":
                return None
            raise

    @contextlib.contextmanager
    def _building(self, progress: Progress) -> Iterator[None]:
        """One build at a time on this host, across threads and processes; the lock dies with its holder."""
        self._lock.parent.mkdir(parents=True, exist_ok=True)
        deadline = time.monotonic() + _LOCK_PATIENCE
        with self._lock.open("a") as lock:
            told = False
            while True:
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() > deadline:
                        raise RetryableError(
                            f"another image build has held {self._lock} for {_LOCK_PATIENCE:.0f} s",
                            remedy="see what it waits for: ps -ef | grep debstrap",
                            reason="Busy",
                        ) from None
                    if not told:
                        progress("waiting for an image build that is under way")
                        told = True
                    self._incus.cancellation.sleep(_LOCK_PAUSE)
            yield


@contextlib.contextmanager
def _workshop(parent: Path) -> Iterator[Path]:
    """An empty folder, gone afterwards. What a killed build left is removed first: we hold the lock."""
    shutil.rmtree(parent, ignore_errors=True)
    parent.mkdir(mode=0o711, parents=True)
    folder = Path(tempfile.mkdtemp(dir=parent))
    folder.chmod(0o711)  # apt's unprivileged downloader has to pass through
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
