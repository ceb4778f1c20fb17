"""What wakes the loop, on a real Incus and a real /etc: killed daemons, swapped links, accounts made by hand."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.lab.command import wait_until
from tests.lab.recipes import VENV

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.e2e.site import Site

BOX = "stray"
KILL = "kill -9 $(systemctl show --property=MainPID --value incus)"
_SCRIPT = """
import json, sys, threading
from pathlib import Path
from containarium.host.lifecycle import Lifecycle
from containarium.host.settings import HostSettings
from containarium.sources.watch import Watch
def say(*words):
    print(json.dumps(words), flush=True)
settings = HostSettings()
paths = [Path(sys.argv[1]), settings.etc / "passwd", settings.etc / "shadow", settings.etc / "group"]
Watch([*paths, settings.jump_keys], lambda path: say("changed", path), lambda line: say("note", line)).start()
Lifecycle(
    settings.incus_socket,
    lambda event: say("event", event.action, event.instance, event.requestor),
    lambda: say("gap"),
    lambda line: say("note", line),
).start()
threading.Event().wait()
"""


class Heard:
    """A process on the host that writes down all that it is told."""

    LOG = "/run/senses.log"

    def __init__(self, site: Site) -> None:
        self.site = site
        self._read = 0

    def begin(self, manifests: str) -> None:
        self.site.host.push("/root/senses.py", _SCRIPT)
        unit = ["systemd-run", "--unit=senses", "--collect", f"--property=StandardOutput=truncate:{self.LOG}"]
        self.site.host.run([*unit, f"{VENV}/bin/python", "/root/senses.py", manifests])

    def end(self) -> None:
        self.site.host.run(["systemctl", "stop", "senses"], check=False)

    def wait(self, *words: str) -> None:
        """Wait for something that was not waited for before; what was said until then is past."""
        wait_until(f"{words}", lambda: self._next(list(words)), timeout=60)

    def _next(self, words: list[str]) -> bool:
        said = [json.loads(line) for line in self.site.host.pull(self.LOG).splitlines()]
        if words not in said[self._read :]:
            return False
        self._read = said.index(words, self._read) + 1
        return True


@pytest.fixture(scope="module")
def heard(site: Site) -> Iterator[Heard]:
    """Give the site with an instance that is nobody's, a manifest folder behind a link, and someone who listens."""
    site.host.incus("init", "guest", BOX, "--storage=default")
    for commit in ("one", "two"):
        site.host.run(["mkdir", "-p", f"/srv/senses/{commit}/environments"])
    site.host.run(["ln", "-s", "one", "/srv/senses/current"])
    made = Heard(site)
    made.begin("/srv/senses/current/environments")
    made.wait("gap")
    yield made
    made.end()
    site.host.incus("delete", "--force", BOX)
    site.host.run(["rm", "-rf", "/srv/senses", "/root/senses.py"])


def test_who_changed_an_instance(heard: Heard) -> None:
    for command, action in (
        (("config", "set", BOX, "user.x=1"), "instance-updated"),
        (("start", BOX), "instance-started"),
        (("stop", "--force", BOX), "instance-stopped"),
    ):
        heard.site.host.incus(*command)
        heard.wait("event", action, BOX, "root via unix")


def shell(command: str) -> Callable[[Site], object]:
    return lambda site: site.host.run(["sh", "-c", command], timeout=120)


@pytest.mark.parametrize("end", [shell("systemctl restart incus"), shell(KILL)], ids=["restarted", "killed"])
def test_the_connection_outlives_the_daemon(heard: Heard, end: Callable[[Site], object]) -> None:
    end(heard.site)
    heard.wait("gap")
    heard.site.host.wait_incus()
    heard.site.host.incus("config", "set", BOX, "user.x=2")
    heard.wait("event", "instance-updated", BOX, "root via unix")


@pytest.mark.parametrize(
    ("command", "path"),
    [
        ("useradd stray", "/etc/passwd"),
        ("usermod -p '!x' stray", "/etc/shadow"),
        ("gpasswd -a stray adm", "/etc/group"),
        ("userdel stray", "/etc/passwd"),
        ("touch /etc/ssh/containarium/keys/stray; rm /etc/ssh/containarium/keys/stray", "/etc/ssh/containarium/keys"),
        ("cd /srv/senses && ln -s two next && mv -T next current", "/srv/senses/current/environments"),
        ("touch /srv/senses/two/environments/x.yaml", "/srv/senses/current/environments"),
    ],
)
def test_files_changed_by_hand(heard: Heard, command: str, path: str) -> None:
    shell(command)(heard.site)
    heard.wait("changed", path)


_LIMITED = """
import queue, sys
from pathlib import Path
from containarium.sources.watch import Watch
folder, calls, notes = Path(sys.argv[1]), queue.Queue(), queue.Queue()
watch = Watch([folder], calls.put, notes.put)
watch.start()
print(notes.get(timeout=30))
while not calls.empty():
    calls.get()
(folder / "x.yaml").write_text("x")
print(calls.get(timeout=30))
"""


@pytest.mark.parametrize("limit", ["max_inotify_instances", "max_inotify_watches"])
def test_a_limit_of_inotify_that_is_used_up(tmp_path: Path, limit: str) -> None:
    """In a user namespace, which has limits of its own."""
    inside = f'echo 0 > /proc/sys/user/{limit} && exec "$1" -c "$2" "$3"'
    script = ["sh", "-c", inside, "limited", sys.executable, _LIMITED, str(tmp_path)]
    done = subprocess.run(
        ["unshare", "--user", "--map-root-user", *script], check=True, capture_output=True, text=True, timeout=90
    )
    told, woken = done.stdout.splitlines()
    assert told.startswith("cannot watch the files (")
    assert "looking every 2 s instead" in told
    assert woken == str(tmp_path)
