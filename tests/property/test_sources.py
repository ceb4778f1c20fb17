"""Whatever stands in a file, reading it ends in manifests or in problems, never in an exception."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from containarium.model.base import InvalidValueError
from containarium.model.manifest import Load
from containarium.model.quantity import Cpu, Duration, Size, parse_bytes
from containarium.model.sshkey import SSHKey
from containarium.sources.directory import load
from containarium.sources.yamltree import resolve
from tests.unit.sources.cases import HEAD
from tests.unit.sources.conftest import public_key

GOOD = HEAD.replace("{file: keys/alice.pub}", f'"{public_key(1)}"') + (
    "  resources: {cpu: 0-3, memory: 8GiB, disk: 50GB, processes: 512}\n"
    '  snapshots: {schedule: "@daily", keep: 30d}\n'
    "  network: {ipv4: 10.0.3.7}\n"
    "  expires: 2026-12-31\n"
)
QUICK = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
WORDS = st.sampled_from(
    ["apiVersion", "kind", "metadata", "name", "spec", "sshKeys", "file", "resources", "cpu", "memory", "x", "labels"]
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | WORDS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(WORDS | st.text(max_size=5), inner, max_size=4),
    max_leaves=12,
)


@pytest.fixture(scope="module")
def manifests() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as path:
        yield Path(path)


def read(manifests: Path, data: bytes) -> Load:
    """Load one file, and check what holds for every load."""
    (manifests / "x.yaml").write_bytes(data)
    result = load(manifests)
    assert result.manifests or result.problems
    assert result.complete or result.problems
    for problem in result.problems:
        assert problem.message
        assert problem.remedy
        assert str(problem).isprintable()
        assert problem.location.line >= 0
        assert len(str(problem)) < 5_000
    return result


@QUICK
@given(data=st.binary(max_size=400))
def test_any_bytes(manifests: Path, data: bytes) -> None:
    read(manifests, data)


@QUICK
@given(text=st.text(alphabet="abk:-?[]{},&*!|>'\"%@`# \t\n0189~.\u00e9\U0001f40d", max_size=200))
def test_anything_like_yaml(manifests: Path, text: str) -> None:
    read(manifests, text.encode())


@QUICK
@given(data=st.data())
def test_a_good_manifest_with_something_else_in_it(manifests: Path, data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(GOOD)))
    end = data.draw(st.integers(start, min(len(GOOD), start + 30)))
    other = data.draw(
        st.text(max_size=10) | st.sampled_from(["\n", "---\n", "[", "{", "&a ", "*a", "!x ", ": ", "'", "\t"])
    )
    read(manifests, (GOOD[:start] + other + GOOD[end:]).encode("utf-8", "surrogatepass"))


@QUICK
@given(spec=st.dictionaries(WORDS | st.text(max_size=5), VALUES, max_size=5), extra=VALUES)
def test_any_fields(manifests: Path, spec: dict[str, Any], extra: Any) -> None:
    document = {"apiVersion": "containarium.dev/v1", "kind": "Environment", "metadata": {"name": "alice"}, "spec": spec}
    read(manifests, yaml.safe_dump_all([document, extra], allow_unicode=True).encode())


def test_the_good_one_is_good(manifests: Path) -> None:
    assert read(manifests, GOOD.encode()).problems == ()


@given(number=st.integers(1, 10**6), unit=st.sampled_from(["B", "kB", "MB", "GB", "TB", "KiB", "MiB", "GiB", "TiB"]))
def test_sizes_come_back_as_they_were_written(number: int, unit: str) -> None:
    size = Size.parse(f"{number}{unit}")
    assert str(size) == f"{number}{unit}"
    assert Size.parse(str(size)) == size
    assert parse_bytes(str(size)) == size.bytes == parse_bytes(str(size.bytes))


@given(ids=st.sets(st.integers(0, 4095), min_size=1, max_size=40))
def test_sets_of_cpus_are_normal(ids: set[int]) -> None:
    written = ",".join(map(str, ids)) if len(ids) > 1 else f"{min(ids)}-{min(ids)}"
    cpu = Cpu.parse(written)
    assert set(cpu.ids) == ids
    assert cpu.count == len(ids)
    assert Cpu.parse(str(cpu)) == cpu


@given(number=st.integers(1, 5000), unit=st.sampled_from("smhdw"))
def test_durations_come_back_as_they_were_written(number: int, unit: str) -> None:
    duration = Duration.parse(f"{number}{unit}")
    assert str(duration) == f"{number}{unit}"
    assert Duration.parse(str(duration)) == duration
    assert duration.incus.lower() == str(duration)


def told(parse: Callable[[Any], object], value: Any) -> object:
    """What was parsed, or the refusal."""
    try:
        return parse(value)
    except InvalidValueError as error:
        return error


@given(value=st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.lists(st.integers()))
def test_quantities_refuse_anything_else_with_a_remedy(value: Any) -> None:
    for kind in (Size, Cpu, Duration):
        answer = told(kind.parse, value)
        assert str(answer).isprintable()
        assert len(str(answer)) < 400
        assert isinstance(answer, kind) or (isinstance(answer, InvalidValueError) and answer.remedy)


@given(text=st.text())
def test_any_text_as_a_key(text: str) -> None:
    for candidate in (text, f"ssh-ed25519 {text}", public_key(1) + text):
        answer = told(SSHKey.parse, candidate)
        if isinstance(answer, SSHKey):
            assert answer.line.isprintable()
            assert SSHKey.parse(answer.line) == answer
        else:
            assert str(answer).isprintable()


@given(text=st.text(alphabet="0123456789+-._eExoabfnrstuy~:") | st.text())
def test_any_plain_scalar(text: str) -> None:
    assert isinstance(resolve(text), str | int | float | None)
