"""When this machine was booted: a virtual one, a real one, or a container that passes for one."""

from __future__ import annotations

import os
import time
from pathlib import Path


def seconds_since_boot(proc: Path = Path("/proc")) -> float:
    """The age of process 1, in seconds, sleep included; 0.0 where that cannot be told.

    The kernel's own uptime would be the wrong one in a container.
    """
    try:
        stat = (proc / "1" / "stat").read_text()
        # The name may hold blanks and parentheses; the fields after it do not.
        started = int(stat.rpartition(")")[2].split()[19]) / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError, IndexError):
        return 0.0
    return max(0.0, time.clock_gettime(time.CLOCK_BOOTTIME) - started)
