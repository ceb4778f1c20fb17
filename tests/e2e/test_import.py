"""What was here before becomes manifests: a host of the original's is taken over, and nobody loses file or login."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import yaml

from tests.e2e.site import MANIFESTS, instance_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.e2e.site import Site

NAME, OTHER = "olga", "pete"
BOX = instance_of(NAME)
DATA = f"/home/{NAME}/thesis"


@pytest.fixture
def old(site: Site) -> Iterator[Site]:
    """Give the site with olga on it as the original made her: a container, an account with a home, and her key."""
    site.purge(site.declared())
    key = site.person(NAME).public()
    admin = site.person("admin").public()
    make_container(site, NAME, key, admin)
    make_container(site, OTHER, site.person(OTHER).public(), admin)
    site.host.run(["useradd", "-m", "-s", "/usr/sbin/nologin", NAME])
    write_keys(site, f"/home/{NAME}", NAME, key)
    yield site
    site.purge([NAME, OTHER])
    for name in (NAME, OTHER):
        site.host.incus("delete", "--force", instance_of(name), check=False)
        site.host.run(["userdel", "-r", name], check=False)
        site.host.run(["groupdel", name], check=False)  # it stays behind where the account was handed over
        site.host.run(["rm", "-rf", f"/home/{name}"])
    site.host.run(["rm", "-rf", "/root/made"])


def make_container(site: Site, name: str, *keys: str) -> None:
    box = instance_of(name)
    config = {
        "limits.cpu": "1",
        "limits.memory": "512MB",
        "boot.autostart": "true",
        "user.containarium.label.team": "ml",
    }
    options = [f"--config={key}={value}" for key, value in config.items()]
    site.host.incus("launch", "guest", box, "--network=incusbr0", "--storage=default", *options, timeout=120)
    site.host.incus("config", "device", "set", box, "root", "size=2GB")
    site.inside(name, "useradd", "-m", "-s", "/bin/bash", "-G", "sudo", name)
    script = """
        cd /home/$1; mkdir -m 700 .ssh; cat > .ssh/authorized_keys; chown -R $1: .ssh; echo mine > thesis; sync
    """
    site.inside(name, "sh", "-euc", script, "keys", name, input="\n".join(keys) + "\n")


def write_keys(site: Site, home: str, owner: str, *keys: str) -> None:
    script = 'mkdir -m 700 "$1/.ssh"; cat > "$1/.ssh/authorized_keys"; chown -R "$2": "$1/.ssh"'
    site.host.run(["sh", "-euc", script, "keys", home, owner], input="\n".join(keys) + "\n")


def test_olga_is_taken_over_with_her_files_and_her_login(old: Site) -> None:
    site, key = old, old.person(NAME).public()
    before = site.snapshot()
    said = site.containarium("import", NAME)
    manifest = yaml.safe_load(said.stdout)
    assert site.snapshot() == before, "it only looks"
    assert manifest["metadata"]["annotations"] == {"containarium.dev/adopt": "true"}
    assert manifest["metadata"]["labels"] == {"team": "ml"}
    spec = manifest["spec"]
    assert spec["resources"] == {"cpu": 1, "memory": "512MB", "disk": "2GB", "processes": 4096}
    assert spec["sshKeys"] == [key], "and not the admin's, which everybody has"
    assert spec["network"]["ipv4"].startswith("10.0.3.")
    assert "usermod -g containarium-jump" in said.stderr
    assert "isolation.idmap" in said.stderr

    # exactly what it says is done
    (command,) = [line.partition("hand it over: ")[2] for line in said.stderr.splitlines() if "hand it over: " in line]
    site.host.run(["sh", "-euc", command.partition("; its home")[0]])
    said = site.containarium("import", NAME)
    assert f"incus stop {BOX}" in said.stderr
    site.containarium("import", NAME, "--write", "/root/made")
    site.host.incus("stop", BOX)
    site.host.run(["mkdir", "-p", MANIFESTS])
    site.host.run(["cp", f"/root/made/{NAME}.yaml", MANIFESTS])
    site.apply()
    facts = site.environment(NAME)
    assert facts.address == spec["network"]["ipv4"]
    assert facts.config["user.containarium.environment"] == NAME
    assert "user.containarium.label.team" in facts.config, "what is not ours stays"
    plan = site.plan()
    assert (plan["environments"], plan["problems"]) == ([], [])
    assert site.inside(NAME, "cat", DATA).stdout == "mine\n"
    site.wait_login(NAME, site.export(NAME))
    assert site.instance(OTHER)["config"].get("user.containarium.environment") is None


def test_a_stopped_one_without_an_account_is_taken_over_at_once(old: Site) -> None:
    old.host.run(["userdel", "-r", NAME])
    old.host.incus("stop", BOX)
    old.host.incus("stop", instance_of(OTHER))
    said = old.containarium("import", "--all", "--write", "/root/made")
    assert "would change" in said.stderr
    assert "2 manifests written" in said.stdout
    old.host.run(["sh", "-c", f"cp /root/made/*.yaml {MANIFESTS}/"])
    old.apply()
    assert {old.environment(name).status for name in (NAME, OTHER)} == {"Stopped"}, "as it was"
    assert old.plan()["environments"] == []


def test_lost_manifests_come_back_and_plan_as_empty(site: Site) -> None:
    site.purge(site.declared())
    site.declare("quinn", packages=["tree"], metadata={"labels": {"team": "x"}})
    site.declare("rosa", running=False)
    site.apply()
    try:
        declared = {name: yaml.safe_load(site.host.pull(f"{MANIFESTS}/{name}.yaml")) for name in ("quinn", "rosa")}
        site.withdraw("quinn", "rosa")
        said = site.containarium("import", "--all", "--write", MANIFESTS)
        assert said.stderr.count("plans as empty") == 2
        for name, manifest in declared.items():
            found = yaml.safe_load(site.host.pull(f"{MANIFESTS}/{name}.yaml"))
            assert found["metadata"] == manifest["metadata"]
            assert found["spec"]["sshKeys"] == manifest["spec"]["sshKeys"]
        assert site.plan(code=0)["environments"] == []
    finally:
        site.purge(["quinn", "rosa"])


def test_what_a_guest_writes_leads_nowhere(old: Site) -> None:
    """Links, pipes, floods and words that a terminal obeys, in the place of her keys."""
    home, keys = f"/home/{NAME}/.ssh", f"/home/{NAME}/.ssh/authorized_keys"
    old.host.run(["sh", "-c", "echo ssh-ed25519 SECRET-OF-THE-HOST > /root/secret"])
    traps = (
        f"rm -f {keys}; ln -s /root/secret {keys}",
        f"rm -f {keys}; mkfifo {keys}",
        f"rm -rf {home}; ln -s /proc/1/root/root {home}",
        f"rm -rf {home}; mkdir {home}; head -c 50M /dev/zero > {keys}",
        f"rm -rf {home}; mkdir {home}; printf 'ssh-ed25519 \\033[31mAAAA x\\n' > {keys}",
    )
    for trap in traps:
        old.inside(NAME, "sh", "-c", trap)
        said = old.containarium("import", NAME, timeout=60)
        assert yaml.safe_load(said.stdout)["spec"]["sshKeys"] == [old.person(NAME).public()], (
            "the host's account has it"
        )
        assert "SECRET" not in said.stdout + said.stderr
        assert "\033" not in said.stdout + said.stderr


def test_an_admins_own_login_is_nobodys_jump_account(old: Site) -> None:
    old.host.run(["useradd", "-m", "-s", "/bin/bash", OTHER])
    said = old.containarium("import", OTHER)
    assert "somebody's login on this host" in said.stderr
    assert "usermod" not in said.stderr
