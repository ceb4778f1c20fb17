"""Taking a preparation back: exactly what the receipt lists, last made first."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable
from pathlib import Path

from containarium.host import probekey
from containarium.host.accounts import Accounts
from containarium.host.files import read_small, write_atomically
from containarium.host.firewall import Firewall
from containarium.host.jumpaccount import is_ours
from containarium.host.passwdlock import hold_pwd_lock, our_turn
from containarium.host.peering import account
from containarium.host.peering.membership import Membership
from containarium.host.prepare import disk, operators, undoincus, vault
from containarium.host.prepare.access import UNITS
from containarium.host.prepare.daemons import incusd, lxcfs, start_incus
from containarium.host.prepare.receipt import Made, digest
from containarium.host.prepare.steps import Context, Step
from containarium.host.sshd import Sshd
from containarium.model import marks
from containarium.model.host import HostError, TerminalError

_CARRIES_INSTANCES = frozenset({"package", "incus folder", "pool", "bridge", "daemon", "unit", "incus setting"})
"""What instances that are not ours may live on."""
_LOCKS = ("lock", "accounts.lock", "keys.lock", "prepare.lock", "peer.sock", "host.json", "host-wanted")
"""What lies in the runtime folder beside sockets and status."""
_NEEDS_INCUS = frozenset({"pool", "bridge", "acl", "acl on bridge", "incus setting", "fleet"})


def undo(context: Context) -> list[Step]:
    """Take everything back. Raises TerminalError (EnvironmentsLeft) while environments or jump accounts of ours exist.

    What somebody changed or uses meanwhile is left, with a warning that says so; a later run tries it again.
    """
    made = list(context.receipt)
    others: list[str] = []
    if any(item.kind in _NEEDS_INCUS for item in made):
        start_incus(context)
        others = _refuse_instances(context)
    _refuse_accounts(context)
    if others:
        # Purging Incus would take their data along.
        made = [item for item in made if item.kind not in _CARRIES_INSTANCES]
    # First of all the controller, which would repair what is taken away.
    made = [item for item in made if item.kind != "service"] + [item for item in made if item.kind == "service"]
    packages = [item for item in made if item.kind == "package"]
    last = [item for item in made if item.kind == "incus folder"]
    disks = [item for item in made if item.kind == disk.NAME]
    if disks:  # what is on it stays there, for the next boot disk
        made = [item for item in made if item.kind not in vault.ON_DATA_DISK | {"vault"}]
    steps = [_take_back(context, item) for item in reversed(made) if item not in packages + last + disks]
    steps += [_take_back(context, item) for item in disks]
    if packages and not (disks and steps[-1].warning):  # purging Incus empties its folder, on whatever disk that is
        steps.append(undoincus.remove_packages(context, packages))
    steps += [_take_back(context, item) for item in last]
    if others:
        steps.append(Step("Incus", False, warning=f"it stays, for it carries others' instances: {', '.join(others)}"))
    return steps


def _take_back(context: Context, item: Made) -> Step:
    name = f"{item.kind} {item.name}"
    context.progress(f"removing {name}")
    try:
        left = _HOW[item.kind](context, item)
    except (HostError, OSError) as error:
        return Step(name, False, warning=f"not removed: {error}")
    if left:
        return Step(name, False, warning=left)
    context.receipt.forget(item)
    return Step(name, True, "removed")


def _refuse_instances(context: Context) -> list[str]:
    """Refuse while instances of ours exist. Returns the names of everybody else's, in all projects."""
    listed = context.incus.get("instances", recursion="1", all_projects="true") or []
    ours = [instance["name"] for instance in listed if marks.ENVIRONMENT in (instance.get("config") or {})]
    if ours:
        raise _left(ours)
    return sorted(instance["name"] for instance in listed)


def _refuse_accounts(context: Context) -> None:
    accounts, _ = Accounts(context.settings, context.run).observe()
    ours = [name for name, account in accounts.items() if is_ours(account)]
    if ours:
        raise _left(ours)


def _left(names: list[str]) -> TerminalError:
    shown = ", ".join(sorted(names)[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
    return TerminalError(
        f"environments still exist: {shown}",
        remedy="remove their manifests and let them be pruned first",
        reason="EnvironmentsLeft",
    )


def _file(context: Context, item: Made) -> str:
    path = Path(item.name)
    text = read_small(path)
    if text is not None and digest(text) != item.before:
        return "somebody changed it, so it stays"
    path.unlink(missing_ok=True)
    if path.is_relative_to(UNITS):
        with contextlib.suppress(OSError):  # a folder of additions, where others have some too
            path.parent.rmdir() if path.parent != UNITS else None
        context.run(["systemctl", "daemon-reload"], timeout=60)
    return ""


def _folder(context: Context, item: Made) -> str:
    folder, settings = Path(item.name), context.settings
    if folder == settings.state:
        return ""  # holds the receipt itself: see forget_state
    if folder == settings.runtime:
        for name in (*_LOCKS, "sshd-reload-pending", "sshd_config", "status.json", ".status.json.new", "control.sock"):
            (folder / name).unlink(missing_ok=True)
        (folder / "approvals.json").unlink(missing_ok=True)
        for name in ("probe", "restore"):
            shutil.rmtree(folder / name, ignore_errors=True)
    try:
        folder.rmdir()
    except FileNotFoundError:
        pass
    except OSError:
        return f"it is not empty: {', '.join(sorted(path.name for path in folder.iterdir())[:3])}"
    return ""


def forget_state(context: Context, path: Path) -> None:
    """Remove the receipt, when nothing is left on it, and the state folder with what daemons and clients left there."""
    state = context.settings.state
    path.unlink(missing_ok=True)
    for name in ("incusd.log", "lxcfs.log", "sshd.log", "events.jsonl", "events.jsonl.1", "build.lock", "declared"):
        (state / name).unlink(missing_ok=True)
    for name in ("incus-client", "ssh", "build", "locks"):  # our client's, the key of an sshd of our own, images
        shutil.rmtree(state / name, ignore_errors=True)
    with contextlib.suppress(OSError):  # others' files: the folder stays
        state.rmdir()


def _subordinate_ids(context: Context, item: Made) -> str:
    """By hand and under the tools' lock: usermod refuses to take ids from a user with processes, as root always is."""
    settings, path = context.settings, context.settings.etc / item.name
    first, _, last = item.before.partition("-")
    line = f"root:{first}:{int(last) - int(first) + 1}"
    with our_turn(settings.runtime, wait=60), hold_pwd_lock(settings.etc):
        lines = (read_small(path) or "").splitlines()
        write_atomically(path, "".join(f"{kept}\n" for kept in lines if kept != line))
    return ""


def _daemon(context: Context, item: Made) -> str:
    daemon = incusd(context) if item.name == "incusd" else lxcfs(context)
    if daemon is not None:
        daemon.stop()
    return ""


def _unit(context: Context, item: Made) -> str:
    context.run(["systemctl", "disable", "--now", item.name], timeout=90)
    return ""


def _data_disk(context: Context, _item: Made) -> str:
    """Let go of the disk, once nobody uses it any more. The receipt's lines about what is on it go with it."""
    if context.systemd:
        for unit in undoincus.UNITS:
            context.run(["systemctl", "stop", unit], timeout=120, check=False)
    left = disk.give_back(context)
    for item in () if left else list(context.receipt):
        if item.kind in vault.ON_DATA_DISK | {"vault"}:
            context.receipt.forget(item)
    return left


def _peer_key(_context: Context, item: Made) -> str:
    path = Path(item.name)
    for file in (path, path.with_name(f"{path.name}.pub")):
        file.unlink(missing_ok=True)
    with contextlib.suppress(OSError):
        path.parent.rmdir()
    return ""


def _vault(context: Context, _item: Made) -> str:
    vault.remove(context.settings)
    return ""


def _table(context: Context, _item: Made) -> str:
    Firewall(context.settings, context.run).remove()
    return ""


def _drop_in(context: Context, _item: Made) -> str:
    Sshd(context.settings, context.run).remove(context.progress)
    return ""


def _sshd_file(context: Context, item: Made) -> str:
    Sshd(context.settings, context.run).remove(context.progress, Path(item.name))
    return ""


def _admin(context: Context, item: Made) -> str:
    """Keys and sudo are taken back; the account, and what somebody has in it, stays."""
    operators.withdraw(context, item.name)
    return ""


def _probe_key(context: Context, _item: Made) -> str:
    probekey.forget(context.settings)
    return ""


def _fleet(context: Context, _item: Made) -> str:
    """Nobody may ask any more, and what followed the list of hosts is gone; an account that is not ours stays."""
    Membership(context.settings, context.incus, "", context.run).settle(())
    account.remove(context.settings, context.run, context.progress)
    return ""


def _group(context: Context, item: Made) -> str:
    Accounts(context.settings, context.run).remove_group(item.name, context.progress)
    return ""


_HOW: dict[str, Callable[[Context, Made], str]] = {
    "file": _file,
    "folder": _folder,
    "subordinate ids": _subordinate_ids,
    "daemon": _daemon,
    "incus folder": undoincus.folder,
    "unit": _unit,
    "service": _unit,
    disk.NAME: _data_disk,
    "peer key": _peer_key,
    "vault": _vault,
    "nftables table": _table,
    "sshd drop-in": _drop_in,
    "sshd file": _sshd_file,
    "admin": _admin,
    "probe key": _probe_key,
    "fleet": _fleet,
    "group": _group,
    "incus setting": undoincus.setting,
    "pool": undoincus.an_object("storage-pools"),
    "bridge": undoincus.an_object("networks"),
    "acl": undoincus.an_object("network-acls"),
    "acl on bridge": undoincus.detach_acl,
}
