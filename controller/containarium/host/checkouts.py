"""Checkouts of the manifests: each is written whole before it is used, and the folder of manifests is a link to one."""

from __future__ import annotations

import errno
import os
import re
import shutil
import stat
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from containarium.host.files import make_folder, sync_folder
from containarium.host.gittree import Entry, content_digest, parents
from containarium.model.base import shown
from containarium.model.host import TerminalError

KEPT: Final = 3
"""Checkouts that are kept besides the one in use and the one that was tried."""
_NAME: Final = re.compile(r"([0-9a-f]{40})(-[0-9]+)?")
_UNFINISHED: Final = ".new"
_AT_FDCWD: Final = -100
_RENAME_EXCHANGE: Final = 2


class Checkouts:
    """Those below ``folder``, which nobody but this class changes. Used under the lock of the sync alone."""

    def __init__(self, folder: Path) -> None:
        """Nothing is touched yet."""
        self.folder = folder

    def open(self) -> None:
        """Make the folder, and clear up what a killed run has left half-written."""
        make_folder(self.folder)
        shutil.rmtree(self.folder / _UNFINISHED, ignore_errors=True)

    def find(self, commit: str, path: str, entries: Sequence[Entry]) -> Path | None:
        """The manifests' folder in a checkout of this commit that is still exactly what the commit holds."""
        for checkout in sorted(self.folder.glob(f"{commit}*")):
            if _NAME.fullmatch(checkout.name) and _same(checkout / path, entries):
                return checkout / path
        return None

    def make(self, commit: str, path: str, entries: Sequence[Entry], contents: Mapping[str, bytes]) -> Path:
        """Write a checkout to the disk and give it its name when it is whole. Returns the manifests' folder in it.

        A name that is taken (by one that somebody has changed, or with another folder in it) gets a number.
        """
        unfinished = self.folder / _UNFINISHED
        shutil.rmtree(unfinished, ignore_errors=True)
        root = unfinished / path
        folders = {root, *(root / folder for entry in entries for folder in parents(entry.path))}
        for folder in sorted(folders):
            make_folder(folder)
        for entry in entries:
            if entry.link:
                _link(root / entry.path, contents[entry.digest], entry.path)
            else:
                _write(root / entry.path, contents[entry.digest])
        for folder in (*folders, *root.parents):
            if folder.is_relative_to(unfinished):
                sync_folder(folder)
        name, number = commit, 1
        while os.path.lexists(self.folder / name):
            number += 1
            name = f"{commit}-{number}"
        unfinished.rename(self.folder / name)
        sync_folder(self.folder)
        return self.folder / name / path

    def linked(self, link: Path) -> Path | None:
        """The folder in one of the checkouts that the link leads to, whether it is there or not."""
        try:
            target = Path(os.path.normpath(link.parent / link.readlink()))
        except OSError:
            return None
        inside = target.is_relative_to(self.folder) and target != self.folder
        return target if inside and self.commit_of(target) else None

    def commit_of(self, folder: Path) -> str:
        """The commit of a folder in a checkout; empty where it is none."""
        match = _NAME.fullmatch(folder.relative_to(self.folder).parts[0])
        return match[1] if match else ""

    def check_link(self, link: Path) -> None:
        """Raise TerminalError where something stands in the link's place that was not made by a sync."""
        if link.is_symlink():
            if self.linked(link) is None:
                raise TerminalError(
                    f"{link} is a link to somewhere else, {os.fspath(link.readlink())}",
                    remedy=f"remove it (rm {link}) if the repository is to take its place",
                    reason="FolderTaken",
                )
        elif link.is_dir():
            if any(link.iterdir()):
                raise TerminalError(
                    f"{link} is a folder with files of its own",
                    remedy=f"commit what is needed of it to the repository, then: mv {link} {link}.before-sync",
                    reason="FolderTaken",
                )
        elif link.exists():
            raise TerminalError(f"{link} is not a folder", remedy="move it away", reason="FolderTaken")

    def swap(self, link: Path, target: Path) -> None:
        """Let the link lead to a checkout, at once: there is no moment without a folder. Raises TerminalError."""
        make_folder(link.parent)
        beside = link.with_name(f".{link.name}.sync")
        _remove_leftover(beside)
        self.check_link(link)
        beside.symlink_to(target)
        os.utime(self.folder / target.relative_to(self.folder).parts[0])
        if link.is_dir() and not link.is_symlink():
            self._replace_empty(beside, link)
        else:
            beside.rename(link)
        sync_folder(link.parent)

    def _replace_empty(self, beside: Path, link: Path) -> None:
        """Put the link in the place of an empty folder."""
        try:
            _exchange(beside, link)
        except OSError as error:
            if error.errno not in (errno.EINVAL, errno.ENOSYS):
                raise
            link.rmdir()  # this file system cannot exchange; no folder says as little as an empty one
            beside.rename(link)
            return
        try:
            beside.rmdir()
        except OSError:  # somebody has put a file there in the meantime
            _exchange(beside, link)
            beside.unlink()
            self.check_link(link)

    def prune(self, *needed: Path | None) -> None:
        """Remove all but the newest checkouts and those that are needed."""
        kept = {folder.relative_to(self.folder).parts[0] for folder in needed if folder is not None}
        found = [checkout for checkout in self.folder.iterdir() if _NAME.fullmatch(checkout.name)]
        others = [checkout for checkout in found if checkout.name not in kept]
        others.sort(key=lambda checkout: checkout.lstat().st_mtime_ns, reverse=True)
        for checkout in others[KEPT:]:
            shutil.rmtree(checkout, ignore_errors=True)


def _write(path: Path, data: bytes) -> None:
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
    with os.fdopen(handle, "wb") as file:
        file.write(data)
        file.flush()
        os.fchmod(file.fileno(), 0o644)
        os.fsync(file.fileno())


def _link(path: Path, target: bytes, name: str) -> None:
    if b"\0" in target:
        raise TerminalError(
            f"{shown(name)} is no link that a disk could hold",
            remedy="take it out of the repository",
            reason="UnsafeTree",
        )
    path.symlink_to(os.fsdecode(target))


def _same(root: Path, entries: Sequence[Entry]) -> bool:
    """Whether a folder on the disk holds exactly these files."""
    expected = {entry.path: entry for entry in entries}
    folders = {folder for entry in entries for folder in parents(entry.path)}
    pending, seen = [""], 0
    try:
        if not stat.S_ISDIR(root.lstat().st_mode):
            return False
        while pending:
            below = pending.pop()
            with os.scandir(root / below) as scan:
                for found in scan:
                    path = f"{below}/{found.name}" if below else found.name
                    seen += 1
                    if found.is_dir(follow_symlinks=False):
                        if path not in folders:
                            return False
                        pending.append(path)
                    elif path not in expected or not _is(root / path, expected[path]):
                        return False
    except OSError:
        return False
    return seen == len(expected) + len(folders)


def _is(path: Path, entry: Entry) -> bool:
    found = path.lstat()
    if entry.link:
        return stat.S_ISLNK(found.st_mode) and content_digest(os.fsencode(path.readlink())) == entry.digest
    if not stat.S_ISREG(found.st_mode) or found.st_size != entry.size:
        return False
    return content_digest(path.read_bytes()) == entry.digest


def _remove_leftover(beside: Path) -> None:
    """What a killed swap has left: a link, or the empty folder whose place the link took."""
    if beside.is_symlink():
        beside.unlink()
    elif beside.is_dir():
        try:
            beside.rmdir()
        except OSError:
            raise TerminalError(
                f"{beside} holds files that somebody has put there during a sync",
                remedy="move them away, into the repository if they are needed",
                reason="FolderTaken",
            ) from None


def _exchange(one: Path, other: Path) -> None:
    """Let two names change places in one step, which Python has no call for. Raises OSError."""
    import ctypes  # seldom needed, and it wants memory that it may both write and run

    libc = ctypes.CDLL(None, use_errno=True)
    if libc.renameat2(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _RENAME_EXCHANGE) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), os.fspath(other))
