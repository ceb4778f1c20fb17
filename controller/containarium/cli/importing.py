"""The command import: manifests of what is on the host already, and what would come of them."""

from __future__ import annotations

import contextlib
import io
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from containarium.cli.editing import Checkout, checkout_of
from containarium.cli.errors import FAILED, CommandError
from containarium.cli.output import complain, count, printable, say
from containarium.cli.survey import read
from containarium.cli.wiring import Wiring, wiring

if TYPE_CHECKING:
    from containarium.model.manifest import Load, Manifest
    from containarium.model.observed import Account, Observed
    from containarium.plan.decision import Plan
    from containarium.plan.imported import Draft
    from containarium.plan.inventory import Seen

_ACCOUNT_CONFLICT = "metadata.name"
_MOST_ORPHANS = 20


@dataclass(frozen=True, slots=True)
class _Made:
    """A manifest that was made, as text."""

    draft: Draft
    text: str

    @property
    def file(self) -> str:
        return f"{self.draft.name}.yaml"


def import_(
    context: typer.Context,
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[NAME]...", help="Environments or containers.", show_default=False)
    ] = None,
    all_: Annotated[bool, typer.Option("--all", help="Everything on this host that no manifest declares yet.")] = False,
    write: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Write NAME.yaml files there; none is ever replaced.")
    ] = None,
) -> None:
    """Make manifests of containers and accounts that are here already, and say what would come of them.

    They describe what is: limits, disk, address, keys (those inside and those of the host's account). Comments say what
    was guessed. A foreign container is taken over with the annotation containarium.dev/adopt, when that needs no
    restart; what would change and what is in the way is told. The host itself is only looked at.

    Example: containarium import --all --write ./environments
    """
    wired = wiring(context)
    wired.require_root("import")
    wanted = frozenset(names or ())
    if bool(wanted) == all_:
        raise CommandError("say what to import", "name environments, or give --all")
    importer = wired.importer(wired.settings)
    there = importer.seen(())  # all of them: a key that many have is nobody's
    seen = [one for one in there if all_ or one.name in wanted or one.instance in wanted]
    if missing := sorted(wanted - {one.name for one in seen} - {one.instance for one in seen}):
        raise CommandError(f"there is no container of {', '.join(missing)}", "see incus list")
    made, skipped = _drafted(wired, there, seen)
    texts = [_Made(draft, _text(draft)) for draft in made if draft.data]
    told = _told(wired, [*made, *skipped], texts, {one.name: one for one in seen})
    synced = _checkout(wired, write)
    if write is not None and synced is None:
        _write(write, texts)
    elif texts:
        say("---\n".join(one.text for one in texts).rstrip("\n"))
    for line, colour in told:
        complain(line, colour)
    if all_:
        _tell_orphans(importer.orphans())
    if write is not None and synced is not None and texts:
        raise CommandError(
            f"{write} comes from git ({synced.source}), so nothing is written there",
            f"commit the above there as {', '.join(synced.file(one.file) for one in texts)}",
        )
    if any(not draft.data for draft in made):
        raise typer.Exit(FAILED)


def _declared(wired: Wiring) -> Load:
    from containarium.model.manifest import Load

    folder = wired.settings.manifests
    return read(folder) if folder.is_dir() else Load()


def _drafted(wired: Wiring, there: Sequence[Seen], seen: Sequence[Seen]) -> tuple[list[Draft], list[Draft]]:
    """Drafts of those that were asked for and no manifest declares, and what is said of the others."""
    from containarium.plan.imported import Draft, drafts

    load = _declared(wired)
    places = {manifest.name: str(manifest.origin.locate("metadata.name")) for manifest in load.manifests}
    places |= {p.environment: str(p.location) for p in load.problems if p.environment}
    keys = {key.identity: manifest.name for manifest in load.manifests for key in manifest.keys}
    fresh = {one.instance for one in seen if one.name not in places}
    declared = [Draft(s.name, s.instance, remarks=(f"declared in {places[s.name]}",)) for s in seen if s.name in places]
    made = drafts(there, keys, wired.settings.pool, wired.settings.bridge)
    return [draft for draft in made if draft.instance in fresh], declared


# -- text


def _text(draft: Draft) -> str:
    """The manifest as YAML, with the notes behind their fields."""
    from ruamel.yaml import YAML
    from ruamel.yaml.comments import CommentedMap, CommentedSeq

    def commented(data: Any, path: str) -> Any:
        if isinstance(data, Mapping):
            found = CommentedMap()
            for key, value in data.items():
                below = f"{path}.{key}" if path else str(key)
                found[key] = commented(value, below)
                if note := draft.notes.get(below):
                    found.yaml_add_eol_comment(_one_line(note), key)
            return found
        if isinstance(data, list | tuple):
            listed = CommentedSeq(commented(value, f"{path}.{number}") for number, value in enumerate(data))
            for number in range(len(listed)):
                if note := draft.notes.get(f"{path}.{number}"):
                    listed.yaml_add_eol_comment(_one_line(note), number)
            return listed
        return data

    writer = YAML()
    writer.width = 1 << 14
    writer.indent(mapping=2, sequence=4, offset=2)
    text = io.StringIO()
    where = draft.notes.get("", "from what it is now")
    text.write(f"# Made by containarium import of {_one_line(draft.instance)}, {_one_line(where)}.\n")
    for remark in draft.remarks:
        text.write(f"# - {_one_line(remark)}\n")
    writer.dump(commented(draft.data, ""), text)
    return text.getvalue()


def _one_line(text: str) -> str:
    return " ".join(printable(text).split())


def _checkout(wired: Wiring, folder: Path | None) -> Checkout | None:
    """The repository that the folder comes from. What is written there goes with the next commit, and with it whoever
    was taken over by it.
    """
    if folder is None:
        return None
    return checkout_of(wired, folder, live=folder.resolve() == wired.settings.manifests.resolve())


def _write(folder: Path, texts: Sequence[_Made]) -> None:
    """All of them or none: a place that is taken is found before the first is written."""
    from containarium.host.files import make_folder, write_new

    taken = [folder / one.file for one in texts if (folder / one.file).exists() or (folder / one.file).is_symlink()]
    if taken:
        raise CommandError(f"{taken[0]} exists already", "move it away, or write to another folder")
    make_folder(folder)
    for one in texts:
        try:
            write_new(folder / one.file, one.text)
        except FileExistsError:
            raise CommandError(f"{folder / one.file} exists already", "move it away") from None
    say(f"{count(len(texts), 'manifest')} written to {folder}.", "green")


# -- what would come of them


def _told(
    wired: Wiring, drafts: Sequence[Draft], texts: Sequence[_Made], seen: Mapping[str, Seen]
) -> list[tuple[str, str | None]]:
    """What there is to say of each, and in which colour. To be asked before anything is written."""
    from containarium.model.observed import Look

    observed = wired.host(wired.settings).observe(Look.SHALLOW)
    manifests, plan = _foreseen(wired, texts, observed)
    found: list[tuple[str, str | None]] = []
    for draft in sorted(drafts, key=lambda draft: draft.name):
        if not draft.data:
            found.append((f"{draft.name}: not imported: {'; '.join(draft.remarks)}", "yellow"))
            continue
        outlook = _outlook(manifests.get(draft.name), plan, observed, seen[draft.name].account)
        found += [(f"{draft.name}: {line}", None) for line in outlook]
        found += [(f"{draft.name}: {remark}", "yellow") for remark in draft.remarks]
    return found


def _foreseen(wired: Wiring, texts: Sequence[_Made], observed: Observed) -> tuple[dict[str, Manifest], Plan]:
    """The plan that the reconciler itself would make, with these manifests beside those that are there."""
    from containarium.plan.planner import make_plan
    from containarium.sources.directory import load
    from containarium.sources.folder import SourceFile

    with _folder(wired) as folder:
        loaded = load(folder, also=[SourceFile(one.file, one.text.encode()) for one in texts])
    manifests = {manifest.name: manifest for manifest in loaded.manifests}
    return manifests, make_plan(loaded, observed, wired.clock())


@contextlib.contextmanager
def _folder(wired: Wiring) -> Iterator[Path]:
    """The folder of manifests, or an empty one where there is none yet."""
    if wired.settings.manifests.is_dir():
        yield wired.settings.manifests
        return
    with tempfile.TemporaryDirectory() as empty:
        yield Path(empty)


def _outlook(manifest: Manifest | None, plan: Plan, observed: Observed, account: Account | None) -> Iterator[str]:
    name = manifest.name if manifest is not None else ""
    problems = [problem for problem in plan.problems if problem.environment == name]
    if manifest is None:
        mine = [str(problem) for problem in plan.problems if problem.reason != "SourceEmpty"][:1]
        yield f"does not load as it is: {mine[0] if mine else 'see containarium validate'}"
        return
    for problem in problems:
        yield _way_out(account) if account is not None and problem.field == _ACCOUNT_CONFLICT else str(problem)
    found = next((environment for environment in plan.environments if environment.name == name), None)
    changes = _changes(manifest, observed) if problems else list(found.changes if found else ())
    words = [f"{c.field}: {c.before or 'unset'} -> {c.after or 'unset'} [{c.impact}]" for c in changes]
    if problems:
        yield (
            f"once that is solved, {count(len(words), 'field')} would change: {', '.join(words)}"
            if words
            else ("once that is solved, nothing would change")
        )
    elif words:
        yield f"is taken over while it runs; {count(len(words), 'field')} would change: {', '.join(words)}"
    else:
        yield "plans as empty: nothing would change"


def _changes(manifest: Manifest, observed: Observed) -> list[Any]:
    """What would be changed of its container, whatever is still in the way."""
    from containarium.model import marks
    from containarium.plan.compare import compare_instance
    from containarium.plan.desired import desire

    instance = observed.instances.get(marks.instance_name(manifest.name))
    address = manifest.environment.spec.network.ipv4
    if instance is None or address is None:
        return []
    found = compare_instance(desire(manifest, observed.host, str(address)), instance)
    return [*found.changes, *found.notices]


def _way_out(account: Account) -> str:
    """How a foreign account of this name becomes its jump account, by the admin's own hand."""
    from containarium.host.importing import looks_like_jump
    from containarium.model import marks

    who = f"the account {account.name} (uid {account.uid}, {account.shell})"
    if not looks_like_jump(account):
        return (
            f"{who} is somebody's login on this host, and stays theirs: rename the container "
            f"(incus stop {account.name}-container; incus rename {account.name}-container NEW-container)"
        )
    return (
        f"{who} is not ours. To hand it over: usermod -g {marks.JUMP_GROUP} -c "
        f"'{marks.account_comment(account.name)}' {account.name}; its home stays, and the keys in it open nothing more"
    )


def _tell_orphans(orphans: Sequence[str]) -> None:
    if orphans:
        more = f" and {len(orphans) - _MOST_ORPHANS} more" if len(orphans) > _MOST_ORPHANS else ""
        complain(
            f"Accounts that look like old jump accounts and have no container here: "
            f"{', '.join(orphans[:_MOST_ORPHANS])}{more}. They are left as they are; userdel removes one.",
            "yellow",
        )
