"""Which commit of the manifests is in use, read from files: no git is run, so that every pass can ask."""

from __future__ import annotations

import json
import os
import re
from functools import lru_cache
from pathlib import Path
from typing import Final

from containarium.host.checkouts import Checkouts
from containarium.host.files import read_small
from containarium.host.settings import HostSettings
from containarium.report.snapshot import Revision

_COMMIT: Final = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?")
_REF: Final = re.compile(r"refs/[A-Za-z0-9_.+=@/-]+")
_MOST_PACKED: Final = 32 << 20


def state_file(settings: HostSettings) -> Path:
    """Where a sync writes down how it ended."""
    return settings.sync / "state.json"


def revision(settings: HostSettings) -> Revision:
    """What is applied, and how the last sync ended.

    Where nothing was ever synced and the folder of manifests lies in a git work tree, what is applied is its HEAD.
    Everything is empty where there is no git. Never raises.
    """
    state = read_state(settings)
    tried, error, at = (state.get(key, "") for key in ("tried", "error", "at"))
    return Revision(applied=_applied(settings), tried=tried, error=error, at=at)


def read_state(settings: HostSettings) -> dict[str, str]:
    """How the last sync ended; empty where there was none, or where nobody can say any more."""
    try:
        state = json.loads(read_small(state_file(settings)) or "{}")
    except ValueError:
        return {}
    return {key: value for key, value in state.items() if isinstance(value, str)} if isinstance(state, dict) else {}


def _applied(settings: HostSettings) -> str:
    checkouts = Checkouts(settings.sync / "checkouts")
    linked = checkouts.linked(settings.manifests)
    return checkouts.commit_of(linked) if linked is not None else head_commit(settings.manifests)


def head_commit(folder: Path) -> str:
    """HEAD of the work tree that a folder lies in; empty where it lies in none, or HEAD leads nowhere yet."""
    place = _repository(Path(os.path.realpath(folder)))
    if place is None:
        return ""
    head = (read_small(place / "HEAD") or "").strip()
    if _COMMIT.fullmatch(head):
        return head
    ref = head.removeprefix("ref:").strip()
    if not head.startswith("ref:") or not _REF.fullmatch(ref) or ".." in ref:
        return ""
    common = (read_small(place / "commondir") or "").strip()
    shared = place / common if common else place
    for base in (place, shared):
        found = (read_small(base / ref) or "").strip()
        if _COMMIT.fullmatch(found):
            return found
    return _packed(shared / "packed-refs", ref)


def _repository(folder: Path) -> Path | None:
    """The git folder of the work tree around a folder; in a further worktree ``.git`` is a file that names it."""
    for above in (folder, *folder.parents):
        marker = above / ".git"
        if marker.is_dir():
            return marker
        if marker.is_file():
            text = (read_small(marker) or "").strip()
            return above / text.removeprefix("gitdir:").strip() if text.startswith("gitdir:") else None
    return None


def _packed(file: Path, ref: str) -> str:
    try:
        found = file.stat()
    except OSError:
        return ""
    return _search(file, ref, (found.st_ino, found.st_size, found.st_mtime_ns))


@lru_cache(maxsize=8)
def _search(file: Path, ref: str, _state: tuple[int, int, int]) -> str:
    """The commit of a packed ref. The file can be large, and is read again only when it has changed."""
    try:
        with file.open(encoding="ascii", errors="replace") as lines:
            for line in lines.read(_MOST_PACKED).splitlines():
                commit, _, name = line.partition(" ")
                if name == ref and _COMMIT.fullmatch(commit):
                    return commit
    except OSError:
        return ""
    return ""
