"""Terraform, once for all tests of a process."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.builders import public_key
from tests.terraform import tools

if TYPE_CHECKING:
    from tests.terraform.tools import Terraform


@pytest.fixture(scope="session")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Terraform:
    """Give Terraform without any provider."""
    tools.require_terraform()
    return tools.Terraform(tmp_path_factory.mktemp("terraform"))


@pytest.fixture(scope="session")
def terraform(bare: Terraform) -> Terraform:
    """Give Terraform with the providers' schemas."""
    for provider in tools.PROVIDERS:
        bare.add(provider)
    return bare


@pytest.fixture(scope="session")
def fleet() -> dict[str, Any]:
    """Give variables of modules/plan that are good for a fleet of one."""
    return {
        "cloud": "none",
        "instance_name": "jump",
        "jump_server_count": 1,
        "admin_ssh_keys": {"ops": [public_key("ops")]},
        "containarium_package": "containarium==0.1.0",
        "sync": {"repository": "https://git.example.org/team/environments.git"},
    }
