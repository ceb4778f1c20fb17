"""What idle environments of one recipe cost on a copy-on-write pool."""

from __future__ import annotations

import time
from statistics import median
from typing import Any

from tests.bench.figures import Section, against
from tests.bench.place import Place, lab_place

COUNT = 50
AIM = 1.3
EACH = 20e6
"""Bytes."""
REST = 60.0
"""Seconds after the last login."""
MB = 1e6
SMALL = 50_000
"""Bytes below which a file is not worth a word."""


def measure() -> Section:
    """On a disposable host."""
    with lab_place("bench-disk") as place:
        place.do("ours", "bench-warm", place.image)
        place.do("purge")
        return section(place, COUNT)


def section(place: Place, count: int, rest: float = REST) -> Section:
    """Make so many, let them rest, and ask btrfs. Leaves them to whoever gave the place."""
    before: int = place.do("metadata")
    place.do("fleet", count, place.image)
    time.sleep(rest)
    metadata: int = place.do("metadata") - before
    found: dict[str, Any] = place.do("disk", count)
    image, own = found["image"], found["own"]
    total = image + sum(own) + max(0, metadata)
    allowed = AIM * image + EACH * count
    verdict = against("Of what is allowed", total / allowed, 1.0)
    grown = ", ".join(f"{path} {size / MB:.1f} MB" for path, size in found["grown"] if size >= SMALL)
    return Section(
        f"Disk: {count} idle environments of one recipe",
        f"{count} running environments that nobody has used yet, {rest:.0f} s after the last one was there, on btrfs. "
        f"Aim: at most {AIM} x the recipe, and {EACH / MB:.0f} MB each.",
        ("what", "N", "MB: median (min to max)"),
        (
            ("the recipe, unpacked", "1", f"{image / MB:.1f}"),
            ("each environment, beyond it", f"{count}", _megabytes(own)),
            ("metadata of the file system, more than before", "1", f"{metadata / MB:.1f}"),
            ("all of that", "1", f"{total / MB:.1f}"),
            ("allowed", "", f"{allowed / MB:.1f}"),
        ),
        (
            verdict,
            f"What one of them holds by itself, its largest new or changed files: {grown}.",
            (
                "By `btrfs filesystem du` after a sync: all extents of the image, and of each container those that "
                "nothing else refers to; metadata by `btrfs filesystem df`, whoever else writes there. Beside it Incus "
                "keeps the packed image, once a recipe."
            ),
        ),
    )


def _megabytes(sizes: list[int]) -> str:
    return f"{median(sizes) / MB:.1f} ({min(sizes) / MB:.1f} to {max(sizes) / MB:.1f})"
