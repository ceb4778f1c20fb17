"""Host manifests: what one may say, what several must not share, and how they load beside environments."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from containarium.model.hostmanifest import HostManifest, StorageDriver
from containarium.model.manifest import Load
from containarium.model.schema import host_schema_text
from containarium.sources.cached import CachedSource
from containarium.sources.directory import load, load_file
from tests.builders import public_key

ROOT = Path(__file__).parents[3]
HEAD = "apiVersion: containarium.dev/v1\n"
ALICE = f"{HEAD}kind: Environment\nmetadata: {{name: alice}}\nspec: {{sshKeys: [{public_key('alice')}]}}\n"
ARMOUR = "-----BEGIN PGP PUBLIC KEY BLOCK-----\n\nmQINBF\n=abcd\n-----END PGP PUBLIC KEY BLOCK-----\n"


def host(name: str, spec: str = "") -> str:
    return f"{HEAD}kind: Host\nmetadata: {{name: {name}}}\nspec: {{{spec}}}\n"


def reading(folder: Path, **files: str) -> Load:
    for name, text in files.items():
        (folder / f"{name}.yaml").write_text(text)
    return load(folder)


def test_hosts_stand_beside_environments(tmp_path: Path) -> None:
    found = reading(tmp_path, alice=ALICE, two=host("jump-2", "network: {subnet: 10.0.4.1/24}"), one=host("jump-1"))
    assert found.problems == ()
    assert found.complete
    assert [declared.name for declared in found.hosts] == ["jump-1", "jump-2"]
    assert [manifest.name for manifest in found.manifests] == ["alice"]
    one = found.host("jump-1")
    assert one is not None
    assert found.host("jump-3") is None
    assert one.manifest.spec.storage.driver is StorageDriver.BTRFS
    assert str(one.manifest.network) == "10.0.3.0/24"
    assert str(one.manifest.spec.logs.retention) == "90d"


def test_a_whole_host_keeps_every_word(tmp_path: Path) -> None:
    (tmp_path / "keys").mkdir()
    (tmp_path / "keys/ops.pub").write_text(f"{public_key('ops')}\n{public_key('second')}\n")
    text = f"""{HEAD}kind: Host
metadata: {{name: jump-1, labels: {{zone: a}}}}
spec:
  incus:
    repository: {{url: "https://packages.example.org/incus/stable", suite: bookworm, key: {ARMOUR!r}}}
  storage: {{driver: zfs, disk: /dev/disk/by-id/google-data}}
  network: {{subnet: 10.20.0.1/20, address: 10.128.0.2}}
  login: {{address: Jump.example.org, port: 2222}}
  admins:
    - {{name: ops, sshKeys: [{{file: keys/ops.pub}}]}}
  logs: {{retention: 30d}}
  identity:
    hostKeys: [{public_key("host")}]
    peerKey: {public_key("peer")}
""".replace("'", '"')
    found = reading(tmp_path, alice=ALICE, host=text)
    assert found.problems == ()
    declared = found.hosts[0]
    assert [len(keys) for keys in declared.admins.values()] == [2]
    spec = declared.manifest.spec
    assert spec.login is not None
    assert (spec.login.address, spec.login.port) == ("jump.example.org", 2222)
    written = declared.manifest.model_dump(mode="json", by_alias=True, exclude_unset=True)
    assert HostManifest.model_validate(written) == declared.manifest, "what is written is read again"
    assert yaml.safe_load(yaml.safe_dump(written)) == written


@pytest.mark.parametrize(
    ("spec", "field", "remedy"),
    [
        ("storage: {driver: ceph}", "spec.storage.driver", "write zfs, btrfs, dir"),
        ("storage: {disk: sdb}", "spec.storage.disk", "write its device"),
        ("storage: {disk: /dev/../etc/passwd}", "spec.storage.disk", "write its device"),
        ("network: {subnet: 10.0.3.0/24}", "spec.network.subnet", "write 10.0.3.1/24"),
        ("network: {subnet: 8.8.8.1/24}", "spec.network.subnet", "10.0.3.1/24"),
        ("network: {subnet: 10.0.0.1/8}", "spec.network.subnet", "/16 to /29"),
        ("network: {subnet: 10}", "spec.network.subnet", "10.0.3.1/24"),
        ("network: {address: 127.0.0.1}", "spec.network.address", "write one"),
        ("login: {address: 'a b'}", "spec.login.address", "write the name of a host"),
        ("login: {}", "spec.login.address", "add it"),
        ("login: {address: a.example, prot: 22}", "spec.login.prot", "did you mean port?"),
        ("logs: {retention: 1h}", "spec.logs.retention", "from 1d"),
        ("admins: [{name: root, sshKeys: []}]", "spec.admins[0].name", "ops"),
        ("admins: [{sshKeys: [x]}]", "spec.admins[0].name", "admin's account name"),
        ("admins: [{name: ops, ssh_keys: []}]", "spec.admins[0].ssh_keys", "did you mean sshKeys?"),
        ("incus: {repository: {url: 'http://a.example/', key: x}}", "spec.incus.repository.url", "https://"),
        ("incus: {repository: {url: 'https://a.example/'}}", "spec.incus.repository.key", "armoured"),
        ("incus: {repository: {url: 'https://a.example/', key: abc}}", "spec.incus.repository.key", "gpg --armor"),
        ("identity: {peerKey: x}", "spec.identity.hostKeys", "containarium host manifest"),
        ("sshKeys: []", "spec.sshKeys", "spec.admins[]"),
    ],
)
def test_what_is_refused_says_where_and_what_instead(tmp_path: Path, spec: str, field: str, remedy: str) -> None:
    found = reading(tmp_path, alice=ALICE, host=host("jump-1", spec))
    problem = next(problem for problem in found.problems if problem.field == field)
    assert remedy in problem.remedy, problem
    assert problem.location.file.endswith("host.yaml")
    assert problem.location.line
    assert found.hosts == ()
    assert [manifest.name for manifest in found.manifests] == ["alice"], "a broken host is in nobody's way"


@pytest.mark.parametrize(
    ("one", "two", "reason"),
    [
        (host("jump-1"), host("jump-1", "network: {subnet: 10.0.4.1/24}"), "DuplicateName"),
        (host("jump-1"), host("jump-2", "network: {subnet: 10.0.0.1/16}"), "DuplicateSubnet"),
        (
            host("jump-1", "network: {address: 10.128.0.2}"),
            host("jump-2", "network: {subnet: 10.0.4.1/24, address: 10.128.0.2}"),
            "DuplicateAddress",
        ),
        (
            host("jump-1", f"identity: {{hostKeys: [{public_key('a')}], peerKey: {public_key('b')}}}"),
            host(
                "jump-2",
                f"network: {{subnet: 10.0.4.1/24}}, identity: {{hostKeys: [{public_key('c')}], "
                f"peerKey: {public_key('a')}}}",
            ),
            "SharedKey",
        ),
    ],
)
def test_what_only_one_host_can_have_refuses_both(tmp_path: Path, one: str, two: str, reason: str) -> None:
    found = reading(tmp_path, alice=ALICE, one=one, two=two, three=host("jump-3", "network: {subnet: 10.9.0.1/24}"))
    assert {problem.reason for problem in found.problems} == {reason}
    assert len(found.problems) == 2
    assert [declared.name for declared in found.hosts] == ["jump-3"]


def test_hosts_alone_are_nobody(tmp_path: Path) -> None:
    found = reading(tmp_path, one=host("jump-1"))
    assert not found.complete, "an empty folder of environments is unknown"
    assert [problem.reason for problem in found.problems] == ["SourceEmpty"]
    assert [declared.name for declared in found.hosts] == ["jump-1"]


def test_a_file_of_its_own_loads(tmp_path: Path) -> None:
    (tmp_path / "host.yaml").write_text(host("jump-1", "storage: {driver: dir}"))
    found = load_file(tmp_path / "host.yaml")
    assert found.problems == ()
    assert found.hosts[0].manifest.spec.storage.driver is StorageDriver.DIR


def test_a_changed_host_is_a_new_generation(tmp_path: Path) -> None:
    (tmp_path / "alice.yaml").write_text(ALICE)
    (tmp_path / "host.yaml").write_text(host("jump-1"))
    source = CachedSource(tmp_path)
    source.load()
    before = source.generation
    (tmp_path / "host.yaml").write_text(host("jump-1", "logs: {retention: 30d}"))
    source.load()
    assert source.generation == before + 1


def test_the_schema_in_the_repository_is_that_of_the_types() -> None:
    assert (ROOT / "schemas/host.schema.json").read_text() == host_schema_text()


@pytest.mark.parametrize(
    "text",
    [
        ALICE.replace("sshKeys", "sshKey"),
        f"{HEAD}kind: Environment\nmetadata: {{name: '..'}}\n",
        "this: [is, broken",
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: some}\n",
        f"{HEAD}kind: EnvironmentClass\nmetadata: {{name: small}}\nspec: {{cpus: 2}}\n",
        f"{ALICE.replace('sshKeys', 'sshKey')}---\n{host('jump-2', 'network: {subnet: 10.0.4.1/24}')}",
    ],
)
def test_a_broken_file_that_can_be_no_host_leaves_no_doubt_who_is_declared(tmp_path: Path, text: str) -> None:
    found = reading(tmp_path, one=host("jump-1"), bob=text)
    assert found.problems
    assert not found.hosts_unsure


@pytest.mark.parametrize(
    "text",
    [
        host("jump-2", "network: {subnet: x}"),
        host("jump-2").replace("kind: Host", "kind: Hots"),
        host("jump-2").replace("metadata: {", "metadata: {["),
        '{"kind": "Host", "metadata": {',
        host("jump-1"),
    ],
)
def test_a_broken_host_leaves_a_doubt_who_is_declared(tmp_path: Path, text: str) -> None:
    assert not reading(tmp_path, one=host("jump-1"), alice=ALICE).hosts_unsure
    assert reading(tmp_path, two=text).hosts_unsure
    (tmp_path / "two.yaml").write_bytes(text.encode("utf-16") + b"\0")
    assert load(tmp_path).hosts_unsure
    (tmp_path / "two.yaml").unlink()
    (tmp_path / "two.yaml").symlink_to("/nowhere")
    assert load(tmp_path).hosts_unsure
