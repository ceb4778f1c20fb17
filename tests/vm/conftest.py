"""Marks the tests of this folder and gives them time: everything is emulated."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
TIMEOUT = 2 * 3600  # of a single test: the first one may have to build ZFS, on a machine that is busy


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark them. Whoever asks for them where there is no such machine is told so by the fixture, in an error."""
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.vm)
            item.add_marker(pytest.mark.timeout(TIMEOUT))


@pytest.fixture(scope="session", autouse=True)
def _possible() -> None:
    if sys.platform != "linux" or os.geteuid() != 0:
        pytest.fail("a virtual machine for these tests needs root on Linux", pytrace=False)
