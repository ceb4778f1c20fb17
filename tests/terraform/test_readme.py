"""What terraform/README.md says, held against what the modules do."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from containarium.report.metrics import Metrics
from tests.terraform.tools import MODULES, REPOSITORY

if TYPE_CHECKING:
    from tests.terraform.tools import Terraform

README = MODULES / "README.md"
MARK = "<!-- costs: tests/terraform/test_readme.py -->"
CLOUDS = {"gce": "GCE", "aws": "AWS"}
PARTS = ("machine", "disks", "snapshots", "address", "balancer")
COLUMNS = ("example", "people", "paid as", "machines", "disks", "snapshots", "addresses", "balancer", "a month", "each")
HEAD = f"| {' | '.join(COLUMNS)} |\n{'|---' * len(COLUMNS)}|\n"


def value(text: str, name: str) -> str:
    """What an argument or a default is set to."""
    found = re.search(rf"^ *{name} += (.+)$", text, re.MULTILINE)
    assert found is not None, name
    return found[1]


def default(cloud: str, name: str) -> str:
    """The default of a fleet's variable."""
    text = (MODULES / cloud / "fleet" / "variables.tf").read_text()
    found = re.search(rf'^variable "{name}" \{{\n(.*?)^\}}', text, re.MULTILINE | re.DOTALL)
    assert found is not None
    return value(found[1], "default")


def disk(text: str) -> dict[str, Any]:
    """A disk as the modules write it."""
    found = re.fullmatch(r'\{ type = "(.+)", size_gb = (\d+) \}', text)
    assert found is not None
    return {"type": found[1], "size_gb": int(found[2])}


def row(terraform: Terraform, fleet: dict[str, Any], example: str, *, spot: bool) -> str:
    """One line of the table: what an example costs with one kind of machine."""
    cloud, _, name = example.split("/")
    text = (MODULES / example / "main.tf").read_text()
    decided = terraform.decide(
        prices=f"prices/{cloud}.tfvars",
        **fleet
        | {
            "jump_server_count": int(value(text, "jump_server_count")),
            "people_per_host": int(value(text, "people_per_host")),
            "machine_type": value(text, "machine_type").strip('"'),
            "data_disk": disk(value(text, "data_disk")),
            "boot_disk": disk(default(cloud, "boot_disk")),
            "snapshots": default(cloud, "enable_disk_snapshots") == "true",
            "use_spot_instance": spot,
        },
    )
    costs, people = decided["costs"], decided["capacity"]["people"]
    parts = costs["parts"] | {"disks": costs["parts"]["boot_disk"] + costs["parts"]["data_disk"]}
    shown = " | ".join(f"{parts[part]:.0f}" for part in PARTS)
    month = f"{costs['month']:,} {costs['currency']}"
    return (
        f"| {CLOUDS[cloud]} {name} | {people} | {costs['payment']} | {shown} | {month} | {costs['per_person']:.2f} |\n"
    )


def test_the_costs_are_what_the_examples_make(bare: Terraform, fleet: dict[str, Any]) -> None:
    examples = sorted(str(file.parent.relative_to(MODULES)) for file in MODULES.glob("*/examples/*/main.tf"))
    examples.sort(key=lambda example: (not example.startswith("gce"), "single" not in example, example))
    rows = [row(bare, fleet, example, spot=spot) for example in examples for spot in (True, False)]
    table = HEAD + "".join(rows)
    assert f"{MARK}\n{table}\n" in README.read_text(), f"write this into {README.relative_to(REPOSITORY)}:\n{table}"


def test_the_first_step_is_for_everybody() -> None:
    """Also for those without a deploy key: the cloud has to know them, and to offer what the modules ask for."""
    first = README.read_text().partition("**0. A login**")[2].partition("**1. A repository.**")[0]
    used = ("compute", "iam", "cloudresourcemanager", "dns", "secretmanager")
    needed = ["gcloud auth application-default login", "aws configure", *(f"{each}.googleapis.com" for each in used)]
    assert [each for each in needed if each not in first] == []


def test_how_a_data_disk_grows_is_where_its_variable_says() -> None:
    later = README.read_text().partition("**7. Later.**")[2].partition("\n## ")[0]
    assert "zpool online -e containarium" in later
    assert "btrfs filesystem resize max /var/lib/incus" in later
    for cloud in CLOUDS:
        variables = (MODULES / cloud / "fleet" / "variables.tf").read_text()
        assert "how it grows is in the README, under Later." in variables


def test_the_metric_is_one() -> None:
    named = re.findall(r"the metric `(\w+)`", README.read_text())
    known = Metrics().render().decode()
    assert named
    assert all(name in known for name in named)


def test_the_files_that_it_links_to_are_there() -> None:
    links = re.findall(r"\]\(([^)#]+)", README.read_text())
    assert links
    assert all((MODULES / link).exists() for link in links)


def test_the_main_readme_leads_here() -> None:
    assert "(terraform/README.md)" in (REPOSITORY / "README.md").read_text()
