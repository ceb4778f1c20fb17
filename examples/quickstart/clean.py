"""Removes all that the quickstart made, by its receipt, and leaves everything else."""

from __future__ import annotations

import contextlib
import shutil
from pathlib import Path

from containarium.cli.output import say
from containarium.host.accounts import Accounts
from containarium.host.lock import only_controller
from containarium.host.machine import Machine
from containarium.host.ownsshd import OwnSshd
from containarium.host.prepare import receipt_path, unprepare
from containarium.host.settings import HostSettings
from containarium.model import marks
from containarium.model.action import DeleteAccount, DeleteInstance
from containarium.model.observed import Look, Observed
from containarium.plan.resolve import owned_account

from .receipt import Receipt
from .steps import QuickstartError, Step, step

LOCK_PATIENCE = 60.0


def clean(settings: HostSettings, receipt: Receipt) -> None:
    """Undo the quickstart, last step first. Run again, it goes on where it ended."""
    if not receipt.exists:
        say("Nothing to do: there is no quickstart on this machine.")
        return
    others: list[str] = []
    if settings.incus_socket.exists():
        with step("Deleting the environments and their accounts") as now:
            others = delete_environments(settings, receipt, now)
    with step("Removing manifests, keys and configurations") as now:
        kept = remove_files(settings, receipt)
        receipt.remove_folders()
    for path in kept:
        say(f"               kept, because it was changed: {path}")
    if receipt.prepared and others:
        say(f"               this host stays prepared, because it has other environments: {', '.join(others)}")
    elif receipt.prepared:
        with step("Undoing the preparation of this host") as now:
            steps = unprepare(settings, progress=now.progress)
        left = [f"{done.name}: {done.warning}" for done in steps if done.warning]
        for line in left:
            say(f"               left: {line}")
        if left and not kept:
            raise QuickstartError("not everything could be removed; mend that, then run make quickstart-clean again")
    if not others and not receipt_path(settings).exists():
        remove_caches(settings, receipt)
    receipt.path.unlink()
    with contextlib.suppress(OSError):  # scripts/venv may keep a note of its own beside it
        receipt.path.parent.rmdir()
    receipt.remove_folders()


def remove_caches(settings: HostSettings, receipt: Receipt) -> None:
    """Remove the logs, locks and caches that came to lie in the folders which the quickstart made."""
    for folder in (settings.state, settings.runtime):
        if str(folder) not in receipt.folders or not folder.is_dir():
            continue
        for entry in folder.iterdir():
            if entry.is_dir() and not entry.is_symlink():
                if entry != receipt.path.parent:
                    shutil.rmtree(entry)
            else:
                entry.unlink()


def delete_environments(settings: HostSettings, receipt: Receipt, now: Step) -> list[str]:
    """Delete the environments of the receipt, at once and with their data; return the names of the others."""
    machine = Machine(settings, Accounts(settings))
    with only_controller(settings.runtime, LOCK_PATIENCE):
        for name in receipt.environments:
            # The host itself refuses what does not carry our mark.
            machine.execute(DeleteAccount(environment=name, account=name), now.progress)
            instance = marks.instance_name(name)
            machine.execute(
                DeleteInstance(environment=name, instance=instance, reason="quickstart-clean"), now.progress
            )
    now.note(", ".join(receipt.environments))
    return environments(machine.observe(Look.SHALLOW))


def environments(observed: Observed) -> list[str]:
    """Every environment that is here, by its container or its account."""
    found = {owner for i in observed.instances.values() if (owner := i.config.get(marks.ENVIRONMENT)) is not None}
    return sorted(found | {account.name for account in observed.accounts.values() if owned_account(account)})


def remove_files(settings: HostSettings, receipt: Receipt) -> list[Path]:
    """Remove what the receipt lists; return the files that somebody has changed, which stay."""
    if receipt.own_port:
        OwnSshd(settings).stop()
        shutil.rmtree(settings.state / "ssh", ignore_errors=True)
        (settings.state / "sshd.log").unlink(missing_ok=True)
        (settings.runtime / "sshd_config").unlink(missing_ok=True)
    for folder in ("keys", "ssh"):
        shutil.rmtree(receipt.path.parent / folder, ignore_errors=True)
    return receipt.remove_files()
