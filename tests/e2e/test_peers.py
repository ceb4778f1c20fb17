"""Two hosts of a fleet and a stranger: what the key of one opens on the other, and who reaches what between them.

Each refusal is beside something that works by the same means.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from tests.e2e.site import IMAGE
from tests.lab.command import Completed, run, wait_until
from tests.lab.host import LabHost

if TYPE_CHECKING:
    from tests.lab.laptop import Laptop
    from tests.lab.outer import Outer

FOLDER = "/etc/containarium/environments"
ACCOUNT = "containarium-peer"
KEY = "/var/lib/containarium/peer/id_ed25519"
TRY = """
import socket, sys
for place in sys.argv[1:]:
    host, _, port = place.rpartition(":")
    try:
        with socket.create_connection((host, int(port)), timeout=4):
            print(place, "open")
    except OSError:
        print(place, "shut")
"""


@dataclass(frozen=True)
class Two:
    """Both hosts, one with alice, the other with bob; ``names`` and ``boxes`` (their addresses) by number."""

    hosts: tuple[LabHost, LabHost]
    names: tuple[str, str]
    boxes: tuple[str, str]

    def ssh(self, *arguments: str, line: str = "", key: str = KEY, hold: int = 2) -> Completed:
        """The first host's ssh to the second, as the program itself calls it, with what is put in."""
        known = f"/var/lib/containarium/peer/known/{self.names[1]}"
        command = (
            f"timeout 20 ssh -F none -T -o BatchMode=yes -o StrictHostKeyChecking=yes -o UserKnownHostsFile={known} "
        )
        command += f"-o IdentitiesOnly=yes -o ExitOnForwardFailure=yes -i {key} {' '.join(arguments)}"
        given = f"(printf '%s\\n' '{line}'; sleep {hold})"
        return self.hosts[0].run(["sh", "-c", f"{given} | {command}"], check=False)

    @property
    def there(self) -> str:
        """Where the other host's keys are to be tried."""
        return f"{ACCOUNT}@{self.hosts[1].address}"

    def ask(self, **request: Any) -> Any:
        """One request of the first host, and the answer of the second."""
        return json.loads(self.ssh(self.there, line=json.dumps(request)).stdout)


def _manifest(host: LabHost, number: int) -> dict[str, Any]:
    keys = host.run(["sh", "-c", "cat /etc/ssh/ssh_host_*_key.pub"]).stdout.splitlines()
    return {
        "apiVersion": "containarium.dev/v1",
        "kind": "Host",
        "metadata": {"name": host.run(["hostname", "-s"]).stdout.strip()},
        "spec": {
            "network": {"subnet": f"10.0.{40 + number}.1/24", "address": host.address},
            "identity": {
                "hostKeys": [" ".join(key.split()[:2]) for key in keys],
                "peerKey": host.pull(f"{KEY}.pub").strip(),
            },
        },
    }


def _environment(name: str, host: str, key: str) -> dict[str, Any]:
    return {
        "apiVersion": "containarium.dev/v1",
        "kind": "Environment",
        "metadata": {"name": name},
        "spec": {"image": IMAGE, "docker": False, "packages": [], "sshKeys": [key], "placement": {"host": host}},
    }


def _write(host: LabHost, documents: Iterable[dict[str, Any]]) -> None:
    for document in documents:
        host.push(f"{FOLDER}/{document['kind']}-{document['metadata']['name']}.yaml", yaml.safe_dump(document))


@pytest.fixture(scope="module")
def two(outer: Outer, laptop: Laptop) -> Iterator[Two]:
    """Give both, declared to one another, routed, and with their controllers running."""
    first, second = LabHost(outer, "peer-a"), LabHost(outer, "peer-b")
    hosts = (first, second)
    _let_pass(outer)
    for host in hosts:
        host.create()
        host.install_project()
        host.run(["mkdir", "-p", "-m", "700", "/var/lib/containarium", "/var/lib/containarium/peer"])
        host.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", KEY])
    manifests = [_manifest(host, number) for number, host in enumerate(hosts, 1)]
    names = tuple(str(each["metadata"]["name"]) for each in manifests)
    people = [
        _environment(name, where, laptop.identity(name).public_key)
        for name, where in zip(("alice", "bob"), names, strict=True)
    ]
    for host, other, number in ((first, second, 2), (second, first, 1)):
        _write(host, manifests)
        host.run(["containarium", "host", "prepare", "--service"], timeout=300)
        host.import_guest_image(IMAGE)
        host.run(["ip", "route", "replace", f"10.0.{40 + number}.0/24", "via", other.address])
    for host in hosts:
        _write(host, people)
    boxes = tuple(_address(host, name) for host, name in zip(hosts, ("alice", "bob"), strict=True))
    yield Two(hosts, (names[0], names[1]), (boxes[0], boxes[1]))
    for host in hosts:
        host.delete()
    run(["nft", "delete", "table", "ip", f"{outer.settings.prefix}peers"], timeout=30)


def _let_pass(outer: Outer) -> None:
    """Where the machine below shows bridged packets to its own rules, it would take these for its own to masquerade."""
    table, bridge = f"{outer.settings.prefix}peers", f"{outer.settings.network}.0/24"
    rules = f"""table ip {table}
delete table ip {table}
table ip {table} {{
    chain prerouting {{
        type filter hook prerouting priority raw; policy accept;
        ip saddr {bridge} ip daddr {{ 10.0.41.0/24, 10.0.42.0/24 }} notrack
        ip saddr {{ 10.0.41.0/24, 10.0.42.0/24 }} ip daddr {bridge} notrack
    }}
}}
"""
    run(["nft", "-f", "-"], timeout=30, input=rules)


def _address(host: LabHost, name: str) -> str:
    """An environment's address, once one can log in."""
    rows: list[dict[str, Any]] = []

    def ready() -> bool:
        rows[:] = json.loads(host.run(["containarium", "list", "-o", "json"], check=False).stdout or "[]")
        return any(row["name"] == name and row["ready"]["status"] == "True" for row in rows)

    wait_until(f"{name} on {host.name}", ready, timeout=180)
    return str(next(row["ip"] for row in rows if row["name"] == name))


def reached(host: LabHost | Laptop, *places: str) -> dict[str, str]:
    """Which of these can be connected to."""
    told = host.run(["python3", "-c", TRY, *places], timeout=60).stdout
    return dict(line.split(maxsplit=1) for line in told.splitlines())


def test_one_host_is_told_who_is_on_the_other(two: Two) -> None:
    boxes = {box["name"]: box for box in two.ask(ask="list")["boxes"]}
    assert boxes["bob"] == {"name": "bob", "presence": "here", "address": two.boxes[1], "other": ""}
    assert set(boxes) == {"bob"}
    assert two.ask(ask="keys", name="bob")["keys"]


def test_fleet_and_export_work_on_each(two: Two) -> None:
    for host, other, name, address in (
        (two.hosts[0], two.names[1], "bob", two.boxes[1]),
        (two.hosts[1], two.names[0], "alice", two.boxes[0]),
    ):
        rows = {row["name"]: row for row in json.loads(host.run(["containarium", "fleet", "-o", "json"]).stdout)}
        assert (rows[other]["reachable"], rows[other]["state"]) == (True, "answers")
        exported = host.run(["containarium", "export", name]).stdout
        assert f"    HostName {address}\n" in exported
        assert f"# {name}-container." in exported


def test_the_key_opens_no_shell_no_file_and_no_way_on(two: Two) -> None:
    control = two.ssh(two.there, line='{"ask": "list"}')
    assert json.loads(control.stdout)["boxes"]
    assert "uid=" not in two.ssh(two.there, "id", line='{"ask": "list"}').stdout
    assert two.ssh("-tt", two.there, line="id").returncode != 0
    assert two.ssh("-s", two.there, "sftp", line="").stdout.startswith('{"error"')
    for forward in ("127.0.0.1:22", f"{two.boxes[1]}:22", "169.254.169.254:80"):
        refused = two.ssh("-W", forward, two.there)
        assert "administratively prohibited" in refused.stderr
        assert "SSH-" not in refused.stdout
    assert "forwarding failed" in two.ssh("-N", "-R", "15099:127.0.0.1:22", two.there).stderr
    for account in ("root", "bob"):
        assert "Permission denied" in two.ssh(f"{account}@{two.hosts[1].address}").stderr


@pytest.mark.parametrize(
    "request_line",
    [
        '{"ask": "shell"}',
        '{"ask": "offer", "name": "bob"}',
        '{"ask": "offer", "name": "root"}',
        '{"ask": "keys", "name": "../bob"}',
        "id; reboot",
        "[" * 4000,
    ],
)
def test_nothing_else_is_answered(two: Two, request_line: str) -> None:
    answer = json.loads(two.ssh(two.there, line=request_line).stdout)
    assert set(answer) == {"error", "remedy"}
    assert two.hosts[1].instances()["bob-container"]["status"] == "Running"


def test_neither_another_key_nor_another_address_gets_in(two: Two) -> None:
    first, second = two.hosts
    first.run(["sh", "-c", "rm -f /root/other /root/other.pub; ssh-keygen -q -t ed25519 -N '' -f /root/other"])
    assert "Permission denied" in two.ssh(two.there, key="/root/other").stderr
    second.push("/root/stolen", first.pull(KEY), 0o600)
    options = ["-F", "none", "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=no", "-i", "/root/stolen"]
    assert "Permission denied" in second.run(["ssh", *options, two.there], check=False).stderr


def test_a_host_with_another_key_than_declared_is_not_believed(two: Two) -> None:
    first, second = two.hosts
    folder = "/etc/ssh"
    second.run(["sh", "-c", f"mkdir /root/kept && cp -a {folder}/ssh_host_* /root/kept && rm {folder}/ssh_host_*"])
    try:
        second.run(["sh", "-c", "ssh-keygen -A && systemctl restart ssh"])
        rows = {row["name"]: row for row in json.loads(first.run(["containarium", "fleet", "-o", "json"]).stdout)}
        assert "another SSH host key" in rows[two.names[1]]["state"]
        found = json.loads(first.run(["containarium", "doctor", "-o", "json"], check=False).stdout)
        (wrong,) = (each for each in found if each["check"] == f"peer {two.names[1]}")
        assert (wrong["level"], "host manifest" in wrong["remedy"]) == ("fail", True)
    finally:
        second.run(["sh", "-c", f"cp -a /root/kept/* {folder}/ && systemctl restart ssh && rm -r /root/kept"])


def test_hosts_reach_incus_and_guests_and_strangers_neither(two: Two, laptop: Laptop) -> None:
    first, second = two.hosts
    assert reached(first, f"{second.address}:8443", f"{two.boxes[1]}:22", f"{two.boxes[1]}:23") == {
        f"{second.address}:8443": "open",
        f"{two.boxes[1]}:22": "open",
        f"{two.boxes[1]}:23": "shut",
    }
    laptop.run(["ip", "route", "replace", "10.0.42.0/24", "via", second.address])
    control, places = f"{second.address}:22", (f"{second.address}:8443", f"{two.boxes[1]}:22")
    try:
        assert reached(laptop, control, *places) == {control: "open", **dict.fromkeys(places, "shut")}
        second.run(["nft", "delete", "table", "inet", "containarium-fleet"])
        assert reached(laptop, *places) == dict.fromkeys(places, "open")
        wait_until("the table is back", lambda: set(reached(laptop, *places).values()) == {"shut"}, timeout=120)
    finally:
        laptop.run(["ip", "route", "delete", "10.0.42.0/24"])


def test_guests_reach_no_other_host_and_none_of_its_guests(two: Two) -> None:
    first, second = two.hosts

    def connects(place: str) -> bool:
        host, _, port = place.rpartition(":")
        script = f"exec 3<>/dev/tcp/{host}/{port}"
        command = ["exec", "alice-container", "--", "timeout", "5", "bash", "-c", script]
        return first.incus(*command, check=False).returncode == 0

    outside = f"{second.address.rpartition('.')[0]}.1:53"  # the name server of the network that the hosts are in
    assert connects(outside)
    for place in (f"{second.address}:22", f"{second.address}:8443", f"{two.boxes[1]}:22", f"{first.address}:8443"):
        assert not connects(place), place


@pytest.mark.soak  # three hosts do it in test_fleet
def test_an_environment_moves_with_its_files(two: Two) -> None:
    first, second = two.hosts
    script = "echo mine > /home/alice/file; chown alice: /home/alice/file; echo 192.0.2.7 mine >> /etc/hosts; sync"
    first.incus("exec", "alice-container", "--", "sh", "-c", script)
    seen = (
        "cat /home/alice/file /etc/machine-id /etc/ssh/ssh_host_ed25519_key.pub /etc/hosts; stat -c %U /home/alice/file"
    )
    before = first.incus("exec", "alice-container", "--", "sh", "-c", seen).stdout
    path = f"{FOLDER}/Environment-alice.yaml"
    document = yaml.safe_load(first.pull(path))
    document["spec"]["placement"]["host"] = two.names[1]
    for host in two.hosts:
        host.push(path, yaml.safe_dump(document))
    address = _address(second, "alice")
    assert address.startswith("10.0.42.")
    assert second.incus("exec", "alice-container", "--", "sh", "-c", seen).stdout == before
    wait_until("the door follows", lambda: f'"{address}:22"' in _door(first, "alice"), timeout=60)
    left = first.instances()["alice-container"]
    assert left["status"] == "Stopped"
    assert left["config"]["user.containarium.moved"] == two.names[1]
    time.sleep(1)
    assert "user.containarium.arriving" not in second.instances()["alice-container"]["config"]


def _door(host: LabHost, name: str) -> str:
    return host.run(["cat", f"/etc/ssh/containarium/keys/{name}"], check=False).stdout
