"""Notices of preemption, from servers that behave as the clouds' own do, and from servers that misbehave."""

from __future__ import annotations

import queue
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from containarium.host.metadata import MetadataServer
from containarium.host.spot import Notice, Pace, Provider, SpotWatch, detect
from tests.unit.host.metadata import TOKEN, TROUBLES, FakeAws, FakeGce, FakeMetadata

NOW = datetime(2026, 9, 18, 8, 20, tzinfo=UTC)
QUICK = Pace(answer=0.3, hang=1.0, poll=0.05, rest=0.02, first=0.02, longest=0.1)
SOON = 10.0
"""Seconds after which a test gives up; nothing takes that long."""


class Heard:
    """Whoever is told of notices, and what the journal is told."""

    def __init__(self) -> None:
        self.notices: queue.Queue[Notice | None] = queue.Queue()
        self.notes: queue.Queue[str] = queue.Queue()

    def notice(self) -> Notice | None:
        return self.notices.get(timeout=SOON)

    def note(self) -> str:
        return self.notes.get(timeout=SOON)

    def nothing_more(self) -> bool:
        return self.notices.empty() and self.notes.empty()


Watch = Callable[[FakeMetadata], Heard]


@pytest.fixture
def watch() -> Iterator[Watch]:
    """Start watching a server; ends with the test."""
    started: list[SpotWatch] = []

    def begin(server: FakeMetadata) -> Heard:
        heard = Heard()
        provider = Provider.GCE if isinstance(server, FakeGce) else Provider.AWS
        spot = SpotWatch(
            provider, server.endpoint, heard.notices.put, note=heard.notes.put, pace=QUICK, clock=lambda: NOW
        )
        started.append(spot)
        spot.start()
        return heard

    yield begin
    for spot in started:
        spot.stop()
        assert not spot._thread.is_alive()


@pytest.fixture
def gce() -> Iterator[FakeGce]:
    with FakeGce() as server:
        yield server


@pytest.fixture
def aws() -> Iterator[FakeAws]:
    with FakeAws() as server:
        yield server


@pytest.fixture(params=[FakeGce, FakeAws])
def cloud(request: pytest.FixtureRequest) -> Iterator[FakeMetadata]:
    with request.param() as server:
        yield server


def until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + SOON
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.01)


# -- both clouds


def test_a_preemption_and_its_withdrawal_are_told_once(cloud: FakeMetadata, watch: Watch) -> None:
    heard = watch(cloud)
    assert "watching" in heard.note()
    for _ in range(2):
        cloud.preempt()
        told = heard.notice()
        assert told is not None
        assert told.deadline is not None
        asked = len(cloud.asked)
        until(lambda asked=asked: len(cloud.asked) > asked + 2)  # type: ignore[misc]
        assert heard.nothing_more()
        cloud.withdraw()
        assert heard.notice() is None
    assert heard.nothing_more()


def test_a_machine_that_is_on_its_way_out_already(cloud: FakeMetadata, watch: Watch) -> None:
    cloud.preempt()
    assert watch(cloud).notice() is not None


@pytest.mark.parametrize("trouble", [trouble for trouble in TROUBLES if trouble != "none"])
def test_trouble_is_noted_once_and_overcome(cloud: FakeMetadata, watch: Watch, trouble: str) -> None:
    cloud.suffer(trouble)
    heard = watch(cloud)
    assert "would be seen" in heard.note()
    asked = len(cloud.asked)
    until(lambda: len(cloud.asked) > asked + 2)
    assert heard.nothing_more()
    cloud.suffer("none")
    assert "watching" in heard.note()
    cloud.preempt()
    assert heard.notice() is not None


@pytest.mark.parametrize("trouble", ["503", "hang", "close"])
def test_what_happens_during_trouble_is_seen_after_it(cloud: FakeMetadata, watch: Watch, trouble: str) -> None:
    heard = watch(cloud)
    heard.note()
    cloud.suffer(trouble)
    assert "would be seen" in heard.note()
    cloud.preempt()
    cloud.suffer("none")
    assert heard.notice() is not None


def test_a_notice_stands_while_the_server_is_away(cloud: FakeMetadata, watch: Watch) -> None:
    cloud.preempt()
    heard = watch(cloud)
    assert heard.notice() is not None
    assert "watching" in heard.note()
    cloud.suffer("503")
    assert "would be seen" in heard.note()
    cloud.suffer("none")
    assert "watching" in heard.note()
    assert heard.nothing_more()


def test_nobody_listens_until_later(watch: Watch) -> None:
    with FakeGce() as gone:
        pass
    heard = watch(gone)
    assert "refused" in heard.note()
    with FakeGce(port=gone.server_address[1]) as there:
        assert "watching" in heard.note()
        there.preempt()
        assert heard.notice() is not None


def test_a_listener_that_fails_is_told_again(gce: FakeGce) -> None:
    told: queue.Queue[Notice | None] = queue.Queue()

    def stumble(notice: Notice | None) -> None:
        told.put(notice)
        if told.qsize() == 1:
            raise RuntimeError("not now")

    gce.preempt()
    spot = SpotWatch(Provider.GCE, gce.endpoint, stumble, pace=QUICK)
    spot.start()
    until(lambda: told.qsize() == 2)
    spot.stop()
    assert told.get() == told.get()


def test_no_proxy_is_asked(cloud: FakeMetadata, watch: Watch, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    assert "watching" in watch(cloud).note()


@pytest.mark.parametrize("endpoint", ["https://x", "file:///etc/passwd", "169.254.169.254", "http://", "http://x/path"])
def test_only_a_plain_address_is_an_endpoint(endpoint: str) -> None:
    with pytest.raises(ValueError, match="no address of a metadata server"):
        SpotWatch(Provider.GCE, endpoint, lambda _notice: None)


def test_an_ipv6_endpoint_is_one() -> None:
    MetadataServer("http://[fd00:ec2::254]", 1.0)


# -- GCE


def test_gce_gives_half_a_minute(gce: FakeGce, watch: Watch) -> None:
    gce.preempt()
    told = watch(gce).notice()
    assert told == Notice(Provider.GCE, NOW + timedelta(seconds=30), "GCE preempts this machine, about 08:20:30 UTC")


def test_gce_holds_the_question_open(gce: FakeGce) -> None:
    """Known when it happens, and not when the next question is due: here that would be in a minute."""
    heard = Heard()
    spot = SpotWatch(Provider.GCE, gce.endpoint, heard.notices.put, pace=Pace(hang=60.0, rest=0.01))
    spot.start()
    until(lambda: any("wait_for_change" in asked for asked in gce.asked))
    gce.preempt()
    assert heard.notice() is not None
    spot.stop()


def test_an_open_question_does_not_hold_up_the_end(gce: FakeGce) -> None:
    spot = SpotWatch(Provider.GCE, gce.endpoint, lambda _notice: None, pace=Pace(hang=60.0, rest=0.01))
    spot.start()
    until(lambda: any("wait_for_change" in asked for asked in gce.asked))
    spot.stop()
    assert not spot._thread.is_alive()


def test_gce_maintenance(gce: FakeGce, watch: Watch) -> None:
    heard = watch(gce)
    gce.maintain()
    told = heard.notice()
    assert told is not None
    assert told.deadline is None
    gce.preempt()
    told = heard.notice()
    assert told is not None
    assert told.deadline is not None
    gce.withdraw()
    while heard.notice() is not None:  # one is withdrawn before the other
        pass


def test_a_live_migration_takes_nothing_away(gce: FakeGce, watch: Watch) -> None:
    gce.maintain("MIGRATE_ON_HOST_MAINTENANCE")
    heard = watch(gce)
    heard.note()
    until(lambda: sum("maintenance-event" in asked for asked in gce.asked) > 2)
    assert heard.nothing_more()


# -- AWS


@pytest.mark.parametrize("action", ["terminate", "stop", "hibernate"])
def test_aws_says_what_and_when(aws: FakeAws, watch: Watch, action: str) -> None:
    aws.preempt(action, "2026-09-18T08:22:00Z")
    told = watch(aws).notice()
    assert told == Notice(Provider.AWS, NOW + timedelta(minutes=2), f"AWS {action}s this machine at 08:22:00 UTC")


def test_another_time_is_another_notice(aws: FakeAws, watch: Watch) -> None:
    aws.preempt("stop", "2026-09-18T08:22:00Z")
    heard = watch(aws)
    first = heard.notice()
    aws.preempt("stop", "2026-09-18T08:25:00Z")
    second = heard.notice()
    assert first is not None
    assert second is not None
    assert second.deadline == NOW + timedelta(minutes=5)


def test_a_notice_without_a_time_counts(aws: FakeAws, watch: Watch) -> None:
    aws.preempt("terminate", "soon")
    told = watch(aws).notice()
    assert told == Notice(Provider.AWS, None, "AWS terminates this machine")


def test_one_token_serves_many_questions(aws: FakeAws, watch: Watch) -> None:
    watch(aws).note()
    until(lambda: len(aws.asked) > 5)
    assert [asked for asked in aws.asked if asked.startswith("PUT")] == ["PUT /latest/api/token"]
    assert aws.asked[0].startswith("PUT")


def test_a_token_is_renewed_before_its_end(watch: Watch) -> None:
    with FakeAws(longest_ttl=1) as aws:
        heard = watch(aws)
        heard.note()
        until(lambda: len(aws.tokens) > 1)
        aws.preempt()
        assert heard.notice() is not None
        assert heard.nothing_more()


def test_a_void_token_is_replaced_at_once(aws: FakeAws, watch: Watch) -> None:
    heard = watch(aws)
    heard.note()
    until(lambda: len(aws.asked) > 2)
    aws.forget()
    until(lambda: sum(asked.startswith("PUT") for asked in aws.asked) > 1)
    aws.preempt()
    assert heard.notice() is not None
    assert heard.nothing_more()


def test_a_refused_token_is_not_gone_without(aws: FakeAws, watch: Watch) -> None:
    """Without a token nothing is asked: the older way of AWS answers whatever a confused proxy passes on."""
    aws.suffer("503")
    watch(aws).note()
    until(lambda: len(aws.asked) > 3)
    assert not [asked for asked in aws.asked if asked.startswith("GET")]


@pytest.mark.parametrize("action", [{"action": "noop", "time": "2026-09-18T08:22:00Z"}, {}, {"action": "none"}])
def test_what_names_no_end_is_none(aws: FakeAws, watch: Watch, action: dict[str, str]) -> None:
    aws.action = action
    heard = watch(aws)
    assert "instance action" in heard.note()
    aws.preempt()
    assert heard.notice() is not None


# -- the fakes themselves


def ask(server: FakeMetadata, method: str, path: str, **headers: str) -> int:
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    return MetadataServer(server.endpoint, 5.0).ask(method, path, sent).status


def test_the_fakes_refuse_as_the_clouds_do(gce: FakeGce, aws: FakeAws) -> None:
    preempted, token, ttl = (
        "/computeMetadata/v1/instance/preempted",
        "/latest/api/token",
        "X-aws-ec2-metadata-token-ttl-seconds",
    )
    assert ask(gce, "GET", preempted) == 403
    assert ask(gce, "GET", preempted, Metadata_Flavor="Google", X_Forwarded_For="192.0.2.1") == 403
    assert ask(gce, "GET", preempted, Metadata_Flavor="Google") == 200
    assert ask(aws, "PUT", token) == 400
    assert ask(aws, "PUT", token, **{ttl: "21601"}) == 400
    assert ask(aws, "PUT", token, **{ttl: "60"}, X_Forwarded_For="192.0.2.1") == 403
    assert ask(aws, "PUT", token, **{ttl: "60"}) == 200
    action = "/latest/meta-data/spot/instance-action"
    assert ask(aws, "GET", action) == 401
    assert ask(aws, "GET", action, **{TOKEN: next(iter(aws.tokens))}) == 404
    aws.preempt()
    assert ask(aws, "GET", action, **{TOKEN: next(iter(aws.tokens))}) == 200


@pytest.mark.parametrize("provider", list(Provider))
def test_a_fake_runs_by_itself(provider: Provider) -> None:
    command = [sys.executable, "-m", "tests.unit.host.metadata", "--provider", provider, "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[3]) as process:
        try:
            assert process.stdout is not None
            endpoint = process.stdout.readline().strip()
            heard = Heard()
            spot = SpotWatch(provider, endpoint, heard.notices.put, pace=QUICK)
            spot.start()
            MetadataServer(endpoint, SOON).ask("POST", "/control/preempt", {}).require(200)
            assert heard.notice() is not None
            spot.stop()
        finally:
            process.kill()


# -- where we are


@pytest.mark.parametrize(
    ("firmware", "provider"),
    [
        ({"product_name": "Google Compute Engine", "sys_vendor": "Google"}, Provider.GCE),
        ({"product_name": "Eve", "sys_vendor": "Google"}, None),
        ({"sys_vendor": "Amazon EC2", "product_name": "m5.large"}, Provider.AWS),
        ({"board_vendor": "Amazon EC2"}, Provider.AWS),
        ({"bios_vendor": "Amazon EC2"}, Provider.AWS),
        ({"bios_vendor": "Xen", "bios_version": "4.11.amazon"}, Provider.AWS),
        ({"bios_vendor": "Xen", "bios_version": "4.17"}, None),
        ({"sys_vendor": "QEMU", "product_name": "Standard PC"}, None),
        ({}, None),
    ],
)
def test_detect(tmp_path: Path, firmware: dict[str, str], provider: Provider | None) -> None:
    for name, text in firmware.items():
        (tmp_path / name).write_text(text + "\n")
    assert detect(tmp_path) is provider


def test_no_firmware_at_all(tmp_path: Path) -> None:
    (tmp_path / "sys_vendor").write_bytes(b"\xff\xfe" * 1000)
    (tmp_path / "product_name").mkdir()
    assert detect(tmp_path) is None
    assert detect(tmp_path / "none") is None
