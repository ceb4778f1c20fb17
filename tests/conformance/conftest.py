"""``--host=simulated`` (always possible) or ``--host=real`` (on a disposable machine that was prepared, as root)."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.conformance.simulated import simulated_stage
from tests.conformance.stage import Stage


def pytest_addoption(parser: pytest.Parser) -> None:
    """Choose the machine under test."""
    parser.addoption("--host", choices=("simulated", "real"), default="simulated", help="the host under test")


@pytest.fixture(scope="session")
def stages(request: pytest.FixtureRequest) -> Iterator[tuple[Stage, ...]]:
    """The stages on which every case is played: the simulator, after the real machine where there is one."""
    if request.config.getoption("--host", "simulated") == "simulated":
        yield (simulated_stage(),)
        return
    from tests.conformance.real import real_stage

    stage = real_stage()
    yield stage, simulated_stage(stage.image)
    stage.close()
