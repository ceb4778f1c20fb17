"""The whole host is killed at once, as a cloud does: everybody is back, and nobody stepped in."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.e2e.crowd import CROWD, belongings, gather_alone, jump_accounts, metric, shell, traces

if TYPE_CHECKING:
    from tests.e2e.living import LivingSite


def test_everybody_is_back_after_the_host_was_killed(living_site: LivingSite) -> None:
    site = living_site
    gather_alone(site)
    configs = {name: site.export(name) for name in CROWD}
    before = {name: belongings(site, name) for name in CROWD}
    lines = {name: site.environment(name).passwd for name in CROWD}
    site.declare("gina", resources={"disk": "1GiB"})
    shell(site, "until incus query /1.0/instances/gina-container >/dev/null 2>&1; do sleep 0.02; done")
    site.host.preempt()
    for name, config in configs.items():
        site.wait_login(name, config, timeout=120)
    assert {name: belongings(site, name) for name in CROWD} == before
    assert {name: site.environment(name).passwd for name in CROWD} == lines
    site.wait_ready(*CROWD, "gina")
    site.wait_login("gina", site.export("gina"))
    site.until("the recovery to be over", lambda: site.status()["recovered"])
    recovered = site.status()["recovered"]
    assert recovered > 0
    assert metric(site, "containarium_recovery_time_seconds") == recovered
    assert jump_accounts(site) == {*CROWD, "gina"}
    assert traces(site) == []
    site.host.run(["systemctl", "restart", "containarium"], timeout=120)
    assert site.status()["recovered"] == recovered, "a recovery is over once"
    site.purge(["gina"])
