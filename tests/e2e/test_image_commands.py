"""Baked images as admins see them, beside a running controller: built ahead, listed, used, and removed when unused."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.e2e.living import UNIT
from tests.e2e.site import MANIFESTS, instance_of, manifest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.e2e.living import LivingSite

pytestmark = pytest.mark.soak
TERM = "/root/next-term"
"""Manifests that are not in force yet."""
BUILD_TIMEOUT = 600
_INTERRUPTED = """
import json, signal, subprocess, sys, time
said = "/tmp/image-build.out"
run = subprocess.Popen(["containarium", "image", "build", *sys.argv[1:]], stdin=subprocess.DEVNULL,
                       stdout=open(said, "w"), stderr=subprocess.STDOUT)
while run.poll() is None and not any(
    box["name"].startswith("containarium-build-") and box["status"] == "Running"
    for box in json.loads(subprocess.run(["incus", "list", "--format=json"], capture_output=True, check=True).stdout)
):
    time.sleep(0.1)
run.send_signal(signal.SIGINT)
while run.poll() is None and "press Ctrl-C again" not in open(said).read():
    time.sleep(0.05)
run.send_signal(signal.SIGINT)
print(run.wait(30))
"""


@pytest.fixture(scope="module")
def host(living_site: LivingSite) -> Iterator[LivingSite]:
    """Give the host, with one person on it and no image but hers. No manifest at all would mean unknown."""
    site = living_site
    site.purge(site.declared())
    refused = site.containarium("image", "prune", "--unused-for", "1s", check=False)
    assert refused.returncode == 1
    assert "nothing is removed while manifests do not load" in refused.stderr
    site.declare("rita")
    site.wait_ready("rita")
    site.containarium("image", "prune", "--unused-for", "1s")
    yield site
    site.purge([*site.declared(), "nina", "otto", "pia", "rita"])
    site.host.run(["rm", "-rf", TERM])


def plan_for(site: LivingSite, name: str, *packages: str) -> None:
    """Write a manifest for next term."""
    text = manifest(name, sshKeys=[site.person(name).public()], packages=list(packages))
    site.host.push(f"{TERM}/{name}.yaml", text)


def images(site: LivingSite, package: str = "") -> list[dict[str, Any]]:
    """The baked images with a package in them; of all packages where none is named."""
    found: list[dict[str, Any]] = json.loads(site.containarium("image", "list", "-o", "json").stdout)
    return [image for image in found if not package or package in image["packages"]]


def builders(site: LivingSite) -> list[str]:
    """Containers in which an image is built, or was."""
    return [name for name in site.host.instances() if name.startswith("containarium-build-")]


def test_an_image_is_built_ahead_of_time_and_then_used(host: LivingSite) -> None:
    before = host.pid()
    plan_for(host, "nina", "tree")
    done = host.containarium("image", "build", "-f", TERM, timeout=BUILD_TIMEOUT)
    assert "built, for nina" in done.stdout
    assert done.stdout.endswith("Done: 1 image built, 0 there before.\n")
    (image,) = images(host, "tree")
    assert image["used_by"] == []
    assert image["state"] == "current"
    assert image["size"] > 1 << 20
    assert builders(host) == []
    assert not host.environment("nina").exists
    again = host.containarium("image", "build", "nina", "-f", TERM)
    assert f"{image['recipe']} (" in again.stdout
    assert "was there, for nina" in again.stdout
    host.host.run(["cp", f"{TERM}/nina.yaml", f"{MANIFESTS}/nina.yaml"])
    host.wait_ready("nina")
    assert host.environment("nina").config["volatile.base_image"] == image["fingerprint"]
    (image,) = images(host, "tree")
    assert image["used_by"] == [instance_of("nina")]
    assert host.pid() == before
    table = host.containarium("image", "list").stdout.splitlines()
    assert table[0].startswith("RECIPE ")
    assert any(line.startswith(image["recipe"]) and line.endswith("current") for line in table[1:])


def test_only_what_nobody_uses_and_nobody_would_use_is_removed(host: LivingSite) -> None:
    plan_for(host, "otto", "sl")
    host.containarium("image", "build", "otto", "-f", TERM, timeout=BUILD_TIMEOUT)
    # A person who is to come, and is left alone until then.
    suspended = {"annotations": {"containarium.dev/suspend": "true"}}
    host.declare("pia", packages=["cowsay"], metadata=suspended)
    host.containarium("image", "build", "pia", timeout=BUILD_TIMEOUT)
    used, unused, needed = (images(host, package)[0] for package in ("tree", "sl", "cowsay"))
    assert needed["used_by"] == unused["used_by"] == []
    assert unused in images(host)
    assert "Nothing to remove" in host.containarium("image", "prune").stdout, "30 days are not over"
    dry = host.containarium("image", "prune", "--unused-for", "1s", "--dry-run").stdout
    assert f"Would remove {unused['recipe']} (" in dry
    assert used["recipe"] not in dry
    assert needed["recipe"] not in dry
    done = host.containarium("image", "prune", "--unused-for", "1s").stdout
    assert f"Removed {unused['recipe']} (" in done
    left = {image["recipe"] for image in images(host)}
    assert {used["recipe"], needed["recipe"]} <= left
    assert unused["recipe"] not in left
    assert host.host.incus("image", "info", unused["fingerprint"], check=False).returncode != 0
    assert host.environment("nina").status == "Running"


@pytest.mark.parametrize("who", ["prune", "controller"])
def test_what_an_interrupted_build_leaves_is_removed(host: LivingSite, who: str) -> None:
    plan_for(host, "quinn", "figlet")
    said = host.host.run(["python3", "-c", _INTERRUPTED, "quinn", "-f", TERM], timeout=BUILD_TIMEOUT).stdout
    assert said.strip() == "-2", "the second Ctrl-C ends it at once"
    (builder,) = builders(host)
    if who == "prune":
        assert f"Removed {builder}, " in host.containarium("image", "prune").stdout
    else:
        host.host.run(["systemctl", "restart", UNIT])
        host.until("the builder to be gone", lambda: not builders(host), timeout=120)
    assert builders(host) == []
    assert images(host, "figlet") == []


def test_the_controller_tells_prometheus_of_the_images(host: LivingSite) -> None:
    host.host.run(["systemctl", "restart", UNIT])

    def told() -> str:
        fetch = (
            "import urllib.request as r; print(r.urlopen('http://127.0.0.1:9465/metrics', timeout=5).read().decode())"
        )
        return host.host.run(["python3", "-c", fetch], check=False).stdout

    wanted = f'containarium_recipes{{state="current"}} {len(images(host)):.1f}'
    host.until("the metric", lambda: wanted in told())
    assert 'containarium_recipes{state="outdated"} 0.0' in told()


def test_what_cannot_be_installed_is_told_in_apts_own_words(host: LivingSite) -> None:
    plan_for(host, "quinn", "no-such-package-anywhere")
    done = host.containarium("image", "build", "quinn", "-f", TERM, check=False, timeout=BUILD_TIMEOUT)
    assert done.returncode == 1
    assert "no-such-package-anywhere" in done.stdout
    assert done.stdout.splitlines()[-1] == "Not all done: 0 images built, 0 there before, 1 failed."
    assert builders(host) == []
