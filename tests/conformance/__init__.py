"""The same cases against the simulator and against a real machine, so that the simulator cannot lie."""

import pytest

pytest.register_assert_rewrite(f"{__name__}.accounts", f"{__name__}.guests", f"{__name__}.instances")
