"""A backup stands before every deletion that asks for one, whatever happens meanwhile, and brings everything back."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

import pytest

from tests.e2e.site import MANIFESTS, instance_of
from tests.lab.recipes import VENV

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.e2e.site import Site

NAME, OTHER = "vera", "wade"
BOX = instance_of(NAME)
STAGING = f"{NAME}-restore"
BACKUPS = "/var/lib/containarium/backups"
DATA = f"/home/{NAME}/thesis"
_KILLED_AT = """
import os, signal, subprocess, sys, time
said = "/tmp/apply.out"
run = subprocess.Popen(["containarium", "apply"], stdin=subprocess.DEVNULL, stdout=open(said, "w"),
                       stderr=subprocess.STDOUT, start_new_session=True)
while sys.argv[1] not in open(said).read() and run.poll() is None:
    time.sleep(0.005)
if sys.argv[2]:
    time.sleep(float(sys.argv[2]))
ended = run.poll()
if ended is None:
    os.killpg(run.pid, signal.SIGKILL)
    run.wait()
print("ended" if ended is not None else "killed")
"""
_TAMPER = """
import hashlib, io, subprocess, sys, tarfile
import yaml

class Plain(yaml.SafeLoader):
    yaml_implicit_resolvers = {
        first: [(tag, pattern) for tag, pattern in found if not tag.endswith("timestamp")]
        for first, found in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

source, target = sys.argv[1:]
unpacked = subprocess.Popen(["zstd", "-dc", source], stdout=subprocess.PIPE)
with tarfile.open(fileobj=unpacked.stdout, mode="r|") as old, tarfile.open(target, "w:gz", compresslevel=1) as new:
    for member in old:
        file = old.extractfile(member) if member.isreg() else None
        if member.name == "backup/container/backup.yaml":
            data = yaml.load(file.read(), Plain)
            data["container"]["config"]["boot.autostart"] = "true"
            data["container"]["config"]["security.protection.delete"] = "true"
            data["container"]["devices"]["etc"] = {"type": "disk", "source": "/etc", "path": "/mnt"}
            text = yaml.safe_dump(data).encode()
            file, member.size, member.pax_headers = io.BytesIO(text), len(text), {}
        new.addfile(member, file)
assert unpacked.wait() == 0
digest = hashlib.sha256(open(target, "rb").read()).hexdigest()
open(target + ".sha256", "w").write(f"{digest}  {target.rpartition('/')[2]}\\n")
"""


@pytest.fixture
def vera(site: Site) -> Iterator[Site]:
    """Give the site with vera on it, whose data is to be backed up before it goes, and somebody who stays."""
    site.purge(site.declared())
    site.host.run(["rm", "-rf", BACKUPS])
    site.declare(OTHER, running=False)
    site.declare(NAME, packages=["tree"], deletion={"grace": "1h", "backup": True})
    site.apply()
    site.inside(NAME, "sh", "-c", f"echo chapter one > {DATA} && sync")
    yield site
    site.host.run(["umount", BACKUPS], check=False)
    site.purge([NAME, OTHER])
    site.host.run(["rm", "-rf", BACKUPS])


def leave(site: Site) -> None:
    """Retire vera, and let her grace period be over."""
    site.withdraw(NAME)
    site.apply()
    site.host.incus("config", "set", BOX, "user.containarium.prune-after=2026-01-01T00:00:00+00:00")


def files(site: Site) -> list[str]:
    return sorted(site.host.run(["ls", "-A", BACKUPS], check=False).stdout.split())


def verified(site: Site) -> str:
    """The one backup, which sha256sum finds whole."""
    backup, noted = files(site)
    assert noted == f"{backup}.sha256"
    site.host.run(["sh", "-c", f"cd {BACKUPS} && sha256sum --check --strict {noted}"])
    return f"{BACKUPS}/{backup}"


def test_what_was_deleted_comes_back_with_its_data_and_its_login(vera: Site) -> None:
    config = vera.export(NAME)
    before, declared = vera.environment(NAME), vera.host.pull(f"{MANIFESTS}/{NAME}.yaml")
    leave(vera)
    vera.apply()
    assert not vera.environment(NAME).exists
    backup = verified(vera)
    modes = vera.host.run(["stat", "-c", "%a %U", BACKUPS, backup, f"{backup}.sha256"]).stdout.split("\n")
    assert modes[:3] == ["700 root", "600 root", "600 root"]
    assert not vera.host.run(["ls", "-A", "/var/lib/incus/backups/instances"]).stdout.strip()

    said = vera.containarium("undelete", NAME, check=False)
    assert said.returncode == 1
    assert f"containarium restore {NAME} --from {backup}" in said.stderr
    vera.containarium("restore", NAME, "--from", backup, timeout=120)
    restored = vera.environment(NAME)
    assert restored.status == "Stopped"
    assert "user.containarium.retired" not in restored.config
    assert restored.config["boot.autostart"] == "false"
    assert [name for name in vera.host.instances() if name == STAGING] == []
    (retiring,) = vera.plan()["environments"]
    assert retiring["verb"] == "retire"
    vera.apply()
    assert vera.environment(NAME).status == "Stopped", "without a manifest it is retired anew"
    assert vera.environment(NAME).config["user.containarium.prune-after"] > "2026-01-02"

    vera.containarium("undelete", NAME)
    written = vera.host.pull(f"{MANIFESTS}/{NAME}.yaml")
    assert written.startswith("# Written by containarium undelete")
    assert _parsed(written) == _parsed(declared)
    vera.apply()
    after = vera.environment(NAME)
    assert (after.address, after.keys, after.status) == (before.address, before.keys, "Running")
    assert vera.inside(NAME, "cat", DATA).stdout == "chapter one\n"
    vera.wait_login(NAME, config)
    assert vera.plan()["environments"] == []


def _parsed(text: str) -> object:
    import yaml

    data = yaml.safe_load(text)
    data["spec"]["resources"] = {key: str(value) for key, value in data["spec"]["resources"].items()}
    data["spec"]["deletion"].setdefault("policy", "Retire")
    return data


def test_a_controller_killed_at_any_point_of_a_backup_loses_nothing(vera: Site) -> None:
    leave(vera)
    points = [("exporting", "0.1"), ("exporting", "1.5"), ("writing", ""), ("verifying", ""), ("backed up", "")]
    killed = 0
    for said, delay in points:
        killed += vera.host.run(["python3", "-c", _KILLED_AT, said, delay], timeout=120).stdout.strip() == "killed"
        whole = [name for name in files(vera) if name.endswith(".tar.gz") or name.endswith(".tar.zst")]
        if not whole:
            assert vera.environment(NAME).instance, f"deleted without a backup, killed at {said}"
        else:
            vera.host.run(["sh", "-c", f"cd {BACKUPS} && sha256sum --check --strict {whole[0]}.sha256"])
    assert killed >= 4, "the test has lost its point"
    vera.apply()
    assert not vera.environment(NAME).exists
    verified(vera)


def test_a_full_disk_deletes_nothing_and_says_so(vera: Site) -> None:
    leave(vera)
    vera.host.run(["mkdir", "-p", "-m", "700", BACKUPS])
    vera.host.run(["mount", "-t", "tmpfs", "-o", "size=100M,mode=700", "tmpfs", BACKUPS])
    refused = vera.apply(code=1)
    (failure,) = refused["failures"]
    assert "free space there" in str(failure)
    assert vera.environment(NAME).status == "Stopped"
    assert files(vera) == []
    vera.host.run(["mount", "-o", "remount,size=2G", BACKUPS])
    vera.apply()
    assert not vera.environment(NAME).exists
    verified(vera)


def test_a_tampered_backup_never_becomes_a_container(vera: Site) -> None:
    leave(vera)
    vera.apply()
    backup = verified(vera)
    before = sorted(vera.host.instances())

    evil = f"{BACKUPS}/evil.tar.gz"
    vera.host.run([f"{VENV}/bin/python", "-c", textwrap.dedent(_TAMPER), backup, evil], timeout=120)
    said = vera.containarium("restore", NAME, "--from", evil, check=False, timeout=120)
    assert said.returncode == 1
    assert "importing" in said.stdout, "its index is harmless, only the import shows it"
    assert "device etc" in said.stderr
    assert sorted(vera.host.instances()) == before

    vera.host.run(["sh", "-c", f"printf X | dd of={backup} bs=1 seek=1000000 conv=notrunc"])
    said = vera.containarium("restore", NAME, "--from", backup, check=False)
    assert said.returncode == 1
    assert "its checksum is not the one in" in said.stderr
    assert sorted(vera.host.instances()) == before
