"""Makes a bare Debian or Ubuntu ready, step by step and as often as one likes, and takes exactly that back again."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from containarium.host import command
from containarium.host.files import make_folder
from containarium.host.incus import Incus
from containarium.host.prepare import access, daemons, kernel, network, packages, storage, undo, vault
from containarium.host.prepare import service as units
from containarium.host.prepare.receipt import Made, Receipt
from containarium.host.prepare.steps import Context, Step
from containarium.host.settings import HostSettings
from containarium.model.host import Progress, TerminalError, silent

__all__ = ["Context", "Made", "Receipt", "Step", "prepare", "receipt_path", "unprepare"]

_STEPS: tuple[Callable[[Context], Step], ...] = (
    access.folders,
    vault.recover,
    kernel.sysctls,
    kernel.subordinate_ids,
    daemons.start_lxcfs,
    daemons.start_incus,
    daemons.server_settings,
    storage.pool,
    network.bridge,
    network.acl,
    access.firewall,
    access.group,
    access.admins,
    access.probe_key,
    access.sshd,
    access.fail2ban,
    vault.keep,
)


def receipt_path(settings: HostSettings) -> Path:
    """Where it stands what preparations made on this machine."""
    return settings.state / "prepared.json"


def prepare(
    settings: HostSettings,
    *,
    install: bool,
    service: bool = False,
    progress: Progress = silent,
    run: command.Run = command.run,
    incus: Incus | None = None,
) -> list[Step]:
    """Carry out every step that is not done yet; repeated, it changes nothing. ``install`` allows new packages,
    ``service`` has the controller run as a service of systemd.

    Stops at the first step that cannot be done with its HostError; what was made until then is in the receipt, and a
    repetition goes on from there.
    """
    context = _context(settings, progress, run, incus)
    steps = [packages.packages(context)] if install else []
    for step in _STEPS:
        steps.append(step(context))
    return [*steps, units.service(context)] if service else steps


def unprepare(
    settings: HostSettings,
    *,
    progress: Progress = silent,
    run: command.Run = command.run,
    incus: Incus | None = None,
) -> list[Step]:
    """Take back exactly what preparations made on this machine, and nothing that was there before.

    Raises TerminalError (EnvironmentsLeft) while environments exist. A step's ``warning`` says what was left and why.
    """
    if not receipt_path(settings).exists():
        return []
    context = _context(settings, progress, run, incus)
    steps = undo.undo(context)
    if not list(context.receipt):
        undo.forget_state(context, receipt_path(settings))
    return steps


def _context(settings: HostSettings, progress: Progress, run: command.Run, incus: Incus | None) -> Context:
    try:
        new = make_folder(settings.state, 0o700)
    except PermissionError as error:
        raise TerminalError(f"cannot write {settings.state}", remedy="run it as root", reason="NotRoot") from error
    receipt = Receipt(receipt_path(settings))
    if new:
        receipt.add("folder", str(settings.state))
    return Context(
        settings=settings,
        run=run,
        incus=incus or Incus(settings),
        receipt=receipt,
        progress=progress,
        systemd=Path("/run/systemd/system").is_dir(),
    )
