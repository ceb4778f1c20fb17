"""list and info: what is here, and how far it is from its manifest."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta

import pytest
import yaml

from containarium.host.figures import Figures
from tests.builders import public_key
from tests.unit.cli.conftest import Shell, document


def _row(shell: Shell, name: str) -> dict[str, object]:
    rows = {row["name"]: row for row in shell("list", "-o", "json").json}
    return rows[name]  # type: ignore[no-any-return]


def test_the_table(shell: Shell) -> None:
    shell.declare("alice", "bob", autostart=False)
    shell("apply")
    shell.declare("carol")
    shell.somebody.give_shell("bob")
    done = shell("list")
    assert (done.code, done.err) == (0, "")
    assert [line.split() for line in done.out.splitlines()] == [
        ["NAME", "STATUS", "IP", "QUOTA", "AUTOSTART", "SSH", "READY", "DRIFT"],
        ["alice", "Running", "10.0.3.2", "50GiB", "no", "-", "True", "-"],
        ["bob", "Running", "10.0.3.3", "50GiB", "no", "-", "False", "(Drifted)", "account.shell"],
        ["carol", "Absent", "-", "-", "no", "-", "False", "(ToBeCreated)", "-"],
    ]


def test_json_and_yaml_say_the_same(shell: Shell) -> None:
    shell.declare("alice", "bob")
    shell("apply")
    shell.somebody.stop("alice-container")
    as_json = shell("list", "-o", "json").json
    assert as_json == yaml.safe_load(shell("list", "--output", "yaml").out)
    assert as_json[0] == {
        "name": "alice",
        "status": "Stopped",
        "ip": "10.0.3.2",
        "quota": "50GiB",
        "autostart": True,
        "ready": {"status": "False", "reason": "Drifted", "message": "spec.running"},
        "drift": ["spec.running"],
        "ssh": None,
        "host": "",
    }


def test_without_manifests_what_is_here_is_shown(shell: Shell) -> None:
    shell.declare("alice")
    shell("apply")
    (shell.folder / "alice.yaml").unlink()
    shell.folder.rmdir()
    done = shell("list")
    assert done.code == 0
    assert "Unknown (NoManifests)" in done.out
    assert done.err == "There are no manifests on this host: only what is here is shown.\n"


def test_a_folder_that_was_asked_for_has_to_be_there(shell: Shell) -> None:
    done = shell("list", "-f", str(shell.folder / "absent"))
    assert done.code == 1
    assert "there is no folder" in done.err


def test_an_empty_host(shell: Shell) -> None:
    shell.folder.rmdir()
    assert shell("list").out == "There are no environments on this host.\n"
    assert shell("list", "-o", "json").json == []


def test_nothing_foreign_is_listed(shell: Shell) -> None:
    shell.somebody.foreign_instance("web", running=True)
    shell.somebody.add_account("mallory")
    shell.declare("alice")
    shell("apply")
    # A copy carries our mark, but not the name that goes with it.
    shell.somebody.foreign_instance("copy")
    shell.somebody.set_config("copy", "user.containarium.environment", "alice")
    assert [row["name"] for row in shell("list", "-o", "json").json] == ["alice"]


def test_a_foreign_container_of_the_name_is_a_conflict_and_none_of_its_data_is_shown(shell: Shell) -> None:
    shell.somebody.foreign_instance("alice-container", address="10.0.3.77", running=True)
    shell.declare("alice")
    row = _row(shell, "alice")
    assert (row["status"], row["ip"]) == ("Absent", "")
    assert row["ready"]["reason"] == "Conflict"  # type: ignore[index]


def test_a_broken_manifest_is_told_beside_the_list(shell: Shell) -> None:
    shell.declare("alice", "bob")
    shell("apply")
    shell.declare("bob", resources={"memory": "much"})
    done = shell("list", "-o", "json")
    assert done.code == 0
    rows = {row["name"]: row["ready"] for row in done.json}
    assert rows["alice"]["status"] == "True"
    assert rows["bob"]["status"] == "False"
    assert "spec.resources.memory" in rows["bob"]["message"]
    assert done.err == "1 problem in the manifests: see containarium plan\n"


def test_a_retired_environment_says_until_when_its_data_is_kept(shell: Shell) -> None:
    shell.declare("alice", "bob")
    shell("apply")
    (shell.folder / "bob.yaml").unlink()
    shell("apply")
    shell.now += timedelta(hours=1)
    assert _row(shell, "bob")["ready"]["reason"] == "Retired"  # type: ignore[index]
    data = shell("info", "bob", "-o", "json").json
    assert data["jump_account"]["state"] == "locked"
    assert data["retired"].startswith("2026-11-22T12:00:00")
    assert data["retired_until"].startswith("2026-11-29T12:00:00")
    assert "Data kept until: 2026-11-29T12:00:00" in shell("info", "bob").out


def test_what_is_held_back_says_why(shell: Shell) -> None:
    shell.declare("alice", "bob")
    shell("apply")
    (shell.folder / "bob.yaml").unlink()
    shell.write("broken.yaml", "a: [")
    assert _row(shell, "bob")["ready"]["reason"] == "ManifestErrors"  # type: ignore[index]


def test_info(shell: Shell) -> None:
    shell.declare("alice", resources={"cpu": "0-3", "memory": "8GiB", "disk": "20GB", "processes": 100})
    shell("apply")
    done = shell("info", "alice")
    assert (done.code, done.err) == (0, "")
    fields = dict(line.split(":", 1) for line in done.out.splitlines())
    assert {name: value.strip() for name, value in fields.items()} | {"Keys": "", "Created": "", "Uptime": ""} == {
        "Name": "alice",
        "Container": "alice-container",
        "User": "alice",
        "Status": "Running",
        "Ready": "True",
        "Drift": "none",
        "IP": "10.0.3.2",
        "CPU": "0-3",
        "Memory": "8GiB",
        "Disk": "20GB",
        "Processes": "100",
        "Uptime": "",
        "Autostart": "yes",
        "Image": "bootstrap:debian/12",
        "Created": "",
        "Jump account": "active",
        "Keys": "",
        "Conditions": "Ready True: AsDeclared",
    }
    assert "SHA256:" in fields["Keys"]


def test_info_in_json_is_stable(shell: Shell) -> None:
    shell.declare("alice")
    shell("apply")
    assert shell("info", "alice", "-o", "json").out == shell("info", "alice", "-o", "json").out


def test_info_tells_declared_keys_from_installed_ones(shell: Shell) -> None:
    old, new = public_key("old"), public_key("new")
    shell.declare("alice", sshKeys=[old])
    shell("apply")
    shell.declare("alice", sshKeys=[new])
    shell.somebody.append_host_key("alice", "ssh-ed25519 not a key at all")
    keys = {key["comment"]: key for key in shell("info", "alice", "-o", "json").json["keys"]}
    assert (keys["old@laptop"]["declared"], keys["old@laptop"]["installed"]) == (False, True)
    assert (keys["new@laptop"]["declared"], keys["new@laptop"]["installed"]) == (True, False)
    assert keys[""]["fingerprint"].startswith("unreadable: ssh-ed25519")
    text = shell("info", "alice").out
    assert "(not declared)" in text
    assert "(not installed)" in text


def test_info_tells_what_is_odd_about_a_jump_account(shell: Shell) -> None:
    shell.declare("alice")
    shell("apply")
    shell.somebody.give_shell("alice")
    shell.somebody.add_to_group("alice", "sudo")
    account = shell("info", "alice", "-o", "json").json["jump_account"]
    assert account["state"] == "altered"
    assert "shell /bin/bash" in account["detail"]
    assert "sudo" in account["detail"]


def test_deep_finds_what_is_wrong_inside(shell: Shell) -> None:
    shell.declare("alice")
    shell("apply")
    shell.somebody.set_root_password("alice-container")
    assert shell("info", "alice", "-o", "json").json["drift"] == []
    assert shell("info", "alice", "-o", "json", "--deep").json["drift"] != []


def test_info_of_nobody(shell: Shell) -> None:
    done = shell("info", "nobody")
    assert (done.code, done.out) == (1, "")
    assert done.err == (
        "containarium: error: there is no environment nobody; containarium list shows those there are\n"
    )


def test_info_has_what_no_look_has_and_what_happened_last(shell: Shell) -> None:
    shell.declare("alice", resources={"cpu": 2, "memory": "8GiB", "disk": "50GiB"})
    shell("apply")
    shell.figures = Figures(memory=300 << 20, disk=3 << 30, cpu=90.5, processes=17)
    box = shell.world.instances["alice-container"]
    shell.world.put_instance(
        replace(box, last_used_at=(shell.now - timedelta(hours=5)).isoformat()), shell.world.inside(box.name)
    )
    happened = [{"time": f"t{n}", "environment": "alice", "reason": "Repaired", "by": "root"} for n in range(7)]
    shell.settings.state.mkdir()
    shell.settings.events.write_text("".join(f"{json.dumps(event)}\n" for event in happened))
    done = shell("info", "alice")
    assert done.code == 0
    fields = dict(line.split(": ", 1) for line in done.out.splitlines() if ": " in line)
    assert fields["CPU"].strip() == "2 (90 s used since the start)"
    assert fields["Memory"].strip() == "300 MiB of 8GiB"
    assert fields["Disk"].strip() == "3.0 GiB of 50GiB"
    assert fields["Processes"].strip() == "4096 (17 now)"
    assert fields["Uptime"].strip() == "5 h"
    assert done.out.count("Repaired  by root") == 5
    data = shell("info", "alice", "-o", "json").json
    assert data["usage"] == {"memory": 300 << 20, "disk": 3 << 30, "cpu": 90.5, "processes": 17}
    assert data["uptime"] == 5 * 3600
    assert [event["time"] for event in data["events"]] == ["t2", "t3", "t4", "t5", "t6"]


def test_a_stopped_one_has_no_uptime(shell: Shell) -> None:
    shell.declare("alice", running=False)
    shell("apply")
    assert shell("info", "alice", "-o", "json").json["uptime"] is None
    assert "Uptime" not in shell("info", "alice").out


@pytest.mark.parametrize(
    ("flags", "names"),
    [
        ([], ["alice", "bob", "carol"]),
        (["--state", "running"], ["alice", "carol"]),
        (["--state", "Stopped"], ["bob"]),
        (["--state", "absent"], []),
        (["--user", "bob", "--user", "carol"], ["bob", "carol"]),
        (["--label", "team=ml"], ["alice", "bob"]),
        (["--label", "team"], ["alice", "bob", "carol"]),
        (["-l", "team=ml", "-l", "year=2"], ["bob"]),
        (["-l", "team=ml,year=2"], ["bob"]),
        (["-l", "team=ml", "--state", "running"], ["alice"]),
        (["-l", "team=none"], []),
    ],
)
def test_only_those_that_are_asked_for(shell: Shell, flags: list[str], names: list[str]) -> None:
    for name, labels, running in (
        ("alice", {"team": "ml"}, True),
        ("bob", {"team": "ml", "year": "2"}, False),
        ("carol", {"team": "web"}, True),
    ):
        data = document(name, running=running)
        shell.write(f"{name}.yaml", yaml.safe_dump(data | {"metadata": {"name": name, "labels": labels}}))
    shell("apply")
    assert [row["name"] for row in shell("ls", *flags, "-o", "json").json] == names


def test_a_state_that_there_is_not_is_told(shell: Shell) -> None:
    done = shell("list", "--state", "asleep")
    assert done.code == 1
    assert "asleep" in done.err


def test_the_originals_word_for_the_output_is_understood(shell: Shell) -> None:
    shell.declare("alice", "bob")
    for command in ("list", "ls"):
        assert [row["name"] for row in json.loads(shell(command, "--format", "json").out)] == ["alice", "bob"]


def test_the_originals_daemon_flags_lead_to_the_api(shell: Shell) -> None:
    ended = shell("daemon", "--address", "192.0.2.1", "--port", "50051", "--mtls")
    assert (ended.code, "containarium api --mtls" in ended.err) == (1, True)
