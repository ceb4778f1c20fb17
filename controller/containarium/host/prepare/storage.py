"""The storage pool, made where it is missing: btrfs or ZFS, so that disk limits hold and copies cost nothing."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from containarium.host.command import Run
from containarium.host.prepare import zfs
from containarium.host.prepare.steps import MANAGED, Context, Step
from containarium.model.host import HostError, TerminalError
from containarium.model.hostmanifest import HostSpec, StorageDriver

_GIB = 1 << 30
_SMALLEST = 5
"""GiB below which a loop file is not worth making."""
_TIMEOUT = 180.0


def pool(context: Context) -> Step:
    """Make the pool. One that exists stays as it is, whoever made it.

    Where Incus' own folder lies on btrfs, the pool is a subvolume there; else a loop file of half the free space
    (sparse: it takes what is used); where neither works a plain folder, with a warning, since limits do not hold there.
    A driver that a Host manifest names is the one, or the step fails: raises TerminalError (PoolNotMade), and
    DriverDiffers where the pool that exists has another.
    """
    name = context.settings.pool
    found = context.find("storage-pools", name)
    if found:
        _refuse_other(context, str(found["driver"]))
        return Step("storage pool", False, f"{name} ({found['driver']}) exists")
    refused = []
    for driver, config, detail in _choices(context):
        context.progress(f"making storage pool {name}: {detail}")
        try:
            _create(context, driver, config)
        except HostError as error:
            refused.append(f"{detail}: {error.message}")
            if context.find("storage-pools", name):  # half-made
                context.incus.delete("storage-pools", name)
            continue
        context.receipt.add("pool", name)
        return Step("storage pool", True, f"{name}: {detail}", _warning(context, driver, refused))
    raise TerminalError(
        f"storage pool {name} cannot be made: {'; '.join(refused)}",
        remedy=f"make one by hand (incus storage create {name} ...), then run it again",
        reason="PoolNotMade",
    )


def quotas_work(run: Run, path: Path) -> bool:
    """Whether btrfs keeps account of space below ``path``, which disk limits need."""
    shown = run(["btrfs", "qgroup", "show", str(path)], timeout=30, check=False)
    return shown.code == 0 and "qgroupid" in shown.out.lower()


def loop_size(free: int) -> int | None:
    """Size in GiB of the loop file, given the free bytes: half of them. None where that is too little."""
    size = free // 2 // _GIB
    return size if size >= _SMALLEST else None


def named_driver(spec: HostSpec | None) -> StorageDriver | None:
    """The driver that a Host manifest names; None where it leaves that to us."""
    storage = spec.storage if spec is not None else None
    if storage is None or (storage.disk is None and "driver" not in storage.model_fields_set):
        return None
    return storage.driver


def _refuse_other(context: Context, driver: str) -> None:
    wanted = named_driver(context.spec)
    if wanted is not None and wanted.value != driver:
        raise TerminalError(
            f"the pool {context.settings.pool} is {driver}, and {context.origin} says {wanted.value}",
            remedy=f"write driver: {driver}; another one needs another host, to which environments move",
            reason="DriverDiffers",
        )


def _choices(context: Context) -> list[tuple[str, dict[str, str], str]]:
    """Driver, configuration and words for each way to make it, the best first."""
    folder, wanted = context.settings.incus_dir, named_driver(context.spec)
    if wanted is StorageDriver.ZFS:
        on_disk = context.spec is not None and context.spec.storage.disk is not None
        size = loop_size(shutil.disk_usage(folder).free)
        config = {"source": zfs.SOURCE} if on_disk else {"size": f"{size or _SMALLEST}GiB"}
        return [("zfs", config, f"ZFS dataset {zfs.SOURCE}" if on_disk else f"ZFS in a loop file of {config['size']}")]
    if wanted is StorageDriver.DIR:
        return [("dir", {}, "a plain folder")]
    choices = _btrfs(context, folder)
    return choices if wanted is StorageDriver.BTRFS else [*choices, ("dir", {}, "a plain folder")]


def _btrfs(context: Context, folder: Path) -> list[tuple[str, dict[str, str], str]]:
    choices: list[tuple[str, dict[str, str], str]] = []
    if shutil.which("mkfs.btrfs", path="/usr/sbin:/sbin:/usr/bin:/bin"):
        kind = context.run(["stat", "-f", "-c", "%T", str(folder)], timeout=30, check=False).out.strip()
        if kind == "btrfs":
            source = folder / "storage-pools" / context.settings.pool
            choices.append(("btrfs", {"source": str(source)}, f"btrfs subvolume {source}"))
        size = loop_size(shutil.disk_usage(folder).free)
        if size:
            detail = f"btrfs in a loop file of {size} GiB, half of what is free"
            choices.append(("btrfs", {"size": f"{size}GiB"}, detail))
    return choices


def _create(context: Context, driver: str, config: dict[str, str]) -> None:
    body: dict[str, Any] = {"name": context.settings.pool, "driver": driver, "config": {**config, MANAGED: "true"}}
    context.incus.post("storage-pools", body=body, timeout=_TIMEOUT, progress=context.progress)


def _warning(context: Context, driver: str, refused: list[str]) -> str:
    if driver == "dir":
        why = f" ({'; '.join(refused)})" if refused else ""
        return f"disk limits do not hold on a plain folder{why}"
    if driver == "zfs":
        return ""
    path = context.settings.incus_dir / "storage-pools" / context.settings.pool
    # Incus itself does this no sooner than at the first limit, which is late for a warning.
    context.run(["btrfs", "quota", "enable", str(path)], timeout=60, check=False)
    return "" if quotas_work(context.run, path) else "btrfs keeps no account of space here: disk limits will not hold"
