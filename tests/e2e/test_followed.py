"""The living controller follows a git repository, which the unit of the sync brings: good commits, and a broken one."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests.e2e.crowd import CROWD, config_of, gather, shell
from tests.e2e.site import MANIFESTS, manifest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.e2e.living import LivingSite

_REPOSITORY = "/srv/environments"
_CONFIG = "/etc/containarium/sync.yaml"
_KEPT = "/root/plain-manifests"
_METRIC = "containarium_manifest_revision_info"


@pytest.fixture
def site(living_site: LivingSite) -> Iterator[LivingSite]:
    """Give the living host with its manifests in a repository, and a sync that nothing but the test starts."""
    site = living_site
    gather(site)
    shell(
        site,
        f"""
        git init --quiet --initial-branch=main {_REPOSITORY}
        git -C {_REPOSITORY} config user.name Admin
        git -C {_REPOSITORY} config user.email admin@example.org
        mkdir {_REPOSITORY}/environments
        cp {MANIFESTS}/*.yaml {_REPOSITORY}/environments/
        mv {MANIFESTS} {_KEPT}
        """,
    )
    site.host.push(_CONFIG, json.dumps({"repository": _REPOSITORY}))
    yield site
    shell(site, f"rm -rf {MANIFESTS} {_CONFIG} {_REPOSITORY} /var/lib/containarium/sync; mv {_KEPT} {MANIFESTS}")


def _commit(site: LivingSite) -> str:
    """Commit all there is, and let systemd bring it here. Returns the commit."""
    git = f"git -C {_REPOSITORY}"
    commit = shell(site, f"{git} add --all; {git} commit --quiet -m change; {git} rev-parse HEAD").stdout.strip()
    site.host.run(["systemctl", "start", "containarium-sync.service"], check=False)
    return commit


def _edit(site: LivingSite, name: str, text: str) -> None:
    site.host.push(f"{_REPOSITORY}/environments/{name}.yaml", text)


def _memory(site: LivingSite, memory: str) -> None:
    resources = {"disk": "1GiB", "memory": memory}
    _edit(site, "dora", manifest("dora", sshKeys=[site.person("dora").public()], resources=resources))


def _revision(site: LivingSite) -> tuple[str, str, bool]:
    """Which commit is applied, which was tried, and whether something is wrong."""
    found = site.status()["revision"]
    return found["applied"], found["tried"], bool(found["error"])


def _told(site: LivingSite) -> str:
    get = "import urllib.request; print(urllib.request.urlopen('http://127.0.0.1:9465/metrics').read().decode())"
    lines = site.host.run(["python3", "-c", get]).stdout.splitlines()
    return "\n".join(line for line in lines if line.startswith(_METRIC))


def test_commits_are_carried_out_and_a_broken_one_is_named(site: LivingSite) -> None:
    first = _commit(site)
    site.until("the first commit", lambda: _revision(site) == (first, first, False))
    pids = {name: site.environment(name).pid for name in CROWD}
    _memory(site, "600MiB")
    good = _commit(site)
    site.until("600 MiB", lambda: config_of(site, "dora", "limits.memory") == "600MiB")
    site.wait_ready(*CROWD)
    _memory(site, "700MiB")
    _edit(site, "emil", "kind: Environment\n")
    bad = _commit(site)
    site.host.run(["systemctl", "reload", "containarium"])  # what is refused wakes nobody: the next resync tells of it
    site.until("the refusal", lambda: _revision(site) == (good, bad, True))
    assert f'{{revision="{good}",state="applied"}} 1.0' in _told(site)
    assert f'{{revision="{bad}",state="tried"}} 1.0' in _told(site)
    shown = site.containarium("status", check=False)
    assert shown.returncode == 1
    assert f"{good} applied; {bad} was refused: environments/emil.yaml:" in shown.stdout
    assert config_of(site, "dora", "limits.memory") == "600MiB"
    assert {name: site.environment(name).pid for name in CROWD} == pids
    resources = {"disk": "1GiB"}
    _edit(site, "emil", manifest("emil", sshKeys=[site.person("emil").public()], resources=resources))
    mended = _commit(site)
    site.until("700 MiB", lambda: config_of(site, "dora", "limits.memory") == "700MiB")
    site.until("the last commit", lambda: _revision(site) == (mended, mended, False))
