"""The start-up script: sound shell whatever it is rendered for, and what it asks the clouds for."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from containarium.model.hostmanifest import HostManifest
from containarium.model.syncing import SyncConfig
from tests.lab.command import run
from tests.terraform.tools import ensure_command

if TYPE_CHECKING:
    from pathlib import Path

    from tests.terraform.tools import Terraform

OVER_SSH = {
    "sync": {
        "repository": "git@git.example.org:team/environments.git",
        "branch": "main",
        "verify": {"ssh": {"allowedSigners": "/etc/containarium/allowed_signers"}},
    },
    "sync_known_hosts": "git.example.org ssh-ed25519 AAAA",
    "sync_allowed_signers": "ops@example.org ssh-ed25519 AAAA",
}
GCE = {
    "cloud": "gce",
    "disks": {"jump-1": "/dev/disk/by-id/google-data"},
    "deploy_key_secret": "projects/p/secrets/deploy/versions/latest",
    **OVER_SSH,
}
AWS = {
    "cloud": "aws",
    "region": "eu-central-1",
    "disks": {"jump-1": "/dev/disk/by-id/nvme-Amazon_Elastic_Block_Store_vol0123"},
    "volumes": {"jump-1": "vol-0123"},
    "deploy_key_secret": "arn:aws:secretsmanager:eu-central-1:123456789012:secret:deploy",
    **OVER_SSH,
}
KINDS: dict[str, dict[str, Any]] = {"plain": {}, "gce": GCE, "aws": AWS}


@pytest.fixture(scope="session")
def scripts(bare: Terraform, fleet: dict[str, Any]) -> dict[str, str]:
    """Give the script of a host of each kind."""
    return {kind: bare.decide(**fleet | more)["startup_scripts"]["jump-1"] for kind, more in KINDS.items()}


def function(script: str, name: str) -> str:
    """The text of one function of the script."""
    found = re.search(rf"^{name}\(\) \{{\n.*?^\}}$", script, re.MULTILINE | re.DOTALL)
    assert found is not None
    return found[0]


def document(script: str, file: str) -> Any:
    """A YAML document that the script writes."""
    found = re.search(rf"^put \"\$etc/{file}\" 644 <<'CONTAINARIUM'\n(.*?)^CONTAINARIUM$", script, re.M | re.S)
    assert found is not None
    return yaml.safe_load(found[1])


def python(script: str, name: str) -> str:
    """The Python program inside of one of its functions."""
    found = re.search(r"<<'PYTHON'\n(.*?)^PYTHON$", function(script, name), re.MULTILINE | re.DOTALL)
    assert found is not None
    return found[1]


@pytest.mark.parametrize("kind", KINDS)
def test_it_is_sound(scripts: dict[str, str], kind: str, tmp_path: Path) -> None:
    ensure_command("shellcheck", "shellcheck")
    file = tmp_path / "startup.sh"
    file.write_text(scripts[kind])
    done = run(["shellcheck", "--severity=style", file], timeout=60, check=False)
    assert done.stdout == ""


@pytest.mark.parametrize("kind", KINDS)
def test_it_is_short(scripts: dict[str, str], kind: str) -> None:
    """And fits what a cloud takes: 16 KiB on AWS, packed there."""
    assert len(scripts[kind].splitlines()) < 200
    assert len(scripts[kind].encode()) < 16384


@pytest.mark.parametrize("kind", KINDS)
def test_the_sync_takes_what_it_writes(scripts: dict[str, str], kind: str) -> None:
    config = SyncConfig.model_validate(document(scripts[kind], "sync.yaml"))
    expected = KINDS[kind].get("sync", {}).get("repository", "https://git.example.org/team/environments.git")
    assert config.repository == expected
    assert (config.identity is not None) == (kind != "plain")
    assert config.verify.wanted == (kind != "plain")


@pytest.mark.parametrize("kind", KINDS)
def test_no_secret_is_in_it(scripts: dict[str, str], kind: str) -> None:
    assert "PRIVATE KEY" not in scripts[kind]


@pytest.mark.parametrize("kind", KINDS)
def test_the_host_takes_its_manifest(scripts: dict[str, str], kind: str) -> None:
    host = HostManifest.model_validate(document(scripts[kind], "host.yaml"))
    assert (host.metadata.name, str(host.spec.network.subnet)) == ("jump-1", "10.0.3.1/24")
    assert host.spec.storage.disk == KINDS[kind].get("disks", {}).get("jump-1")
    assert [admin.name for admin in host.spec.admins] == ["ops"]


def test_the_fleet_s_manifests_are_what_hosts_take(bare: Terraform, fleet: dict[str, Any]) -> None:
    more = {"jump_server_count": 10, "login_address": "jump.example.org"}
    texts = bare.decide(**fleet | more)["host_manifests"]
    hosts = [HostManifest.model_validate(yaml.safe_load(text)) for text in texts.values()]
    assert sorted(texts) == sorted(host.metadata.name for host in hosts)
    assert len({host.spec.network.subnet for host in hosts}) == len({host.spec.network.address for host in hosts}) == 10
    assert {host.spec.login.address for host in hosts if host.spec.login} == {"jump.example.org"}


# -- Google's secret

CURL = """#!/bin/bash
printf '%s\\n' "$*" >> "$SEEN"
case "$*" in
*metadata.google.internal*) echo '{"access_token": "the-token"}' ;;
*secretmanager*:access*)
    [[ $(cat) == 'Authorization: Bearer the-token' ]] || exit 22
    echo '{"payload": {"data": "LS0tLS1CRUdJTiBLRVktLS0tLQo="}}' ;;
*) exit 1 ;;
esac
"""


def test_the_deploy_key_comes_from_google(scripts: dict[str, str], tmp_path: Path) -> None:
    """The token, which is as good as the key, is not among the arguments of a process."""
    (tmp_path / "curl").write_text(CURL)
    (tmp_path / "curl").chmod(0o755)
    seen = tmp_path / "seen"
    program = f"set -euo pipefail\n{function(scripts['gce'], 'secret')}\nsecret\n"
    env = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "SEEN": str(seen)}
    done = run(["bash", "-c", program], timeout=30, env=env)
    assert done.stdout == "-----BEGIN KEY-----\n"
    assert "versions/latest:access" in seen.read_text()
    assert "the-token" not in seen.read_text()


# -- Amazon's secret and volume

FAKE = """
import io, json, sys, time, types, urllib.request
answers, calls = json.loads(sys.argv[1]), []
class ClientError(Exception):
    def __init__(self, code): self.response = {"Error": {"Code": code}}
class Client:
    def attach_volume(self, **asked):
        calls.append(asked)
        answer = answers.pop(0)
        if answer: raise ClientError(answer)
    def get_secret_value(self, **asked):
        return {"SecretString": "-----BEGIN " + asked["SecretId"] + "\\n"}
def opened(request, timeout):
    if request.get_method() == "PUT": return io.BytesIO(b"session")
    assert request.headers == {"X-aws-ec2-metadata-token": "session"}
    return io.BytesIO(b"i-0abc")
boto3, botocore, errors = (types.ModuleType(n) for n in ("boto3", "botocore", "botocore.exceptions"))
boto3.client = lambda service, region: Client()
errors.ClientError = ClientError
sys.modules.update({"boto3": boto3, "botocore": botocore, "botocore.exceptions": errors})
time.sleep = lambda seconds: None
urllib.request.urlopen = opened
try:
    exec(sys.stdin.read(), {})
finally:
    print(json.dumps(calls))
"""


def amazon(program: str, answers: list[str]) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", FAKE, json.dumps(answers)]
    return run(command, timeout=30, input=program, check=False)


def test_the_volume_is_attached_once_the_machine_before_is_gone(scripts: dict[str, str]) -> None:
    done = amazon(python(scripts["aws"], "attach_volume"), ["VolumeInUse", "IncorrectState", ""])
    asked = {"VolumeId": "vol-0123", "InstanceId": "i-0abc", "Device": "/dev/sdf"}
    assert (done.returncode, json.loads(done.stdout)) == (0, [asked] * 3)


def test_what_cannot_be_attached_is_an_error(scripts: dict[str, str]) -> None:
    done = amazon(python(scripts["aws"], "attach_volume"), ["UnauthorizedOperation"])
    assert done.returncode != 0
    done = amazon(python(scripts["aws"], "attach_volume"), ["VolumeInUse"] * 200)
    assert done.returncode != 0
    assert "vol-0123 is still attached elsewhere" in done.stderr


def test_the_deploy_key_comes_from_amazon(scripts: dict[str, str]) -> None:
    done = amazon(python(scripts["aws"], "secret"), [])
    assert done.stdout.startswith(f"-----BEGIN {AWS['deploy_key_secret']}\n")
