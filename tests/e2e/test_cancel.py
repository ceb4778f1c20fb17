"""Work that is ended early on a real host: promptly, and nothing is left that the next apply does not mend."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.e2e.site import instance_of
from tests.lab.recipes import VENV

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.e2e.site import Site

NAMES = ("rita", "sven")
PROMPT = 3.0
"""Seconds; it takes half a second, but the machine may be busy."""
_DEAF_SERVICE = r"""
mkdir -p /run/systemd/system
cat > /run/systemd/system/deaf.service <<'END'
[Service]
ExecStart=/bin/sh -c 'trap "" TERM HUP INT; while :; do sleep 1; done'
TimeoutStopSec=600
END
systemctl daemon-reload
systemctl start deaf
"""
_SLOW_APT = r"""
printf '#!/bin/sh\ntouch /run/apt-began\nexec sleep 3333\n' > /usr/local/sbin/apt-get
chmod 755 /usr/local/sbin/apt-get
"""
_ON_THE_HOST = """
import json, sys, threading, time
from containarium.host.accounts import Accounts
from containarium.host.machine import Machine
from containarium.host.settings import HostSettings
from containarium.model import action as act
from containarium.model.host import HostError

def begin(made):
    def work():
        try:
            machine.execute(made)
        except HostError as error:
            ends.append(error.reason)
        else:
            ends.append("done")
    ends.clear()
    thread = threading.Thread(target=work)
    thread.start()
    return thread

def cancel(thread):
    started = time.monotonic()
    machine.cancel()
    thread.join()
    return {"end": ends[0], "seconds": time.monotonic() - started}

machine = Machine(HostSettings(), Accounts(HostSettings()))
ends = []
where = {"environment": sys.argv[2], "instance": sys.argv[2] + "-container"}
made = {
    "install": lambda: act.InstallPackages(**where, packages=("no-such-package",)),
    "stop": lambda: act.StopInstance(**where),
    "wait": lambda: act.AwaitLogin(**where, address="10.0.3.254"),
}[sys.argv[1]]()
thread = begin(made)
time.sleep(float(sys.argv[3]))
result = cancel(thread)
looked = machine.observe()
result["seen"] = sorted(looked.instances)
if sys.argv[1] == "stop":
    started = time.monotonic()
    machine.execute(act.StopInstance(**where, patience=3))
    result["stopped"] = time.monotonic() - started
print(json.dumps(result))
"""


@pytest.fixture(scope="module")
def two(site: Site) -> Iterator[Site]:
    """Give the host with two environments."""
    site.purge(site.declared())
    for name in NAMES:
        site.declare(name)
    site.apply()
    yield site
    site.purge(NAMES)


def cancelled(site: Site, what: str, name: str, after: float) -> dict[str, Any]:
    """Begin an action on the host, cancel it after some seconds, and say how it ended."""
    done = site.host.run([f"{VENV}/bin/python", "-c", _ON_THE_HOST, what, name, str(after)], timeout=120)
    result: dict[str, Any] = json.loads(done.stdout)
    assert result["end"] == "Cancelled"
    assert result["seconds"] < PROMPT
    assert instance_of(name) in result["seen"]
    return result


def test_a_guests_command_ends(two: Site) -> None:
    two.inside("rita", "sh", "-euc", _SLOW_APT)
    cancelled(two, "install", "rita", 4.0)
    assert two.inside("rita", "ls", "/run/apt-began").returncode == 0
    assert two.inside("rita", "pgrep", "-f", "sleep 3333", check=False).stdout == ""
    two.inside("rita", "rm", "/usr/local/sbin/apt-get")


def test_a_wait_for_a_login_ends(two: Site) -> None:
    cancelled(two, "wait", "rita", 1.0)


def test_an_ordinary_stop_gives_way_to_a_hurried_one(two: Site) -> None:
    """The guest would not go by itself for ten minutes."""
    two.inside("sven", "sh", "-euc", _DEAF_SERVICE)
    result = cancelled(two, "stop", "sven", 2.0)
    assert result["stopped"] >= 2.5
    assert two.environment("sven").status == "Stopped"
    two.apply()
    assert two.environment("sven").status == "Running"
    two.wait_login("sven", two.export("sven"))
    assert two.plan()["environments"] == []
