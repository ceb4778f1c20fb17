"""Backups, and what was taken away comes back: undelete writes a manifest again, restore makes a container."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from containarium.cli.errors import FAILED, CommandError, refuse_no_name
from containarium.cli.output import complain, say
from containarium.cli.survey import folder_of, read
from containarium.cli.wiring import Wiring, wiring
from containarium.model.marks import AT_ONCE

if TYPE_CHECKING:
    from datetime import date

    from containarium.model.environment import Environment
    from containarium.model.host import Progress
    from containarium.model.manifest import Load, Manifest

Name = Annotated[str, typer.Argument(help="The environment.", show_default=False)]


def backup(
    context: typer.Context,
    name: Name,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", metavar="FILE", help="File or folder to write it to.", show_default="the host's own folder"
        ),
    ] = None,
    stop: Annotated[
        bool, typer.Option("--stop", help="Stop the environment for it, and start it again: nothing changes meanwhile.")
    ] = False,
) -> None:
    """Make a backup of an environment now: everything in it, without its snapshots, checked by reading it back.

    Nobody is interrupted; what is being written at this moment is as a power cut would leave it. Its checksum is in a
    file beside it; whoever has both files has all that restore needs, on this host or on another.

    Example: containarium backup alice --output /mnt/offsite
    """
    wired = wiring(context)
    wired.require_root(f"backup {name}")
    say(keep(wired, name, output, stop=stop, tell=say), "green")


def keep(wired: Wiring, name: str, output: Path | None, *, stop: bool, tell: Progress) -> str:
    """Make a backup. Returns what there is to say of it. Raises CommandError and HostError."""
    from contextlib import nullcontext

    from containarium.cli.alone import alone_with, nudge

    refuse_no_name(name)
    with alone_with(wired, name, tell=tell) if stop else nullcontext():
        made = wired.backups(wired.settings).save(name, output, stop=stop, progress=tell)
    if stop:
        nudge(wired, "", tell)
    size = -(-made.size // 2**20)
    return (
        f"Backed up to {made.path}: {size} MiB, checked against {made.path.name}.sha256.\n"
        f"It comes back with: containarium restore {name} --from {made.path}"
    )


def restore(
    context: typer.Context,
    name: Name,
    source: Annotated[
        Path | None, typer.Option("--from", metavar="FILE", help="The backup.", show_default="the host's newest of it")
    ] = None,
    no_checksum: Annotated[
        bool, typer.Option("--no-checksum", help="Take a file that has no .sha256 file beside it.")
    ] = False,
) -> None:
    """Make the container of an environment from a backup, stopped and with nobody let in.

    With its manifest there, the next apply (or the running controller) starts it and opens the door again; without
    one it is retired, with a new grace period.
    """
    wired = wiring(context)
    wired.require_root(f"restore {name}")
    say(bring_back(wired, name, source, unchecked=no_checksum, tell=say), "green")


def bring_back(wired: Wiring, name: str, source: Path | None, *, unchecked: bool, tell: Progress) -> str:
    """Make a container of a backup, the newest of the host's own without one that is named.

    Returns what there is to say of it. Raises CommandError and HostError.
    """
    from containarium.model import marks

    refuse_no_name(name)
    _refuse_expired(wired, name)
    if source is None:
        source = newest(wired, name)
        tell(f"The newest backup of {name} is {source}")
    wired.restorer(wired.settings).restore(name, source, unchecked=unchecked, progress=tell)
    what = f"{name} is restored as {marks.instance_name(name)}, stopped."
    if _declared(wired, name):
        return f"{what} The running controller starts it; where none runs: containarium apply"
    return (
        f"{what} No manifest names it, so it is retired, with a new grace period; "
        f"its manifest comes back with: containarium undelete {name}"
    )


def newest(wired: Wiring, name: str) -> Path:
    """The newest backup of an environment in the host's own folder. Raises CommandError where there is none."""
    from containarium.host.backupfiles import saved

    found = saved(wired.settings.backups, name)
    if not found:
        raise CommandError(f"{wired.settings.backups} holds no backup of {name}", "name a file with --from")
    return found[0].path


def undelete(
    context: typer.Context,
    name: Name,
    manifests: Annotated[
        Path | None, typer.Option("--manifests", "-f", help="Folder of manifests.", show_default="the host's own")
    ] = None,
) -> None:
    """Write the manifest of a retired environment again, as it was last in force.

    Where the folder comes from git, it is only printed, for you to commit it. Exit code 0 when the manifest was
    written and brings the environment back.
    """
    wired = wiring(context)
    wired.require_root(f"undelete {name}")
    try:
        said = rewrite(wired, name, folder_of(wired, None, manifests), complain)
    except NotWrittenError as error:
        say(error.text.rstrip("\n"))
        complain(f"containarium: not written: {error}", "yellow")
        raise typer.Exit(FAILED) from None
    say(said, "green")


class NotWrittenError(CommandError):
    """A manifest has to be written by somebody else: its ``text``, and why."""

    def __init__(self, why: str, text: str) -> None:
        super().__init__(why)
        self.text = text


def rewrite(wired: Wiring, name: str, folder: Path, tell: Progress) -> str:
    """Write the manifest of a retired environment again, as its container carries it.

    Returns what there is to say of it. Raises HostError and CommandError, NotWrittenError where nothing may be written.
    """
    from containarium.host.files import write_new
    from containarium.model.packing import plain
    from containarium.sources.yamltext import as_text

    refuse_no_name(name)
    before = read(folder)
    now = wired.clock()
    _refuse_declared(before, name, now.date())
    environment = _recorded(wired, name)
    stamp = now.isoformat(timespec="seconds")
    data = plain(environment)
    deletion = data["spec"].get("deletion", {})
    if deletion.get("grace") == AT_ONCE:
        del deletion["grace"]
        tell("Its grace period of a second, for a deletion at once, is left out: the usual one counts again.")
    text = as_text(data, f"Written by containarium undelete on {stamp}, from the container's own record.")
    path = folder / f"{name}.yaml"
    if obstacle := _obstacle(wired, folder, path) or _refused(folder, path, text, before):
        raise NotWrittenError(obstacle, text)
    try:
        write_new(path, text)
    except FileExistsError:
        raise CommandError(f"{path} exists already", "move it away first") from None
    return _written(read(folder), name, path, now.date())


def _written(after: Load, name: str, path: Path, today: date) -> str:
    manifest = next((manifest for manifest in after.manifests if manifest.name == name), None)
    if manifest is not None and (expired := _expired(manifest, today)):
        raise CommandError(f"written to {path}, and changes nothing yet: {expired}", _LATER)
    return f"Written to {path}. The running controller brings {name} back; where none runs: containarium apply"


_LATER = "write a later date there, or leave the field out"


def _expired(manifest: Manifest, today: date) -> str:
    """Where it says that it has expired; empty when it has not."""
    expires = manifest.environment.spec.expires
    if expires is None or expires >= today:
        return ""
    return f"{manifest.origin.locate('spec.expires')}: spec.expires: {manifest.name} expired on {expires}"


def _refuse_expired(wired: Wiring, name: str) -> None:
    """A container whose manifest has expired would be retired at once, and its grace period may be a second."""
    folder = wired.settings.manifests
    for manifest in read(folder).manifests if folder.is_dir() else ():
        if manifest.name == name and (expired := _expired(manifest, wired.clock().date())):
            short = str(manifest.environment.spec.deletion.grace) == AT_ONCE
            more = f", and take deletion.grace: {AT_ONCE} out" if short else ""
            raise CommandError(f"what is restored would be taken away again: {expired}", f"{_LATER}{more}")


def _refuse_declared(found: Load, name: str, today: date) -> None:
    """A manifest that is there is not brought back; one that may be there is not doubled."""
    for manifest in found.manifests:
        if manifest.name == name:
            if expired := _expired(manifest, today):
                raise CommandError(expired, _LATER)
            raise CommandError(f"{name} is not retired: its manifest is {manifest.origin.locate('metadata.name')}")
    for problem in found.problems:
        if problem.environment == name:
            raise CommandError(f"{name} has a manifest that does not load: {problem}")
        if not found.complete and problem.reason != "SourceEmpty":
            raise CommandError(f"the manifests cannot be read whole: {problem}")


def _recorded(wired: Wiring, name: str) -> Environment:
    """The manifest that the environment's container carries."""
    from containarium.model import marks
    from containarium.model.observed import Look
    from containarium.model.packing import unpack

    instance = wired.host(wired.settings).observe(Look.SHALLOW).instances.get(marks.instance_name(name))
    if instance is None or instance.config.get(marks.ENVIRONMENT) != name:
        raise _gone(wired, name)
    packed = instance.config.get(marks.MANIFEST, "")
    if not packed:
        raise CommandError(
            f"{instance.name} does not carry its manifest",
            f"write {name}.yaml anew: the container and its data come back with it",
        )
    try:
        environment = unpack(packed)
        if environment.metadata.name != name:
            raise ValueError(f"it is that of {environment.metadata.name}")
    except ValueError:
        raise CommandError(
            f"the manifest that {instance.name} carries was changed and cannot be read",
            f"write {name}.yaml anew: the container and its data come back with it",
        ) from None
    return environment


def _gone(wired: Wiring, name: str) -> CommandError:
    from containarium.host.backupfiles import saved

    backups = saved(wired.settings.backups, name)
    if backups:
        path = backups[0].path
        return CommandError(
            f"the container of {name} is gone; its last backup is {path}",
            f"containarium restore {name} --from {path}",
        )
    return CommandError(f"there is no environment {name} on this host", "containarium list shows those there are")


def _obstacle(wired: Wiring, folder: Path, path: Path) -> str:
    """Why nothing may be written there; empty when it may."""
    if checkout := _checkout(wired, folder):
        return f"{folder} comes from git ({checkout}); commit the above as {path.name}"
    if path.exists() or path.is_symlink():
        return f"{path} exists already; move it away, or write the above to another file"
    return ""


def _checkout(wired: Wiring, folder: Path) -> Path | None:
    """The checkout that the folder is in. etckeeper's record of /etc is none that anybody deploys from."""
    real = folder.resolve()
    for parent in (real, *real.parents):
        if parent == wired.settings.sync.resolve():
            return parent
        if (parent / ".git").exists() and not (parent / ".etckeeper").exists():
            return parent
    return None


def _refused(folder: Path, path: Path, text: str, before: Load) -> str:
    """What would not load with it there; empty when everything does that did before."""
    from containarium.sources.directory import load
    from containarium.sources.folder import SourceFile

    after = load(folder, also=[SourceFile(str(path), text.encode())])
    fresh = [problem for problem in after.problems if problem not in before.problems]
    return str(fresh[0]) if fresh else ""


def _declared(wired: Wiring, name: str) -> bool:
    folder = wired.settings.manifests
    return folder.is_dir() and any(manifest.name == name for manifest in read(folder).manifests)
