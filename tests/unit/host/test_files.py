"""Small files: whole or not at all, and errors that say where."""

from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path

import pytest

from containarium.host.files import write_atomically, write_new
from tests.unit.host.fulldisk import no_room


@pytest.mark.parametrize("write", [write_atomically, write_new])
def test_a_full_disk_is_told_with_the_place_and_changes_nothing(tmp_path: Path, write: Callable[..., None]) -> None:
    kept, path = tmp_path / "kept", tmp_path / "new"
    write_atomically(kept, "before")
    for target in (kept, path):
        with no_room(), pytest.raises(OSError, match="arge") as raised:
            write(target, "after")
        assert (raised.value.errno, raised.value.filename) == (errno.EFBIG, str(target))
    assert kept.read_text() == "before"
    assert [file.name for file in tmp_path.iterdir()] == ["kept"]


@pytest.mark.parametrize("write", [write_atomically, write_new])
def test_the_mode_is_the_one_that_was_asked_for(tmp_path: Path, write: Callable[..., None]) -> None:
    write(tmp_path / "secret", "x", 0o600)
    assert (tmp_path / "secret").stat().st_mode & 0o7777 == 0o600
