"""Many at once: until each of them could log in, by Containarium and by hand."""

from __future__ import annotations

import os
import random
import stat
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

from . import create, incus, people

PATIENCE = 900.0
SAMPLE = 5
_LARGEST = 6
POOLS = Path(incus.SOCKET).parent / "storage-pools"


def ours(count: int, image: str, tried: int = SAMPLE) -> dict[str, Any]:
    """Declare so many; ``able``: seconds until each could log in; ``logins``: how many of ``tried`` did, in the end;
    ``logs``: what the controller said of these.
    """
    wanted = people.names(count)
    for name in wanted:
        people.public_key(name)
    start = people.declare(wanted, image)
    end = start + PATIENCE

    def able(name: str) -> float:
        address, opened = people.wait_door(name, end)
        return max(opened, people.wait_greeting(address, end)) - start

    moments = people.together([partial(able, name) for name in wanted])
    if missing := [name for name in wanted if not people.has_account(name)]:
        raise SystemExit(f"no account: {' '.join(missing)}")
    sample = random.sample(wanted, min(tried, count))
    for name in sample:
        if said := people.log_in(name, people.door(name)):
            raise SystemExit(f"{name} cannot log in: {said}")
    return {"able": moments, "logins": len(sample), "logs": [create.log_of(name, start) for name in sample]}


def by_hand(count: int, hands: int, template: dict[str, Any]) -> dict[str, Any]:
    """``incus launch`` of as many, ``hands`` at a time; ``able``: seconds until each port 22 greets."""
    addresses = create.free_addresses(count)
    boxes = [(f"{people.RAW}{number:03}", address) for number, address in enumerate(addresses)]
    start = time.time()
    with ThreadPoolExecutor(hands) as pool:
        made = [pool.submit(create.launch, name, template, address) for name, address in boxes]
        greeting = [partial(people.wait_greeting, address, start + PATIENCE) for _, address in boxes]
        moments = people.together(greeting)
        for box in made:
            box.result()
    return {"able": [moment - start for moment in moments]}


def servers() -> dict[str, float]:
    """Seconds of processor time that those have used who do not end: Incus and the controller."""
    found: dict[str, float] = {}
    for folder in Path("/proc").iterdir():
        try:
            words = (folder / "cmdline").read_bytes().split(b"\0") if folder.name.isdecimal() else []
            ticks = (folder / "stat").read_text().rpartition(")")[2].split()[11:13] if words else []
        except OSError:  # it has ended
            continue
        names = {Path(word.decode(errors="replace")).name for word in words[:3]}
        for name, marks in (("incusd", {"incusd"}), ("containarium", {"containarium", "daemon"})):
            if marks <= names and "forkfile" not in names:
                found[name] = found.get(name, 0.0) + sum(map(int, ticks)) / os.sysconf("SC_CLK_TCK")
    return found


def disk(count: int) -> dict[str, Any]:
    """Bytes that the recipe's files take, and those that each of its environments has for itself alone.

    ``image``: all of the image's; ``own``: of each container, the extents that nothing else refers to; ``grown``: the
    largest new or changed files of one of them, with what they take.
    """
    wanted = {f"{name}-container" for name in people.names(count)}
    boxes = {name: instance for name, instance in incus.instances().items() if name in wanted}
    pool = next(iter(boxes.values()))["devices"]["root"]["pool"]
    bases = {instance["config"]["volatile.base_image"] for instance in boxes.values()}
    if len(boxes) != count or len(bases) != 1:
        raise SystemExit(f"{len(boxes)} containers of {len(bases)} images")
    _sync()
    image = POOLS / pool / "images" / bases.pop()
    containers = [POOLS / pool / "containers" / name for name in sorted(boxes)]
    return {
        "image": _extents(image)[0],
        "own": [_extents(container)[1] for container in containers],
        "grown": _grown(image / "rootfs", containers[0] / "rootfs"),
    }


def metadata(pool: str = "default") -> int:
    """Bytes of metadata in the file system that the pool is on, whoever's they are."""
    driver = incus.get(f"/1.0/storage-pools/{pool}")["driver"]
    if driver != "btrfs":
        raise SystemExit(f"the pool {pool} is {driver}: what a container has for itself alone is only told on btrfs")
    _sync()
    return metadata_used(_btrfs("filesystem", "df", "--raw", str(POOLS / pool)))


def metadata_used(said: str) -> int:
    """Of what ``btrfs filesystem df --raw`` says, the metadata in use."""
    lines = [line for line in said.splitlines() if line.startswith("Metadata")]
    return sum(int(line.rpartition("used=")[2]) for line in lines)


def _sync() -> None:
    subprocess.run(["sync"], check=True, timeout=120)


def _extents(folder: Path) -> tuple[int, int]:
    """Bytes of all extents that the files of a folder refer to, and of those that nothing else does."""
    row = _btrfs("filesystem", "du", "--raw", "--summarize", str(folder)).splitlines()[-1].split()
    return int(row[0]), int(row[1])


def _grown(before: Path, after: Path) -> list[tuple[str, int]]:
    """Files that are not as they were before, the largest first, with the bytes that they take."""
    old = {path: (found.st_mtime_ns, found.st_size) for path, found in _files(before)}
    new = [
        (f"/{path}", found.st_blocks * 512)
        for path, found in _files(after)
        if old.get(path) != (found.st_mtime_ns, found.st_size)
    ]
    return sorted(new, key=lambda pair: -pair[1])[:_LARGEST]


def _files(root: Path) -> Iterator[tuple[str, os.stat_result]]:
    """Every plain file under a folder, no link followed."""
    for folder, _, names in os.walk(root):
        for name in names:
            path = Path(folder, name)
            found = path.lstat()
            if stat.S_ISREG(found.st_mode):
                yield str(path.relative_to(root)), found


def _btrfs(*args: str) -> str:
    done = subprocess.run(["btrfs", *args], check=False, capture_output=True, text=True, timeout=120)
    if done.returncode != 0:
        raise SystemExit(f"btrfs {' '.join(args)}: {done.stderr.strip()[-300:]}")
    return done.stdout
