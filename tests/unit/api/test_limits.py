"""What one client does harms no other: too large, too many, too slow, gone."""

from __future__ import annotations

import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from containarium.api import registry
from containarium.api.errors import told
from containarium.api.rooms import Size
from containarium.api.server import Limits
from containarium.api.v1 import container_pb2 as pb
from containarium.api.v1 import controller_pb2 as cpb
from containarium.model.host import HostError
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
    site = serve(Limits(changes=Size(8, 4), looks=Size(4, 4, waiting=4, waiting_per_caller=4, patience=5.0)))
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
    site = serve(Limits(looks=Size(2, 2, waiting=64, waiting_per_caller=64, patience=15.0), first_message=0.5))
    never = threading.Event()
    with site.channel() as channel:
        hanging = silence(channel, 40, never)
        assert listed(site) == 0
        codes = {call.exception(timeout=20).code() for call in hanging}
        never.set()
    assert codes == {grpc.StatusCode.CANCELLED}


def silence(channel: grpc.Channel, number: int, until: threading.Event) -> list[Any]:
    """So many looks that never send their request."""

    def nothing() -> Iterator[bytes]:
        until.wait(30)
        yield from ()

    method = "/containarium.v1.ContainerService/ListContainers"
    return [channel.stream_unary(method, None, None).future(nothing()) for _ in range(number)]


def test_one_viewer_takes_looking_away_from_nobody(site: Site) -> None:
    """As many calls as the server has threads, and more, by one certificate: none of them sends its request."""
    never = threading.Event()
    channels = [site.channel("vera") for _ in range(4)]
    hanging = [call for channel in channels for call in silence(channel, 90, never)]
    _until(lambda: any(call.done() for call in hanging))
    begun = time.monotonic()
    assert listed(site) == 0
    assert time.monotonic() - begun < 3
    never.set()
    found = [told(error) for call in hanging if isinstance(error := call.exception(timeout=30), grpc.RpcError)]
    refused = [each for each in found if each.code is grpc.StatusCode.RESOURCE_EXHAUSTED]
    assert len(refused) >= 100, Counter(each.code.name for each in found)
    assert all(each.reason == "TOO_MANY_WAITING" and each.retry_after for each in refused)
    for channel in channels:
        channel.close()


def test_followers_take_the_places_of_no_change(serve: Serve) -> None:
    site = serve(Limits(changes=Size(2, 2), followers=Size(8, 4)))
    with site.channel("vera") as channel, site.channel() as admins:
        watch = registry.caller(channel, registry.CONTROLLER, "Watch")
        watching = [watch(cpb.WatchRequest(), timeout=60) for _ in range(4)]
        health = health_pb2_grpc.HealthStub(admins)
        for _ in range(4):
            assert next(health.Watch(health_pb2.HealthCheckRequest(), timeout=60))
        _until(lambda: _refused(watch(cpb.WatchRequest(), timeout=5)))
        create = registry.caller(admins, registry.CONTAINERS, "CreateContainer")
        made = create(pb.CreateContainerRequest(username="alice", ssh_keys=[public_key("a")], image=IMAGE), timeout=T)
        assert made.container.username == "alice"
        for call in watching:
            call.cancel()


def _refused(call: Any) -> bool:
    try:
        next(call)
    except grpc.RpcError as error:
        return error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    return False


def test_the_health_services_watch_ends(serve: Serve) -> None:
    site = serve(Limits(standard=0.5))
    with site.channel("vera") as channel:
        answers = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest(), timeout=60)
        begun = time.monotonic()
        with pytest.raises(grpc.RpcError) as ended:
            list(answers)
        assert time.monotonic() - begun < 15
        assert ended.value.code() is grpc.StatusCode.CANCELLED


def test_a_connection_ends_with_its_time_and_the_client_comes_again(serve: Serve) -> None:
    site = serve(Limits(age=0.5))
    client = site.client("vera")
    deadline = time.monotonic() + 3
    while time.monotonic() < deadline:
        # A call may meet the very moment, and ours repeats none by itself.
        with pytest.raises(HostError, match=r"may look and change nothing|was away for a moment; try again"):
            client.ask("Approve", cpb.ApproveRequest(), T)
    assert len({who.address for who, _, _ in site.audited}) > 1


def test_a_call_that_runs_outlives_its_connections_time(serve: Serve) -> None:
    client = serve(Limits(age=0.5)).client("vera")
    begun = time.monotonic()
    with suppress(HostError):  # the server knows the deadline too, and may end it first
        list(client.follow("Watch", cpb.WatchRequest(), 3.0))
    assert time.monotonic() - begun >= 2.9


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
