"""The same cases against the simulator and against a real machine, so that the simulator cannot lie."""

import pytest

for _cases in ("accounts", "enforcement", "guests", "instances", "lifecycle"):
    pytest.register_assert_rewrite(f"{__name__}.{_cases}")
