"""Terraform's own checks of the modules: their form, their arguments, and their tests."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from tests.terraform import schema, tools
from tests.terraform.tools import MODULES, PROVIDERS

if TYPE_CHECKING:
    from pathlib import Path

    from tests.terraform.tools import Terraform

pytestmark = pytest.mark.timeout(900)  # the first time, the bindings are fetched
CLOUDS = ("gce", "aws")
EXAMPLES = sorted(str(file.parent.relative_to(MODULES)) for file in MODULES.glob("*/examples/*/main.tf"))
_RUN = re.compile(r'^run "', re.MULTILINE)


def _runs(folder: Path) -> int:
    return sum(len(_RUN.findall(file.read_text())) for file in folder.glob("tests/*.tftest.hcl"))


def test_there_are_the_examples_that_are_promised() -> None:
    fleets = ["single-server-spot", "horizontal-scaling-3-servers", "horizontal-scaling-5-servers"]
    promised = [f"gce/examples/{name}" for name in fleets] + [f"aws/examples/{name}" for name in fleets[:2]]
    assert sorted(promised) == EXAMPLES


def test_format(bare: Terraform) -> None:
    assert bare.run(".", "fmt", "-check", "-recursive", check=False).stdout == ""


def test_the_decisions(bare: Terraform) -> None:
    assert bare.validate("modules/plan") == []
    done = bare.test("modules/plan")
    assert f"Success! {_runs(MODULES / 'modules/plan')} passed, 0 failed." in done.stdout, done.stdout + done.stderr


@pytest.mark.parametrize("folder", EXAMPLES)
def test_an_example_asks_for_what_there_is(terraform: Terraform, folder: str) -> None:
    assert terraform.validate(folder) == []


@pytest.mark.parametrize("cloud", CLOUDS)
def test_plans(terraform: Terraform, cloud: str) -> None:
    done = terraform.test(f"{cloud}/fleet")
    assert f"Success! {_runs(MODULES / cloud / 'fleet')} passed, 0 failed." in done.stdout, done.stdout + done.stderr


# -- that these checks would notice


MISTAKES = {
    "an unknown argument": ("gce", "can_ip_forward = true", "ip_forwarding = true", "Unsupported argument"),
    "a missing argument": ("gce", "  machine_type   = var.machine_type\n", "", "Missing required argument"),
    "a wrong type": ("gce", "max_surge_fixed       = 0", 'max_surge_fixed       = "none"', "Incorrect attribute value"),
    "an unknown block": ("gce", "shielded_instance_config {", "armoured_config {", "Unsupported block type"),
    "an argument of a block": ("gce", "enable_vtpm ", "enable_tpm ", "Unsupported argument"),
    "an unknown argument of AWS": ("aws", "max_size = 1", "maximum = 1", "Unsupported argument"),
    "a wrong type of AWS": ("aws", "min_size = 1", "min_size = [1]", "Incorrect attribute value"),
    "a missing argument of AWS": ("aws", "  max_size = 1\n", "", "Missing required argument"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_noticed(terraform: Terraform, mistake: str, tmp_path: Path) -> None:
    cloud, right, wrong, said = MISTAKES[mistake]
    folder = terraform.modules / cloud / "wrong" / tmp_path.name
    folder.mkdir(parents=True)
    for file in (terraform.modules / cloud / "host").glob("*.tf"):
        text = file.read_text()
        if file.name == "main.tf":
            assert text.count(right) == 1
            text = text.replace(right, wrong)
        (folder / file.name).write_text(text)
    found = terraform.validate(folder)
    assert [line for line in found if line.startswith(f"error: {said}")], found


def test_a_resource_that_the_provider_does_not_have(tmp_path: Path, bare: Terraform) -> None:
    (tmp_path / "main.tf").write_text('resource "google_compute_machine" "x" {\n}\n')
    google = tools.package(PROVIDERS[0], tools.schema_file(PROVIDERS[0], MODULES).parent)
    with pytest.raises(schema.SchemaError, match="has no compute-machine"):
        schema.read(google, schema.used(tmp_path, "google"))


def test_the_schemas_are_of_the_versions_that_are_pinned() -> None:
    for provider in PROVIDERS:
        pinned = [
            match[1]
            for file in MODULES.rglob("versions.tf")
            if (match := re.search(rf'hashicorp/{provider.name}"\n\s+version = "([^"]+)"', file.read_text()))
        ]
        assert set(pinned) == {provider.version, f"~> {provider.version.rpartition('.')[0]}"}


# -- what no plan shows


@pytest.mark.parametrize(("file", "resource"), [("gce/host", "google_compute_disk"), ("aws/volume", "aws_ebs_volume")])
def test_terraform_never_deletes_a_data_disk(file: str, resource: str) -> None:
    text = (MODULES / file / "main.tf").read_text()
    block = re.search(rf'^resource "{resource}" "data" \{{\n.*?^\}}', text, re.MULTILINE | re.DOTALL)
    assert block is not None
    assert re.search(r"prevent_destroy\s+= true", block[0])


WAITS = {
    "gce/fleet": ('module "host"', "google_secret_manager_secret_iam_member.deploy_key"),
    "aws/host": ('resource "aws_autoscaling_group" "this"', "aws_iam_role_policy.host"),
}


@pytest.mark.parametrize("folder", WAITS)
def test_no_machine_is_there_before_the_right_to_read_its_key(folder: str) -> None:
    made, right = WAITS[folder]
    block = re.search(rf"^{made} \{{\n.*?^\}}", (MODULES / folder / "main.tf").read_text(), re.MULTILINE | re.DOTALL)
    assert block is not None
    assert f"depends_on = [{right}]" in block[0]


def test_every_variable_and_output_says_what_it_is() -> None:
    for file in (f for f in MODULES.rglob("*.tf") if "examples" not in f.parts):
        for kind, name, body in re.findall(r'^(variable|output) "(\w+)" \{\n(.*?)^\}', file.read_text(), re.M | re.S):
            assert re.search(r'^  description = "[A-Z].*\."$', body, re.M), f"{file}: {kind} {name}"
