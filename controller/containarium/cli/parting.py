"""How the data of those who leave goes: their manifests say it, then their containers, and only then may they leave.

What fails before they have left is taken back. A grace period of a second that stayed behind would have the next
deletion, which promises days, destroy the data.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from containarium.cli.editing import Desk
from containarium.cli.errors import CommandError
from containarium.cli.wiring import Wiring
from containarium.model.host import Progress
from containarium.model.marks import AT_ONCE

if TYPE_CHECKING:
    from containarium.model.action import UpdateInstance
    from containarium.model.environment import Deletion
    from containarium.model.manifest import Manifest
    from containarium.model.observed import Observed
    from containarium.sources.edittext import SetField

_TRIES: Final = 3

Edit = Callable[[], AbstractContextManager[Desk]]
"""Opens the folder of the manifests for one edit."""


@dataclass(frozen=True, slots=True)
class Terms:
    """How the data is to go. ``backup``: None leaves that as declared. ``at_once``: the grace period is skipped."""

    backup: bool | None = None
    at_once: bool = False


def refuse_unclear(manifest: Manifest, terms: Terms) -> None:
    """Refuse where manifest and terms contradict each other. Raises CommandError."""
    from containarium.model.environment import DeletionPolicy

    deletion, name = manifest.environment.spec.deletion, manifest.name
    if deletion.policy is DeletionPolicy.RETAIN:
        if terms.at_once:
            place = manifest.origin.locate("spec.deletion.policy")
            raise CommandError(f"the data of {name} is to be kept for ever: {place}", "write policy: Retire there")
    elif str(deletion.grace) == AT_ONCE and not terms.at_once:
        raise CommandError(
            f"{manifest.origin.locate('spec.deletion.grace')}: spec.deletion.grace: the data of {name} would be "
            f"deleted after {AT_ONCE}, which a delete --force that was cut short leaves behind",
            "write 7d there, or run delete --force if that is meant",
        )


def unsaid(observed: Observed, manifest: Manifest, terms: Terms) -> bool:
    """Whether there is data here of which its container may not say yet how it is to go."""
    from containarium.model import marks
    from containarium.plan.desired import deletion_mark
    from containarium.report.environments import owned_instance

    instance = owned_instance(observed, manifest.name)
    if instance is None:
        return False
    said = instance.config.get(marks.DELETION) == deletion_mark(manifest)
    return terms.at_once or terms.backup is not None or not said


@contextmanager
def word_given(
    wired: Wiring, edit: Edit, names: Collection[str], terms: Terms, sleep: Callable[[float], None], tell: Progress
) -> Iterator[Word]:
    """Let manifests and containers of these say how the data goes; in the block their manifests are taken out.

    Whatever ends it early is raised after all of that was taken back, which is told. Raises CommandError, HostError,
    and what ``edit`` and ``sleep`` raise.
    """
    word = Word(wired, edit, names, terms, sleep, tell)
    try:
        word.give()
        yield word
    except BaseException:
        word.take_back()
        raise


class Word:
    """What was said for one deletion, and what was said before."""

    def __init__(
        self, wired: Wiring, edit: Edit, names: Collection[str], terms: Terms, sleep: Callable[[float], None],
        tell: Progress,
    ) -> None:  # fmt: skip
        self._wired = wired
        self._edit = edit
        self._names = tuple(names)
        self._terms = terms
        self._sleep = sleep
        self._tell = tell
        self._before: dict[str, Manifest] = {}
        """Those whose manifest is changed, as it was."""
        self._files: dict[Path, tuple[bytes, bytes]] = {}
        """Their files, before and after."""
        self._undo: dict[str, UpdateInstance] = {}

    def give(self) -> None:
        """Write it down, in the manifests and then on the containers."""
        if not self._names:
            return
        manifests = self._write()
        for name in self._names:
            self._mark(manifests[name])

    def take_back(self) -> None:
        """Put back what was there before, of everybody whose manifest is still there. Never raises an Exception."""
        if not self._before and not self._undo:
            return
        try:
            left = self._rewrite()
        except Exception as error:  # noqa: BLE001 - why it came to this is what the person has to read
            names = ", ".join(self._before)
            self._tell(f"the manifests of {names} still say {self._said}: {error}; change that before you delete them")
            return
        for name in (name for name in left if name in self._undo):
            try:
                self._wired.host(self._wired.settings).execute(self._undo[name])
            except Exception as error:  # noqa: BLE001 - as above; a later delete looks at the container first
                self._tell(f"the container of {name} may still say {self._said} until the next apply: {error}")
        if left and self._all_there(left):
            self._tell(f"nothing was deleted, and how the data of {', '.join(left)} goes is again as it was declared")

    def settle(self) -> None:
        """The data is gone: manifests that had to stay say again what they said."""
        if self._before:
            with self._edit() as desk:
                self._say_again(desk)

    @property
    def _said(self) -> str:
        backup = "" if self._terms.backup is None else f"backup: {str(self._terms.backup).lower()}"
        return (
            "deletion: {" + ", ".join(filter(None, (f"grace: {AT_ONCE}" if self._terms.at_once else "", backup))) + "}"
        )

    # -- the manifests

    def _write(self) -> dict[str, Manifest]:
        """Let the manifests say it. Returns them as they are then."""
        from containarium.sources.edit import Session
        from containarium.sources.editfile import content

        with self._edit() as desk:
            paths, changed = set(), {}
            for name in self._names:
                found = desk.session.find(name)
                refuse_unclear(found.manifest, self._terms)
                deletion, grace = found.manifest.environment.spec.deletion, AT_ONCE if self._terms.at_once else None
                if changes := _changes(deletion, self._terms.backup, grace):
                    desk.session.change(name, changes)
                    paths.add(found.file)
                    changed[name] = found.manifest
            before = {path: content(path) for path in paths}
            desk.session.check()
            self._before = changed  # from here on there may be something to take back
            desk.session.commit()
            self._files = {path: (data, content(path)) for path, data in before.items()}
            after = Session(desk.folder)
            return {name: after.find(name).manifest for name in self._names}

    def _rewrite(self) -> list[str]:
        """Take the edit back. Returns those who have a manifest still: the others have left."""
        from containarium.sources.edit import Session
        from containarium.sources.editfile import swap
        from containarium.sources.edittext import EditRefusedError

        with self._edit() as desk:
            for path, (before, after) in self._files.items():
                try:
                    swap(path, after, before)
                except (EditRefusedError, OSError):  # somebody else has changed it, or it is gone
                    continue
            fresh = Desk(Session(desk.folder), desk.live, desk.checkout)
            self._say_again(fresh)
            return [name for name in self._names if fresh.session.manifest(name) is not None]

    def _say_again(self, desk: Desk) -> None:
        for name, was in self._before.items():
            now = desk.session.manifest(name)
            if now is None:
                continue
            old = was.environment.spec.deletion
            if changes := _changes(now.environment.spec.deletion, old.backup, str(old.grace)):
                desk.session.change(name, changes)
        desk.session.commit()

    # -- the containers

    def _mark(self, manifest: Manifest) -> None:
        """Let the container say it, whether or not anybody could log in there.

        It is written here and not waited for: who breaks their own guest, or was made by half, never gets ready.
        Nobody works by an older manifest meanwhile, and a controller that looks later finds nothing to do.
        """
        from containarium.cli.alone import alone_with

        name = manifest.name
        if name not in self._before and self._due(manifest) is None:
            return
        with alone_with(self._wired, name, self._sleep, self._tell):
            for _ in range(_TRIES):
                action = self._due(manifest)
                if action is None:
                    return
                self._wired.host(self._wired.settings).execute(action)
            if self._due(manifest) is not None:
                raise CommandError(
                    f"the container of {name} does not take what becomes of its data",
                    f"see incus config show {manifest.name}-container",
                )

    def _due(self, manifest: Manifest) -> UpdateInstance | None:
        """What the container has to be told; None where it says so already. How to undo it is noted."""
        from containarium.model.action import UpdateInstance
        from containarium.model.observed import Look
        from containarium.plan.desired import deletion_mark
        from containarium.report.environments import owned_instance

        name = manifest.name
        observed = self._wired.host(self._wired.settings).observe(Look.SHALLOW)
        instance = owned_instance(observed, name)
        config = _unsaid_config(observed, manifest, self._wired) if instance is not None else {}
        if instance is None or not config:
            return None
        from containarium.model import marks

        was = {key: instance.config.get(key, "") for key in config}
        was[marks.DELETION] = deletion_mark(self._before.get(name, manifest))
        self._undo.setdefault(name, UpdateInstance(environment=name, instance=instance.name, config=was))
        return UpdateInstance(environment=name, instance=instance.name, config=config)

    def _all_there(self, names: Collection[str]) -> bool:
        """Whether nothing of these is gone, as far as anybody can see."""
        from containarium.model.observed import Look
        from containarium.report.environments import owned_instance

        try:
            observed = self._wired.host(self._wired.settings).observe(Look.SHALLOW)
        except Exception:  # noqa: BLE001 - nobody can look: their manifests are there, so nobody was to go
            return True
        return all(owned_instance(observed, name) is not None for name in names if name in self._undo)


def _unsaid_config(observed: Observed, manifest: Manifest, wired: Wiring) -> dict[str, str]:
    """Keys that the container of this manifest has to get; empty where it has them."""
    from containarium.model import marks
    from containarium.model.action import UpdateInstance
    from containarium.plan.desired import deletion_mark
    from containarium.plan.retire import departures, retire
    from containarium.report.environments import owned_instance

    instance, mark, now = owned_instance(observed, manifest.name), deletion_mark(manifest), wired.clock()
    if instance is None or instance.config.get(marks.DELETION) == mark:
        return {}
    expires = manifest.environment.spec.expires
    if expires is not None and expires < now.date():
        # It has expired and is retired already: its dates go by the new mark, as the next pass would write them.
        for departure in departures(observed, frozenset(), (manifest,)):
            if departure.name == manifest.name and departure.retired:
                updates = [action for action in retire(departure, now).actions if isinstance(action, UpdateInstance)]
                return {key: value for action in updates for key, value in action.config.items()}
    return {marks.DELETION: mark}


def _changes(now: Deletion, backup: bool | None, grace: str | None) -> list[SetField]:
    """What has to be written so that a manifest says this; None stays as it is."""
    from containarium.sources.edittext import SetField

    changes = []
    if backup is not None and now.backup is not backup:
        changes.append(SetField(("spec", "deletion", "backup"), backup))
    if grace is not None and str(now.grace) != grace:
        changes.append(SetField(("spec", "deletion", "grace"), grace))
    return changes
