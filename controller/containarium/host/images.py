"""Base images: what a manifest names, found on this host, fetched, or built here."""

from __future__ import annotations

import contextlib
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from containarium.host import bootstrap
from containarium.host.command import Run
from containarium.host.flights import Flights
from containarium.host.incus import Incus
from containarium.host.settings import HostSettings
from containarium.model import marks
from containarium.model.host import HostError, Progress, TerminalError, silent

REMOTES = {
    "images": "https://images.linuxcontainers.org",
    "ubuntu": "https://cloud-images.ubuntu.com/releases",
    "ubuntu-daily": "https://cloud-images.ubuntu.com/daily",
}
"""Simplestreams servers behind the prefixes that manifests may use."""
ALIAS_PREFIX = "containarium/"
CERTIFICATES = Path("/usr/local/share/ca-certificates")
PROTOCOL = "simplestreams"
_FINGERPRINT = re.compile(r"[0-9a-f]{12,64}")
_FETCH_TIMEOUT = 1800.0
_IMPORT_TIMEOUT = 600.0
Listing = Sequence[Mapping[str, Any]]
"""Images in Incus' own words."""


class Images:
    """Finds base images, fetches or builds what is missing, each once however many want it."""

    def __init__(
        self,
        incus: Incus,
        settings: HostSettings,
        run: Run,
        flights: Flights,
        certificates: Path = CERTIFICATES,
        remotes: Mapping[str, str] = REMOTES,
    ) -> None:
        self._incus = incus
        self._run = run
        self._etc = settings.etc
        self._folder = settings.state / "build"
        self._flights = flights
        self._certificates = certificates
        self._remotes = remotes

    def all(self) -> Listing:
        """Every image of this host. One request."""
        found: Listing = self._incus.get("images", recursion="1")
        return found

    def known(self, image: str, listing: Listing) -> str | None:
        """Fingerprint of an image as manifests name it; None where it is not on this host, or was made otherwise."""
        prefix, _, rest = image.partition(":")
        if prefix in self._remotes and rest:
            found = _with_alias(_fetched(image), listing)
            return None if found is None else str(found["fingerprint"])
        if prefix == "bootstrap" and rest:
            found = _with_alias(f"{ALIAS_PREFIX}bootstrap/{rest}", listing)
            plan = bootstrap.plan_build(rest, self._etc, self._certificates)
            built_so = found is not None and (found.get("properties") or {}).get(marks.IMAGE_RECIPE) == plan.digest
            return str(found["fingerprint"]) if found is not None and built_so else None
        found = _with_alias(image, listing)
        if found is None and _FINGERPRINT.fullmatch(image):
            found = next((one for one in listing if str(one["fingerprint"]).startswith(image)), None)
        return None if found is None else str(found["fingerprint"])

    def ensure(self, image: str, progress: Progress = silent, listing: Listing | None = None) -> str:
        """Fingerprint of an image, which is fetched or built first where it is missing.

        Raises WaitingError (ImageBuilding) while somebody else does that, TerminalError (ImageUnavailable) for a local
        image that is not there.
        """
        found = self.known(image, self.all() if listing is None else listing)
        if found is not None:
            return found
        prefix, _, rest = image.partition(":")
        if prefix not in self._remotes and prefix != "bootstrap":
            raise TerminalError(
                f"this host has no image {image}",
                remedy="name one of `incus image list`, or use images:, ubuntu: or bootstrap:",
                reason="ImageUnavailable",
            )
        with self._flights.claim(f"base-{_file_name(image)}", image):
            found = self.known(image, self.all())  # somebody may have made it while we looked
            if found is not None:
                return found
            return self._bootstrap(rest, progress) if prefix == "bootstrap" else self._fetch(image, progress)

    def _fetch(self, image: str, progress: Progress) -> str:
        """Incus keeps what it fetched so up to date by itself, from then on."""
        prefix, _, rest = image.partition(":")
        progress(f"fetching {image}")
        source = {
            "type": "image",
            "mode": "pull",
            "server": self._remotes[prefix],
            "protocol": PROTOCOL,
            "alias": rest,
        }
        body = {"source": source, "auto_update": True}
        fingerprint = str(
            self._incus.post("images", body=body, timeout=_FETCH_TIMEOUT, progress=progress)["fingerprint"]
        )
        # Two names of one image are fetched once, and Incus then knows the first of them alone.
        self._call(_fetched(image), fingerprint)
        return fingerprint

    def _bootstrap(self, release: str, progress: Progress) -> str:
        plan = bootstrap.plan_build(release, self._etc, self._certificates)
        with _workshop(self._folder / plan.codename) as folder:
            built = bootstrap.build(plan, folder, self._run, progress)
            progress("importing the image")
            return self._import(built, f"{ALIAS_PREFIX}bootstrap/{release}")

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
        old = self._call(alias, fingerprint)
        if old not in ("", fingerprint):
            with contextlib.suppress(HostError):  # instances keep what they unpacked; the old one is only ballast
                self._incus.delete("images", old)
        return fingerprint

    def _call(self, alias: str, fingerprint: str) -> str:
        """Give an image an alias; the image that had it before, empty where there was none."""
        old = self._incus.find("images", "aliases", alias)
        if old is None:
            self._incus.post("images", "aliases", body={"name": alias, "target": fingerprint})
            return ""
        self._incus.put("images", "aliases", alias, body={"target": fingerprint, "description": ""})
        return str(old["target"])


def _fetched(image: str) -> str:
    """Our alias for what was fetched under a name; Incus hands it on to the newer one when it updates the image."""
    return f"{ALIAS_PREFIX}base/{image.replace(':', '/', 1)}"


def _with_alias(alias: str, listing: Listing) -> Mapping[str, Any] | None:
    return next(
        (image for image in listing if any(one["name"] == alias for one in image.get("aliases") or ())),
        None,
    )


def _file_name(image: str) -> str:
    return re.sub(r"[^a-z0-9.-]", "_", image.lower())


@contextlib.contextmanager
def _workshop(parent: Path) -> Iterator[Path]:
    """An empty folder, gone afterwards. What a killed build left is removed first: nobody else builds this one."""
    shutil.rmtree(parent, ignore_errors=True)
    parent.mkdir(mode=0o711, parents=True)
    folder = Path(tempfile.mkdtemp(dir=parent))
    folder.chmod(0o711)  # apt's unprivileged downloader has to pass through
    try:
        yield folder
    finally:
        shutil.rmtree(parent, ignore_errors=True)
