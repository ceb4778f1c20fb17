"""What every command that edits manifests goes through: where may be written, what would come of it, and the edit."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from containarium.cli.errors import CommandError
from containarium.cli.survey import folder_of
from containarium.cli.wiring import Wiring

if TYPE_CHECKING:
    from containarium.model.observed import Observed
    from containarium.plan.decision import Plan
    from containarium.sources.edit import Session

Name = Annotated[str, typer.Argument(help="The environment.", show_default=False)]
Manifests = Annotated[
    Path | None,
    typer.Option(
        "--manifests",
        "-f",
        help="Folder of manifests to edit. Another one than the host's own is only edited.",
        show_default="/etc/containarium/environments",
    ),
]
Wait = Annotated[
    float,
    typer.Option("--wait", metavar="SECONDS", min=0, help="How long to wait for the host to follow; 0: only write."),
]
PATIENCE: Final = 600.0
_TURN: Final = 60.0
"""Seconds for which another command may be editing."""


@dataclass(frozen=True, slots=True)
class Desk:
    """Where a command edits. ``live`` says whether it is the folder that this host follows."""

    session: Session
    live: bool
    checkout: Checkout | None

    @property
    def folder(self) -> Path:
        return self.session.folder


@dataclass(frozen=True, slots=True)
class Checkout:
    """A git repository that a folder comes from, so that nothing may be written there."""

    folder: Path
    """The folder of the manifests, whatever link leads to it."""
    root: Path
    source: str
    """The repository and what is followed of it, as far as that is known."""
    path: str
    """Folder of the manifests in the repository."""

    def file(self, path: Path | str) -> str:
        """A file of the folder as the repository names it."""
        real = Path(path)
        real = (real if real.is_absolute() or real.exists() else self.folder / real).resolve()
        inside = real.relative_to(self.folder) if real.is_relative_to(self.folder) else Path(real.name)
        return str(Path(self.path) / inside)


@contextmanager
def editing(wired: Wiring, option: Path | None, command: str, *, make: bool = False) -> Iterator[Desk]:
    """Read the folder, with no other command editing meanwhile. ``make``: the host's own is made if it is missing.

    Root is needed for the host's own folder. Whatever the edit is refused for becomes a CommandError.
    """
    from containarium.host.lock import only_controller
    from containarium.sources.edit import EditRefusedError, Session

    own = wired.settings.manifests
    live = option is None or option.resolve() == own.resolve()
    if live:
        wired.require_root(command)
        if make and option is None and not own.exists() and not own.is_symlink():
            from containarium.host.files import make_folder

            make_folder(own)
    folder = folder_of(wired, None, option)
    try:
        if not wired.is_root():
            yield Desk(Session(folder), live, checkout_of(wired, folder, live=live))
            return
        with only_controller(wired.settings.runtime / "edit", _TURN):
            yield Desk(Session(folder), live, checkout_of(wired, folder, live=live))
    except EditRefusedError as error:
        raise CommandError(str(error)) from None


def checkout_of(wired: Wiring, folder: Path, *, live: bool) -> Checkout | None:
    """The repository that a folder is kept in sync with; None where it may be edited.

    Another folder than the host's own may be an admin's working copy, which is there to be edited. etckeeper's record
    of /etc is none that anybody deploys from.
    """
    real, synced = folder.resolve(), wired.settings.sync.resolve()
    if real.is_relative_to(synced):
        source, path = _followed(wired)
        return Checkout(real, synced, source, path)
    for parent in (real, *real.parents) if live else ():
        if (parent / ".git").exists() and not (parent / ".etckeeper").exists():
            return Checkout(real, parent, str(parent), str(real.relative_to(parent)))
    return None


def refuse_synced(desk: Desk, name: str, field: str) -> None:
    """Name the place in the repository where a person has to make the change instead. Raises CommandError."""
    checkout = desk.checkout
    if checkout is None:
        return
    place = desk.session.find(name).manifest.origin.locate(field)
    where = f"{checkout.file(place.file)}:{place.line}"
    raise CommandError(
        f"{desk.folder} comes from git ({checkout.source}), so nothing is written here",
        f"edit {where} ({field}) there and commit it",
    )


def foresee(wired: Wiring, desk: Desk) -> tuple[Plan, Observed]:
    """What would come of the edit on this host: the plan, and the look that it was made from. Changes nothing."""
    from containarium.host import approvals
    from containarium.model.observed import Look
    from containarium.plan.terms import Terms
    from containarium.reconcile.decide import decide

    load, host = desk.session.check(), wired.host(wired.settings)
    observed = host.observe(Look.SHALLOW)
    now = wired.clock()
    terms = Terms(frozenset(approvals.read(wired.settings.runtime, now)))
    return decide(load, observed, host, now, terms), observed


def refuse_problems(plan: Plan, *names: str) -> None:
    """Raise CommandError where the plan refuses one of these."""
    for problem in plan.problems:
        if problem.environment in names:
            raise CommandError(f"{problem.environment}: {problem.message}", problem.remedy)


def _followed(wired: Wiring) -> tuple[str, str]:
    """What ``containarium sync`` follows, in words, and the folder in it."""
    from containarium.model.syncing import DEFAULT_PATH
    from containarium.sources.syncfile import SyncFileError, read_sync_file

    try:
        config = read_sync_file(wired.settings.etc / "containarium" / "sync.yaml")
    except (OSError, SyncFileError):
        return "containarium sync", DEFAULT_PATH
    return f"{config.repository}, {config.ref}", config.path
