"""The command delete: a manifest goes away, access with it, and the data when its time is over and not before."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from containarium.cli.editing import PATIENCE, Desk, Manifests, Wait, editing, foresee, refuse_synced
from containarium.cli.errors import UNSAFE, CommandError
from containarium.cli.output import complain, count, say
from containarium.cli.wiring import Wiring, wiring

if TYPE_CHECKING:
    from containarium.cli.reach import Judge
    from containarium.model.observed import Observed
    from containarium.plan.decision import Plan

_AT_ONCE: Final = "1s"
"""The shortest grace period that a manifest can have."""
_EMPTY: Final = "SourceEmpty"


@dataclass(frozen=True, slots=True)
class _Order:
    """What was asked for. ``at_once``: the grace period is skipped."""

    names: tuple[str, ...]
    backup: bool
    at_once: bool
    approved: str
    manifests: Path | None
    wait: float

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
    order = _Order(unique, force if backup is None else backup, force, approve.strip().lower(), manifests, wait)
    _foretell(wired, order, explicit=backup is not None)
    desk, undo = _drop(wired, order)
    _follow(wired, order, desk, undo)


# -- before anything is gone


def _foretell(wired: Wiring, order: _Order, *, explicit: bool) -> None:
    """Refuse what would be refused later, then write down how the data goes, where it goes otherwise than declared."""
    with editing(wired, order.manifests, order.command) as desk:
        for name in order.names:
            _refuse_unwritten(wired, desk, name)
            refuse_synced(desk, name, "metadata.name")
        if desk.live:
            plan, observed = _after(wired, desk, order)
            _refuse_protected(desk, observed, order.names)
            _heed_interlocks(wired, plan, order)
            there = [name for name in order.names if _has_instance(observed, name)]
        elif order.at_once or explicit:
            raise CommandError(
                f"this host does not follow {desk.folder}, so how the data goes cannot be said here",
                "write deletion: {backup: true} into the manifest, and delete it when the host has followed",
            )
        else:
            there = []
    todo = [name for name in there if order.at_once or explicit]
    if todo:
        _write_how(wired, order, todo)


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


def _has_instance(observed: Observed, name: str) -> bool:
    from containarium.report.environments import owned_instance

    return owned_instance(observed, name) is not None


def _write_how(wired: Wiring, order: _Order, names: list[str]) -> None:
    """Let the manifests say how the data goes, and wait until that stands on the containers themselves."""
    from containarium.cli.follow import follow
    from containarium.model.environment import DeletionPolicy
    from containarium.sources.edittext import SetField

    with editing(wired, order.manifests, order.command) as desk:
        for name in names:
            manifest = desk.session.find(name).manifest
            deletion = manifest.environment.spec.deletion
            changes = []
            if deletion.backup is not order.backup:
                changes.append(SetField(("spec", "deletion", "backup"), order.backup))
            if order.at_once and deletion.policy is DeletionPolicy.RETAIN:
                place = manifest.origin.locate("spec.deletion.policy")
                raise CommandError(f"the data of {name} is to be kept for ever: {place}", "write policy: Retire there")
            if order.at_once and str(deletion.grace) != _AT_ONCE:
                changes.append(SetField(("spec", "deletion", "grace"), _AT_ONCE))
            if changes:
                desk.session.change(name, changes)
        written = desk.session.commit()
    if desk.live and written:
        # The wish stands on the container when its manifest is gone: that has to be true before it goes.
        follow(wired, desk, names, max(order.wait, PATIENCE), f"{', '.join(names)}: {_how(order)}")


def _how(order: _Order) -> str:
    kept = "a checked backup is made before the data is deleted" if order.backup else "no backup will be made"
    return f"no grace period, {kept}" if order.at_once else kept


# -- the deletion


def _drop(wired: Wiring, order: _Order) -> tuple[Desk, dict[str, str]]:
    """Take the manifests out. Returns for each name how to undo it."""
    from containarium.sources.edit import take_out

    with editing(wired, order.manifests, order.command) as desk:
        files = {name: desk.session.find(name).file for name in order.names}
        expired = take_out(desk.session, order.names, wired.clock().date())
        desk.session.commit()
    return desk, {
        name: f"take the field expires out of {files[name]}" if expired else f"containarium undelete {name}"
        for name in order.names
    }


def _follow(wired: Wiring, order: _Order, desk: Desk, undo: dict[str, str]) -> None:
    from containarium.cli.reach import erased, gone, say_only_written

    if not desk.live or not order.wait:
        say_only_written(wired, desk.folder, live=desk.live)
        return
    _wait(wired, order, desk, gone)
    if order.at_once:
        _wait_for_end(wired, order, desk, erased)
        _tell_deleted(wired, order)
        return
    _tell_retired(wired, order, undo)


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


def _tell_retired(wired: Wiring, order: _Order, undo: dict[str, str]) -> None:
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
        say(f"{name}: nobody gets in any more. {kept}. Undo: {undo[name]}", "green")


def _tell_deleted(wired: Wiring, order: _Order) -> None:
    from containarium.host.backupfiles import saved

    for name in order.names:
        backups = saved(wired.settings.backups, name) if order.backup else ()
        if backups:
            path = backups[0].path
            say(f"{name}: deleted. Its backup: {path}; back with: containarium restore {name} --from {path}", "green")
        else:
            say(f"{name}: deleted, for good.", "green")
    if len(order.names) > 1:
        say(f"{count(len(order.names), 'environment')} deleted.")
