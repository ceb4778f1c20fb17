"""How long the properties are tried: briefly by default, for long with CONTAINARIUM_SOAK=1 (``make soak``)."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

settings.register_profile("brief", deadline=None, max_examples=60)
settings.register_profile(
    "soak", deadline=None, max_examples=3000, stateful_step_count=80, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("soak" if os.environ.get("CONTAINARIUM_SOAK") else "brief")
