"""Checkov finds nothing that is not explained where it stands."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.lab.command import run
from tests.terraform.tools import MODULES, checkov

pytestmark = pytest.mark.timeout(900)  # the first time, checkov is installed
_SKIP = re.compile(r"# checkov:skip=(\w+):(.*)")


def scan(folder: Path) -> dict[str, Any]:
    command = [
        str(checkov()),
        "--directory",
        str(folder),
        "--framework",
        "terraform",
        "--skip-download",
        "--output",
        "json",
    ]
    done = run(command, timeout=120, check=False, env={"LOG_LEVEL": "ERROR"})
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_no_finding_is_unexplained() -> None:
    found = scan(MODULES)
    assert [f"{c['check_id']} {c['resource']} {c['file_path']}" for c in found["results"]["failed_checks"]] == []
    assert found["summary"]["parsing_errors"] == 0
    assert found["summary"]["passed"] > 100
    used = {check["check_id"] for check in found["results"]["skipped_checks"]}
    written = {match[0]: match[1] for file in MODULES.rglob("*.tf") for match in _SKIP.findall(file.read_text())}
    assert set(written) == used, "an explanation that explains nothing"
    assert all(len(reason.split()) > 3 for reason in written.values())


def test_it_would_find_something(tmp_path: Path) -> None:
    rule = 'name = "all"\n  network = "x"\n  source_ranges = ["0.0.0.0/0"]\n'
    allowed = '  allow {\n    protocol = "tcp"\n    ports = ["22"]\n  }\n'
    (tmp_path / "main.tf").write_text(f'resource "google_compute_firewall" "all" {{\n  {rule}{allowed}}}\n')
    assert "CKV_GCP_2" in {check["check_id"] for check in scan(tmp_path)["results"]["failed_checks"]}
