"""The end of a command that has edited: wait for the host to follow, say how that went, exit."""

from __future__ import annotations

from collections.abc import Sequence

import typer

from containarium.cli.editing import Desk
from containarium.cli.errors import FAILED
from containarium.cli.output import say
from containarium.cli.wiring import Wiring


def follow(wired: Wiring, desk: Desk, names: Sequence[str], wait: float, done: str) -> None:
    """Wait until the host is as the manifests of these say, then say ``done``. Raises typer.Exit where it is not."""
    from containarium.cli.reach import in_force, reach, say_only_written, settle
    from containarium.cli.stages import Stages

    if not desk.live or not wait:
        say(done)
        say_only_written(wired, desk.folder, live=desk.live)
        return
    code = settle(reach(wired, desk.folder, names, Stages(say), wait=wait, judge=in_force))
    if code:
        say(f"{', '.join(names)}: the manifest is written, and the host does not follow yet.", "red")
        raise typer.Exit(max(code, FAILED))
    say(done, "green")
