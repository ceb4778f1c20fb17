"""The Environment model: defaults, strictness, and the JSON schema that editors complete with."""

from __future__ import annotations

import copy
import json
import re
from datetime import date, timedelta
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from containarium.model.base import InvalidValueError
from containarium.model.environment import DeletionPolicy, Environment, KeyFile, Spec
from containarium.model.schema import environment_schema, schema_text

ROOT = Path(__file__).parents[3]
DOCUMENT: dict[str, Any] = {
    "apiVersion": "containarium.dev/v1",
    "kind": "Environment",
    "metadata": {"name": "alice"},
    "spec": {"sshKeys": ["ssh-ed25519 AAAA alice@laptop", {"file": "keys/alice.pub"}]},
}


def document(path: str, value: Any) -> dict[str, Any]:
    """The smallest manifest with one field set."""
    data = copy.deepcopy(DOCUMENT)
    *parents, name = path.split(".")
    at = data
    for parent in parents:
        at = at.setdefault(parent, {})
    at[name] = value
    return data


def test_defaults() -> None:
    environment = Environment.model_validate(DOCUMENT)
    spec = environment.spec
    assert spec.image == "images:ubuntu/24.04"
    assert [str(x) for x in (spec.resources.cpu, spec.resources.memory, spec.resources.disk)] == ["4", "4GiB", "50GiB"]
    assert spec.resources.processes == 4096
    assert spec.ssh_keys == ("ssh-ed25519 AAAA alice@laptop", KeyFile(file="keys/alice.pub"))
    assert (spec.docker, spec.autostart, spec.running, spec.packages) == (False, True, True, ())
    assert (spec.network.ipv4, spec.snapshots, spec.placement, spec.expires) == (None, None, None, None)
    deletion = spec.deletion
    assert deletion.policy is DeletionPolicy.RETIRE
    assert (deletion.grace.delta, deletion.backup, deletion.protect) == (timedelta(days=7), False, None)
    assert (environment.metadata.suspended, environment.metadata.adopts) == (False, False)


def test_round_trip() -> None:
    data = document("spec.expires", "2026-12-31")
    data["spec"] |= {
        "resources": {"cpu": "0-3", "memory": "8GB", "disk": "10GiB", "processes": 512},
        "network": {"ipv4": "10.0.3.100"},
        "snapshots": {"schedule": "30 3 * * 1-5", "keep": "12h"},
        "placement": {"host": "jump-1"},
        "deletion": {"policy": "Retain", "grace": "30d", "backup": True, "protect": True},
        "packages": ["git", "g++"],
    }
    data["metadata"]["annotations"] = {"containarium.dev/suspend": "true", "example.com/ticket": "what ever"}
    environment = Environment.model_validate(data)
    assert environment.spec.expires == date(2026, 12, 31)
    assert environment.spec.network.ipv4 == IPv4Address("10.0.3.100")
    assert environment.metadata.suspended
    dumped = environment.model_dump(mode="json", by_alias=True, exclude_unset=True)
    assert dumped == data
    assert Environment.model_validate(dumped) == environment


def test_is_frozen_and_speaks_both_spellings_in_python() -> None:
    spec = Spec(ssh_keys=("ssh-ed25519 AAAA",))
    with pytest.raises(ValidationError, match="frozen"):
        setattr(spec, "docker", True)  # noqa: B010 (a type checker refuses the plain form already)


@pytest.mark.parametrize("name", ["a", "alice", "a1", "alice-b", "x" * 32, "team-2-bot"])
def test_names(name: str) -> None:
    assert Environment.model_validate(document("metadata.name", name)).metadata.name == name


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("", "cannot be a name"),
        ("Alice", "single hyphens inside (alice)"),
        ("alice.b", "(alice-b)"),
        ("alice_b", "(alice-b)"),
        ("1alice", "(alice)"),
        ("-alice", "(alice)"),
        ("alice-", "(alice)"),
        ("alice--b", "(alice-b)"),
        ("alice\n", "(alice)"),
        ("Root", "write lowercase letters and digits"),
        ("../etc", "(etc)"),
        ("x" * 33, "has 33 characters; write at most 32"),
        ("root", "reserved for the system"),
        ("www-data", "reserved for the system"),
        ("docker", "reserved for the system"),
        ("ubuntu", "reserved for the system"),
        ("systemd-network", "reserved for the system"),
        ("containarium", "reserved for the system"),
        ("containarium-jump", "reserved for the system"),
    ],
)
def test_refused_names(name: str, message: str) -> None:
    assert message in refusal(document("metadata.name", name))


@pytest.mark.parametrize(
    "image",
    [
        "images:ubuntu/24.04",
        "images:debian/12/cloud",
        "ubuntu:24.04",
        "ubuntu-daily:noble",
        "bootstrap:debian/12",
        "my-base",
        "team/base-2",
        "9bd3bd7b3a3f",
    ],
)
def test_images(image: str) -> None:
    assert Environment.model_validate(document("spec.image", image)).spec.image == image


@pytest.mark.parametrize("schedule", ["@daily", "@startup", "@never", "* * * * *", "30 3 * * *", "*/5 0-6,12 1 1 0"])
def test_schedules(schedule: str) -> None:
    environment = Environment.model_validate(document("spec.snapshots", {"schedule": schedule}))
    assert environment.spec.snapshots is not None
    assert environment.spec.snapshots.schedule == schedule
    assert environment.spec.snapshots.keep.incus == "30d"


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("spec.image", "", "cannot be an image"),
        ("spec.image", "images:ubuntu/24.04 --vm", "cannot be an image"),
        ("spec.image", "docker:nginx", "'docker' is no known image server"),
        ("spec.image", "bootstrap:arch", "write bootstrap:debian/12"),
        ("spec.image", "-x", "cannot be an image"),
        ("spec.image", "images:../x", "cannot be an image"),
        ("spec.resources.memory", "8MB", "too little for a system to run; write 64MiB or more"),
        ("spec.resources.disk", "1MiB", "write 256MiB or more"),
        ("spec.sshKeys", [], "nobody could log in"),
        ("spec.sshKeys", [{"file": "../x"}], "leaves the folder"),
        ("spec.sshKeys", [{"file": "/etc/shadow"}], "leaves the folder"),
        ("spec.sshKeys", [{"file": "keys//x"}], "not a usable path"),
        ("spec.sshKeys", [{"file": ""}], "not a usable path"),
        ("spec.sshKeys", [{"path": "x"}], "write the line of a .pub file as text"),
        ("spec.sshKeys", [5], "5 is not a key"),
        ("spec.packages", ["-x"], "not a Debian package name"),
        ("spec.packages", ["git;ls"], "not a Debian package name"),
        ("spec.packages", ["sudo-"], "not a Debian package name"),
        ("spec.packages", ["Git"], "not a Debian package name"),
        ("spec.packages", ["git", "git"], "the package git is listed twice"),
        ("spec.network.ipv4", "10.0.3.010", "not an IPv4 address"),
        ("spec.network.ipv4", "::1", "not an IPv4 address"),
        ("spec.network.ipv4", 167773028, "not an IPv4 address"),
        ("spec.network.ipv4", "169.254.169.254", "no guest can have"),
        ("spec.network.ipv4", "127.0.0.1", "no guest can have"),
        ("spec.network.ipv4", "0.0.0.1", "no guest can have"),
        ("spec.network.ipv4", "224.0.0.1", "no guest can have"),
        ("spec.network.ipv4", "255.255.255.255", "no guest can have"),
        ("spec.snapshots.schedule", "@noon", "write one of @hourly"),
        ("spec.snapshots.schedule", "* * * *", "five cron fields"),
        ("spec.snapshots.schedule", "60 * * * *", "'60' is no minute"),
        ("spec.snapshots.schedule", "0 24 * * *", "'24' is no hour"),
        ("spec.snapshots.schedule", "0 0 0 * *", "'0' is no day of the month"),
        ("spec.snapshots.schedule", "0 0 * * mon", "'mon' is no weekday"),
        ("spec.snapshots.schedule", "5-1 * * * *", "'5-1' is no minute"),
        ("spec.snapshots.schedule", "*/0 * * * *", "'*/0' is no minute"),
        ("spec.placement.host", "no_host", "cannot be a host's name"),
        ("spec.expires", "tomorrow", "write year-month-day"),
        ("spec.expires", "2026-02-30", "there is no day '2026-02-30'"),
        ("spec.expires", 20261231, "write year-month-day"),
        ("spec.deletion.policy", "retire", "write Retire or Retain"),
        ("metadata.labels", {"te am": "x"}, "cannot be a key here"),
        ("metadata.labels", {"team": "a b"}, "cannot be a label's value"),
        ("metadata.labels", {"a/b/c": "x"}, "cannot be a key here"),
        ("metadata.annotations", {"containarium.dev/suspend": "yes"}, 'write "true" or "false"'),
        ("metadata.annotations", {"containarium.dev/supend": "true"}, "means nothing here"),
    ],
)
def test_refuses(path: str, value: Any, message: str) -> None:
    assert message in refusal(document(path, value))


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("spec.docker", "yes"),
        ("spec.docker", 1),
        ("spec.resources.processes", "4096"),
        ("spec.resources.processes", 1.0),
        ("spec.resources.processes", 0),
        ("spec.packages", "git"),
        ("spec.image", 12),
        ("spec.unknown", 1),
        ("spec", None),
        ("metadata", []),
        ("apiVersion", "v1"),
        ("metadata.labels", {"year": 2026}),
    ],
)
def test_is_strict(path: str, value: Any) -> None:
    with pytest.raises(ValidationError):
        Environment.model_validate(document(path, value))


def refusal(data: dict[str, Any]) -> str:
    """Everything that is said about a manifest that must be refused."""
    with pytest.raises(ValidationError) as caught:
        Environment.model_validate(data)
    causes = [error.get("ctx", {}).get("error") for error in caught.value.errors()]
    assert all(isinstance(cause, InvalidValueError) and cause.remedy for cause in causes)
    return "\n".join(str(cause) for cause in causes)


def test_the_written_schema_is_not_stale() -> None:
    written = (ROOT / "schemas" / "environment.schema.json").read_text(encoding="utf-8")
    assert written == schema_text(), "write schema_text() of containarium.model.schema into it"


def test_the_schema_helps_an_editor() -> None:
    schema = environment_schema()
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert schema["$id"] == "https://containarium.dev/schemas/environment.schema.json"
    spec = schema["$defs"]["Spec"]
    resources = schema["$defs"]["Resources"]
    for model in (spec, resources, *schema["$defs"].values(), schema):
        assert all("description" in field for field in model.get("properties", {}).values())
    assert spec["additionalProperties"] is False
    assert list(spec["properties"])[:3] == ["image", "resources", "sshKeys"]
    assert [kind["type"] for kind in spec["properties"]["sshKeys"]["items"]["oneOf"]] == ["string", "object"]
    assert resources["properties"]["memory"]["default"] == "4GiB"
    pattern = re.compile(resources["properties"]["memory"]["pattern"])
    assert pattern.search("8GiB")
    assert not pattern.search("8G")
    assert json.loads(schema_text()) == schema
