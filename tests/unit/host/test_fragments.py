"""Images that were perhaps unpacked in part; containers that are are in test_power.py."""

from __future__ import annotations

from typing import Any

import pytest

from containarium.host.fragments import Fragments
from containarium.host.settings import HostSettings
from containarium.model.host import TerminalError

IMAGE = "f00d"
INTERRUPTED = {
    "name": "alice-container",
    "config": {"volatile.base_image": IMAGE},
    "devices": {"root": {"type": "disk", "path": "/", "pool": "fast"}},
}


class Pool:
    """An Incus with volumes of images in a pool."""

    def __init__(self) -> None:
        self.pid = 7
        self.deleted: list[str] = []
        self.refusing = False

    def get(self, *path: str, **_params: str) -> Any:
        assert path == ()
        return {"environment": {"server_pid": self.pid}}

    def exists(self, *_path: str) -> bool:
        return True

    def delete(self, *path: str) -> None:
        if self.refusing:
            raise TerminalError("no")
        self.deleted.append("/".join(path))


@pytest.fixture
def pool() -> Pool:
    return Pool()


@pytest.fixture
def fragments(pool: Pool) -> Fragments:
    return Fragments(pool, HostSettings())  # type: ignore[arg-type]


def test_an_image_is_unpacked_again_once_for_all_who_were_interrupted(pool: Pool, fragments: Fragments) -> None:
    for name in ("alice-container", "bob-container"):
        fragments.doubt({**INTERRUPTED, "name": name})
    assert pool.deleted == [f"storage-pools/fast/volumes/image/{IMAGE}"]


def test_and_once_more_after_incus_was_killed_again(pool: Pool, fragments: Fragments) -> None:
    fragments.doubt(INTERRUPTED)
    pool.pid = 8
    fragments.doubt(INTERRUPTED)
    assert len(pool.deleted) == 2


def test_a_refusal_does_not_count_for_done(pool: Pool, fragments: Fragments) -> None:
    pool.refusing = True
    with pytest.raises(TerminalError):
        fragments.doubt(INTERRUPTED)
    pool.refusing = False
    fragments.doubt(INTERRUPTED)
    assert len(pool.deleted) == 1


def test_what_is_made_of_no_image_casts_doubt_on_none(pool: Pool, fragments: Fragments) -> None:
    fragments.doubt({**INTERRUPTED, "config": {}})
    assert pool.deleted == []
