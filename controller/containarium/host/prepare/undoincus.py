"""Taking a preparation back, the part of it that is Incus: its objects, its folder, its packages."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable
from pathlib import Path

from containarium.host.baking import Baker
from containarium.host.prepare.receipt import Made
from containarium.host.prepare.steps import Context, Step
from containarium.model import marks
from containarium.model.host import HostError

UNITS = ("incus-user.socket", "incus.socket", "incus-startup.service", "incus-user.service", "incus.service")
"""Of Debian's and Ubuntu's packages, in the order of stopping."""
_UNITS_OF = {"incus-base": UNITS, "incus": UNITS, "lxcfs": ("lxcfs.service",)}


def setting(context: Context, item: Made) -> str:
    """Give a setting of the server the value that it had."""
    context.incus.patch(body={"config": {item.name: item.before}})
    return ""


def an_object(collection: str) -> Callable[[Context, Made], str]:
    """What removes an object of a collection (``networks``, ``storage-pools``), or says who still uses it."""

    def remove(context: Context, item: Made) -> str:
        found = context.find(collection, item.name)
        if found:
            if collection == "storage-pools":
                _drop_recipes(context)
                found = context.find(collection, item.name) or {}
            users = found.get("used_by") or []
            if collection == "storage-pools":
                users = [user for user in users if not _drop_image(context, user)]
            if users:
                return f"still used by {', '.join(sorted(users)[:3])}"
            context.incus.delete(collection, item.name, timeout=120)
        return ""

    return remove


def _drop_recipes(context: Context) -> None:
    """Baked images, and what an interrupted build left: nobody's environment, and of no use without the pool."""
    baker = Baker(context.incus, context.settings)
    for recipe in baker.builders().values():
        baker.discard(recipe)
    for image in context.incus.get("images", recursion="1"):
        if marks.RECIPE_IMAGE in (image.get("properties") or {}):
            context.incus.delete("images", str(image["fingerprint"]), timeout=60)


def _drop_image(context: Context, user: str) -> bool:
    """Images keep a copy in the pool; cached and built ones are of no use without it."""
    prefix = "/1.0/images/"
    if not user.startswith(prefix) or "?" in user:
        return False
    context.incus.delete("images", user.removeprefix(prefix), timeout=60)
    return True


def detach_acl(context: Context, item: Made) -> str:
    """Take our ACL off a bridge, and the defaults that came with it where it was the only one."""
    found = context.find("networks", item.name)
    if found is None:
        return ""
    config = found["config"]
    kept = [part for part in config.get("security.acls", "").split(",") if part.strip() not in ("", item.before)]
    change = {"security.acls": ",".join(kept)}
    if not kept:
        change |= {f"security.acls.default.{way}.action": "" for way in ("egress", "ingress")}
    context.incus.patch("networks", item.name, body={"config": change})
    return ""


def folder(context: Context, _item: Made) -> str:
    """The folder of Incus, which was empty: last, when no Incus runs from it, and never with somebody's pool in it."""
    place = context.settings.incus_dir
    pools = place / "storage-pools"
    if pools.is_dir() and any(pools.iterdir()):
        return f"{pools} is not empty"
    for mounted in reversed(_mounts_below(place)):
        context.run(["umount", "--", mounted], timeout=30, check=False)
    if _mounts_below(place):
        return f"something is still mounted below {place}"
    for path in place.iterdir() if place.is_dir() else ():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
    with contextlib.suppress(OSError):  # a disk may be mounted there
        place.rmdir()
    return ""


def _mounts_below(folder: Path) -> list[str]:
    points = (line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines())
    return [point for point in points if point.startswith(f"{folder}/")]


def remove_packages(context: Context, items: list[Made]) -> Step:
    """Purge what apt installed for a preparation, after the services of it have ended."""
    names = sorted(item.name for item in items)
    context.progress(f"removing {len(names)} packages")
    for package in names if context.systemd else ():
        for unit in _UNITS_OF.get(package, ()):  # Debian's own removal scripts leave them running
            context.run(["systemctl", "stop", unit], timeout=120, check=False)
    try:
        context.run(
            ["apt-get", "-y", "-q", "-o", "DPkg::Lock::Timeout=120", "purge", "--", *names],
            timeout=600,
            env={"DEBIAN_FRONTEND": "noninteractive"},
        )
    except HostError as error:
        return Step("packages", False, warning=f"not removed: {error}")
    for item in items:
        context.receipt.forget(item)
    return Step("packages", True, f"removed {', '.join(names)}")
