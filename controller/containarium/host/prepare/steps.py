"""What the steps of a preparation share: what they are given, and what they tell."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from containarium.host.command import Run
from containarium.host.files import read_small, write_atomically
from containarium.host.incus import Incus
from containarium.host.prepare.receipt import Receipt
from containarium.host.settings import HostSettings
from containarium.model.host import Progress

MANAGED = "user.containarium.managed"
"""Mark on the pool, the bridge and the ACL that a preparation made."""


@dataclass(frozen=True, slots=True)
class Step:
    """One step that was carried out. ``warning`` says what will not work as it should, empty where all is well."""

    name: str
    changed: bool
    detail: str = ""
    warning: str = ""


@dataclass(frozen=True, slots=True)
class Context:
    """What a step works with. ``systemd`` says whether systemd runs this machine."""

    settings: HostSettings
    run: Run
    incus: Incus
    receipt: Receipt
    progress: Progress
    systemd: bool

    def environment(self) -> Mapping[str, str]:
        """Environment in which Incus' own programs speak to the daemon of these settings, whoever's the home is."""
        return {
            "INCUS_DIR": str(self.settings.incus_dir),
            "INCUS_SOCKET": str(self.settings.incus_socket),
            "INCUS_CONF": str(self.settings.state / "incus-client"),
        }

    def find(self, collection: str, name: str) -> Mapping[str, Any] | None:
        """An object of Incus (``networks``, ``storage-pools``, ``network-acls``); None where there is none."""
        listed = self.incus.get(collection, recursion="1") or []  # Incus says null for none
        return next((item for item in listed if item["name"] == name), None)

    def note_incus_folder(self) -> None:
        """Remember that Incus' folder was empty before anything of ours made Incus use it."""
        folder = self.settings.incus_dir
        if not folder.exists() or not any(folder.iterdir()):
            self.receipt.add("incus folder", str(folder))

    def write(self, path: Path, text: str, mode: int = 0o644) -> bool:
        """Write a whole file of ours and remember it. Returns False when it was so already."""
        if read_small(path) == text:
            return False
        new = not path.exists() or self.receipt.holds("file", str(path))
        write_atomically(path, text, mode)
        if new:
            self.receipt.add_file(path, text)
        return True
