"""A cloud takes the machine away: begin nothing, end what runs, and bring every guest down in order, all at once."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Executor, wait

from containarium.model import marks
from containarium.model.action import StopInstance
from containarium.model.host import Host
from containarium.model.observed import InstanceStatus, Observed

BUDGET = 20.0
"""Seconds until the last guest is down: the shortest notice there is leaves 30."""
PATIENCE = 12.0
"""Seconds that a guest has to shut down in order, before it is stopped by force."""
_AT_ONCE = 64


def stop_everybody(
    host: Host, observed: Observed, busy: frozenset[str], pools: Callable[[int, str], Executor]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Stop every running instance of ours in parallel. Returns whose that are, and those who are not down in time.

    ``busy`` are environments that were being worked on: they may be running by now, whatever was seen. What starts
    everybody again is what stands on them: autostart, and their manifests.
    """
    running = sorted(
        (environment, instance.name)
        for instance in observed.instances.values()
        if (environment := instance.config.get(marks.ENVIRONMENT))
        and instance.name == marks.instance_name(environment)
        and (environment in busy or instance.status not in (InstanceStatus.STOPPED, InstanceStatus.ERROR))
    )
    if not running:
        return (), ()
    deadline = time.monotonic() + BUDGET
    pool = pools(min(_AT_ONCE, len(running)), "preemption")
    stops = {
        pool.submit(_stop, host, StopInstance(environment=environment, instance=box, patience=PATIENCE)): environment
        for environment, box in running
    }
    done, late = wait(stops, timeout=deadline - time.monotonic())
    pool.shutdown(wait=False, cancel_futures=True)
    failed = [stops[stop] for stop in done if not stop.result()]
    return tuple(name for name, _box in running), tuple(sorted([*failed, *(stops[stop] for stop in late)]))


def _stop(host: Host, action: StopInstance) -> bool:
    try:
        host.execute(action)
    except Exception:  # noqa: BLE001 - nobody's end may hold up the others'
        return False
    return True
