"""What tests of a fleet ask of somebody's boxes: what they have, what was left behind, who is reached from where."""

from __future__ import annotations

import re
from contextlib import contextmanager
from typing import TYPE_CHECKING

from tests.e2e.site import instance_of
from tests.lab.command import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.e2e.fleet import FleetSite

LETTER = "/root/letter"


def settled(site: FleetSite, name: str, host: str, megabytes: int = 1) -> dict[str, str]:
    """Leave something of one's own in a guest, and return what must not get lost."""
    script = f"[ -e {LETTER} ] || cat /proc/sys/kernel/random/uuid > {LETTER}"
    script += f"; head -c {megabytes}000000 /dev/urandom > /home/{name}/big; chown {name}: /home/{name}/big; sync"
    site.inside(name, host, script)
    return belongings(site, name, host)


def belongings(site: FleetSite, name: str, host: str) -> dict[str, str]:
    script = f"cat {LETTER}; sha256sum /home/{name}/big; stat -c '%U %G %a' /home/{name}/big"
    script += "; cat /etc/machine-id /etc/ssh/ssh_host_*_key.pub"
    return {"inside": site.inside(name, host, script).stdout}


def left_behind(site: FleetSite, name: str, host: str, now: str) -> None:
    """The old copy is stopped and retired, says where the environment lives, and nobody's door leads to it."""
    instance = site.sites[host].instance(name)
    config = instance["config"]
    assert (instance["status"], config["boot.autostart"]) == ("Stopped", "false")
    assert config["user.containarium.moved"] == now
    assert config["user.containarium.prune-after"] > config["user.containarium.retired"]
    assert not any(doors[name] == site.address(name, host) for doors in site.doors().values())


def forget(site: FleetSite, name: str, host: str) -> None:
    """Delete what is retired, as the end of its grace period would."""
    wait_until(f"{name} to stop", lambda: site.sites[host].instance(name).get("status") == "Stopped", timeout=60)
    site.sites[host].host.incus("delete", instance_of(name))


def gone(site: FleetSite, *names: str) -> None:
    """Take environments away, with their data."""
    site.withdraw(*names)
    site.publish()
    wait_until(
        f"{names} to be retired",
        lambda: not any(set(names) & set(doors) for doors in site.doors().values()),
        timeout=60,
        interval=0.7,
    )
    for host, found in site.instances().items():
        for name in set(names) & set(found):
            forget(site, name, host)


def reachable(site: FleetSite, name: str, host: str, targets: list[str]) -> list[str]:
    """To which of ADDRESS/PORT a guest can connect."""
    script = 'for t in "$@"; do (timeout 3 bash -c "exec 3<>/dev/tcp/$t" 2>/dev/null && echo "$t") & done; wait'
    found = site.sites[host].inside(name, "bash", "-c", script, "test", *targets).stdout.split()
    return [target for target in targets if target in found]


def connects(site: FleetSite, address: str, port: int) -> bool:
    """Whether the laptop can connect."""
    script = f"exec 3<>/dev/tcp/{address}/{port}"
    return site.laptop.run(["timeout", "3", "bash", "-c", script], check=False).returncode == 0


def logins(site: FleetSite, host: str) -> int:
    """How many came to a host by way of the balancer."""
    text = site.fleet.members[host].host.run(["journalctl", "--no-pager", "--unit=ssh", "--output=cat"]).stdout
    return len(re.findall(rf"^Accepted publickey for \S+ from {re.escape(site.fleet.address)} ", text, re.MULTILINE))


def until_copying(site: FleetSite, name: str, host: str) -> None:
    """Wait until Incus on a host is in the middle of receiving somebody."""

    def copying() -> bool:
        return staging(site, host) != ""

    wait_until(f"{name} to be on the way to {host}", copying, timeout=90, interval=0.1)


def staging(site: FleetSite, host: str) -> str:
    script = "ls -d /var/lib/incus/storage-pools/default/containers/migration.* 2>/dev/null || true"
    return site.fleet.members[host].host.run(["sh", "-c", script]).stdout


def alive(site: FleetSite, *hosts: str) -> dict[str, set[str]]:
    """Who has an instance on hosts that run."""
    return {host: {name.removesuffix("-container") for name in site.sites[host].host.instances()} for host in hosts}


def held(site: FleetSite, name: str, host: str) -> str:
    """Wait until an environment is held back for a host that does not answer; returns the digest to approve."""

    def interlock() -> str:
        plan = site.sites[host].plan()
        return next((i["digest"] for i in plan.get("interlocks", []) if name in i["environments"]), "")

    wait_until(f"{name} to be held back on {host}", lambda: interlock() != "", timeout=60, interval=1)
    return interlock()


@contextmanager
def dead(site: FleetSite, host: str) -> Iterator[None]:
    site.fleet.members[host].host.power_off()
    try:
        yield
    finally:
        site.fleet.members[host].host.power_on()
