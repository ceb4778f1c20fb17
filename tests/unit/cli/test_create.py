"""create: manifests from flags and tables, the steps, and what the person is sent."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
import yaml

from containarium.model.action import SetUpUser
from containarium.model.observed import InstanceStatus
from containarium.simulate.faults import Boundary, Fail, Fault, no_faults
from tests.builders import public_key
from tests.unit.cli.conftest import Shell, document

CONNECTION = """\
# What alice puts into ~/.ssh/config; then: ssh alice
Host alice
    HostName 10.0.3.2
    HostKeyAlias alice-container.jump.example.org
    ProxyJump alice-jump
    User alice
"""


def test_one_person_from_nothing_to_the_connection_block(shell: Shell) -> None:
    shell.folder.rmdir()
    ended = shell("create", "alice", "--ssh-key", public_key("alice"), "--image", "bootstrap:debian/12")
    assert ended.code == 0, ended.err
    steps = [line for line in ended.out.splitlines() if line.startswith("[")]
    assert [line.split(": ")[0] for line in steps] == [f"[{number}/7] alice" for number in range(1, 8)]
    assert steps[0] == f"[1/7] alice: manifest: written to {shell.folder}/alice.yaml"
    assert "making the container" in steps[1]
    assert CONNECTION in ended.out
    assert "# alice-container.jump.example.org ssh-ed25519 GUEST" in ended.out
    assert shell.world.instances["alice-container"].status is InstanceStatus.RUNNING
    assert shell("plan", "--detailed-exitcode").code == 0
    assert stat.S_IMODE(shell.folder.stat().st_mode) == 0o755
    assert stat.S_IMODE((shell.folder / "alice.yaml").stat().st_mode) == 0o644


def test_every_flag_is_in_the_manifest(shell: Shell, tmp_path: Path) -> None:
    second = tmp_path / "second.pub"
    second.write_text(f"# laptop\n{public_key('second')}\n{public_key('third')}\n")
    ended = shell(
        "create", "alice", "--ssh-key", public_key("alice"), "--ssh-key", str(second), "--cpu", "2-3",
        "--memory", "8GiB", "--disk-quota", "60GiB", "--image", "bootstrap:debian/12", "--docker",
        "--labels", "team=ml,year=2", "--labels", "room=1", "--no-autostart", "--packages", "git,tmux",
        "--expires", "2027-01-31", "--wait", "0",
    )  # fmt: skip
    assert ended.code == 0, ended.err
    assert yaml.safe_load((shell.folder / "alice.yaml").read_text()) == {
        "apiVersion": "containarium.dev/v1",
        "kind": "Environment",
        "metadata": {"name": "alice", "labels": {"team": "ml", "year": "2", "room": "1"}},
        "spec": {
            "image": "bootstrap:debian/12",
            "resources": {"cpu": "2-3", "memory": "8GiB", "disk": "60GiB"},
            "sshKeys": [public_key("alice"), public_key("second"), public_key("third")],
            "docker": True,
            "packages": ["git", "tmux"],
            "autostart": False,
            "expires": "2027-01-31",
        },
    }
    assert "No controller runs here: containarium apply" in ended.out
    assert shell("validate").code == 0
    assert not shell.world.instances


def test_what_is_not_said_is_left_to_the_defaults(shell: Shell) -> None:
    shell("create", "alice", "--ssh-key", public_key("alice"), "--wait", "0")
    assert yaml.safe_load((shell.folder / "alice.yaml").read_text())["spec"] == {"sshKeys": [public_key("alice")]}


def test_the_key_file_beside_the_manifests_is_named_not_copied(shell: Shell) -> None:
    (shell.folder / "keys").mkdir()
    for name in ("alice", "bob"):
        (shell.folder / "keys" / f"{name}.pub").write_text(public_key(name))
    assert shell("create", "alice", "bob", "--wait", "0").code == 0
    for name in ("alice", "bob"):
        spec = yaml.safe_load((shell.folder / f"{name}.yaml").read_text())["spec"]
        assert spec["sshKeys"] == [{"file": f"keys/{name}.pub"}]


def test_a_pattern_names_everybodys_key(shell: Shell, tmp_path: Path) -> None:
    for name in ("alice", "bob"):
        (tmp_path / f"{name}.pub").write_text(public_key(name))
    ended = shell("create", "alice", "bob", "--ssh-key", f"{tmp_path}/{{name}}.pub", "--image", "bootstrap:debian/12")
    assert ended.code == 0, ended.err
    assert "2 environments of 2 created." in ended.out
    assert set(shell.world.instances) == {"alice-container", "bob-container"}
    for name in ("alice", "bob"):
        assert yaml.safe_load((shell.folder / f"{name}.yaml").read_text())["spec"]["sshKeys"] == [public_key(name)]


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (["--memory", "8G"], "--memory: '8G' is not a size; write 8GiB (1024-based) or 8GB (1000-based)"),
        (["--cpu", "0"], "--cpu: an environment cannot run on 0 CPUs; write 1 or more"),
        (["--cpu", "3-1"], "--cpu: the range 3-1 runs backwards"),
        (["--disk", "1MiB"], "--disk: 1MiB is too little"),
        (["--image", "docker:x"], "--image: 'docker' is no known image server"),
        (["--packages", "Git"], "--packages: 'Git' is not a Debian package name"),
        (["--labels", "team"], "--labels: 'team' is not KEY=VALUE"),
        (["--labels", "team=a/b"], "--labels: 'a/b' cannot be a label's value"),
        (["--expires", "tomorrow"], "--expires: 'tomorrow' is not a date"),
        (["--class", "nobody"], "--class: "),
        (["--host", "-x"], "--host: '-x' cannot be a host's name"),
        (["--ssh-key", "/nowhere.pub"], "--ssh-key: /nowhere.pub: No such file or directory"),
        (["--ssh-key", "ssh-ed25519 AAAA x"], "--ssh-key: "),
    ],
)
def test_a_wrong_flag_is_named_and_nothing_is_written(shell: Shell, flags: list[str], told: str) -> None:
    key = [] if "--ssh-key" in flags else ["--ssh-key", public_key("alice")]
    ended = shell("create", "alice", *key, *flags)
    assert ended.code == 1
    assert ended.err.startswith(f"containarium: error: {told}")
    assert ended.err.count("\n") == 1
    assert list(shell.folder.iterdir()) == []


@pytest.mark.parametrize("name", ["root", "Alice", "../alice", "a" * 40])
def test_what_is_no_name_is_refused(shell: Shell, name: str) -> None:
    assert shell("create", name, "--ssh-key", public_key("alice")).code == 1
    assert list(shell.folder.iterdir()) == []


def test_somebody_without_a_key_is_refused(shell: Shell) -> None:
    ended = shell("create", "alice")
    assert ended.code == 1
    assert "alice has no key, so nobody could log in; give --ssh-key" in ended.err


def test_another_persons_key_is_refused(shell: Shell) -> None:
    shell.declare("bob")
    ended = shell("create", "alice", "--ssh-key", public_key("bob"))
    assert ended.code == 1
    assert "--ssh-key: the key SHA256:" in ended.err
    assert f"is another person's: bob at {shell.folder}/bob.yaml:" in ended.err
    assert not (shell.folder / "alice.yaml").exists()


def test_the_one_whose_key_it_is_is_named_whoever_comes_first(shell: Shell) -> None:
    shell.declare("bob")
    ended = shell("create", "carol", "--ssh-key", public_key("bob"))
    assert ended.code == 1
    assert ended.err.startswith("containarium: error: --ssh-key: the key SHA256:")
    assert f"is another person's: bob at {shell.folder}/bob.yaml:" in ended.err


def test_somebody_who_is_there_is_not_written_over(shell: Shell) -> None:
    shell.declare("alice")
    before = (shell.folder / "alice.yaml").read_text()
    ended = shell("create", "alice", "--ssh-key", public_key("alice"))
    assert ended.code == 1
    assert f"alice has a manifest already: {shell.folder}/alice.yaml:4:9" in ended.err
    assert "containarium export alice prints how to log in" in ended.err
    assert (shell.folder / "alice.yaml").read_text() == before


def test_somebody_who_has_expired_is_told_by_which_field(shell: Shell) -> None:
    shell.declare("alice", expires="2020-01-31")
    ended = shell("create", "alice", "--ssh-key", public_key("alice"))
    assert ended.code == 1
    place = f"{shell.folder}/alice.yaml:6:12"
    assert ended.err == (
        f"containarium: error: alice has a manifest already, which expired on 2020-01-31: {place}: spec.expires; "
        "write a later date there, or take the field out\n"
    )


def test_a_file_of_that_name_stays(shell: Shell) -> None:
    shell.write("alice.yaml", yaml.safe_dump(document("carol")))
    ended = shell("create", "alice", "--ssh-key", public_key("alice"))
    assert ended.code == 1
    assert "alice.yaml exists already" in ended.err
    assert "move" not in ended.err, "that would take carol's access"
    assert [path.name for path in shell.folder.iterdir()] == ["alice.yaml"]


def test_what_the_host_would_refuse_is_refused_before_anything_is_written(shell: Shell) -> None:
    shell.somebody.foreign_instance("alice-container")
    ended = shell("create", "alice", "bob", "--ssh-key", public_key("alice"), "--wait", "0")
    assert ended.code == 1
    assert list(shell.folder.iterdir()) == [], "not bob's either"
    (shell.folder / "keys").mkdir()
    for name in ("alice", "bob"):
        (shell.folder / "keys" / f"{name}.pub").write_text(public_key(name))
    ended = shell("create", "alice", "bob")
    assert ended.code == 1
    assert "an Incus instance 'alice-container' exists and is not ours" in ended.err
    assert [path.name for path in shell.folder.iterdir()] == ["keys"]


def test_what_is_kept_of_somebody_is_not_handed_to_the_next_of_that_name(shell: Shell) -> None:
    shell.declare("alice", "bob")
    shell("apply")
    (shell.folder / "alice.yaml").unlink()
    assert shell("apply").code == 0
    ended = shell("create", "alice", "--ssh-key", public_key("other"))
    assert ended.code == 1
    assert "alice has left, and the data is kept" in ended.err
    assert "containarium undelete alice" in ended.err
    assert not (shell.folder / "alice.yaml").exists()


def test_somebody_elses_mistake_does_not_stand_in_the_way(shell: Shell) -> None:
    shell.write("carol.yaml", yaml.safe_dump(document("carol", nonsense=True)))
    ended = shell("create", "alice", "--ssh-key", public_key("alice"), "--image", "bootstrap:debian/12")
    assert ended.code == 0, ended.err
    assert "alice-container" in shell.world.instances


# -- tables


def table(tmp_path: Path, text: str) -> str:
    path = tmp_path / "class.csv"
    path.write_text(text)
    return str(path)


def test_a_class_from_a_table(shell: Shell, tmp_path: Path) -> None:
    (tmp_path / "bob.pub").write_text(public_key("bob"))
    source = table(
        tmp_path,
        "Name,SSH_Key,memory,docker,labels,packages\n"
        f"alice,{public_key('alice')},8GiB,yes,team=ml room=1,git tmux\n"
        "\n"
        f"bob,bob.pub,,no,,\ncarol,{public_key('carol')};{public_key('carol2')},,,,\n",
    )
    ended = shell("create", "--from", source, "--image", "bootstrap:debian/12", "--memory", "2GiB", "--docker")
    assert ended.code == 0, ended.err
    assert [path.name for path in shell.folder.iterdir()] == ["class.yaml"]
    alice, bob, carol = yaml.safe_load_all((shell.folder / "class.yaml").read_text())
    assert alice["metadata"] == {"name": "alice", "labels": {"team": "ml", "room": "1"}}
    assert (alice["spec"]["resources"], alice["spec"]["docker"]) == ({"memory": "8GiB"}, True)
    assert alice["spec"]["packages"] == ["git", "tmux"]
    assert bob["spec"] == {
        "image": "bootstrap:debian/12",
        "resources": {"memory": "2GiB"},
        "sshKeys": [public_key("bob")],
        "docker": False,
    }
    assert carol["spec"]["sshKeys"] == [public_key("carol"), public_key("carol2")]
    assert len(shell.world.instances) == 3
    assert "3 environments of 3 created." in ended.out


def row(name: str) -> str:
    return f"{name},{public_key(name)}\n"


def test_who_joins_late_is_written_below_the_class(shell: Shell, tmp_path: Path) -> None:
    common = ["--image", "bootstrap:debian/12"]
    assert shell("create", "--from", table(tmp_path, "name,key\n" + row("bob") + row("carol")), *common).code == 0
    first = (shell.folder / "class.yaml").read_text()
    ended = shell("create", "--from", table(tmp_path, "name,key\n" + row("alice") + row("dave")), *common)
    assert ended.code == 0, ended.err
    assert f"alice: manifest: written to {shell.folder}/class.yaml" in ended.out
    whole = (shell.folder / "class.yaml").read_text()
    assert whole.startswith(f"{first}---\n# Written by containarium create on ")
    assert [one["metadata"]["name"] for one in yaml.safe_load_all(whole)] == ["bob", "carol", "alice", "dave"]
    assert set(shell.world.instances) == {f"{name}-container" for name in ("alice", "bob", "carol", "dave")}
    assert [path.name for path in shell.folder.iterdir()] == ["class.yaml"]


def test_who_is_in_the_class_already_is_not_written_twice(shell: Shell, tmp_path: Path) -> None:
    shell("create", "--from", table(tmp_path, "name,key\n" + row("bob")), "--wait", "0")
    before = (shell.folder / "class.yaml").read_text()
    ended = shell("create", "--from", table(tmp_path, "name,key\n" + row("alice") + row("bob")), "--wait", "0")
    assert ended.code == 1
    assert f"class.csv:3: bob has a manifest already: {shell.folder}/class.yaml:5:9; leave this row out" in ended.err
    assert (shell.folder / "class.yaml").read_text() == before


@pytest.mark.parametrize("broken", ["", "a: b: c\n"])
def test_a_file_that_no_table_made_stays_and_the_table_is_to_be_renamed(
    shell: Shell, tmp_path: Path, broken: str
) -> None:
    mark = "# Written by containarium create on Monday.\n" if broken else ""
    before = f"{mark}{yaml.safe_dump(document('bob'))}---\n{broken}"
    shell.write("class.yaml", before)
    ended = shell("create", "--from", table(tmp_path, "name,key\n" + row("alice")))
    assert ended.code == 1
    assert f"{shell.folder}/class.yaml" in ended.err
    assert ended.err.endswith("rename the table: its name names the file\n")
    assert "move" not in ended.err
    assert (shell.folder / "class.yaml").read_text() == before


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "class.csv has no rows"),
        ("name\n", "class.csv has no rows"),
        ("name,memroy\nalice,1GiB\n", "class.csv:1: there is no column 'memroy'; did you mean memory?"),
        ("key\nx\n", "class.csv:1: there is no column name"),
        ("name,name\na,b\n", "class.csv:1: the column name is there twice"),
        ("name,memory\n,1GiB\n", "class.csv:2: there is no name"),
        ("name,docker\nalice,perhaps\n", "class.csv:2: docker: 'perhaps' is neither yes nor no"),
        ("name,memory\nalice,1GiB,2\n", "class.csv:2: there are more cells than columns"),
        ("name,key\nalice,KEY:alice\nbob,KEY:alice\n", "the key SHA256:"),
        ("name,key\nalice,KEY:alice\nalice,KEY:bob\n", "class.csv:3: the name alice is there twice"),
        ("name,key,memory\nalice,KEY:alice,\nbob,KEY:bob,8G\n", "class.csv:3: memory: '8G' is not a size"),
        ("name,key\nalice,nowhere.pub\n", "class.csv:2: key: "),
        ("name\nalice\n", "class.csv:2: alice has no key"),
        ('name,key\nalice,"x\n', "this is not CSV"),
    ],
)
def test_a_wrong_table_is_told_with_its_line_and_nothing_is_written(
    shell: Shell, tmp_path: Path, text: str, told: str
) -> None:
    for name in ("alice", "bob"):
        text = text.replace(f"KEY:{name}", public_key(name))
    ended = shell("create", "--from", table(tmp_path, text))
    assert ended.code == 1
    assert told in ended.err
    assert ended.err.count("\n") == 1
    assert list(shell.folder.iterdir()) == []


def test_tables_with_semicolons_are_read_too(shell: Shell, tmp_path: Path) -> None:
    source = table(tmp_path, f"\ufeffname;key;cpu\r\nalice;{public_key('alice')};2\r\n")
    assert shell("create", "--from", source, "--wait", "0").code == 0
    assert yaml.safe_load((shell.folder / "class.yaml").read_text())["spec"]["resources"] == {"cpu": 2}


def test_connections_are_written_where_that_is_asked_for(shell: Shell, tmp_path: Path) -> None:
    out = tmp_path / "out"
    ended = shell(
        "create", "alice", "--ssh-key", public_key("alice"), "--image", "bootstrap:debian/12", "--export", str(out),
        "--jump-ip", "203.0.113.7",
    )  # fmt: skip
    assert ended.code == 0, ended.err
    assert sorted(path.name for path in out.iterdir()) == ["alice.ssh", "alice.ssh.known_hosts"]
    assert "HostName 203.0.113.7" in (out / "alice.ssh").read_text()
    assert stat.S_IMODE((out / "alice.ssh").stat().st_mode) == 0o600


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (["--jump-host", "my host"], "'my host' is neither a host name nor an address; correct --jump-host"),
        (["--key", 'a"b'], "--key: ssh cannot be told a file name such as"),
        (["--export", '/proc/a"b'], "--export: ssh cannot be told a file name such as"),
        (["--export", "/dev/null"], "--export: /dev/null is not a folder; name one"),
    ],
)
def test_a_way_that_leads_nowhere_is_told_before_anything_is_made(shell: Shell, flags: list[str], told: str) -> None:
    ended = shell("create", "alice", "--ssh-key", public_key("alice"), "--image", "bootstrap:debian/12", *flags)
    assert ended.code == 1
    assert ended.err.startswith(f"containarium: error: {told}")
    assert ended.err.count("\n") == 1
    assert list(shell.folder.iterdir()) == []
    assert not shell.world.instances


def test_a_host_whose_own_name_nobody_can_use_is_told_before_anything_is_made(shell: Shell) -> None:
    shell.keys.name = "my_host"
    flags = ["--ssh-key", public_key("alice"), "--image", "bootstrap:debian/12"]
    ended = shell("create", "alice", *flags)
    assert ended.code == 1
    assert "'my_host' is neither a host name nor an address; give --jump-host" in ended.err
    assert list(shell.folder.iterdir()) == []
    assert shell("create", "alice", *flags, "--wait", "0").code == 0, "nothing is printed then"


def test_where_there_is_nothing_to_print_yet_the_command_is_named_that_does(shell: Shell) -> None:
    shell.keys.guest = ()
    ended = shell("create", "alice", "--ssh-key", public_key("alice"), "--image", "bootstrap:debian/12")
    assert ended.code == 1
    assert "then containarium export alice prints how to log in" in ended.err
    assert ended.err.count("\n") == 1
    assert "alice-container" in shell.world.instances


@pytest.mark.parametrize(
    ("file", "name"), [(".hidden.csv", "hidden"), ("a b~.csv", "a-b"), ("#x.csv", "x"), ("ü.csv", "class")]
)
def test_the_file_that_a_table_makes_is_one_that_is_read(shell: Shell, tmp_path: Path, file: str, name: str) -> None:
    (tmp_path / file).write_text(f"name,key\nalice,{public_key('alice')}\n")
    assert shell("create", "--from", str(tmp_path / file), "--wait", "0").code == 0
    assert [path.name for path in shell.folder.iterdir()] == [f"{name}.yaml"]
    assert "1 environment is valid" in shell("validate").out


def test_a_class_gives_what_is_not_said(shell: Shell) -> None:
    shell.write("student.yaml", STUDENT)
    key = ["--ssh-key", public_key("alice")]
    assert "1 class" in shell("validate", str(shell.folder / "student.yaml")).out
    missing = shell("create", "alice", *key, "--class", "studnet")
    assert "--class: there is no class 'studnet'; did you mean student?" in missing.err
    ended = shell("create", "alice", *key, "--class", "student", "--cpu", "3")
    assert ended.code == 0, ended.err
    assert yaml.safe_load((shell.folder / "alice.yaml").read_text())["spec"] == {
        "class": "student",
        "resources": {"cpu": 3},
        "sshKeys": [public_key("alice")],
    }
    config = shell.world.instances["alice-container"].config
    assert (config["limits.cpu"], config["limits.memory"]) == ("3", "2GiB")
    assert shell("validate").out == "1 environment is valid, with 1 class\n"
    assert [row["name"] for row in shell("list", "--label", "course=unix", "-o", "json").json] == ["alice"]
    assert shell("delete", "alice").code == 0, "the class alone is nobody, so she expires"
    assert "expires" in (shell.folder / "alice.yaml").read_text()


STUDENT = """\
apiVersion: containarium.dev/v1
kind: EnvironmentClass
metadata: {name: student, labels: {course: unix}}
spec: {image: "bootstrap:debian/12", resources: {cpu: 2, memory: 2GiB}}
"""


# -- where nothing may be written


@pytest.fixture
def synced(shell: Shell) -> Shell:
    """Manifests that a sync has brought."""
    shell.declare("bob", resources={"memory": "1GiB"})
    checkout = shell.settings.sync / "checkouts" / ("a" * 40)
    checkout.mkdir(parents=True)
    shell.folder.rename(checkout / "environments")
    shell.folder.symlink_to(checkout / "environments")
    (shell.settings.etc / "containarium").mkdir(parents=True)
    (shell.settings.etc / "containarium" / "sync.yaml").write_text(
        "repository: git@git.example.org:ops/people\nbranch: live\n"
    )
    return shell


def test_a_synced_folder_is_not_written_to_and_the_manifest_is_shown(synced: Shell) -> None:
    ended = synced("create", "alice", "--ssh-key", public_key("alice"))
    assert ended.code == 1
    assert "comes from git (git@git.example.org:ops/people, branch live)" in ended.err
    assert "commit the above there as environments/alice.yaml" in ended.err
    assert yaml.safe_load(ended.out)["metadata"]["name"] == "alice"
    assert [path.name for path in synced.folder.iterdir()] == ["bob.yaml"]


def test_a_file_of_the_repository_is_to_be_added_to_and_not_replaced(synced: Shell, tmp_path: Path) -> None:
    synced.write("class.yaml", f"# Written by containarium create on Monday.\n{yaml.safe_dump(document('carol'))}")
    ended = synced("create", "--from", table(tmp_path, "name,key\n" + row("alice")))
    assert ended.code == 1
    assert "commit the above there at the end of environments/class.yaml" in ended.err
    assert "\n---\n" in ended.out


@pytest.mark.parametrize(
    ("command", "field", "line"),
    [
        (["resize", "bob", "--memory", "2GiB"], "spec.resources.memory", 8),
        (["stop", "bob"], "spec.running", 5),
        (["key", "add", "bob", "KEY"], "spec.sshKeys", 9),
        (["delete", "bob"], "metadata.name", 4),
    ],
)
def test_the_line_to_edit_in_the_repository_is_named(synced: Shell, command: list[str], field: str, line: int) -> None:
    before = (synced.folder / "bob.yaml").read_text()
    ended = synced(*(public_key("second") if word == "KEY" else word for word in command))
    assert ended.code == 1
    assert "git@git.example.org:ops/people, branch live" in ended.err
    assert f"edit environments/bob.yaml:{line} ({field}) there and commit it" in ended.err
    assert (synced.folder / "bob.yaml").read_text() == before


def test_a_working_copy_that_is_named_is_edited_and_only_that(shell: Shell, tmp_path: Path) -> None:
    clone = tmp_path / "clone"
    (clone / ".git").mkdir(parents=True)
    shell.root = False
    ended = shell("create", "alice", "--ssh-key", public_key("alice"), "-f", str(clone))
    assert ended.code == 0, ended.err
    assert (clone / "alice.yaml").exists()
    assert "which this host does not follow" in ended.out
    assert not shell.world.instances


def test_only_root_changes_what_the_host_follows(shell: Shell) -> None:
    shell.root = False
    for command in (["create", "x", "--ssh-key", "k"], ["delete", "x"], ["resize", "x", "--cpu", "1"], ["stop", "x"]):
        assert "needs root: sudo containarium" in shell(*command).err


# -- what fails on the host


def test_a_failure_is_one_line_and_the_manifest_stays(shell: Shell) -> None:
    def faults(boundary: Boundary) -> Fault | None:
        return Fail("Mirror") if isinstance(boundary.action, SetUpUser) else None

    shell.faults = faults
    ended = shell("create", "alice", "--ssh-key", public_key("alice"), "--image", "bootstrap:debian/12")
    assert ended.code == 1
    assert ended.err.startswith("alice: SetUpUser failed: injected fault")
    assert ended.err.count("\n") == 1
    assert "Host alice" not in ended.out
    assert (shell.folder / "alice.yaml").exists()
    shell.faults = no_faults
    assert shell("apply").code == 0


def test_one_on_another_host_is_only_written(shell: Shell) -> None:
    ended = shell("create", "alice", "--ssh-key", public_key("alice"), "--host", "elsewhere")
    assert ended.code == 0, ended.err
    assert "alice: is placed on another host, which looks after it" in ended.err
    assert not shell.world.instances
