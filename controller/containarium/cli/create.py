"""The command create: manifests of new environments, and what their people need to log in."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from containarium.cli.editing import PATIENCE, Desk, Manifests, Wait, editing, foresee, refuse_problems
from containarium.cli.errors import FAILED, CommandError
from containarium.cli.export import DEFAULT_KEY, JumpHost, JumpPort, KeyPath, Way, block
from containarium.cli.export import write as write_connection
from containarium.cli.output import complain, count, say, say_fields
from containarium.cli.wanted import Wanted, document, key_sources, table, table_name, worded, words
from containarium.cli.wiring import Wiring, wiring

if TYPE_CHECKING:
    from containarium.model.observed import Observed

_SEVERAL = "May be given several times."


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
    jump_port: JumpPort = 22,
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
    Packages, and labels such as team=ml, have blanks between them.

    Nothing is written unless everything is valid, here and on the host.
    """
    wired = wiring(context)
    common = Wanted(
        key=tuple(ssh_key or ()), cpu=cpu, memory=memory, disk=disk, image=image, docker=docker,
        packages=words(packages or ()), labels=words(labels or ()), autostart=autostart, expires=expires,
        class_=class_, host=host,
    )  # fmt: skip
    wanted = _wanted(names or [], source)
    with editing(wired, manifests, "create", make=True) as desk:
        _draft(wired, desk, wanted, common, source)
        files = desk.session.commit()
    _follow(wired, desk, [one.name for one in wanted], Way(jump_host, jump_port, key), files, wait=wait, export=export)


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
    note = f"Written by containarium create on {stamp}."
    texts: dict[str, list[str]] = {}
    for one in wanted:
        _refuse_known(desk, one)
        beside = source.parent if source is not None and one.row and one.key else Path()
        whole = one.filled(common)
        data = document(whole, key_sources(whole, desk.folder, beside))
        file = f"{table_name(source)}.yaml" if source is not None and one.row else f"{one.name}.yaml"
        text = as_text(data, note) if file not in texts else as_text(data, "").split("\n", 1)[1]
        texts.setdefault(file, []).append(text)
    whole_texts = {file: "---\n".join(parts) for file, parts in texts.items()}
    if desk.checkout is not None:
        raise _only_shown(desk, whole_texts)
    for file, text in whole_texts.items():
        desk.session.create(file, text)
    try:
        desk.session.check()
    except ManifestRefusedError as refused:
        about = [one for one in wanted if one.name == refused.problem.environment] or wanted
        if len(about) > 1:
            raise
        raise worded(about[0], refused.problem) from None
    if not desk.live:
        return
    plan, observed = foresee(wired, desk)
    refuse_problems(plan, *(one.name for one in wanted))
    for one in wanted:
        _refuse_retired(observed, one.name)


def _only_shown(desk: Desk, texts: dict[str, str]) -> CommandError:
    """Show what a person has to commit instead."""
    checkout = desk.checkout
    assert checkout is not None  # noqa: S101 (the caller has asked)
    for file, text in texts.items():
        say(f"# {checkout.file(file)}\n{text}".rstrip("\n"))
    places = ", ".join(checkout.file(file) for file in texts)
    return CommandError(
        f"{desk.folder} comes from git ({checkout.source}), so nothing is written here",
        f"commit the above there as {places}",
    )


def _refuse_known(desk: Desk, one: Wanted) -> None:
    where = f"{one.row}: " if one.row else ""
    found = desk.session.manifest(one.name)
    if found is not None:
        raise CommandError(
            f"{where}{one.name} has a manifest already: {found.origin.locate('metadata.name')}",
            "containarium resize, key, start and stop change it",
        )
    for problem in desk.session.load.problems:
        if problem.environment == one.name:
            raise CommandError(f"{where}{one.name} has a manifest that does not load: {problem}")


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
    code = _show(wired, there, way, export)
    code = max(settle(verdicts), code)
    if len(names) > 1:
        say(f"{count(len(there), 'environment')} of {len(names)} created.", "red" if code else "green")
    raise typer.Exit(code)


def _show(wired: Wiring, names: list[str], way: Way, folder: Path | None) -> int:
    """What there is now, and the connection blocks. Returns the exit code."""
    from containarium.host.files import make_folder
    from containarium.model.observed import Look

    if not names:
        return 0
    observed = wired.host(wired.settings).observe(Look.SHALLOW)
    if folder is not None:
        make_folder(folder, 0o700)
    code = 0
    for name in names:
        say("")
        say_fields(_summary(observed, name))
        try:
            if folder is not None:
                write_connection(wired, name, way, folder / f"{name}.ssh", observed)
                say(f"Written to {folder / name}.ssh. Log in with: ssh -F {name}.ssh {name}")
                continue
            shown = block(wired, name, way, observed)
        except CommandError as error:
            complain(f"{name}: {error}", "red")
            code = FAILED
            continue
        say(f"\n# What {name} puts into ~/.ssh/config; then: ssh {name}\n{shown}")
    return code


def _summary(observed: Observed, name: str) -> list[tuple[str, str]]:
    from containarium.model import marks
    from containarium.report.environments import facts

    found = facts(observed, name)
    account = observed.accounts.get(name)
    return [
        ("Name", marks.instance_name(name)),
        ("User", name),
        ("IP", found.ip or "-"),
        ("Disk", found.quota or "-"),
        ("Autostart", "yes" if found.autostart else "no"),
        ("Jump account", f"{name} (keys only, to this container only)" if account is not None else "missing"),
        ("SSH", f"ssh {name}"),
    ]
