"""Small files that this controller writes: whole or not at all."""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path

_LARGEST = 1 << 20


def read_small(path: Path) -> str | None:
    """The text of a file, at most 1 MiB of it; None where there is none or it may not be read."""
    try:
        with path.open("rb") as file:
            return file.read(_LARGEST).decode(errors="replace")
    except OSError:
        return None


def write_atomically(path: Path, text: str, mode: int = 0o644) -> None:
    """Replace a file by a synced one of the same folder; a link at that place is replaced, not followed.

    Missing parent folders are made (mode 0755). Raises OSError.
    """
    make_folder(path.parent)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        _fill(handle, text, mode, path)
        Path(name).replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            Path(name).unlink()
        raise
    sync_folder(path.parent)


def write_new(path: Path, text: str, mode: int = 0o644) -> None:
    """Write a synced file that is there whole or not at all, and never in the place of another.

    Raises OSError, of which FileExistsError is the one for a taken place.
    """
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        _fill(handle, text, mode, path)
        path.hardlink_to(name)
    finally:
        with contextlib.suppress(OSError):
            Path(name).unlink()
    sync_folder(path.parent)


def _fill(handle: int, text: str, mode: int, path: Path) -> None:
    """Write, set the mode and sync. An error names ``path``: that the disk is full is of no use without where."""
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fchmod(file.fileno(), mode)
            os.fsync(file.fileno())
    except OSError as error:
        error.filename = error.filename or os.fspath(path)
        raise


def make_folder(folder: Path, mode: int = 0o755) -> bool:
    """Make the folder with exactly this mode, and missing parents with 0755, whatever the umask.

    Returns whether the folder was made; one that is there stays as it is.
    """
    for parent in reversed([parent for parent in folder.parents if not parent.exists()]):
        with contextlib.suppress(FileExistsError):
            parent.mkdir()
            parent.chmod(0o755)
    try:
        folder.mkdir()
    except FileExistsError:
        return False
    folder.chmod(mode)
    return True


def sync_folder(folder: Path) -> None:
    """Make a rename in the folder outlive a power cut."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
