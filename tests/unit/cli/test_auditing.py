"""Each command that changes something leaves its line, and nobody can add one that is forgotten."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pytest
import typer

from containarium.api.who import Role, Who
from containarium.cli.auditing import CHANGING, LOOKING, digest
from containarium.cli.main import app
from containarium.cli.remote_server import auditing
from containarium.cli.wiring import Wiring
from tests.unit.cli.conftest import Shell

if TYPE_CHECKING:
    from containarium.report.log import Logger


def commands(app: typer.Typer, prefix: str = "") -> Iterator[tuple[str, str]]:
    """Every command, and as what it is written down; empty where it is not."""
    for command in app.registered_commands:
        assert command.callback is not None
        yield f"{prefix}{command.name}", getattr(command.callback, "audited", "")
    for group in app.registered_groups:
        assert group.typer_instance is not None
        yield from commands(group.typer_instance, f"{prefix}{group.name} ")


def test_every_command_is_said_to_change_or_to_look() -> None:
    listed = dict(commands(app))
    unknown = sorted(name for name in listed if name not in CHANGING | LOOKING)
    assert unknown == [], "say in cli/auditing.py whether it changes anything"
    assert CHANGING.isdisjoint(LOOKING)
    assert {name for name, written in listed.items() if written} == {name for name in listed if name in CHANGING}
    assert all(written in ("", name) for name, written in listed.items())


def test_what_was_changed_is_told_with_its_result(shell: Shell) -> None:
    shell.declare("alice")
    assert shell("apply").code == 0
    (line,) = shell.trailed
    assert (line["action"], line["result"], line["environments"]) == ("apply", "ok", [])
    assert line["before"] == line["after"] != ""
    assert line["who"].via == "cli"
    (shell.folder / "alice.yaml").write_text("nonsense: [")
    assert shell("apply", "--only", "alice", "--restart").code == 1
    line = shell.trailed[-1]
    assert (line["action"], line["result"], line["environments"]) == ("apply", "failed", ["alice"])
    assert line["details"] == {"only": ["alice"], "restart": True}


def test_an_edit_changes_the_digest(shell: Shell) -> None:
    shell.declare("bob")
    shell.declare("alice")
    shell("apply")
    (shell.folder / "alice.yaml").unlink()
    shell("apply")
    assert shell("undelete", "alice").code == 0
    line = shell.trailed[-1]
    assert (line["action"], line["environments"]) == ("undelete", ["alice"])
    assert line["before"] != line["after"]


@pytest.mark.parametrize("arguments", [["list"], ["plan"], ["info", "alice"], ["validate"], ["--help"]])
def test_looking_leaves_no_line(shell: Shell, arguments: list[str]) -> None:
    shell.declare("alice")
    shell(*arguments)
    assert shell.trailed == []


def test_who_is_not_root_changed_nothing(shell: Shell) -> None:
    shell.root = False
    assert shell("apply").code == 1
    assert shell.trailed == []


def test_the_digest_is_of_manifests_and_keys(tmp_path: Path) -> None:
    assert digest(tmp_path / "nowhere") == digest(tmp_path) == ""
    (tmp_path / "keys").mkdir()
    (tmp_path / "alice.yaml").write_text("a")
    first = digest(tmp_path)
    (tmp_path / "keys" / "alice.pub").write_text("k")
    second = digest(tmp_path)
    (tmp_path / "notes.txt").write_text("n")
    assert len({first, second, ""}) == 3
    assert digest(tmp_path) == second
    (tmp_path / "dangling.yaml").symlink_to("nowhere")
    assert digest(tmp_path) not in ("", second)


@pytest.mark.parametrize(
    ("about", "environments"),
    [
        ({"only": "alice bob", "restart": "true"}, ["alice", "bob"]),
        ({"environment": "carol"}, ["carol"]),
        ({"environment": "alice bob", "only": "bob dave"}, ["alice", "bob", "dave"]),
        ({"digest": "abc"}, []),
    ],
)
def test_what_the_service_does_names_whom_it_is_about(about: dict[str, str], environments: list[str]) -> None:
    lines: list[dict[str, Any]] = []

    def trail(_who: object, action: str, details: dict[str, Any], **more: Any) -> bool:
        lines.append({"action": action, "details": details, **more})
        return True

    audit = auditing(Wiring(trail=trail), cast("Logger", None))
    audit(Who("anna", Role.ADMIN, uid=1000), "Apply", {**about, "result": "refused"})
    (line,) = lines
    assert list(line["environments"]) == environments
    assert line["result"] == "refused"
    assert line["details"] == {key: value for key, value in about.items() if key != "environment"} | {"role": "admin"}
