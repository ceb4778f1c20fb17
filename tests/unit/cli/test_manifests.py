"""validate and schema: they need no host, and say for each mistake where it is and what to write instead."""

from __future__ import annotations

import pytest

from tests.unit.cli.conftest import Shell


def test_a_good_folder(shell: Shell) -> None:
    shell.declare("alice", "bob", "carol")
    done = shell("validate", str(shell.folder))
    assert (done.code, done.out, done.err) == (0, "3 environments are valid\n", "")


def test_a_single_file(shell: Shell) -> None:
    shell.declare("alice", "bob")
    assert shell("validate", str(shell.folder / "bob.yaml")).out == "1 environment is valid\n"


def test_the_hosts_own_folder_is_the_default(shell: Shell) -> None:
    shell.declare("alice")
    assert shell("validate").out == "1 environment is valid\n"


def test_every_problem_is_one_line_with_its_place_and_a_remedy(shell: Shell) -> None:
    shell.declare("alice")
    shell.declare("bob", resources={"memory": "8GX"}, colour="red")
    done = shell("validate", str(shell.folder))
    assert done.code == 1
    lines = done.out.splitlines()
    assert len(lines) == 2
    place = f"{shell.folder / 'bob.yaml'}:"
    assert all(line.startswith(place) and "; " in line for line in lines)
    assert any("spec.resources.memory: '8GX' is not a size" in line for line in lines)
    assert any("spec.colour" in line for line in lines)
    assert done.err == f"2 problems in {shell.folder}\n"


@pytest.mark.parametrize("text", ["a: [", "\x00", "&a [*a]", "!!python/object:os.system x"])
def test_broken_yaml_is_a_problem_and_no_traceback(shell: Shell, text: str) -> None:
    shell.write("alice.yaml", text)
    done = shell("validate", str(shell.folder))
    assert done.code == 1
    assert str(shell.folder / "alice.yaml") in done.out
    assert "Traceback" not in done.out + done.err


def test_nothing_there(shell: Shell) -> None:
    done = shell("validate", str(shell.folder / "absent"))
    assert (done.code, done.out) == (1, "")
    assert done.err == (
        f"containarium: error: there is no {shell.folder / 'absent'}; name a folder or a file that holds manifests\n"
    )


def test_an_empty_folder_is_unknown_and_not_valid(shell: Shell) -> None:
    assert shell("validate", str(shell.folder)).code == 1


def test_a_file_without_an_environment_is_not_valid(shell: Shell) -> None:
    shell.write("empty.yaml", "# nothing yet\n")
    assert shell("validate", str(shell.folder / "empty.yaml")).code == 1


@pytest.mark.parametrize("arguments", [("schema",), ("schema", "environment")])
def test_schema_is_json_schema(shell: Shell, arguments: tuple[str, ...]) -> None:
    done = shell(*arguments)
    assert done.code == 0
    assert done.json["$schema"].startswith("https://json-schema.org/")
    assert "spec" in done.json["properties"]
