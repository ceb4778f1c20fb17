"""Takes away what the bench has made on a host, and nothing that anybody else calls by such a name."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from . import incus, people

MARK = "user.containarium-bench"
"""On a container that was made by hand."""
ENVIRONMENT = "user.containarium.environment"
_COMMENT = "containarium jump account of "
_HANDS = 4
_HEEDED = 3.0
"""Seconds in which a controller has read that it is to leave somebody alone."""


def purge() -> list[str]:
    """Take everything away that the bench has made here, whatever state it is in; the names of what it was.

    The environments are suspended first, so that the controller does not mend what is being removed; their manifests
    go last, so that an interrupted purge can be gone on with.
    """
    declared = own_manifests()
    for name in declared:
        path, unseen = people.FOLDER / f"{name}.yaml", people.FOLDER / f".{name}.new"
        unseen.write_text(path.read_text().replace(f'{people.SUSPEND}: "false"', f'{people.SUSPEND}: "true"'))
        unseen.rename(path)
    if declared:
        time.sleep(_HEEDED)
    boxes = own_boxes(incus.instances(), declared)
    with ThreadPoolExecutor(_HANDS) as pool:
        list(pool.map(lambda name: incus.client("delete", "--force", name, check=False), boxes))
    for name in own_boxes(incus.instances(), declared):
        incus.client("delete", "--force", name)
    accounts = own_accounts(people.PASSWD.read_text(), declared)
    for name in accounts:
        (people.JUMP_KEYS / name).unlink(missing_ok=True)
        subprocess.run(["userdel", "--", name], check=True, capture_output=True, timeout=60)
    for name in declared:
        (people.JUMP_KEYS / name).unlink(missing_ok=True)
        (people.FOLDER / f"{name}.yaml").unlink(missing_ok=True)
    for path in people.FOLDER.glob(f".{people.PREFIX}*.new"):
        path.unlink(missing_ok=True)
    shutil.rmtree(people.HOME, ignore_errors=True)
    return [*boxes, *accounts, *declared]


def own_manifests() -> list[str]:
    """Names of the environments that the bench has declared."""
    return [path.stem for path in sorted(people.FOLDER.glob(f"{people.PREFIX}*.yaml")) if people.own(path)]


def own_boxes(instances: Mapping[str, Any], declared: Collection[str]) -> list[str]:
    """Of these containers, those of environments that the bench has declared, and those that it made by hand."""
    found = []
    for name, instance in sorted(instances.items()):
        environment = instance["config"].get(ENVIRONMENT, "")
        by_hand = not environment and MARK in instance["config"] and name.startswith(people.RAW)
        if by_hand or (environment in declared and name == f"{environment}-container"):
            found.append(name)
    return found


def own_accounts(passwd: str, declared: Collection[str]) -> list[str]:
    """The jump accounts of environments that the bench has declared."""
    lines = [line.split(":") for line in passwd.splitlines()]
    return [line[0] for line in lines if line[0] in declared and line[4] == _COMMENT + line[0]]
