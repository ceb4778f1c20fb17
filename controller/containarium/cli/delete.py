"""The command delete: a manifest goes away, access with it, and the data when its time is over and not before."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from containarium.cli.editing import PATIENCE, Desk, Manifests, Wait, editing, foresee, refuse_synced
from containarium.cli.errors import UNSAFE, CommandError
from containarium.cli.output import complain, count, say
from containarium.cli.parting import Terms, refuse_unclear, unsaid, word_given
from containarium.cli.wiring import Wiring, wiring

if TYPE_CHECKING:
    from containarium.cli.parting import Word
    from containarium.cli.reach import Judge
    from containarium.model.observed import Observed
    from containarium.plan.decision import Plan


@dataclass(frozen=True, slots=True)
class _Order:
    """What was asked for."""

    names: tuple[str, ...]
    terms: Terms
    approved: str
    manifests: Path | None
    wait: float

    @property
    def at_once(self) -> bool:
        """Whether the grace period is skipped."""
        return self.terms.at_once

    @property
    def command(self) -> str:
        return f"delete {' '.join(self.names)}"


def delete(
    context: typer.Context,
    names: Annotated[list[str], typer.Argument(metavar="NAME...", help="The environments.", show_default=False)],
    force: Annotated[
        bool,
        typer.Option("--force", help="Do not wait for the grace period: delete the data now, after a checked backup."),
    ] = False,
    backup: Annotated[
        bool | None,
        typer.Option(
            "--backup/--no-backup",
            help="Make a backup, checked, before the data is deleted.",
            show_default="as the manifest says; yes with --force",
        ),
    ] = None,
    approve: Annotated[
        str, typer.Option(metavar="DIGEST", help="Confirm a set that is more than may go at once.", show_default=False)
    ] = "",
    manifests: Manifests = None,
    wait: Wait = PATIENCE,
) -> None:
    """Take environments away: nobody gets in any more at once, the data stays for the grace period.

    Example: containarium delete alice --backup

    Within the grace period, containarium undelete NAME brings everything back.

    With --force the data goes at once, and a backup of it stays, from which
    containarium restore makes the container again. With --force --no-backup it is
    gone for good. What is protected (deletion.protect) is not deleted in any way.
    """
    wired = wiring(context)
    unique = tuple(dict.fromkeys(names))
    terms = Terms(True if force and backup is None else backup, force)
    order = _Order(unique, terms, approve.strip().lower(), manifests, wait)
    todo = _foretell(wired, order)
    with word_given(
        wired, lambda: editing(wired, manifests, order.command), todo, terms, wired.sleep, complain
    ) as word:
        dropped = _drop(wired, order, again=bool(todo))
    _follow(wired, order, dropped, word)


# -- before anything is gone


def _foretell(wired: Wiring, order: _Order) -> list[str]:
    """Refuse what would be refused later. Returns those whose containers have to be told how their data goes."""
    with editing(wired, order.manifests, order.command) as desk:
        for name in order.names:
            _refuse_unwritten(wired, desk, name)
            refuse_synced(desk, name, "metadata.name")
        manifests = [desk.session.find(name).manifest for name in order.names]
        if not desk.live and order.terms != Terms():
            raise CommandError(
                f"this host does not follow {desk.folder}, so how the data goes cannot be said here",
                "write deletion: {backup: true} into the manifest, and delete it when the host has followed",
            )
        if not desk.live:
            for manifest in manifests:
                refuse_unclear(manifest, order.terms)
            return []
        plan, observed = _after(wired, desk, order)
        _refuse_protected(desk, observed, order.names)
        for manifest in manifests:
            refuse_unclear(manifest, order.terms)
        _heed_interlocks(wired, plan, order)
        return [manifest.name for manifest in manifests if unsaid(observed, manifest, order.terms)]


def _refuse_unwritten(wired: Wiring, desk: Desk, name: str) -> None:
    """Say what there is of a name that no manifest has."""
    if desk.session.manifest(name) is not None or not desk.live:
        desk.session.find(name)
        return
    if any(problem.environment == name for problem in desk.session.load.problems):
        desk.session.find(name)  # which says what is wrong with it
    from containarium.model import marks
    from containarium.model.observed import Look
    from containarium.report.environments import owned_instance

    instance = owned_instance(wired.host(wired.settings).observe(Look.SHALLOW), name)
    if instance is not None and instance.config.get(marks.RETIRED):
        until = instance.config.get(marks.PRUNE_AFTER)
        kept = f"until {until}" if until else "for ever"
        raise CommandError(
            f"{name} has left already, and its data is kept {kept}",
            f"containarium undelete {name} brings it back; to delete the data now, run delete --force after that",
        )
    desk.session.find(name)


def _after(wired: Wiring, desk: Desk, order: _Order) -> tuple[Plan, Observed]:
    """What would come of the deletion."""
    from containarium.sources.edit import Session, take_out

    trial = Desk(Session(desk.folder), desk.live, desk.checkout)
    take_out(trial.session, order.names, wired.clock().date())
    return foresee(wired, trial)


def _refuse_protected(desk: Desk, observed: Observed, names: Collection[str]) -> None:
    from containarium.plan.desired import PROTECTION
    from containarium.plan.resolve import suspended_here
    from containarium.report.environments import owned_instance

    left_alone = suspended_here(observed)
    for name in names:
        manifest = desk.session.find(name).manifest
        if manifest.environment.spec.deletion.protect:
            place = manifest.origin.locate("spec.deletion.protect")
            raise CommandError(f"{name} is protected: {place}", "write protect: false there first, if it may go")
        instance = owned_instance(observed, name)
        if instance is not None and instance.config.get(PROTECTION, "").lower() in ("true", "1", "yes", "on"):
            raise CommandError(
                f"{name} is protected on its container itself",
                "write deletion: {protect: false} into its manifest first, if it may go",
            )
        if name in left_alone or manifest.environment.metadata.suspended:
            raise CommandError(f"{name} is suspended, and left alone", f"containarium resume {name} first")


def _heed_interlocks(wired: Wiring, plan: Plan, order: _Order) -> None:
    from containarium.host import approvals

    for interlock in plan.interlocks:
        if set(order.names).isdisjoint(interlock.environments):
            continue
        if not interlock.digest:
            raise CommandError(f"nothing was deleted: {interlock.message}", interlock.remedy)
        if interlock.digest != order.approved:
            complain(
                f"containarium: error: nothing was deleted: {interlock.message}; to confirm exactly this set, run it "
                f"again with --approve {interlock.digest}"
            )
            raise typer.Exit(UNSAFE)
        approvals.approve(wired.settings.runtime, interlock, "retire", wired.clock())


# -- the deletion


@dataclass(frozen=True, slots=True)
class _Dropped:
    """Manifests that were taken out, by name. ``expired``: they had to stay, and say that they have expired."""

    desk: Desk
    files: dict[str, Path]
    expired: bool

    def undo(self, name: str) -> str:
        """How it comes back."""
        return f"take the field expires out of {self.files[name]}" if self.expired else f"containarium undelete {name}"


def _drop(wired: Wiring, order: _Order, *, again: bool) -> _Dropped:
    """Take the manifests out. ``again``: time has gone by, so what may be refused is looked at once more."""
    from containarium.sources.edit import take_out

    with editing(wired, order.manifests, order.command) as desk:
        if again:
            plan, observed = _after(wired, desk, order)
            _refuse_protected(desk, observed, order.names)
            _heed_interlocks(wired, plan, order)
        files = {name: desk.session.find(name).file for name in order.names}
        expired = take_out(desk.session, order.names, wired.clock().date())
        desk.session.commit()
    return _Dropped(desk, files, expired)


def _follow(wired: Wiring, order: _Order, dropped: _Dropped, word: Word) -> None:
    from containarium.cli.reach import erased, gone, say_only_written

    desk = dropped.desk
    if not desk.live or not order.wait:
        say_only_written(wired, desk.folder, live=desk.live)
        return
    _wait(wired, order, desk, gone)
    if order.at_once:
        _wait_for_end(wired, order, desk, erased)
        word.settle()
        _tell_deleted(wired, order, dropped)
        return
    _tell_retired(wired, order, dropped)


def _wait(wired: Wiring, order: _Order, desk: Desk, judge: Judge) -> None:
    from containarium.cli.reach import reach, settle
    from containarium.cli.stages import Stages

    verdicts = reach(wired, desk.folder, order.names, Stages(say), wait=order.wait, judge=judge)
    code = settle(verdicts, notes=False)
    if code:
        raise typer.Exit(code)


def _wait_for_end(wired: Wiring, order: _Order, desk: Desk, judge: Judge) -> None:
    """The data goes with the first pass after the shortest grace period."""
    wired.sleep(2.0)
    _wait(wired, order, desk, judge)


def _tell_retired(wired: Wiring, order: _Order, dropped: _Dropped) -> None:
    from containarium.model import marks
    from containarium.model.observed import Look
    from containarium.plan.retire import policy
    from containarium.report.environments import owned_instance

    observed = wired.host(wired.settings).observe(Look.SHALLOW)
    for name in order.names:
        instance = owned_instance(observed, name)
        if instance is None:
            say(f"{name}: gone. It had no container here, and so no data.", "green")
            continue
        until, rule = instance.config.get(marks.PRUNE_AFTER), policy(instance.config.get(marks.DELETION, ""))
        after = "then a backup is made and the data is deleted" if rule.backup else "then the data is deleted"
        kept = f"The data is kept until {until}, {after}" if until else "The data is kept for ever"
        say(f"{name}: nobody gets in any more. {kept}. Undo: {dropped.undo(name)}", "green")


def _tell_deleted(wired: Wiring, order: _Order, dropped: _Dropped) -> None:
    from containarium.host.backupfiles import saved

    for name in order.names:
        backups = saved(wired.settings.backups, name) if order.terms.backup else ()
        if backups:
            path = backups[0].path
            say(f"{name}: deleted. Its backup: {path}; back with: containarium restore {name} --from {path}", "green")
        else:
            say(f"{name}: deleted, for good.", "green")
        if dropped.expired:
            say(
                f"{name}: {dropped.files[name]} stays, expired: an empty folder would say nothing. It may be removed "
                "when there is another manifest"
            )
    if len(order.names) > 1:
        say(f"{count(len(order.names), 'environment')} deleted.")
