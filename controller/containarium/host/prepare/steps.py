"""What the steps of a preparation share: what they are given, and what they tell."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from containarium.host.command import Run
from containarium.host.files import read_small, write_atomically
from containarium.host.incus import Incus
from containarium.host.prepare.receipt import Receipt
from containarium.host.settings import HostSettings
from containarium.model.host import HostError, Progress, TerminalError
from containarium.model.hostmanifest import HostSpec
from containarium.model.manifest import Declaration

MANAGED = "user.containarium.managed"
"""Mark on the pool, the bridge and the ACL that a preparation made."""


@dataclass(frozen=True, slots=True)
class Step:
    """One step that was carried out. ``warning`` says what will not work as it should, empty where all is well.

    ``error`` is why it could not be done, or why it was not begun (reason NotReached).
    """

    name: str
    changed: bool
    detail: str = ""
    warning: str = ""
    error: HostError | None = None


@dataclass(frozen=True, slots=True)
class Context:
    """What a step works with. ``systemd`` says whether systemd runs this machine."""

    settings: HostSettings
    run: Run
    incus: Incus
    receipt: Receipt
    progress: Progress
    systemd: bool
    declaration: Declaration = field(default_factory=Declaration)
    """What Host manifests say; without one of this machine's, only what every host needs is done."""
    install: bool = False
    """Whether new packages are allowed."""

    @property
    def spec(self) -> HostSpec | None:
        """What this machine's own Host manifest says."""
        return self.declaration.own.manifest.spec if self.declaration.own is not None else None

    @property
    def origin(self) -> str:
        """The file of that manifest, for remedies."""
        return self.declaration.own.origin.file if self.declaration.own is not None else "the Host manifest"

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
        """Remember that Incus' folder was empty before anything of ours made Incus use it.

        Not on a data disk: whatever is on that stays.
        """
        folder = self.settings.incus_dir
        if self.settings.data_disk.exists():
            return
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


@dataclass(frozen=True, slots=True)
class Part:
    """A step to be done, and the names of those without which it cannot be."""

    name: str
    do: Callable[[Context], Step]
    needs: tuple[str, ...] = ()


def carry_out(context: Context, parts: Iterable[Part]) -> list[Step]:
    """Do every part in order. One that fails stops those that need it, and nobody else."""
    steps: list[Step] = []
    failed: set[str] = set()
    for part in parts:
        broken = [need for need in part.needs if need in failed]
        step = _not_reached(part, broken) if broken else _done(context, part)
        if step.error is not None:
            failed.add(part.name)
        steps.append(step)
    return steps


def _done(context: Context, part: Part) -> Step:
    try:
        return part.do(context)
    except HostError as error:
        return Step(part.name, False, error=error)
    except OSError as error:
        what = f"{error.filename}: {error.strerror}" if error.filename else str(error)
        return Step(part.name, False, error=TerminalError(what, reason="FileNotWritten"))


def _not_reached(part: Part, broken: list[str]) -> Step:
    error = TerminalError(f"waits for: {', '.join(broken)}", remedy="mend that first", reason="NotReached")
    return Step(part.name, False, error=error)
