"""Makes a bare Debian or Ubuntu ready, step by step and as often as one likes, and takes exactly that back again."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path

from containarium.host import command
from containarium.host.filelock import locked
from containarium.host.files import make_folder, write_atomically
from containarium.host.incus import Incus
from containarium.host.prepare import (
    access,
    conditions,
    daemons,
    disk,
    diskunits,
    fleet,
    kernel,
    logs,
    network,
    operators,
    packages,
    peerkey,
    server,
    storage,
    undo,
    vault,
)
from containarium.host.prepare import service as units
from containarium.host.prepare.receipt import Made, Receipt
from containarium.host.prepare.steps import Context, Part, Step, carry_out
from containarium.host.settings import HostSettings
from containarium.model.host import HostError, Progress, RetryableError, TerminalError, silent
from containarium.model.manifest import Declaration

__all__ = ["Context", "Made", "Receipt", "Step", "failure", "mount_disk", "prepare", "receipt_path", "unprepare"]

_STEPS: tuple[Part, ...] = (
    Part("folders", access.folders),
    Part("storage tools", packages.storage_tools),
    Part("disk units", diskunits.install),
    Part(disk.NAME, disk.disk, ("storage tools", "disk units")),
    Part("packages", packages.packages, (disk.NAME,)),
    Part("boot disk", vault.recover, (disk.NAME,)),
    Part("sysctls", kernel.sysctls),
    Part("subordinate ids", kernel.subordinate_ids, ("boot disk",)),
    Part("lxcfs", daemons.start_lxcfs),
    Part("Incus", daemons.start_incus, (disk.NAME, "subordinate ids")),
    Part("Incus settings", daemons.server_settings, ("Incus",)),
    Part("storage pool", storage.pool, ("Incus",)),
    Part("bridge", network.bridge, ("Incus",)),
    Part("network ACL", network.acl, ("bridge",)),
    Part("firewall", access.firewall, ("bridge",)),
    Part("group", access.group),
    Part("admins", access.admins),
    Part("probe key", access.probe_key, ("boot disk",)),
    Part("peer key", peerkey.peer_key, ("boot disk",)),
    Part("peer account", fleet.peers, ("boot disk",)),
    Part("sshd", access.sshd, ("boot disk", "group")),
    Part("fail2ban", access.fail2ban),
    Part(operators.NAME, operators.admin_accounts),
    Part(server.NAME, server.sshd_server, ("sshd",)),
    Part(logs.NAME, logs.logs),
    Part("fleet", fleet.membership, ("Incus", "bridge", "firewall", "peer account", "sshd")),
    Part("vault", vault.keep, ("boot disk", disk.NAME)),
)
"""What is done, in this order. A part that fails stops those that need it, and nobody else."""


def receipt_path(settings: HostSettings) -> Path:
    """Where it stands what preparations made on this machine."""
    return settings.state / "prepared.json"


def prepare(
    settings: HostSettings,
    *,
    install: bool,
    service: bool = False,
    declaration: Declaration | None = None,
    patience: float = 600.0,
    progress: Progress = silent,
    run: command.Run = command.run,
    incus: Incus | None = None,
) -> list[Step]:
    """Carry out every step that is not done yet; repeated, it changes nothing. ``install`` allows new packages,
    ``service`` has the controller run as a service of systemd, ``declaration`` is what Host manifests say.

    A step that cannot be done has an ``error`` and stops those that need it; the others are done all the same, and a
    repetition goes on from there. How each ended stands in ``settings.conditions`` afterwards. Raises TerminalError
    (NotRoot), RetryableError (PrepareRuns) where another preparation does not end within ``patience`` seconds.
    """
    declaration = declaration or Declaration()
    parts = (*_STEPS, Part("service", units.service, ("boot disk",))) if service else _STEPS
    with _alone(settings, patience) as new:
        context = _context(settings, progress, run, incus, declaration, install=install)
        if new:
            context.receipt.add("folder", str(settings.runtime))
        steps = carry_out(context, parts)
        conditions.write(settings, steps, declaration.digest, datetime.now(UTC))
        _mark(settings, declared=declaration.own is not None)
    return steps


def failure(steps: list[Step]) -> HostError | None:
    """Why the first step that failed did so."""
    return next((step.error for step in steps if step.error is not None), None)


def mount_disk(
    settings: HostSettings, *, wait: float = disk.WAIT, progress: Progress = silent, run: command.Run = command.run
) -> bool:
    """At boot, before Incus: mount the data disk that this boot disk knows, waiting ``wait`` seconds for it to appear.

    Returns whether there is one. Raises TerminalError, for instance DiskMissing; Incus does not start then.
    """
    return disk.remount(settings, _context(settings, progress, run, None), wait)


@contextmanager
def _alone(settings: HostSettings, patience: float) -> Iterator[bool]:
    """Let nobody else prepare or unprepare meanwhile; says whether the folder of the lock was made for that.

    The receipt is read in here: whoever saved an older one would forget what the other has made.
    """
    try:
        new = make_folder(settings.runtime)
    except PermissionError as error:
        raise _not_root(settings.runtime) from error
    with ExitStack() as stack:
        try:
            stack.enter_context(locked(settings.runtime / "prepare.lock", patience))
        except TimeoutError as error:
            remedy = "look at it, and try again"
            raise RetryableError(
                "another preparation of this host does not end", remedy=remedy, reason="PrepareRuns"
            ) from error
        except PermissionError as error:
            raise _not_root(settings.runtime) from error
        yield new


def _not_root(path: Path) -> TerminalError:
    return TerminalError(f"cannot write {path}", remedy="run it as root", reason="NotRoot")


def _mark(settings: HostSettings, *, declared: bool) -> None:
    if not declared:
        settings.declared.unlink(missing_ok=True)
    elif not settings.declared.exists():
        write_atomically(settings.declared, "")


def unprepare(
    settings: HostSettings,
    *,
    patience: float = 600.0,
    progress: Progress = silent,
    run: command.Run = command.run,
    incus: Incus | None = None,
) -> list[Step]:
    """Take back exactly what preparations made on this machine, and nothing that was there before.

    Raises TerminalError (EnvironmentsLeft) while environments exist, RetryableError as ``prepare`` does. A step's
    ``warning`` says what was left and why.
    """
    if not receipt_path(settings).exists():
        return []
    with _alone(settings, patience) as new:
        if not receipt_path(settings).exists():
            return []
        context = _context(settings, progress, run, incus)
        if new:
            context.receipt.add("folder", str(settings.runtime))
        steps = undo.undo(context)
        if not list(context.receipt):
            undo.forget_state(context, receipt_path(settings))
    return steps


def _context(
    settings: HostSettings,
    progress: Progress,
    run: command.Run,
    incus: Incus | None,
    declaration: Declaration | None = None,
    *,
    install: bool = False,
) -> Context:
    try:
        new = make_folder(settings.state, 0o700)
    except PermissionError as error:
        raise _not_root(settings.state) from error
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
        declaration=declaration or Declaration(),
        install=install,
    )
