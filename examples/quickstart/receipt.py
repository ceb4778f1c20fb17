"""What the quickstart made, written down before it is made, so that all of it and nothing else can be removed."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path

from containarium.host.files import write_atomically

from .steps import QuickstartError


@dataclass
class Receipt:
    """Kept as JSON in ``path``.

    ``prepared`` says that the host was not prepared before, ``own_port`` where an sshd
    was started because none ran: both are undone as well.
    """

    path: Path
    files: dict[str, str] = field(default_factory=dict)
    folders: list[str] = field(default_factory=list)
    links: dict[str, str] = field(default_factory=dict)
    environments: list[str] = field(default_factory=list)
    prepared: bool = False
    own_port: int = 0

    @classmethod
    def read(cls, path: Path) -> Receipt:
        """The receipt in ``path``, or an empty one."""
        if not path.exists():
            return cls(path)
        return cls(path=path, **json.loads(path.read_text()))

    @property
    def exists(self) -> bool:
        """Whether there is anything to undo."""
        return self.path.exists()

    def save(self) -> None:
        """Write it, whole or not at all."""
        self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        content = asdict(self)
        del content["path"]
        write_atomically(self.path, json.dumps(content, indent=2) + "\n", 0o600)

    def make_folder(self, path: Path, mode: int = 0o755) -> None:
        """Make a folder and those above it that are missing."""
        for folder in reversed([folder for folder in (path, *path.parents) if not folder.exists()]):
            self.folders.append(str(folder))
            folder.mkdir(mode=mode)
            self.save()

    def claim(self, folder: Path, besides: set[str]) -> None:
        """Note a folder as made here if it holds nothing but what ``besides`` names."""
        if folder.is_dir() and {entry.name for entry in folder.iterdir()} <= besides:
            self.folders.append(str(folder))
            self.save()

    def write(self, path: Path, content: bytes, mode: int = 0o644) -> bool:
        """Write a new file. One that was written before stays, changed or not, since it is the admin's by now."""
        if str(path) in self.files:
            return False
        if path.exists():
            raise QuickstartError(f"{path} is there already, and the quickstart did not make it: move it away")
        self.make_folder(path.parent)
        self.files[str(path)] = _digest(content)
        self.save()
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, mode)
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        return True

    def link(self, path: Path, target: Path) -> None:
        """Make a symbolic link, unless something of that name is there."""
        if not os.path.lexists(path) and path.parent.is_dir():
            self.links[str(path)] = str(target)
            self.save()
            path.symlink_to(target)

    def remove_files(self) -> list[Path]:
        """Remove the files that are as they were written; return the others."""
        kept = []
        for name, digest in sorted(self.files.items()):
            path = Path(name)
            if not path.exists():
                continue
            if path.is_symlink() or _digest(path.read_bytes()) != digest:
                kept.append(path)
            else:
                path.unlink()
        for name, target in self.links.items():
            link = Path(name)
            if link.is_symlink() and str(link.readlink()) == target:
                link.unlink()
        return kept

    def remove_folders(self) -> None:
        """Remove the folders that are empty by now."""
        for name in sorted(self.folders, key=len, reverse=True):
            folder = Path(name)
            if folder.is_dir() and not folder.is_symlink() and not any(folder.iterdir()):
                folder.rmdir()


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
