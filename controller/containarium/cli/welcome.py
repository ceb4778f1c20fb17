"""What the people of new environments need to log in: whether it can be said, asked before anything is made, and it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from containarium.cli.errors import FAILED, CommandError
from containarium.cli.export import DEFAULT_PORT, Way, block
from containarium.cli.export import write as write_connection
from containarium.cli.output import complain, say, say_fields
from containarium.cli.wiring import Wiring

if TYPE_CHECKING:
    from containarium.model.observed import Observed


def refuse_way(wired: Wiring, way: Way, folder: Path | None) -> None:
    """Raise CommandError where no connection could be written for anybody: of this way, or into this folder."""
    from containarium.cli.sshconfig import Route, beside

    if way.jump_host is not None:
        Route("", "", way.jump_host, way.jump_port or DEFAULT_PORT, way.key, ())
    else:
        own = wired.host_keys(wired.settings).jump_host_name()
        try:
            Route("", "", own, way.jump_port or DEFAULT_PORT, way.key, ())
        except CommandError:
            raise CommandError(f"{own!r} is neither a host name nor an address", "give --jump-host") from None
    _refuse_file("--key", way.key)
    if folder is not None:
        for file in beside(folder / "NAME.ssh"):
            _refuse_file("--export", file)
        if folder.exists() and not folder.is_dir():
            raise CommandError(f"--export: {folder} is not a folder", "name one")


def _refuse_file(option: str, path: str) -> None:
    from containarium.cli.sshconfig import quoted

    try:
        quoted(path)
    except CommandError as error:
        raise CommandError(f"{option}: {error}") from None


def welcome(wired: Wiring, names: list[str], way: Way, folder: Path | None) -> int:
    """Say what there is now, and print the connection blocks, or write them. Returns the exit code."""
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
            complain(f"{name}: {error}; then containarium export {name} prints how to log in", "red")
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
