"""The command create: manifests of new environments, and what their people need to log in."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from containarium.cli.editing import PATIENCE, Desk, Manifests, Wait, editing, foresee, refuse_problems
from containarium.cli.errors import CommandError
from containarium.cli.export import DEFAULT_KEY, JumpHost, JumpPort, KeyPath, Way
from containarium.cli.output import count, say
from containarium.cli.wanted import Wanted, document, key_sources, table, table_name, worded, words
from containarium.cli.wiring import Wiring, wiring

if TYPE_CHECKING:
    from containarium.model.observed import Observed
    from containarium.model.problem import Location

_SEVERAL = "May be given several times."
_MARK = "Written by containarium create on"
"""With this begins a file that a table made, and that others may be added to."""


Names = Annotated[list[str] | None, typer.Argument(metavar="NAME...", help="The environments.", show_default=False)]
SSHKeys = Annotated[
    list[str] | None,
    typer.Option(
        metavar="KEY",
        help=f"Public key, as text or the path of its file; {{name}} in a path stands for NAME. {_SEVERAL}",
        show_default="keys/NAME.pub beside the manifests",
    ),
]
Cpu = Annotated[str | None, typer.Option(help="A number of CPUs, or CPU ids: 0-3.", show_default="4")]
Memory = Annotated[str | None, typer.Option(help="Memory, such as 8GiB.", show_default="4GiB")]
Disk = Annotated[
    str | None, typer.Option("--disk", "--disk-quota", help="Disk quota, such as 50GiB.", show_default="50GiB")
]
Image = Annotated[str | None, typer.Option(help="What the system is made from.", show_default="images:ubuntu/24.04")]
Docker = Annotated[bool | None, typer.Option("--docker/--no-docker", help="Docker inside.", show_default="no")]
Packages = Annotated[
    list[str] | None, typer.Option(metavar="P,...", help=f"Debian packages. {_SEVERAL}", show_default=False)
]
Labels = Annotated[list[str] | None, typer.Option(metavar="K=V,...", help=f"Labels. {_SEVERAL}", show_default=False)]
Autostart = Annotated[
    bool | None, typer.Option("--autostart/--no-autostart", help="Start with the host.", show_default="yes")
]
Expires = Annotated[str | None, typer.Option(metavar="DATE", help="Last day: 2026-12-31.", show_default="never")]
Class = Annotated[
    str | None,
    typer.Option("--class", help="The EnvironmentClass that says what is not said here.", show_default=False),
]
OnHost = Annotated[str | None, typer.Option(help="The host it runs on.", show_default="this one")]
Table = Annotated[
    Path | None,
    typer.Option("--from", metavar="CSV", help="One environment per row, see above.", show_default=False),
]
Export = Annotated[
    Path | None,
    typer.Option("--export", metavar="FOLDER", help="Write NAME.ssh files there, as export does.", show_default=False),
]


def create(
    context: typer.Context,
    names: Names = None,
    ssh_key: SSHKeys = None,
    cpu: Cpu = None,
    memory: Memory = None,
    disk: Disk = None,
    image: Image = None,
    docker: Docker = None,
    packages: Packages = None,
    labels: Labels = None,
    autostart: Autostart = None,
    expires: Expires = None,
    class_: Class = None,
    host: OnHost = None,
    source: Table = None,
    jump_host: JumpHost = None,
    jump_port: JumpPort = None,
    key: KeyPath = DEFAULT_KEY,
    export: Export = None,
    manifests: Manifests = None,
    wait: Wait = PATIENCE,
) -> None:
    """Write the manifests of new environments, see them come to be, and print what their people need to log in.

    Example: containarium create alice --ssh-key alice.pub --cpu 2 --memory 8GiB --disk 50GiB --docker

    The first row of a table has the names of its columns: name, key, cpu, memory,
    disk, image, docker, packages, labels, autostart, expires, class, host.

    All but name may be missing or empty; options hold for every row that does
    not say otherwise. A key is its text or a file's path, several with ; between.
    Packages, and labels such as team=ml, have blanks between them. The table
    names the file of manifests; where it made that already, rows are added to it.

    Nothing is written unless everything is valid, here and on the host.
    """
    from containarium.cli.welcome import refuse_way

    wired = wiring(context)
    common = Wanted(
        key=tuple(ssh_key or ()), cpu=cpu, memory=memory, disk=disk, image=image, docker=docker,
        packages=words(packages or ()), labels=words(labels or ()), autostart=autostart, expires=expires,
        class_=class_, host=host,
    )  # fmt: skip
    wanted, way = _wanted(names or [], source), Way(jump_host, jump_port, key)
    with editing(wired, manifests, "create", make=True) as desk:
        if desk.live and wait and desk.checkout is None:
            refuse_way(wired, way, export)
        _draft(wired, desk, wanted, common, source)
        files = desk.session.commit()
    _follow(wired, desk, [one.name for one in wanted], way, files, wait=wait, export=export)


def _wanted(names: list[str], source: Path | None) -> list[Wanted]:
    wanted = [Wanted(name=name) for name in names] + (table(source) if source is not None else [])
    if not wanted:
        raise CommandError("there is nobody to create", "containarium create NAME --ssh-key FILE, or --from class.csv")
    seen: dict[str, Wanted] = {}
    for one in wanted:
        if one.name in seen:
            raise CommandError(f"{one.row or one.name}: the name {one.name} is there twice", "keep one of them")
        seen[one.name] = one
    return wanted


def _draft(wired: Wiring, desk: Desk, wanted: list[Wanted], common: Wanted, source: Path | None) -> None:
    """Put the manifests into the session and see that all would be well, on this host too."""
    from containarium.sources.edit import ManifestRefusedError
    from containarium.sources.yamltext import as_text

    stamp = wired.clock().isoformat(timespec="seconds")
    note = f"{_MARK} {stamp}."
    texts: dict[str, list[str]] = {}
    for one in wanted:
        _refuse_known(wired, desk, one)
        beside = source.parent if source is not None and one.row and one.key else Path()
        whole = one.filled(common)
        data = document(whole, key_sources(whole, desk.folder, beside))
        file = f"{table_name(source)}.yaml" if source is not None and one.row else f"{one.name}.yaml"
        text = as_text(data, note) if file not in texts else as_text(data, "").split("\n", 1)[1]
        texts.setdefault(file, []).append(text)
    whole_texts = {file: "---\n".join(parts) for file, parts in texts.items()}
    if desk.checkout is not None:
        raise _only_shown(desk, whole_texts)
    of_table = f"{table_name(source)}.yaml" if source is not None else ""
    for file, text in whole_texts.items():
        _put(desk, file, text, table=file == of_table)
    try:
        desk.session.check()
    except ManifestRefusedError as refused:
        about = [one for one in wanted if refused.problem.environment in (one.name, "")]
        if len(about) != 1:
            raise
        raise worded(about[0], refused.problem) from None
    if not desk.live:
        return
    plan, observed = foresee(wired, desk)
    refuse_problems(plan, *(one.name for one in wanted))
    for one in wanted:
        _refuse_retired(observed, one.name)


def _put(desk: Desk, file: str, text: str, *, table: bool) -> None:
    """Draft a file. Who joins late is written below the class that a table of this name has made before.

    Nobody is ever told to move a file away: whoever is in it would lose access.
    """
    from containarium.sources.edit import EditRefusedError

    try:
        if table:
            desk.session.append(file, text, f"# {_MARK} ")
        else:
            desk.session.create(file, text)
    except EditRefusedError as error:
        other = "rename the table: its name names the file"
        remedy = other if table else "use a table (--from FILE.csv), whose name names the file"
        raise CommandError(error.message, remedy) from None


def _only_shown(desk: Desk, texts: dict[str, str]) -> CommandError:
    """Show what a person has to commit instead."""
    checkout = desk.checkout
    assert checkout is not None  # noqa: S101 (the caller has asked)
    places = []
    for file, text in texts.items():
        there = os.path.lexists(desk.folder / file)  # a new one in its place would withdraw whoever is in it
        say(f"# {checkout.file(file)}\n{'---' if there else ''}\n{text}".replace("\n\n", "\n", 1).rstrip("\n"))
        places.append(f"{'at the end of' if there else 'as'} {checkout.file(file)}")
    return CommandError(
        f"{desk.folder} comes from git ({checkout.source}), so nothing is written here",
        f"commit the above there {', '.join(places)}",
    )


def _refuse_known(wired: Wiring, desk: Desk, one: Wanted) -> None:
    where = f"{one.row}: " if one.row else ""
    found = desk.session.manifest(one.name)
    if found is not None:
        expires = found.environment.spec.expires
        if expires is not None and expires < wired.clock().date():
            raise CommandError(
                f"{where}{one.name} has a manifest already, which expired on {expires}: "
                f"{_place(desk, found.origin.locate('spec.expires'))}: spec.expires",
                "write a later date there, or take the field out",
            )
        raise CommandError(
            f"{where}{one.name} has a manifest already: {_place(desk, found.origin.locate('metadata.name'))}",
            f"{'leave this row out; ' if one.row else ''}containarium resize, key, start and stop change it, and "
            f"containarium export {one.name} prints how to log in",
        )
    for problem in desk.session.load.problems:
        if problem.environment == one.name:
            raise CommandError(f"{where}{one.name} has a manifest that does not load: {problem}")


def _place(desk: Desk, location: Location) -> str:
    """Where somebody can change what is written there: in the repository, if that is where it comes from."""
    if desk.checkout is None:
        return str(location)
    return f"{desk.checkout.file(location.file)}:{location.line} in {desk.checkout.source}"


def _refuse_retired(observed: Observed, name: str) -> None:
    """What is kept of somebody who left is not handed to whoever gets the name next."""
    from containarium.model import marks
    from containarium.report.environments import owned_instance

    instance = owned_instance(observed, name)
    if instance is not None and instance.config.get(marks.RETIRED):
        until = instance.config.get(marks.PRUNE_AFTER) or "for ever"
        raise CommandError(
            f"{name} has left, and the data is kept ({until})",
            f"bring it back with containarium undelete {name}, or choose another name",
        )


def _follow(
    wired: Wiring,
    desk: Desk,
    names: list[str],
    way: Way,
    files: tuple[Path, ...],
    *,
    wait: float,
    export: Path | None,
) -> None:
    from containarium.cli.reach import reach, say_only_written, settle
    from containarium.cli.stages import Stages
    from containarium.cli.welcome import welcome

    told = Stages(say, frozenset(names))
    written = {path.stem: path for path in files}
    for name in names:
        path = written.get(name, files[-1] if files else desk.folder)
        told.begun(name, f"written to {path}")
    if not desk.live or not wait:
        say_only_written(wired, desk.folder, live=desk.live)
        return
    verdicts = reach(wired, desk.folder, names, told, wait=wait)
    there = [verdict.name for verdict in verdicts if not verdict.message]
    for name in there:
        told.reached(name)
    code = welcome(wired, there, way, export)
    code = max(settle(verdicts), code)
    if len(names) > 1:
        say(f"{count(len(there), 'environment')} of {len(names)} created.", "red" if code else "green")
    raise typer.Exit(code)
