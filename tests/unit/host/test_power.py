"""Stopping a guest that was started just now, and starting one that has filled its disk."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from containarium.host import command
from containarium.host.command import Completed
from containarium.host.fragments import Fragments
from containarium.host.headroom import MOST, STEP, Headroom
from containarium.host.incus import Incus, Versioned
from containarium.host.instances import Instances
from containarium.host.nicfilters import NicFilters
from containarium.host.ports import Ports
from containarium.host.power import Power, running_for
from containarium.host.quotas import Quotas, Subvolume
from containarium.host.settings import HostSettings
from containarium.model import marks
from containarium.model.host import HostError, RetryableError, TerminalError

DEAF = "Name:\tsystemd\nSigQ:\t0/9\nSigBlk:\t0000000000000000\nSigIgn:\t0000000000001000\nSigCgt:\t00000001000004ec\n"
HEARS = DEAF.replace("SigBlk:\t0000000000000000", "SigBlk:\t7be3c0fe28014a03")


class OneGuest(Incus):
    """An Incus with one running guest; notes what its init said of itself when it was asked to stop."""

    def __init__(self, status: Path, started: datetime) -> None:
        super().__init__(HostSettings())
        self.there = {"name": "a", "status": "Running", "config": {marks.ENVIRONMENT: "alice"}}
        self.there["last_used_at"] = started.isoformat()
        self.heard: list[str] = []
        self._status = status

    def get_versioned(self, *_path: str) -> Versioned:
        return Versioned(self.there, "etag")

    def get(self, *path: str, timeout: float | None = None, **params: str) -> Any:
        address = {"family": "inet", "scope": "global", "address": "192.0.2.7"}
        return {"status": "Running", "pid": 42, "network": {"eth0": {"addresses": [address]}}}

    def put(self, *path: str, body: Any, timeout: float | None = None, etag: str = "") -> Any:
        said = self._status.read_text() if self._status.exists() else "gone"
        self.heard.append(f"{body['action']} {'heard' if said == HEARS else 'lost'}")


@pytest.fixture
def status(tmp_path: Path) -> Path:
    path = tmp_path / "42/status"
    path.parent.mkdir()
    path.write_text(DEAF)
    return path


def stop(guest: OneGuest, proc: Path, patience: float) -> None:
    Power(guest, Instances(guest, NicFilters(guest, command.run), HostSettings()), proc=proc).stop(
        "a", "alice", patience=patience
    )


def test_a_guest_is_asked_when_its_init_listens(tmp_path: Path, status: Path) -> None:
    guest = OneGuest(status, datetime.now(UTC))
    threading.Timer(0.2, status.write_text, [HEARS]).start()
    stop(guest, tmp_path, 60.0)
    assert guest.heard == ["stop heard"]


def test_one_that_never_listens_is_asked_in_time(tmp_path: Path, status: Path) -> None:
    guest = OneGuest(status, datetime.now(UTC))
    begun = time.monotonic()
    stop(guest, tmp_path, 1.0)
    assert guest.heard == ["stop lost"]
    assert time.monotonic() - begun >= 0.5


@pytest.mark.parametrize("gone", [True, False])
def test_nobody_waits_for_one_that_is_long_up_or_cannot_be_seen(tmp_path: Path, status: Path, gone: bool) -> None:
    guest = OneGuest(status, datetime.now(UTC) - timedelta(hours=0 if gone else 1))
    if gone:
        status.unlink()
    stop(guest, tmp_path, 1000.0)
    assert guest.heard == ["stop lost"]


@pytest.mark.parametrize("stamp", ["", None, "soon", "2026-01-01T00:00:00", "9999-01-01T00:00:00Z"])
def test_a_start_that_nobody_knows_was_long_ago(stamp: str | None) -> None:
    assert running_for({"last_used_at": stamp}) == float("inf")


def test_the_time_since_a_start_is_read_as_incus_writes_it() -> None:
    stamp = (datetime.now(UTC) - timedelta(seconds=5)).strftime("%Y-%m-%dT%H:%M:%S.%f") + "123Z"
    assert 5 <= running_for({"last_used_at": stamp}) < 60


class FullGuest(OneGuest):
    """Stopped, and Incus has no room for the file that it writes at a start unless the kernel's limit is raised."""

    def __init__(self, tmp_path: Path, group: Path, needs: int = 1) -> None:
        super().__init__(tmp_path / "none", datetime.now(UTC))
        self.there |= {"status": "Stopped", "expanded_devices": {"root": {"pool": "fast", "size": "1GiB"}}}
        self.there["config"] = {marks.ENVIRONMENT: "alice", "volatile.last_state.power": "STOPPED"}
        self.group = group
        self.needs = needs
        self.limits: list[int] = []
        self.limit = 1 << 30

    def run(self, args: Sequence[str], **_more: Any) -> Completed:
        assert list(args[:3]) == ["btrfs", "qgroup", "limit"]
        assert args[4] == "0/7"
        self.limit = int(args[3])
        self.limits.append(self.limit)
        return Completed(0, "", "")

    def put(self, *path: str, body: Any, timeout: float | None = None, etag: str = "") -> Any:
        if self.limit < int((self.group / "referenced").read_text()) + self.needs:
            raise TerminalError("disk quota exceeded", reason="QuotaExceeded")
        self.there["status"] = "Running"


@pytest.fixture
def group(tmp_path: Path) -> Path:
    """What sysfs shows of a subvolume's use."""
    group = tmp_path / "fs" / "qgroups" / "0_7"
    group.mkdir(parents=True)
    return group


def start(guest: FullGuest, tmp_path: Path) -> None:
    settings = HostSettings(incus_dir=tmp_path)
    quotas = Quotas(guest.run, btrfs=tmp_path, volume=lambda _folder: Subvolume("fs", 7))
    instances = Instances(guest, NicFilters(guest, command.run), settings)
    Power(guest, instances, headroom=Headroom(settings, quotas)).start("a", "alice")


def test_a_guest_that_has_filled_its_disk_starts_and_its_limit_is_as_before(tmp_path: Path, group: Path) -> None:
    (group / "referenced").write_text(f"{1 << 30}\n")
    guest = FullGuest(tmp_path, group)
    start(guest, tmp_path)
    assert guest.there["status"] == "Running"
    assert guest.limits == [(1 << 30) + STEP, 1 << 30]


def test_one_with_room_gets_no_more(tmp_path: Path, group: Path) -> None:
    (group / "referenced").write_text("4096\n")
    guest = FullGuest(tmp_path, group)
    start(guest, tmp_path)
    assert guest.limits == []


def test_the_limit_is_as_before_where_that_was_not_enough(tmp_path: Path, group: Path) -> None:
    (group / "referenced").write_text(f"{1 << 30}\n")
    guest = FullGuest(tmp_path, group, needs=STEP + 1)
    with pytest.raises(TerminalError, match="quota"):
        start(guest, tmp_path)
    assert guest.limits == [(1 << 30) + STEP, 1 << 30]


def test_nobodys_disk_grows_by_starting_again_and_again(tmp_path: Path, group: Path) -> None:
    guest = FullGuest(tmp_path, group)

    def again() -> None:
        """It has taken all that it could get meanwhile."""
        (group / "referenced").write_text(f"{max(guest.limits, default=1 << 30)}\n")
        guest.there["status"] = "Stopped"
        start(guest, tmp_path)

    for _ in range(MOST // STEP):
        again()
    with pytest.raises(TerminalError, match="quota"):
        again()
    assert max(guest.limits) == (1 << 30) + MOST


def test_one_that_is_over_its_limit_grows(tmp_path: Path, group: Path) -> None:
    (group / "referenced").write_text(f"{(1 << 30) + 4096}\n")
    guest = FullGuest(tmp_path, group)
    headroom = Headroom(
        HostSettings(incus_dir=tmp_path), Quotas(guest.run, btrfs=tmp_path, volume=lambda _folder: Subvolume("fs", 7))
    )
    assert not headroom.grow("a", {"eth0": {"type": "nic"}}), "no disk is asked for"
    assert not headroom.grow("a", {"root": {"size": "1GiB"}}), "that is too little still"
    assert headroom.grow("a", {"root": {"pool": "fast", "size": "3GiB"}})
    assert guest.limits == [3 << 30]


class BehindAPort(FullGuest):
    """Incus cannot make the guest's link while one of its name is there."""

    def __init__(self, tmp_path: Path, links: Path, others: list[dict[str, Any]]) -> None:
        super().__init__(tmp_path, tmp_path)
        self.there |= {"expanded_devices": {"eth0": {"type": "nic", "host_name": PORT}}}
        self.link = links / PORT
        self.others = others

    def get(self, *path: str, timeout: float | None = None, **params: str) -> Any:
        return self.others if path == ("instances",) else super().get(*path, timeout=timeout, **params)

    def run(self, args: Sequence[str], **_more: Any) -> Completed:
        assert list(args) == ["ip", "link", "delete", "dev", PORT]
        self.link.rmdir()
        return Completed(0, "", "")

    def put(self, *path: str, body: Any, timeout: float | None = None, etag: str = "") -> Any:
        if self.link.exists():
            raise RetryableError(f'Failed to create the veth interfaces "{PORT}" and "veth1"', reason="Failed")
        self.there["status"] = "Running"


PORT = "cnt-0a000302"


def start_behind(guest: BehindAPort, links: Path) -> None:
    instances = Instances(guest, NicFilters(guest, command.run), HostSettings())
    Power(guest, instances, ports=Ports(guest, guest.run, links)).start("a", "alice")


def test_a_port_that_a_killed_incus_left_is_removed(tmp_path: Path) -> None:
    (tmp_path / PORT).mkdir()
    stopped = {"name": "a", "status": "Stopped", "config": {"volatile.eth0.host_name": PORT}}
    guest = BehindAPort(tmp_path, tmp_path, [stopped])
    start_behind(guest, tmp_path)
    assert guest.there["status"] == "Running"


def test_a_port_that_somebody_has_stays(tmp_path: Path) -> None:
    (tmp_path / PORT).mkdir()
    other = {"name": "b", "status": "Running", "config": {"volatile.eth0.host_name": PORT}}
    guest = BehindAPort(tmp_path, tmp_path, [other])
    with pytest.raises(RetryableError, match="veth"):
        start_behind(guest, tmp_path)
    assert guest.link.exists()


class NeverWhole(FullGuest):
    """Copied from a part of an image, which no start gets past; a failed one leaves its port."""

    def __init__(self, tmp_path: Path, pool: Path) -> None:
        super().__init__(tmp_path, tmp_path)
        self.there |= {"last_used_at": "1970-01-01T00:00:00Z"}
        self.there["config"] = {
            marks.ENVIRONMENT: "alice", "volatile.apply_template": "create", "volatile.last_state.power": "STOPPED",
            "volatile.base_image": "f00d",
        }  # fmt: skip
        self.failure = "forkstart: exit status 1"
        self.changed: list[str] = []
        for folder in (pool / "containers/a", pool / "images/f00d"):
            folder.mkdir(parents=True)
            (folder / "metadata.yaml").write_text("architecture: x86_64\ntemplates:\n  /etc/hostname: {}\n")

    def put(self, *path: str, body: Any, timeout: float | None = None, etag: str = "") -> Any:
        raise RetryableError(self.failure, reason="IncusError")

    def patch(self, *path: str, body: Any, etag: str = "", timeout: float | None = None) -> None:
        self.changed.append(f"{'/'.join(path)} {body}")

    def delete(self, *path: str, timeout: float | None = None) -> None:
        self.changed.append("/".join(path))


def give_up(guest: NeverWhole, tmp_path: Path) -> HostError:
    settings = HostSettings(incus_dir=tmp_path)
    power = Power(
        guest, Instances(guest, NicFilters(guest, command.run), settings), fragments=Fragments(guest, settings)
    )
    with pytest.raises(HostError) as refused:
        power.start("a", "alice")
    return refused.value


def test_what_was_copied_from_a_part_of_an_image_is_made_anew(tmp_path: Path) -> None:
    guest = NeverWhole(tmp_path, tmp_path / "storage-pools/fast")
    assert give_up(guest, tmp_path).reason == "HalfBorn"
    assert guest.changed == [
        "storage-pools/fast/volumes/image/f00d",
        "instances/a {'config': {'volatile.apply_template': '', 'volatile.last_state.power': ''}}",
    ]


_ROOTLESS = 'Failed to handle idmapped storage: No such file or directory: "/pools/fast/containers/a/rootfs"'


def test_what_has_nothing_to_start_with_is_made_anew(tmp_path: Path) -> None:
    guest = NeverWhole(tmp_path, tmp_path / "storage-pools/fast")
    for folder in (tmp_path / "storage-pools/fast/containers/a", tmp_path / "storage-pools/fast/images/f00d"):
        (folder / "templates").mkdir()
        (folder / "rootfs/etc").mkdir(parents=True)
    assert give_up(guest, tmp_path).reason == "HalfBorn"
    assert guest.changed[0] == "storage-pools/fast/volumes/image/f00d"


@pytest.mark.parametrize("image", ["empty", "whole"])
def test_what_was_copied_from_nothing_is_made_anew(tmp_path: Path, image: str) -> None:
    pool = tmp_path / "storage-pools/fast"
    guest = NeverWhole(tmp_path, pool)
    guest.failure = _ROOTLESS
    for folder in (pool / "containers/a", pool / "images/f00d"):
        (folder / "metadata.yaml").unlink()
    if image == "whole":  # unpacked anew already, by somebody else
        (pool / "images/f00d/rootfs").mkdir()
    assert give_up(guest, tmp_path).reason == "HalfBorn"
    assert [change.split()[0] for change in guest.changed] == [
        *(["storage-pools/fast/volumes/image/f00d"] if image == "empty" else []), "instances/a",
    ]  # fmt: skip


@pytest.mark.parametrize("change", ["started", "whole", "started and rootless", "unmounted"])
def test_what_may_hold_anything_of_anybodys_is_not_given_up(tmp_path: Path, change: str) -> None:
    pool = tmp_path / "storage-pools/fast"
    guest = NeverWhole(tmp_path, pool)
    if "started" in change:
        guest.there |= {"last_used_at": "2026-11-22T12:00:00Z"}
    if "rootless" in change:
        guest.failure = _ROOTLESS
    if change == "whole":
        (pool / "containers/a/templates").mkdir()
        (pool / "containers/a/rootfs/sbin").mkdir(parents=True)
        (pool / "containers/a/rootfs/sbin/init").symlink_to("/lib/systemd/systemd")
    if change == "unmounted":  # as ZFS shows every container that does not run
        (pool / "containers/a/metadata.yaml").unlink()
    assert give_up(guest, tmp_path).reason == "IncusError"
    assert guest.changed == []
