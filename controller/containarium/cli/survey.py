"""What most commands start from: the manifests, one look at the host, and the plan between the two."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from containarium.cli.errors import CommandError
from containarium.cli.wiring import Wiring

if TYPE_CHECKING:
    from containarium.model.manifest import Load
    from containarium.model.observed import Look, Observed
    from containarium.plan.decision import Plan

_PREPARE = "make it, or name another with --manifests"


@dataclass(frozen=True, slots=True)
class Survey:
    """``declared`` is false when there was no folder of manifests to compare the host with."""

    load: Load
    observed: Observed
    plan: Plan
    declared: bool = True


def folder_of(wiring: Wiring, path: Path | None, option: Path | None) -> Path:
    """The folder that an argument or ``--manifests`` names, or the host's own. It has to be there."""
    if path is not None and option is not None and path != option:
        raise CommandError("there are two folders of manifests", "give PATH or --manifests, not both")
    folder = path or option or wiring.settings.manifests
    if folder.is_dir():
        return folder
    if folder.exists():
        raise CommandError(
            f"{folder} is a file, and every environment it leaves out would be retired",
            "name the whole folder (containarium validate reads single files)",
        )
    raise CommandError(f"there is no folder {folder} with manifests", _PREPARE)


def survey(
    wiring: Wiring,
    folder: Path | None,
    look: Look,
    *,
    approved: frozenset[str] = frozenset(),
    restart: bool = False,
) -> Survey:
    """Read the manifests while the host is looked at, then plan. Without a folder the host alone is looked at."""
    from concurrent.futures import ThreadPoolExecutor

    from containarium.host import approvals
    from containarium.plan.terms import EVERYBODY, Terms
    from containarium.reconcile.decide import decide

    host = wiring.host(wiring.settings)
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="look") as pool:
        looking = pool.submit(host.observe, look)
        load = _load(folder)
        observed = looking.result()
    now = wiring.clock()
    terms = Terms(approved | approvals.read(wiring.settings.runtime, now), EVERYBODY if restart else frozenset())
    plan = decide(load, observed, host, now, terms)
    return Survey(load, observed, plan, declared=folder is not None)


def read(folder: Path) -> Load:
    """The manifests of a folder. One that holds none is an error: unknown is not empty."""
    from containarium.sources.directory import load

    return load(folder)


def _load(folder: Path | None) -> Load:
    from containarium.model.manifest import Load

    return read(folder) if folder is not None else Load()
