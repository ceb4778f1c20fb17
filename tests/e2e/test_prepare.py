"""Preparing a host for real: repeatable, in force after a reboot and a flush, and taken back without a trace."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

from tests.lab.recipes import VENV

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.lab.host import LabHost

_SCRIPT = """
import json, sys
from containarium.host.doctor import examine
from containarium.host.prepare import prepare, unprepare
from containarium.host.settings import HostSettings
settings = HostSettings()
if sys.argv[1] == "doctor":
    print(json.dumps([[f.check, f.level.value, f.message] for f in examine(settings)]))
else:
    steps = unprepare(settings) if sys.argv[1] == "undo" else prepare(settings, install=False)
    print(json.dumps([[s.name, s.changed, s.warning] for s in steps]))
"""
_LISTEN = """
import socket
servers = [socket.create_server((address, 8000), family=family) for family, address in
           ((socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::"))]
while True:
    for server in servers:
        server.settimeout(0.1)
        try:
            server.accept()[0].close()
        except TimeoutError:
            pass
"""
_TRACES = (
    "find /etc /var/lib -xdev -newer /root/stamp -path '*ontainarium*'; getent group containarium-jump; "
    "nft list tables | grep containarium; incus network list -f csv | grep incusbr0; incus storage list -f csv; true"
)


@pytest.fixture(scope="module")
def host(outer: Any) -> Iterator[LabHost]:
    """Give a host of this module's own, as it is before any preparation."""
    from tests.lab.host import LabHost

    made = LabHost(outer, "prepare0")
    made.create()
    made.install_project()
    made.run(["touch", "/root/stamp"])
    yield made
    made.delete()


_AWAIT_DNS = r"""
lists=$(ls /etc/apt/sources.list /etc/apt/sources.list.d/* 2>/dev/null)
mirror=$(sed -nE 's#^(deb |URIs:)[^:]*://([^/ ]*).*#\2#p' $lists | head -1)
for _ in $(seq 60); do getent hosts "$mirror" && exit; sleep 0.5; done
exit 1
"""


def _do(host: LabHost, what: str) -> list[list[Any]]:
    found: list[list[Any]] = json.loads(host.run([f"{VENV}/bin/python", "-c", _SCRIPT, what], timeout=200).stdout)
    return found


@pytest.fixture(scope="module")
def reaches(host: LabHost) -> Callable[[str, int], bool]:
    """Prepare the host, start a guest on it, and tell whether the guest reaches an address and port."""
    _do(host, "prepare")
    host.import_guest_image()
    host.incus("launch", "guest", "probe", "--storage=default", "--network=incusbr0", timeout=90)
    host.run(["systemd-run", "--unit=listen", "/usr/bin/python3", "-c", _LISTEN])

    def connect(address: str, port: int) -> bool:
        command = f"exec 3<>/dev/tcp/{address}/{port}"
        guest = ["exec", "probe", "--", "timeout", "5", "bash", "-c", command]
        return host.incus(*guest, check=False, timeout=30).returncode == 0

    host.incus("exec", "probe", "--", "sh", "-c", _AWAIT_DNS, timeout=60, check=False)
    return connect


@pytest.mark.usefixtures("reaches")
def test_a_second_time_changes_nothing(host: LabHost) -> None:
    assert [name for name, changed, _ in _do(host, "prepare") if changed] == []


@pytest.mark.usefixtures("reaches")
def test_doctor_finds_nothing(host: LabHost) -> None:
    assert [finding for finding in _do(host, "doctor") if finding[1] != "ok"] == []


def _closed(host: LabHost, reaches: Callable[[str, int], bool]) -> list[tuple[str, int]]:
    """Which of the host's services a guest does not reach, on each of the host's addresses."""
    return [
        (address, port) for address in ("10.0.3.1", host.address) for port in (22, 8000) if not reaches(address, port)
    ]


def test_guests_reach_dns_but_no_service_of_the_host(host: LabHost, reaches: Callable[[str, int], bool]) -> None:
    assert reaches("10.0.3.1", 53)
    assert len(_closed(host, reaches)) == 4
    assert not reaches("169.254.169.254", 80)


def test_what_was_flushed_is_missed_and_comes_back(host: LabHost, reaches: Callable[[str, int], bool]) -> None:
    host.run(["nft", "flush", "ruleset"])
    assert _closed(host, reaches) == [], "without the rules everything is open: the other tests prove something"
    assert {finding[0] for finding in _do(host, "doctor") if finding[1] != "ok"} >= {"firewall", "acl"}
    assert [name for name, changed, _ in _do(host, "prepare") if changed] == ["firewall"]
    assert len(_closed(host, reaches)) == 4
    host.run(["systemctl", "restart", "incus"], timeout=90)


def test_starting_and_reloading_nftables_keeps_it(host: LabHost, reaches: Callable[[str, int], bool]) -> None:
    for verb in ("start", "restart", "reload"):
        host.run(["systemctl", verb, "nftables"])
        assert len(_closed(host, reaches)) == 4, verb
    host.run(["systemctl", "stop", "nftables"])
    host.run(["systemctl", "restart", "incus", "containarium-firewall"], timeout=90)


def test_it_is_in_force_after_a_reboot(host: LabHost, reaches: Callable[[str, int], bool]) -> None:
    host.preempt()
    host.wait_incus()
    host.run(["systemd-run", "--unit=listen", "/usr/bin/python3", "-c", _LISTEN])
    host.incus("start", "probe", check=False, timeout=60)
    wait = "for _ in $(seq 60); do ip -4 -br address show eth0 | grep -q 10.0.3 && exit; sleep 0.5; done; exit 1"
    host.incus("exec", "probe", "--", "sh", "-c", wait, timeout=60)
    assert reaches("10.0.3.1", 53)
    assert len(_closed(host, reaches)) == 4


def test_taking_back_leaves_what_others_live_on(host: LabHost) -> None:
    """The probe is an instance that is not ours: its Incus, pool and bridge stay, and the warning names it."""
    left = [step for step in _do(host, "undo") if step[2]]
    assert ["probe" in step[2] for step in left] == [True]
    assert host.incus("exec", "probe", "--", "true").returncode == 0
    assert host.run(["sh", "-c", "command -v incus"]).returncode == 0
    _do(host, "prepare")


def test_it_is_taken_back_without_a_trace(host: LabHost) -> None:
    host.incus("delete", "--force", "probe", check=False)
    assert [step for step in _do(host, "undo") if step[2]] == []
    assert host.run(["sh", "-c", _TRACES]).stdout == ""
    assert _do(host, "undo") == []
