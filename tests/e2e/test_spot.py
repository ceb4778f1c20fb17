"""Spot notices, from a metadata server as documented: guests of ours go down in order and in time, and come back."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.e2e.crowd import CROWD, apt_held, belongings, gather, gather_alone, shell, use_options
from tests.e2e.site import BRIDGE
from tests.lab.command import wait_until
from tests.unit.host import metadata

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.e2e.living import LivingSite

CLOUDS = ("gce", "aws") if os.environ.get("CONTAINARIUM_SOAK") else ("aws",)
"""They differ by what is asked of the metadata server, which unit tests try for both: one is enough in `make test`."""
PORT = 8169
_FAKE = "/opt/metadata.py"
_BOUND = 20.0
"""Seconds for every guest, one that ignores its shutdown included. A notice of GCE leaves 30."""


@pytest.fixture(scope="module")
def site(living_site: LivingSite) -> Iterator[LivingSite]:
    """Give the living host with the crowd on it, a stranger's instance, and the program of the metadata server."""
    site = living_site
    gather_alone(site)
    site.host.push(_FAKE, Path(metadata.__file__).read_text())
    site.host.incus("launch", "guest", "stranger", "--storage=default", f"--network={BRIDGE}")
    yield site
    use_options(site, "")
    site.host.incus("delete", "--force", "stranger")


@pytest.fixture(params=CLOUDS)
def cloud(site: LivingSite, request: pytest.FixtureRequest) -> Iterator[LivingSite]:
    """Give the host with the controller listening to one cloud's notices."""
    serve = ["python3", _FAKE, f"--provider={request.param}", f"--port={PORT}"]
    site.host.run(["systemd-run", "--unit=metadata", "--collect", "--service-type=exec", *serve])
    use_options(site, f"--spot {request.param} --metadata http://127.0.0.1:{PORT}")
    site.wait_ready(*CROWD)
    yield site
    site.host.run(["systemctl", "stop", "metadata"])


def _steer(site: LivingSite, what: str) -> None:
    post = "import sys, urllib.request as u; u.urlopen(u.Request(sys.argv[1], method='POST'), timeout=5)"
    site.host.run(["python3", "-c", post, f"http://127.0.0.1:{PORT}/control/{what}"])


def _states(site: LivingSite) -> dict[str, str]:
    return {name: instance["status"] for name, instance in site.host.instances().items()}


def test_a_notice_brings_every_guest_of_ours_down_and_its_withdrawal_back(cloud: LivingSite) -> None:
    site = cloud
    gather(site, ["gina"])
    names = (*CROWD, "gina")
    down = {**{f"{name}-container": "Stopped" for name in names}, "stranger": "Running"}
    before = {name: belongings(site, name) for name in names}
    stubborn = ["systemd-run", "--collect", "--property=TimeoutStopSec=600", "sh", "-c", "trap '' TERM; sleep 1000"]
    site.inside("dora", *stubborn)
    with apt_held(site, "gina"):  # ends with the guest
        site.declare("gina", resources={"disk": "1GiB"}, packages=["tree"])
        shell(site, "until pgrep -x apt-get; do sleep 0.1; done", timeout=60)
        began = site.log()[-1]["timestamp"]
        _steer(site, "preempt")
        # from the moment when the controller knows of it: AWS is asked every five seconds
        wait_until("the notice", lambda: bool(site.status().get("preempted")), timeout=30)
        wait_until("everybody to be down", lambda: _states(site) == down, timeout=_BOUND)
    site.until("the work's end", lambda: _ended_early(site, began))
    assert _ended_early(site, began) == [("gina", "Cancelled")]
    shell(site, "systemctl kill --signal=HUP containarium; sleep 4")
    assert _states(site) == down, "nothing is started while the notice stands"
    assert site.status()["preempted"]
    _steer(site, "withdraw")
    site.wait_ready(*names, timeout=120)
    assert site.status()["preempted"] == ""
    assert {name: belongings(site, name) for name in names} == before
    assert site.inside("gina", "tree", "--version").returncode == 0
    site.purge(["gina"])


def _ended_early(site: LivingSite, since: str) -> list[tuple[str, str]]:
    lines = [line for line in site.log() if line["event"] == "ended early" and line["timestamp"] >= since]
    return [(line["environment"], line["reason"]) for line in lines]
