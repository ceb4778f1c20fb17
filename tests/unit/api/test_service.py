"""Both services over real sockets: what is asked for is what the simulated host then is."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import grpc
import pytest

from containarium.api import registry
from containarium.api.client import Client
from containarium.api.errors import told
from containarium.api.operations import Operations
from containarium.api.v1 import container_pb2 as pb
from containarium.api.v1 import controller_pb2 as cpb
from containarium.cli.remote_edit import Editor
from containarium.host.meter import Usage
from containarium.model import marks
from containarium.model.action import UpdateInstance
from containarium.model.host import HostError
from containarium.model.observed import InstanceStatus
from containarium.model.sshkey import SSHKey
from containarium.plan.desired import PROTECTION
from containarium.simulate.faults import Boundary, Fail, Fault
from containarium.simulate.host import SimulatedHost
from containarium.simulate.somebody import Somebody
from tests.builders import public_key
from tests.unit.api.conftest import Serve, Site

T = 10.0
IMAGE = "bootstrap:debian/12"


def create(client: Client, name: str = "alice", **more: object) -> pb.CreateContainerResponse:
    request = pb.CreateContainerRequest(username=name, ssh_keys=[public_key(name)], image=IMAGE, **more)  # type: ignore[arg-type]
    answer = client.ask("CreateContainer", request, T, original=True)
    assert isinstance(answer, pb.CreateContainerResponse)
    return answer


def test_create_makes_a_manifest_and_waits_for_the_host(site: Site) -> None:
    made = create(
        site.client(), resources=pb.ResourceLimits(cpu="2", memory="1GiB", disk="10GiB"), labels={"team": "ml"}
    )
    assert site.world.instances["alice-container"].status is InstanceStatus.RUNNING
    assert made.container.state == pb.CONTAINER_STATE_RUNNING
    assert (made.container.resources.cpu, made.container.resources.memory) == ("2", "1GiB")
    assert made.container.labels == {"team": "ml"}
    assert made.ssh_command.startswith("ssh -J alice@jump.example.org alice@10.")
    assert "cpu: 2" in site.manifest("alice")


def test_what_is_there_already_is_not_made_again(site: Site) -> None:
    create(site.client())
    with pytest.raises(HostError, match=r"alice\.yaml:\d+: alice has a manifest already") as refused:
        create(site.client())
    assert refused.value.reason == "ALREADY_EXISTS"


def test_filters_filter(site: Site) -> None:
    client = site.client()
    create(client, labels={"team": "ml"})
    create(client, "bob")
    client.ask("StopContainer", pb.StopContainerRequest(username="bob"), T, original=True)

    def names(**asked: object) -> list[str]:
        request = pb.ListContainersRequest(**asked)  # type: ignore[arg-type]
        answer = client.ask("ListContainers", request, T, original=True)
        assert answer.total_count == len(answer.containers)
        return [each.username for each in answer.containers]

    assert names() == ["alice", "bob"]
    assert names(state=pb.CONTAINER_STATE_STOPPED) == ["bob"]
    assert names(username="alice") == ["alice"]
    assert names(label_filter={"team": "ml"}) == ["alice"]
    assert names(label_filter={"team": "web"}) == []


def test_resize_start_stop_and_keys(site: Site) -> None:
    client = site.client()
    create(client)
    box = "alice-container"
    resized = client.ask(
        "ResizeContainer", pb.ResizeContainerRequest(username="alice", memory="2GiB"), T, original=True
    )
    assert resized.container.resources.memory == site.world.instances[box].config["limits.memory"] == "2GiB"
    client.ask("StopContainer", pb.StopContainerRequest(username="alice", force=True, timeout=5), T, original=True)
    assert site.world.instances[box].status is InstanceStatus.STOPPED
    client.ask("StartContainer", pb.StartContainerRequest(username="alice"), T, original=True)
    assert site.world.instances[box].status is InstanceStatus.RUNNING
    laptop = public_key("alice-laptop")
    added = client.ask("AddSSHKey", pb.AddSSHKeyRequest(username="alice", ssh_public_key=laptop), T, original=True)
    again = client.ask("AddSSHKey", pb.AddSSHKeyRequest(username="alice", ssh_public_key=laptop), T, original=True)
    assert added.total_keys == again.total_keys == 2
    assert len(site.world.accounts["alice"].keys or ()) >= 2
    request = pb.RemoveSSHKeyRequest(username="alice", ssh_public_key=laptop)
    assert client.ask("RemoveSSHKey", request, T, original=True).total_keys == 1
    with pytest.raises(HostError, match="no such key"):
        client.ask("RemoveSSHKey", request, T, original=True)
    last = pb.RemoveSSHKeyRequest(username="alice", ssh_public_key=public_key("alice"))
    with pytest.raises(HostError, match="last key"):
        client.ask("RemoveSSHKey", last, T, original=True)


def test_delete_retires_and_keeps_the_data(site: Site) -> None:
    client = site.client()
    create(client)
    create(client, "bob")
    answer = client.ask("DeleteContainer", pb.DeleteContainerRequest(username="alice"), T, original=True)
    assert answer.container_name == "alice-container"
    assert "data is kept" in answer.message
    assert site.world.instances["alice-container"].status is InstanceStatus.STOPPED
    assert not (site.settings.manifests / "alice.yaml").exists()


def test_metrics_and_system(site: Site) -> None:
    client = site.client()
    create(client)
    site.meter.figures = (Usage("alice-container", 12.5, 1, 2, 3, 4, 5, 6, 7),)
    (found,) = client.ask("GetMetrics", pb.GetMetricsRequest(), T, original=True).metrics
    assert found == pb.ContainerMetrics(
        name="alice-container", cpu_usage_percent=12.5, memory_usage_bytes=1, memory_limit_bytes=2, disk_usage_bytes=3,
        disk_limit_bytes=4, network_rx_bytes=5, network_tx_bytes=6, process_count=7,
    )  # fmt: skip
    assert client.ask("GetContainer", pb.GetContainerRequest(username="alice"), T, original=True).metrics == found
    info = client.ask("GetSystemInfo", pb.GetSystemInfoRequest(), T, original=True).info
    assert (info.incus_version, info.containers_running, info.containers_total) == ("6.0.4", 1, 1)


@pytest.mark.parametrize(
    ("method", "request_", "code", "reason", "words"),
    [
        ("GetContainer", pb.GetContainerRequest(username="nobody"), "NOT_FOUND", "NOT_FOUND", "nobody"),
        ("GetContainer", pb.GetContainerRequest(), "INVALID_ARGUMENT", "INVALID", "names nobody"),
        ("StartContainer", pb.StartContainerRequest(username="nobody"), "NOT_FOUND", "NOT_FOUND", "nobody"),
        ("ResizeContainer", pb.ResizeContainerRequest(username="alice"), "INVALID_ARGUMENT", "INVALID", "nothing"),
        ("ResizeContainer", pb.ResizeContainerRequest(username="alice", memory="8 hats"), "INVALID_ARGUMENT", "INVALID",
         "spec.resources.memory"),
        ("ResizeContainer", pb.ResizeContainerRequest(username="alice", disk="1GiB"), "FAILED_PRECONDITION",
         "DISK_SHRINK_REFUSED", "shrink"),
        ("AddSSHKey", pb.AddSSHKeyRequest(username="alice", ssh_public_key="ssh-rsa nonsense"), "INVALID_ARGUMENT",
         "INVALID", ""),
        ("CreateContainer", pb.CreateContainerRequest(username="../../evil", ssh_keys=["x"]), "INVALID_ARGUMENT",
         "INVALID", "evil"),
        ("CreateContainer", pb.CreateContainerRequest(username="root", ssh_keys=[public_key("r")]), "INVALID_ARGUMENT",
         "INVALID", "root"),
        ("CreateContainer", pb.CreateContainerRequest(username="carol"), "INVALID_ARGUMENT", "INVALID", "sshKeys"),
    ],
)  # fmt: skip
def test_refusals_have_code_reason_and_field(
    site: Site, method: str, request_: object, code: str, reason: str, words: str
) -> None:
    create(site.client())
    before = sorted((path.name, path.read_text()) for path in site.settings.manifests.iterdir())
    with site.channel() as channel, pytest.raises(grpc.RpcError) as refused:
        registry.caller(channel, registry.CONTAINERS, method)(request_, timeout=T)
    found = told(refused.value)
    assert (found.code.name, found.reason) == (code, reason), found
    assert words in found.message
    if code == "INVALID_ARGUMENT":
        assert found.violations
    assert sorted((path.name, path.read_text()) for path in site.settings.manifests.iterdir()) == before


def test_a_refused_manifest_names_file_line_and_field(site: Site) -> None:
    create(site.client())
    with site.channel() as channel:
        call = registry.caller(channel, registry.CONTAINERS, "ResizeContainer")
        with pytest.raises(grpc.RpcError) as refused:
            call(pb.ResizeContainerRequest(username="alice", memory="8 hats"), timeout=T)
    found = told(refused.value)
    assert found.info["file"].endswith("alice.yaml")
    assert int(found.info["line"]) > 1
    assert found.violations[0].field == "spec.resources.memory"


def test_the_second_service(site: Site) -> None:
    client = site.client()
    document = {
        "apiVersion": "containarium.dev/v1", "kind": "Environment", "metadata": {"name": "alice"},
        "spec": {"image": IMAGE, "sshKeys": [public_key("alice")], "packages": ["git"]},
    }  # fmt: skip
    steps = list(client.follow("CreateEnvironment", cpb.CreateEnvironmentRequest(manifest=json.dumps(document)), T))
    assert [step.state for step in steps][-2:] == [cpb.Progress.STATE_DONE, cpb.Progress.STATE_END]
    assert steps[-1].exit_code == 0
    plan = client.ask("Plan", cpb.PlanRequest(), T)
    assert (plan.pending, plan.unsafe, plan.blocked) == (False, False, False)
    assert "1 unchanged" in plan.text
    assert json.loads(plan.document)["unchanged"] == ["alice"]
    rows = json.loads(client.ask("ListEnvironments", cpb.ListEnvironmentsRequest(), T).document)
    assert [(row["name"], row["ready"]["status"]) for row in rows] == [("alice", "True")]
    details = json.loads(client.ask("GetEnvironment", cpb.GetEnvironmentRequest(name="alice", deep=True), T).document)
    assert details["jump_account"]["state"] == "active"
    status = json.loads(client.ask("GetStatus", cpb.GetStatusRequest(), T).document)
    assert status["alive"] is True
    access = client.ask("GetAccess", cpb.GetAccessRequest(name="alice"), T)
    assert (access.jump_host, list(access.guest_keys)) == ("jump.example.org", ["ssh-ed25519 GUEST"])
    gone = list(client.follow("DeleteEnvironment", cpb.DeleteEnvironmentRequest(names=["alice"]), T))
    assert gone[-1].exit_code == 0
    assert site.world.instances["alice-container"].status is InstanceStatus.STOPPED


def test_apply_mends_and_says_how_it_ended(site: Site) -> None:
    create(site.client())
    instance = site.world.instances["alice-container"]
    site.world.put_instance(replace(instance, config={**instance.config, "limits.memory": "1GiB"}), None)
    steps = list(site.client().follow("Apply", cpb.ApplyRequest(), T))
    assert steps[-1].state == cpb.Progress.STATE_END
    assert steps[-1].exit_code == 0
    assert site.world.instances["alice-container"].config["limits.memory"] == "4GiB"


def test_who_am_i(site: Site) -> None:
    assert site.client().ask("WhoAmI", cpb.WhoAmIRequest(), T).role == "admin"
    assert site.client("vera").ask("WhoAmI", cpb.WhoAmIRequest(), T).name == "vera"
    assert site.local().ask("WhoAmI", cpb.WhoAmIRequest(), T).name == "root"


def test_every_change_is_audited_with_who_and_how_it_ended(site: Site) -> None:
    create(site.client())
    create(site.local(), "bob")
    with pytest.raises(HostError):
        create(site.local(), "bob")
    (first, second, third) = site.audited
    assert (first[0].name, first[1], first[2]) == ("admin", "CreateContainer", {"environment": "alice", "result": "ok"})
    assert first[0].fingerprint.startswith("SHA256:")
    assert first[0].address.startswith("127.0.0.1:")
    assert (second[0].uid, second[2]["result"], third[2]["result"]) == (0, "ok", "failed")


def test_the_audit_says_which_key(site: Site) -> None:
    create(site.client())
    second = SSHKey.parse(public_key("second"))
    site.client().ask("AddSSHKey", pb.AddSSHKeyRequest(username="alice", ssh_public_key=second.line), T, original=True)
    about = [about for _, call, about in site.audited if call == "AddSSHKey"]
    assert [(one["environment"], one["key"]) for one in about] == [("alice", second.fingerprint)]


def test_without_a_controller_nothing_is_edited(site: Site) -> None:
    site.controller.close()
    with pytest.raises(HostError, match="nothing was changed") as refused:
        create(site.client())
    assert refused.value.reason == "NO_CONTROLLER"
    assert list(site.settings.manifests.iterdir()) == []


def test_more_than_may_go_at_once_needs_the_digest(site: Site) -> None:
    client = site.client()
    names = ["alice", "bob", "carol"]
    for name in names:
        create(client, name)
    request = cpb.DeleteEnvironmentRequest(names=["alice", "bob"])
    with pytest.raises(HostError, match=r"nothing was deleted.*approve [0-9a-f]{12}") as refused:
        list(client.follow("DeleteEnvironment", request, T))
    assert refused.value.reason == "BUDGET"
    assert sorted(path.stem for path in site.settings.manifests.iterdir()) == names
    request.approve = re.search(r"approve ([0-9a-f]{12})", str(refused.value))[1]  # type: ignore[index]
    assert list(client.follow("DeleteEnvironment", request, T))[-1].exit_code == 0
    assert [path.stem for path in site.settings.manifests.iterdir()] == ["carol"]


def test_with_force_the_data_is_gone_as_well(site: Site) -> None:
    client = site.client()
    create(client)
    create(client, "bob")
    steps = list(client.follow("DeleteEnvironment", cpb.DeleteEnvironmentRequest(names=["alice"], force=True), T))
    assert steps[-1].exit_code == 0, steps
    assert "alice-container" not in site.world.instances
    assert "alice" not in site.world.accounts


def force(site: Site, name: str = "alice", **more: object) -> list[cpb.Progress]:
    request = cpb.DeleteEnvironmentRequest(names=[name], force=True, **more)  # type: ignore[arg-type]
    return list(site.client().follow("DeleteEnvironment", request, T))


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [(PROTECTION, "true", "is protected"), (marks.SUSPENDED, "2026-11-22T00:00:00+00:00", "is suspended")],
)
def test_a_refused_force_leaves_nothing_behind(site: Site, key: str, value: str, words: str) -> None:
    create(site.client())
    create(site.client(), "bob")
    Somebody(site.world).set_config("alice-container", key, value)
    before = site.manifest("alice")
    with pytest.raises(HostError, match=words):
        force(site)
    assert site.manifest("alice") == before
    assert site.world.instances["alice-container"].config[marks.DELETION] == "Retire;7d"


def test_more_than_may_go_by_force_leaves_nothing_behind(site: Site) -> None:
    for name in ("alice", "bob", "carol"):
        create(site.client(), name)
    before = site.manifest("alice")
    with pytest.raises(HostError, match="nothing was deleted"):
        list(
            site.client().follow(
                "DeleteEnvironment", cpb.DeleteEnvironmentRequest(names=["alice", "bob"], force=True), T
            )
        )
    assert site.manifest("alice") == before


def test_a_force_that_fails_half_way_is_taken_back(serve: Serve) -> None:
    def fails(boundary: Boundary) -> Fault | None:
        return Fail() if isinstance(boundary.action, UpdateInstance) else None

    def breaking(made: Operations) -> Operations:
        wired = made.manifests._wired  # type: ignore[attr-defined]
        world = wired.host(wired.settings).world
        return replace(made, manifests=Editor(replace(wired, host=lambda _: SimulatedHost(world, fails))))

    site = serve(operations=breaking)
    create(site.client())
    create(site.client(), "bob")
    before = site.manifest("alice")
    with pytest.raises(HostError, match=r"nothing was deleted, .* as it was declared: injected fault"):
        force(site)
    assert site.manifest("alice") == before


def test_who_never_gets_ready_is_deleted_by_force(site: Site) -> None:
    create(site.client())
    create(site.client(), "bob")
    path = site.settings.manifests / "alice.yaml"
    path.write_text(site.manifest("alice") + "  resources: {disk: 1GiB}\n")
    assert force(site)[-1].exit_code == 0
    assert "alice-container" not in site.world.instances


def test_what_a_killed_force_left_is_refused(site: Site) -> None:
    create(site.client())
    create(site.client(), "bob")
    path = site.settings.manifests / "alice.yaml"
    path.write_text(site.manifest("alice") + "  deletion: {grace: 1s}\n")
    with pytest.raises(HostError, match=r"alice\.yaml:\d+.*would be deleted after 1s"):
        list(site.client().follow("DeleteEnvironment", cpb.DeleteEnvironmentRequest(names=["alice"]), T))
    assert path.exists()


def test_the_last_one_that_was_deleted_by_force_keeps_no_hasty_grace(site: Site) -> None:
    create(site.client())
    assert force(site)[-1].exit_code == 0
    assert "alice-container" not in site.world.instances
    assert "expires:" in site.manifest("alice")
    assert "1s" not in site.manifest("alice")
