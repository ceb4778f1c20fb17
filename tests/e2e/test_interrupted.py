"""Ten applies killed at random moments; the next one ends with everything as declared."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from tests.e2e.site import instance_of

if TYPE_CHECKING:
    from tests.e2e.site import Site

NAMES = ("nina", "oscar", "paul")
KILLS = 10
MOST = 40
_RUN_AND_KILL = """
import os, signal, subprocess, sys, time
run = subprocess.Popen(["containarium", "apply"], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                       stderr=subprocess.DEVNULL, start_new_session=True)
time.sleep(float(sys.argv[1]))
ended = run.poll()
if ended is None:
    os.killpg(run.pid, signal.SIGKILL)
    run.wait()
print("ended" if ended is not None else "killed")
"""


def test_ten_killed_applies_and_then_one_more(site: Site) -> None:
    chance = random.Random(2026)
    killed = attempt = 0
    site.purge(site.declared())
    try:
        while killed < KILLS and attempt < MOST:
            attempt += 1
            # Every attempt has something to do, whatever the one before it got done; every other one makes a container.
            for name in NAMES:
                packages = ["tree"] if killed > KILLS // 2 else []
                site.declare(name, resources={"memory": f"{300 + attempt}MiB"}, packages=packages)
            making = attempt % 2 == 1
            if making:
                site.host.incus("delete", "--force", instance_of(NAMES[attempt % 3]), check=False)
            delay = chance.uniform(0.3, 2.5) if making else chance.uniform(0.2, 0.6)
            said = site.host.run(["python3", "-c", _RUN_AND_KILL, f"{delay:.2f}"], timeout=60).stdout.strip()
            killed += said == "killed"
        assert killed == KILLS, f"only {killed} of {attempt} runs were killed: the test has lost its point"
        site.apply()
        for name in NAMES:
            facts = site.environment(name)
            assert facts.status == "Running"
            assert facts.config["limits.memory"] == f"{300 + attempt}MiB"
            assert facts.password == "*"
            assert facts.groups == ("containarium-jump",)
            assert site.inside(name, "tree", "--version").returncode == 0
            site.wait_login(name, site.export(name))
        assert site.plan()["environments"] == []
        leftovers = site.host.run(
            ["sh", "-c", "ls /etc/*.lock /etc/ssh/containarium/keys/.* 2>/dev/null || true"]
        ).stdout
        assert not [line for line in leftovers.split() if line.endswith((".lock", ".tmp")) and "pwd" not in line]
    finally:
        site.purge(NAMES)
