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
    # a pause is over at once; the network may come back in one
    "sleep": """printf '%s\\n' "$1" >> "$STAGE/slept"
[[ ! -e $STAGE/mends || $(wc -l < "$STAGE/slept") -lt $(cat "$STAGE/mends") ]] || rm -f "$STAGE/offline" """,
    # a timer that waits is a file; what it would run is in it
    "systemctl": """[[ $1 == stop ]] || exit 1
rm -f "$STAGE"/timers/$2""",
    "systemd-run": """for each in "$@"; do [[ $each != --unit=* ]] || unit=${each#--unit=}; done
[[ ! -e $STAGE/timers/$unit.timer ]] || exit 1
printf '%s\\n' "$@" > "$STAGE/timers/$unit.timer" """,
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
        given = self.root / "given"
        given.write_text(self.script)
        done = self._run("bash", str(given))
        given.unlink()  # Google's agent deletes it
        return done

    def again(self) -> Completed:
        """Let the timer elapse that waits: what it runs."""
        (timer,) = self.timers()
        asked = self.root.joinpath("timers", timer).read_text().splitlines()
        self.root.joinpath("timers", timer).unlink()
        return self._run(*asked[asked.index("/bin/bash") :])

    def timers(self) -> dict[str, int]:
        """The timers that wait, with their seconds."""
        files = {file.name: file.read_text() for file in self.root.joinpath("timers").iterdir()}
        return {name: int(text.partition("--on-active=")[2].partition("\n")[0]) for name, text in files.items()}

    def _run(self, *command: str) -> Completed:
        self.root.joinpath("called").write_text("")
        env = {"PATH": f"{self.root}/bin:{os.environ['PATH']}", "STAGE": str(self.root), "SEEN": f"{self.root}/seen"}
        return run(list(command), timeout=60, check=False, env=env)

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
    for folder in ("bin", "timers"):
        (tmp_path / folder).mkdir()
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


# -- failures that pass


def without_a_key(stage: Stage) -> None:
    """Take the key and the network away after a first boot."""
    stage.boot()
    stage.root.joinpath("etc/deploy_key").unlink()
    stage.root.joinpath("offline").touch()


def test_without_a_deploy_key_the_host_is_prepared_but_not_ready(stage: Stage) -> None:
    without_a_key(stage)
    done = stage.boot()
    assert (done.returncode, stage.prepared) == (1, True)
    assert "not ready: no deploy key from projects/p/secrets/deploy/versions/latest; manifests do not" in done.stderr
    assert "deploy_key" not in stage.look()
    pauses = [int(each) for each in stage.root.joinpath("slept").read_text().split()]
    assert 600 <= sum(pauses) < 660


def test_a_deploy_key_that_comes_late_is_waited_for(stage: Stage) -> None:
    """A right that was just given takes minutes until Google knows of it everywhere."""
    without_a_key(stage)
    stage.root.joinpath("mends").write_text("20")
    done = stage.boot()
    assert (done.returncode, stage.prepared) == (0, True), done.stderr
    assert stage.look()["deploy_key"][2] == KEY
    assert stage.timers() == {}


def test_nobody_waits_for_a_newer_key_where_there_is_one(stage: Stage) -> None:
    stage.boot()
    stage.root.joinpath("offline").touch()
    assert stage.boot().returncode == 0
    assert not stage.root.joinpath("slept").exists()


def test_after_a_failure_it_comes_again_until_the_host_is_ready(stage: Stage) -> None:
    """With pauses that grow, and never with two timers."""
    stage.root.joinpath("offline").touch()
    pauses: list[int] = []
    done = stage.boot()
    for _ in range(7):
        assert done.returncode == 1
        pauses += stage.timers().values()
        done = stage.again()
    assert pauses == [60, 120, 240, 480, 960, 1920, 1920]
    stage.root.joinpath("offline").unlink()
    assert (stage.again().returncode, stage.prepared) == (0, True)
    assert stage.timers() == {}
    assert "deploy_key" in stage.look()


def test_a_boot_takes_the_place_of_the_attempt_that_waits(stage: Stage) -> None:
    stage.root.joinpath("offline").touch()
    stage.boot()
    stage.again()
    assert stage.timers() == {"containarium-startup-2.timer": 120}
    assert stage.boot().returncode == 1
    assert stage.timers() == {"containarium-startup-1.timer": 60}
    stage.root.joinpath("offline").unlink()
    assert stage.boot().returncode == 0
    assert stage.timers() == {}


def test_what_comes_again_is_the_last_script_that_was_given(stage: Stage) -> None:
    """Nothing but root may change it."""
    stage.boot()
    stage.script += "# a newer one\n"
    stage.root.joinpath("code").write_text("1")
    stage.boot()
    kept = stage.root / "opt" / "startup"
    assert (kept.read_text(), kept.stat().st_mode & 0o777) == (stage.script, 0o700)
    stage.root.joinpath("code").write_text("0")
    assert (stage.again().returncode, stage.prepared) == (0, True)


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
    assert "it comes again in 60 s" in done.stderr
