"""What one client does harms no other: too large, too many, too slow, gone."""

from __future__ import annotations

import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import pytest

from containarium.api import registry
from containarium.api.errors import told
from containarium.api.server import Limits
from containarium.api.v1 import container_pb2 as pb
from containarium.api.v1 import controller_pb2 as cpb
from tests.builders import public_key
from tests.unit.api.conftest import Serve, Site

T = 20.0
IMAGE = "bootstrap:debian/12"


def listed(site: Site) -> int:
    with site.channel() as channel:
        call = registry.caller(channel, registry.CONTAINERS, "ListContainers")
        return int(call(pb.ListContainersRequest(), timeout=T).total_count)


def test_a_hundred_megabytes_are_refused(site: Site) -> None:
    with site.channel() as channel:
        call = channel.unary_unary("/containarium.v1.ContainerService/CreateContainer", None, None)
        with pytest.raises(grpc.RpcError) as refused:
            call(bytes(100 << 20), timeout=T)
        assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert (
            registry.caller(channel, registry.CONTAINERS, "ListContainers")(pb.ListContainersRequest(), timeout=T)
            is not None
        )


def test_two_hundred_clients_at_once_are_all_served(site: Site) -> None:
    ready = threading.Barrier(20)

    def ask(_number: int) -> list[int]:
        channels = [site.channel() for _ in range(10)]
        ready.wait(30)
        calls = [registry.caller(c, registry.CONTAINERS, "ListContainers").future for c in channels]  # type: ignore[attr-defined]
        found = [call(pb.ListContainersRequest(), timeout=60) for call in calls]
        totals = [answer.result().total_count for answer in found]
        for channel in channels:
            channel.close()
        return totals

    with ThreadPoolExecutor(20) as pool:
        answers = [total for totals in pool.map(ask, range(20)) for total in totals]
    assert answers == [0] * 200


def test_two_hundred_who_wait_leave_room_for_those_who_look(serve: Serve) -> None:
    site = serve(Limits(waiting=8, per_caller=4, looking=4))
    site.controller.hold.clear()
    codes: Counter[str] = Counter()
    channels = [site.channel() for _ in range(20)]
    other = site.channel("vera")
    calls = [
        registry.caller(channels[n % 20], registry.CONTAINERS, "CreateContainer").future(  # type: ignore[attr-defined]
            pb.CreateContainerRequest(username=f"u{n}", ssh_keys=[public_key(f"u{n}")], image=IMAGE), timeout=60
        )
        for n in range(200)
    ]
    _until(lambda: sum(call.done() for call in calls) >= 196)
    # While those few wait, looking goes on.
    look = registry.caller(other, registry.CONTAINERS, "ListContainers")
    assert look(pb.ListContainersRequest(), timeout=10).total_count <= 4
    site.controller.hold.set()
    for call in calls:
        error = call.exception()
        codes["OK" if error is None else error.code().name] += 1
        if error is not None:
            found = told(error)
            assert found.reason == "TOO_MANY_WAITING", found
            assert found.retry_after
    for channel in (*channels, other):
        channel.close()
    assert codes == {"OK": 4, "RESOURCE_EXHAUSTED": 196}


def test_a_client_that_never_sends_its_request_keeps_no_thread(serve: Serve) -> None:
    site = serve(Limits(waiting=2, per_caller=2, looking=2, first_message=0.5))
    never = threading.Event()

    def silence() -> Iterator[bytes]:
        never.wait(30)
        yield from ()

    with site.channel() as channel:
        hanging: list[Any] = [
            channel.stream_unary("/containarium.v1.ContainerService/ListContainers", None, None).future(silence())
            for _ in range(40)
        ]
        assert listed(site) == 0
        codes = {call.exception(timeout=20).code() for call in hanging}
        never.set()
    assert codes == {grpc.StatusCode.CANCELLED}


def test_bytes_that_are_no_request_are_refused(site: Site) -> None:
    with site.channel() as channel:
        call = channel.unary_unary("/containarium.v1.ContainerService/ListContainers", None, None)
        with pytest.raises(grpc.RpcError) as refused:
            call(b"\xff\xff\xff", timeout=T)
    assert refused.value.code() in (grpc.StatusCode.INTERNAL, grpc.StatusCode.INVALID_ARGUMENT)
    assert listed(site) == 0


def test_connections_that_say_nothing_hold_up_nobody(site: Site) -> None:
    host, _, port = site.address.rpartition(":")
    silent = [socket.create_connection((host, int(port)), 5) for _ in range(100)]
    local = []
    for _ in range(30):
        connection = socket.socket(socket.AF_UNIX)
        connection.connect(str(site.settings.runtime / "api.sock"))
        local.append(connection)
    try:
        assert listed(site) == 0
        assert site.local().ask("WhoAmI", cpb.WhoAmIRequest(), T).role == "admin"
    finally:
        for each in (*silent, *local):
            each.close()


def test_a_deadline_ends_the_wait_and_not_the_work(site: Site) -> None:
    site.controller.hold.clear()
    with site.channel() as channel:
        create = registry.caller(channel, registry.CONTAINERS, "CreateContainer")
        with pytest.raises(grpc.RpcError) as late:
            create(pb.CreateContainerRequest(username="alice", ssh_keys=[public_key("a")], image=IMAGE), timeout=1.5)
    assert late.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert "alice" in site.manifest("alice")
    site.controller.hold.set()
    _until(lambda: "alice-container" in site.world.instances)
    _until(lambda: bool(site.audited))
    assert site.audited[0][2] == {"environment": "alice", "result": "unattended"}, "nobody waited for its end"


def test_a_cancelled_call_stops_nothing_half_way(site: Site) -> None:
    site.controller.hold.clear()
    with site.channel() as channel:
        create = registry.caller(channel, registry.CONTAINERS, "CreateContainer")
        call = create.future(  # type: ignore[attr-defined]
            pb.CreateContainerRequest(username="alice", ssh_keys=[public_key("a")], image=IMAGE), timeout=T
        )
        _until((site.settings.manifests / "alice.yaml").exists)
        call.cancel()
    site.controller.hold.set()
    _until(lambda: "alice-container" in site.world.instances)
    assert listed(site) == 1


def test_a_watcher_is_told_until_it_goes(site: Site) -> None:
    seen: list[Any] = []
    client = site.client("vera")
    with ThreadPoolExecutor(1) as pool:
        done = pool.submit(seen.extend, client.follow("Watch", cpb.WatchRequest(), 4.0))
        site.client().ask(
            "CreateContainer",
            pb.CreateContainerRequest(username="alice", ssh_keys=[public_key("a")], image=IMAGE), T, original=True,
        )  # fmt: skip
        done.exception(timeout=20)
    assert ("alice", cpb.Progress.STATE_DONE) in [(step.environment, step.state) for step in seen]


def _until(true: object, patience: float = 15.0) -> None:
    deadline = time.monotonic() + patience
    while not true():  # type: ignore[operator]
        assert time.monotonic() < deadline
        time.sleep(0.02)
