"""A lock on a file: held by one at a time, private, and no link is followed."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from containarium.host.filelock import locked


def test_one_at_a_time_threads_included(tmp_path: Path) -> None:
    path, order = tmp_path / ".lock", list[str]()

    def other() -> None:
        with locked(path, 10.0):
            order.append("second")

    with locked(path, 0.0):
        assert path.stat().st_mode & 0o777 == 0o600
        thread = threading.Thread(target=other)
        thread.start()
        with pytest.raises(TimeoutError), locked(path, 0.1):
            pass
        order.append("first")
    thread.join(10)
    assert order == ["first", "second"]


def test_no_link_is_followed_and_no_folder_is_made(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "target")
    for path in (tmp_path / "link", tmp_path / "none" / ".lock"):
        with pytest.raises(OSError), locked(path, 0.0):  # noqa: PT011 - which one differs
            pass
    assert [one.name for one in tmp_path.iterdir()] == ["link"]
