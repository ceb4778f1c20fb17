"""The start-up script step by step, in a folder, with everything beyond it played by small programs."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from tests.lab.command import run
from tests.terraform.test_script import CURL, GCE

if TYPE_CHECKING:
    from pathlib import Path

    from tests.lab.command import Completed
    from tests.terraform.tools import Terraform

KEY = "-----BEGIN KEY-----\n"
PROGRAMS = {
    "logger": "exec cat >&2",
    "hostname": "echo jump-1",
    # as the real one: a package that it does not know is an error, and not a line
    "dpkg-query": """code=0
for name in "${@:4}"; do
    case $(cat "$STAGE/unknown" "$STAGE/removed" 2>&1) in
    *"$name is unknown"*) code=1 ;;
    *"$name is removed"*) printf "${3/'${db:Status-Abbrev}'/rc }" ;;
    *) printf "${3/'${db:Status-Abbrev}'/ii }" ;;
    esac
done
exit "$code" """,
    "apt-get": """printf '%s\\n' "$*" >> "$STAGE/apt" """,
    "curl": f"[[ ! -e $STAGE/offline ]] || exit 7\n{CURL.partition(chr(10))[2]}",
    # the one that makes virtual environments: its pip puts the command there that the script is after
    "python3": """[[ $1 == -m ]] || exec /usr/bin/python3 "$@"
mkdir -p "$3/bin"
cp "$STAGE/pip" "$3/bin/pip" """,
    "ln": ":",
}
PIP = """#!/bin/bash
[[ ! -e $STAGE/offline ]] || exit 1
printf '%s\\n' "$*" >> "$STAGE/installed"
cp "$STAGE/containarium" "$(dirname "$0")/containarium"
"""
COMMAND = """#!/bin/bash
printf '%s\\n' "$*" >> "$STAGE/called"
[[ $1 == version ]] || exit "$(cat "$STAGE/code")"
"""


@dataclass
class Stage:
    """A machine that is a folder."""

    root: Path
    script: str

    def boot(self) -> Completed:
        """Run the script."""
        self.root.joinpath("called").write_text("")
        env = {"PATH": f"{self.root}/bin:{os.environ['PATH']}", "STAGE": str(self.root), "SEEN": f"{self.root}/seen"}
        return run(["bash", "-c", self.script], timeout=60, check=False, env=env)

    @property
    def prepared(self) -> bool:
        """Whether the last boot got as far as the preparation."""
        return "host prepare --install --service\n" in self.root.joinpath("called").read_text()

    def look(self) -> dict[str, tuple[int, int, str]]:
        """Inode, mode and content of every file that was written."""
        files = sorted(self.root.joinpath("etc").iterdir())
        return {f.name: (f.stat().st_ino, f.stat().st_mode & 0o7777, f.read_text()) for f in files}


@pytest.fixture(scope="module")
def script(bare: Terraform, fleet: dict[str, Any]) -> str:
    """Give the script as Google's machines get it."""
    return str(bare.decide(**fleet | GCE)["startup_scripts"]["jump-1"])


@pytest.fixture
def stage(script: str, tmp_path: Path) -> Stage:
    """Give a new machine of Google's, with a network."""
    for old, new in (
        ("etc=/etc/containarium\n", f"etc={tmp_path}/etc\n"),
        ("opt=/opt/containarium\n", f"opt={tmp_path}/opt\n"),
        ("[[ $EUID == 0 ]]", "[[ 0 == 0 ]]"),
    ):
        assert script.count(old) == 1
        script = script.replace(old, new)
    (tmp_path / "bin").mkdir()
    programs = {f"bin/{name}": f"#!/bin/bash\n{text}\n" for name, text in PROGRAMS.items()}
    for name, text in {**programs, "pip": PIP, "containarium": COMMAND}.items():
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    (tmp_path / "code").write_text("0")
    return Stage(tmp_path, script)


def test_a_new_machine(stage: Stage) -> None:
    done = stage.boot()
    assert (done.returncode, stage.prepared) == (0, True), done.stderr
    assert done.stderr.endswith("ready\n")
    modes = {name: mode for name, (_, mode, _) in stage.look().items()}
    public = ("allowed_signers", "host.yaml", "known_hosts", "sync.yaml")
    assert modes == {"deploy_key": 0o600, **dict.fromkeys(public, 0o644)}
    assert stage.look()["deploy_key"][2] == KEY


def test_the_second_boot_writes_and_installs_nothing(stage: Stage) -> None:
    stage.boot()
    before = stage.look()
    done = stage.boot()
    assert (done.returncode, stage.prepared) == (0, True)
    assert done.stderr == "ready\n"
    assert stage.look() == before
    assert stage.root.joinpath("installed").read_text().count("\n") == 1


def test_a_boot_without_a_network_keeps_program_and_key(stage: Stage) -> None:
    stage.boot()
    before = stage.look()
    stage.root.joinpath("offline").touch()
    done = stage.boot()
    assert (done.returncode, stage.prepared) == (0, True), done.stderr
    assert stage.look() == before


def test_a_newer_package_that_cannot_be_had_is_a_warning(stage: Stage) -> None:
    stage.boot()
    stage.root.joinpath("offline").touch()
    stage.script = stage.script.replace("containarium==0.1.0", "containarium==0.2.0")
    done = stage.boot()
    assert (done.returncode, stage.prepared) == (0, True)
    assert "warning: containarium==0.2.0 could not be installed; what is here goes on" in done.stderr
    stage.root.joinpath("offline").unlink()
    assert "installing containarium==0.2.0" in stage.boot().stderr
    assert "installing" not in stage.boot().stderr


def test_a_new_machine_without_a_network_is_not_ready(stage: Stage) -> None:
    stage.root.joinpath("offline").touch()
    done = stage.boot()
    assert (done.returncode, stage.prepared) == (1, False)
    assert "not ready: containarium==0.1.0 could not be installed, see above; is there a network?" in done.stderr


@pytest.mark.parametrize("why", ["unknown", "removed"])
def test_a_package_that_is_not_there_is_installed(stage: Stage, why: str) -> None:
    """dpkg may know it no more, or may never have heard of it."""
    stage.root.joinpath(why).write_text(f"python3-venv is {why}")
    done = stage.boot()
    assert done.returncode == 0, done.stderr
    update, install = stage.root.joinpath("apt").read_text().splitlines()
    assert update.endswith(" update")
    assert install.endswith(" install --yes --no-install-recommends python3-venv")


def test_packages_that_are_there_are_left_alone(stage: Stage) -> None:
    stage.boot()
    assert not stage.root.joinpath("apt").exists()


def test_an_installation_that_was_cut_off_is_done_again(stage: Stage) -> None:
    stage.boot()
    stage.root.joinpath("opt/venv/bin/containarium").unlink()
    done = stage.boot()
    assert (done.returncode, stage.prepared) == (0, True)
    assert "installing" in done.stderr


def test_without_a_deploy_key_it_says_so_and_goes_on(stage: Stage) -> None:
    stage.boot()
    stage.root.joinpath("etc/deploy_key").unlink()
    stage.root.joinpath("offline").touch()
    done = stage.boot()
    assert (done.returncode, stage.prepared) == (0, True)
    assert "warning: no deploy key from projects/p/secrets/deploy/versions/latest" in done.stderr
    assert "deploy_key" not in stage.look()


def test_a_changed_manifest_is_put_back_in_one_step(stage: Stage) -> None:
    stage.boot()
    file = stage.root / "etc" / "host.yaml"
    right = file.read_text()
    file.write_text("kind: Nothing\n")
    done = stage.boot()
    assert f"wrote {file}\n" in done.stderr
    assert file.read_text() == right
    assert sorted(path.name for path in file.parent.iterdir()) == sorted(stage.look())


@pytest.mark.parametrize("code", [1, 2, 3])
def test_a_host_that_could_not_be_prepared_is_not_ready(stage: Stage, code: int) -> None:
    stage.root.joinpath("code").write_text(str(code))
    done = stage.boot()
    assert done.returncode == 1
    assert f"not ready: containarium host prepare ended with {code}" in done.stderr
