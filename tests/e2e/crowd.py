"""People on the living host for the tests that torture its controller, each with something that must not get lost."""

from __future__ import annotations

import json
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from containarium.model import marks
from tests.e2e.site import JUMP_KEYS, instance_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from tests.e2e.living import LivingSite
    from tests.lab.command import Completed

CROWD = ("dora", "emil", "fred")
DEFAULTS = "/etc/default/containarium"
_ROOM = {"disk": "1GiB"}
_LETTER = "/root/letter"
_HOLD_APT = """
use Fcntl;
open(my $file, '+>>', '/var/lib/dpkg/lock-frontend') or die;
my $lock = pack('s s x4 q q i x4', F_WRLCK, 0, 0, 0, 0);
fcntl($file, F_SETLK, $lock) or die;
open(my $held, '>', '/run/held') or die;
sleep 600;
"""


@dataclass(frozen=True)
class Belongings:
    """What is the same for as long as somebody has the environment that they have."""

    created_at: str
    address: str
    letter: str


def gather(site: LivingSite, names: Iterable[str] = CROWD) -> None:
    """Have everybody there, as declared, with a letter of their own on their disk."""
    names = tuple(names)
    for name in names:
        site.declare(name, resources=_ROOM)
    site.wait_ready(*names)
    for name in names:
        site.inside(name, "sh", "-c", f"[ -e {_LETTER} ] || cat /proc/sys/kernel/random/uuid > {_LETTER}; sync")


def gather_alone(site: LivingSite) -> None:
    """As ``gather``, and nobody else: whoever was here for other tests is gone."""
    marked = {one["config"].get(marks.ENVIRONMENT, "") for one in site.host.instances().values()}
    site.purge(sorted({*marked, *site.declared(), *jump_accounts(site)} - {"", *CROWD}))
    gather(site)


def belongings(site: LivingSite, name: str) -> Belongings:
    """What somebody has now."""
    facts = site.environment(name)
    return Belongings(
        created_at=facts.instance["created_at"],
        address=facts.address,
        letter=site.inside(name, "cat", _LETTER).stdout,
    )


def shell(site: LivingSite, script: str, *args: str, check: bool = True, timeout: float = 60) -> Completed:
    """Run a script as root on the host."""
    return site.host.run(["sh", "-euc", script, "test", *args], check=check, timeout=timeout)


def traces(site: LivingSite) -> list[str]:
    """What killed controllers and tools have left where nothing may be left."""
    found = shell(
        site,
        f"""
        # lock files and unfinished copies
        find /etc -maxdepth 1 -name '*.lock' ! -name .pwd.lock
        find {JUMP_KEYS} /run/containarium /var/lib/containarium -maxdepth 1 -name '.?*'
        find /run/containarium/probe -mindepth 1 -mmin +2
        # accounts in one file only, twice, or with what no jump account has
        for file in passwd shadow group; do cut -d: -f1 /etc/$file | sort | uniq -d | sed "s/^/twice in $file: /"; done
        cut -d: -f1 /etc/passwd | sort > /tmp/passwd-names
        cut -d: -f1 /etc/shadow | sort | comm -3 /tmp/passwd-names - | sed 's/^/half an account: /'
        for lock in /etc/.pwd.lock /run/containarium/accounts.lock /run/containarium/keys.lock; do
            flock --nonblock $lock true || echo "held: $lock"
        done
        """,
    )
    return found.stdout.splitlines()


def jump_accounts(site: LivingSite) -> set[str]:
    """Names of the accounts of our group."""
    script = "awk -F: -v g=$(getent group containarium-jump | cut -d: -f3) '$4 == g {print $1}' /etc/passwd"
    return set(shell(site, script).stdout.split())


def metric(site: LivingSite, name: str) -> float | None:
    """A metric without labels, as the controller serves it."""
    text = "import urllib.request; print(urllib.request.urlopen('http://127.0.0.1:9465/metrics').read().decode())"
    for line in site.host.run(["python3", "-c", text]).stdout.splitlines():
        if line.startswith(f"{name} "):
            return float(line.split()[1])
    return None


def use_options(site: LivingSite, options: str) -> None:
    """Start the controller anew with other options; none: as it was."""
    if options:
        site.host.push(DEFAULTS, f"CONTAINARIUM_OPTIONS={json.dumps(options)}\n")
    else:
        site.host.run(["rm", "-f", DEFAULTS])
    site.host.run(["systemctl", "restart", "containarium"], timeout=120)


@contextmanager
def apt_held(site: LivingSite, name: str) -> Iterator[None]:
    """Whoever wants apt in this guest waits while the block runs."""
    site.inside(name, "systemd-run", "--unit=hold", "--collect", "--service-type=exec", "perl", "-e", _HOLD_APT)
    site.until("the lock", lambda: site.inside(name, "test", "-e", "/run/held", check=False).returncode == 0)
    try:
        yield
    finally:
        # unless the guest has ended before it
        site.inside(name, "sh", "-c", "rm /run/held; systemctl stop hold", check=False)


def config_of(site: LivingSite, name: str, key: str) -> str:
    """One key of an instance."""
    return site.host.incus("config", "get", instance_of(name), key).stdout.strip()
