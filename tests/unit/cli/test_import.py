"""import: manifests of what is there, which the reconciler itself is asked about before anybody believes in them."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from containarium.model import marks
from containarium.model.observed import Account, Instance, InstanceStatus
from containarium.plan.inventory import Seen
from tests.builders import public_key
from tests.unit.cli.conftest import Shell

BOX = "alice-container"
ROOT = {"type": "disk", "path": "/", "pool": "default", "size": "50GB"}
NIC = {"type": "nic", "name": "eth0", "network": "incusbr0"}
CONFIG = {"limits.cpu": "4", "limits.memory": "4GB", "boot.autostart": "true"}


@dataclass
class FakeImporter:
    """What there is, as a test chose it."""

    there: list[Seen] = field(default_factory=list)
    old: tuple[str, ...] = ()

    def seen(self, names: Collection[str]) -> tuple[Seen, ...]:
        """Those of these names."""
        return tuple(one for one in self.there if not names or one.name in names or one.instance in names)

    def orphans(self) -> tuple[str, ...]:
        """Accounts without a container."""
        return self.old


@pytest.fixture
def importer(shell: Shell) -> FakeImporter:
    found = FakeImporter()
    shell.more["importer"] = lambda _settings: found
    return found


def foreign(shell: Shell, importer: FakeImporter, *, running: bool = False, **known: Any) -> None:
    """There is a container of the original's, with its NIC from a profile."""
    status = InstanceStatus.RUNNING if running else InstanceStatus.STOPPED
    config = {**CONFIG, "volatile.last_state.power": "RUNNING"}
    shell.world.put_instance(Instance(BOX, status, config, {"root": ROOT}), None)
    devices = {"root": ROOT, "eth0": NIC}
    seen = Seen(BOX, "container", running, config, config, devices, {"root": ROOT}, "10.0.3.57")
    importer.there.append(replace(seen, guest_keys=(public_key("alice"),), **known))


def test_what_is_written_loads_and_is_taken_over(shell: Shell, importer: FakeImporter, tmp_path: Path) -> None:
    foreign(shell, importer)
    folder = tmp_path / "made"
    ended = shell("import", "--all", "--write", str(folder))
    assert ended.code == 0, ended.err
    assert "is taken over while it runs" in ended.err
    assert "spec.network.ipv4: unset -> 10.0.3.57 [live]" in ended.err
    assert not list(shell.folder.iterdir()), "only where it was told to"
    text = (folder / "alice.yaml").read_text()
    assert "# guessed: it has no limit now" in text
    assert "memory: 4GB" in text
    data = yaml.safe_load(text)
    assert data["metadata"] == {"name": "alice", "annotations": {"containarium.dev/adopt": "true"}}
    (shell.folder / "alice.yaml").write_text(text)
    assert shell("apply").code == 0
    assert shell.world.instances[BOX].config[marks.ENVIRONMENT] == "alice"
    assert shell("plan", "--detailed-exitcode").code == 0
    assert "declared in" in shell("import", "alice").err


def test_a_running_one_says_what_needs_a_stop(shell: Shell, importer: FakeImporter) -> None:
    foreign(shell, importer, running=True)
    ended = shell("import", "alice")
    assert ended.code == 0
    assert yaml.safe_load(ended.out)["metadata"]["name"] == "alice"
    assert "incus stop alice-container" in ended.err
    assert "isolation.idmap: unset -> true [restart]" in ended.err
    assert shell.trailed == [], "nothing was changed"


def test_a_manifest_that_was_lost_comes_back_and_plans_as_empty(shell: Shell, importer: FakeImporter) -> None:
    shell.declare("alice", resources={"memory": "8GiB"})
    assert shell("apply").code == 0
    (shell.folder / "alice.yaml").unlink()
    shell.declare("bob")
    instance = shell.world.instances[BOX]
    own = Seen(BOX, "container", True, instance.config, instance.config, instance.devices, instance.devices)
    importer.there.append(own)
    ended = shell("import", "alice")
    assert ended.code == 0
    assert "alice: plans as empty" in ended.err
    assert "alice: plans as empty" in shell("import", "alice", "--write", str(shell.folder)).err
    assert "alice" not in shell("plan").out


@pytest.mark.parametrize(
    ("shell_of", "said"),
    [
        ("/usr/sbin/nologin", "usermod -g containarium-jump -c 'containarium jump account of alice' alice"),
        ("/bin/bash", "is somebody's login on this host"),
    ],
)
def test_a_foreign_account_is_a_conflict_with_a_way_out(
    shell: Shell, importer: FakeImporter, shell_of: str, said: str
) -> None:
    account = Account("alice", 1007, "alice", home="/home/alice", shell=shell_of)
    foreign(shell, importer, account=account)
    shell.world.put_account(account)
    ended = shell("import", "alice")
    assert ended.code == 0
    assert said in ended.err
    assert "once that is solved" in ended.err


def test_hostile_words_stay_in_their_comments(shell: Shell, importer: FakeImporter) -> None:
    evil = "x\nspec: {}\n\x1b[31m# "
    config = {**CONFIG, f"user.containarium.label.{evil}": "a", "limits.memory": evil}
    foreign(shell, importer, config=config)
    ended = shell("import", "alice")
    assert "\x1b" not in ended.out + ended.err
    data = yaml.safe_load(ended.out)
    assert data["spec"]["resources"]["memory"] == "4GiB"
    assert list(data) == ["apiVersion", "kind", "metadata", "spec"]


def test_a_key_that_another_container_has_too_is_left_out_whoever_was_asked_for(
    shell: Shell, importer: FakeImporter
) -> None:
    foreign(shell, importer)
    keys = (public_key("alice"), public_key("admin"))
    importer.there = [replace(importer.there[0], guest_keys=keys)]
    importer.there.append(replace(importer.there[0], instance="bob-container", guest_keys=(public_key("admin"),)))
    ended = shell("import", "alice")
    assert yaml.safe_load(ended.out)["spec"]["sshKeys"] == [public_key("alice")]
    assert "admin@laptop" in ended.err
    assert "bob" not in ended.err


def test_nothing_is_ever_replaced(shell: Shell, importer: FakeImporter, tmp_path: Path) -> None:
    foreign(shell, importer)
    (tmp_path / "alice.yaml").write_text("mine")
    ended = shell("import", "alice", "--write", str(tmp_path))
    assert ended.code == 1
    assert "exists already" in ended.err
    assert (tmp_path / "alice.yaml").read_text() == "mine"


@pytest.mark.parametrize("link", [False, True])
def test_nothing_is_written_where_the_next_commit_would_take_it_away(
    shell: Shell, importer: FakeImporter, tmp_path: Path, *, link: bool
) -> None:
    foreign(shell, importer)
    if link:  # as containarium sync brings it
        checkout = shell.settings.sync / "checkouts" / "1" / "environments"
        checkout.mkdir(parents=True)
        shell.folder.rmdir()
        shell.folder.symlink_to(checkout)
    else:
        (shell.folder / ".git").mkdir()
    ended = shell("import", "--all", "--write", str(shell.folder))
    assert ended.code == 1
    assert yaml.safe_load(ended.out)["metadata"]["name"] == "alice"
    (error,) = [line for line in ended.err.splitlines() if line.startswith("containarium: error: ")]
    assert "comes from git" in error
    assert "commit the above there as " in error
    assert "alice.yaml" in error
    assert not (shell.folder / "alice.yaml").exists()


def test_what_cannot_be_imported_is_told(shell: Shell, importer: FakeImporter) -> None:
    foreign(shell, importer)
    importer.there.append(replace(importer.there[0], instance="web", guest_keys=()))
    importer.old = ("dave", "erin")
    ended = shell("import", "--all")
    assert ended.code == 1
    assert "web: not imported" in ended.err
    assert "old jump accounts" in ended.err
    assert "dave, erin" in ended.err
    assert yaml.safe_load(ended.out)["metadata"]["name"] == "alice"


@pytest.mark.parametrize(("arguments", "said"), [((), "say what"), (("alice", "--all"), "say what"), (("zoe",), "zoe")])
def test_what_to_import_has_to_be_said(
    shell: Shell, importer: FakeImporter, arguments: tuple[str, ...], said: str
) -> None:
    ended = shell("import", *arguments)
    assert (ended.code, ended.out) == (1, "")
    assert said in ended.err
