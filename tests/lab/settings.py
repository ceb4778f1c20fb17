"""Where the lab lives and what its objects are called."""

from __future__ import annotations

import os
import zlib
from dataclasses import dataclass
from pathlib import Path

DEFAULT_CACHE = "/var/cache/containarium-test"


@dataclass(frozen=True)
class Settings:
    """Names and paths of one lab. Two labs on one machine differ in their cache folder, and so in their slot."""

    cache: Path
    slot: int

    @classmethod
    def from_environment(cls) -> Settings:
        """Read CONTAINARIUM_TEST_CACHE and CONTAINARIUM_TEST_SLOT."""
        cache = os.environ.get("CONTAINARIUM_TEST_CACHE", DEFAULT_CACHE)
        slot = 0 if cache == DEFAULT_CACHE else 1 + zlib.crc32(cache.encode()) % 254
        return cls(Path(cache), int(os.environ.get("CONTAINARIUM_TEST_SLOT", slot)))

    @property
    def incus_dir(self) -> Path:
        """INCUS_DIR of the outer daemon; everything under it may be wiped."""
        return self.cache / "incus"

    @property
    def client_dir(self) -> Path:
        """INCUS_CONF of our `incus` client, so that it never reads or writes the developer's own."""
        return self.cache / "client"

    @property
    def images_dir(self) -> Path:
        """Finished images, one folder each, named by the hash of what went into them."""
        return self.cache / "images"

    @property
    def build_dir(self) -> Path:
        """Root trees under construction."""
        return self.cache / "build"

    @property
    def packages_dir(self) -> Path:
        """Downloaded .deb files, shared by every image build."""
        return self.cache / "packages"

    @property
    def prefix(self) -> str:
        """What every instance, namespace and volume of this lab starts with."""
        return f"ctest{self.slot}-"

    @property
    def bridge(self) -> str:
        """Name of the outer bridge."""
        return f"ctest{self.slot}"

    @property
    def network(self) -> str:
        """First three bytes of the outer bridge's /24. 198.18.0.0/15 is reserved for tests: nothing routes there."""
        return f"198.18.{self.slot}"

    @property
    def pool(self) -> str:
        """Name of the outer storage pool."""
        return "ctest"
