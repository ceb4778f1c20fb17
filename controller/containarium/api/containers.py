"""The original's service: its names and numbers, over the manifests of this project."""

from __future__ import annotations

import grpc

from containarium.api import convert
from containarium.api.errors import CallError, invalid
from containarium.api.gate import Call
from containarium.api.operations import Operations
from containarium.api.v1 import container_pb2 as pb
from containarium.model import marks
from containarium.model.environment import API_VERSION, KIND
from containarium.report import environments


class Containers:
    """``containarium.v1.ContainerService``. Calls that change something return when the host has followed."""

    def __init__(self, operations: Operations) -> None:
        self._do = operations

    def CreateContainer(self, request: pb.CreateContainerRequest, call: Call) -> pb.CreateContainerResponse:
        """What is left empty is as the manifest's defaults have it."""
        name = _name(request.username)
        given = request.resources
        resources = {"cpu": _number(given.cpu), "memory": given.memory, "disk": given.disk}
        spec = {
            "image": request.image,
            "resources": {key: value for key, value in resources.items() if value},
            "sshKeys": list(request.ssh_keys),
            "docker": request.enable_docker,
        }
        document = {
            "apiVersion": API_VERSION,
            "kind": KIND,
            "metadata": {"name": name} | ({"labels": dict(request.labels)} if request.labels else {}),
            "spec": {key: value for key, value in spec.items() if value},
        }
        self._do.finish(self._do.create(call, document))
        made = self._container(name)
        access = self._do.views.access(name)
        return pb.CreateContainerResponse(
            container=made,
            message=f"{name} can log in",
            ssh_command=f"ssh -J {name}@{access.jump_host} {name}@{access.address}",
        )

    def ListContainers(self, request: pb.ListContainersRequest, call: Call) -> pb.ListContainersResponse:
        """Those that match every filter."""
        found = convert.chosen(convert.containers(self._do.views.look()), request)
        return pb.ListContainersResponse(containers=found, total_count=len(found))

    def GetContainer(self, request: pb.GetContainerRequest, call: Call) -> pb.GetContainerResponse:
        """One, with what it uses."""
        name = _name(request.username)
        found = self._container(name)
        usage = self._do.meter.usage(name)
        return pb.GetContainerResponse(container=found, metrics=convert.metrics(usage[0]) if usage else None)

    def DeleteContainer(self, request: pb.DeleteContainerRequest, call: Call) -> pb.DeleteContainerResponse:
        """Access ends at once; the data goes after the grace period, and with ``force`` now."""
        name = _name(request.username)
        self._do.finish(self._do.delete(call, [name], force=request.force, backup=False))
        what = "deleted, its data included" if request.force else "retired: nobody can log in, its data is kept for now"
        return pb.DeleteContainerResponse(message=f"{name} is {what}", container_name=marks.instance_name(name))

    def StartContainer(self, request: pb.StartContainerRequest, call: Call) -> pb.StartContainerResponse:
        """It runs from now on."""
        name = self._run(call, request.username, running=True)
        return pb.StartContainerResponse(message=f"{name} runs", container=self._container(name))

    def StopContainer(self, request: pb.StopContainerRequest, call: Call) -> pb.StopContainerResponse:
        """It stays stopped. A guest is asked first and then forced, whatever ``force`` and ``timeout`` say."""
        name = self._run(call, request.username, running=False)
        return pb.StopContainerResponse(message=f"{name} is stopped", container=self._container(name))

    def AddSSHKey(self, request: pb.AddSSHKeyRequest, call: Call) -> pb.AddSSHKeyResponse:
        """One key more lets this person in."""
        name = _name(request.username)
        number, steps = self._do.add_key(call, name, _key(request.ssh_public_key))
        self._do.finish(steps)
        return pb.AddSSHKeyResponse(message=f"{name} can log in with it", total_keys=number)

    def RemoveSSHKey(self, request: pb.RemoveSSHKeyRequest, call: Call) -> pb.RemoveSSHKeyResponse:
        """One key less; open connections of the account end with it."""
        name = _name(request.username)
        number, steps = self._do.remove_key(call, name, _key(request.ssh_public_key))
        self._do.finish(steps)
        return pb.RemoveSSHKeyResponse(message=f"{name} cannot log in with it any more", total_keys=number)

    def GetMetrics(self, request: pb.GetMetricsRequest, call: Call) -> pb.GetMetricsResponse:
        """What one container uses, or all of them."""
        if request.username:
            self._container(request.username)
        return pb.GetMetricsResponse(metrics=map(convert.metrics, self._do.meter.usage(request.username)))

    def GetSystemInfo(self, request: pb.GetSystemInfoRequest, call: Call) -> pb.GetSystemInfoResponse:
        """The host."""
        return pb.GetSystemInfoResponse(info=convert.system(self._do.meter.system(), self._do.views.look()))

    def ResizeContainer(self, request: pb.ResizeContainerRequest, call: Call) -> pb.ResizeContainerResponse:
        """New limits, live. What is left empty stays."""
        name = _name(request.username)
        wanted = {"cpu": request.cpu, "memory": request.memory, "disk": request.disk}
        fields: dict[str, str | bool] = {f"spec.resources.{key}": value for key, value in wanted.items() if value}
        if not fields:
            raise invalid("cpu", "there is nothing to change", "give cpu, memory or disk")
        self._do.finish(self._do.set(call, name, fields))
        return pb.ResizeContainerResponse(message=f"{name} has its new limits", container=self._container(name))

    def _run(self, call: Call, username: str, *, running: bool) -> str:
        name = _name(username)
        self._do.finish(self._do.set(call, name, {"spec.running": running}))
        return name

    def _container(self, name: str) -> pb.Container:
        seen = self._do.views.look()
        if name not in environments.names(seen.plan, seen.observed):
            raise CallError(
                grpc.StatusCode.NOT_FOUND, f"there is no environment {name}",
                "ListContainers shows those there are", reason="NotFound",
            )  # fmt: skip
        manifest = next((manifest for manifest in seen.load.manifests if manifest.name == name), None)
        return convert.container(seen, name, manifest)


def _name(username: str) -> str:
    if not username:
        raise invalid("username", "the request names nobody", "give username")
    return username


def _key(text: str) -> str:
    if not text.strip():
        raise invalid("ssh_public_key", "the request has no key", "give the line of a .pub file")
    return text.strip()


def _number(cpu: str) -> str | int:
    """A count of processors as the number that a person would have written."""
    return int(cpu) if cpu.isascii() and cpu.isdecimal() and len(cpu) < 10 else cpu
