"""The second service: plans, how they are carried out, and what the controller knows."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Iterator
from typing import Any

from containarium import __version__
from containarium.api.errors import invalid
from containarium.api.follow import State, Step
from containarium.api.gate import Call
from containarium.api.operations import Operations
from containarium.api.v1 import controller_pb2 as pb
from containarium.model.host import Progress as Tell
from containarium.plan import render

_STATES = {
    State.WORKING: pb.Progress.STATE_WORKING,
    State.DONE: pb.Progress.STATE_DONE,
    State.FAILED: pb.Progress.STATE_FAILED,
}
_EVENTS = 50
_MOST_EVENTS = 10_000
_FAILED, _UNSAFE = 1, 3


class Controller:
    """``containarium.v1.ControllerService``."""

    def __init__(self, operations: Operations) -> None:
        self._do = operations

    def WhoAmI(self, request: pb.WhoAmIRequest, call: Call) -> pb.WhoAmIResponse:
        """Whom the server takes the caller for."""
        return pb.WhoAmIResponse(
            name=call.who.name, role=call.who.role.value, server_version=__version__, hostname=socket.gethostname()
        )

    def Plan(self, request: pb.PlanRequest, call: Call) -> pb.PlanResponse:
        """What would be done."""
        found = self._do.views.look(
            deep=not request.shallow, approved=frozenset(request.approve), restart=request.restart
        ).plan
        return pb.PlanResponse(
            text=render.text(found),
            document=json.dumps(render.as_json(found)),
            pending=found.pending,
            unsafe=found.unsafe,
            blocked=bool(found.problems or found.interlocks),
        )

    def Apply(self, request: pb.ApplyRequest, call: Call) -> Iterator[pb.Progress]:
        """Make it so."""
        failed = False
        for step in self._do.apply(call, list(request.only), list(request.approve), restart=request.restart):
            failed |= step.state is State.FAILED
            yield _progress(step)
        yield self._end(list(request.only), failed=failed)

    def Approve(self, request: pb.ApproveRequest, call: Call) -> pb.ApproveResponse:
        """Let a set go."""
        verb, names = self._do.approve(call, request.digest)
        return pb.ApproveResponse(verb=verb, environments=names)

    def Watch(self, request: pb.WatchRequest, call: Call) -> Iterator[pb.Progress]:
        """How it goes."""
        return map(_progress, self._do.watch(call, list(request.environments)))

    def ListEvents(self, request: pb.ListEventsRequest, call: Call) -> pb.ListEventsResponse:
        """What happened."""
        if not 0 <= request.limit <= _MOST_EVENTS:
            raise invalid("limit", f"limit is {request.limit}", f"give 1 to {_MOST_EVENTS}")
        found = self._do.views.events(request.environment, request.limit or _EVENTS)
        return pb.ListEventsResponse(events=map(_event, found))

    def GetStatus(self, request: pb.GetStatusRequest, call: Call) -> pb.Document:
        """How it is."""
        return pb.Document(document=json.dumps(self._do.views.status()))

    def ListEnvironments(self, request: pb.ListEnvironmentsRequest, call: Call) -> pb.Document:
        """Who there is."""
        rows, remarks = self._do.views.rows(live=request.live)
        return pb.Document(document=json.dumps(rows), remarks=remarks)

    def GetEnvironment(self, request: pb.GetEnvironmentRequest, call: Call) -> pb.Document:
        """All about one."""
        data, remarks = self._do.views.details(request.name, deep=request.deep)
        return pb.Document(document=json.dumps(data), remarks=remarks)

    def CreateEnvironment(self, request: pb.CreateEnvironmentRequest, call: Call) -> Iterator[pb.Progress]:
        """A new one."""
        try:
            document = json.loads(request.manifest)
        except (ValueError, RecursionError):
            document = None
        if not isinstance(document, dict):
            raise invalid("manifest", "the manifest is no JSON object", "send apiVersion, kind, metadata and spec")
        return self._told(self._do.create(call, document))

    def DeleteEnvironment(self, request: pb.DeleteEnvironmentRequest, call: Call) -> Iterator[pb.Progress]:
        """One less."""
        if not request.names:
            raise invalid("names", "the request names nobody", "give names")
        names = list(dict.fromkeys(request.names))
        steps = self._do.delete(
            call, names, force=request.force, backup=request.backup, approved=request.approve.strip().lower()
        )
        return self._told(steps)

    def Suspend(self, request: pb.SuspendRequest, call: Call) -> pb.SuspendResponse:
        """Leave it alone."""
        return pb.SuspendResponse(changed=self._do.suspend(call, request.name, suspended=True))

    def Resume(self, request: pb.ResumeRequest, call: Call) -> pb.ResumeResponse:
        """Look after it again."""
        return pb.ResumeResponse(changed=self._do.suspend(call, request.name, suspended=False))

    def Doctor(self, request: pb.DoctorRequest, call: Call) -> pb.DoctorResponse:
        """What is not as it should be on this host."""
        return pb.DoctorResponse(
            findings=[
                pb.Finding(check=f.check, level=f.level.value, message=f.message, remedy=f.remedy)
                for f in self._do.views.doctor()
            ]
        )

    def GetAccess(self, request: pb.GetAccessRequest, call: Call) -> pb.GetAccessResponse:
        """What an ssh configuration is made of."""
        found = self._do.views.access(request.name)
        return pb.GetAccessResponse(
            address=found.address,
            jump_host=found.jump_host,
            jump_host_keys=found.jump_host_keys,
            guest_keys=found.guest_keys,
            jump_port=found.jump_port,
        )

    def Backup(self, request: pb.BackupRequest, call: Call) -> Iterator[pb.Progress]:
        """A checked file of everything in it."""
        about = _about(request.name, stop="true" if request.stop else "")
        return self._errand(call, about, lambda tell: self._do.archive.backup(request.name, tell, stop=request.stop))

    def Restore(self, request: pb.RestoreRequest, call: Call) -> Iterator[pb.Progress]:
        """A container of such a file."""
        about = _about(request.name, backup=request.backup)
        return self._errand(call, about, lambda tell: self._do.archive.restore(request.name, request.backup, tell))

    def Undelete(self, request: pb.UndeleteRequest, call: Call) -> Iterator[pb.Progress]:
        """A manifest again."""
        return self._errand(call, _about(request.name), lambda tell: self._do.archive.undelete(request.name, tell))

    def ListSnapshots(self, request: pb.ListSnapshotsRequest, call: Call) -> pb.Document:
        """Oldest first."""
        return pb.Document(document=json.dumps(self._do.archive.snapshots(request.name)))

    def CreateSnapshot(self, request: pb.CreateSnapshotRequest, call: Call) -> Iterator[pb.Progress]:
        """The files of now are kept."""
        about = _about(request.name, snapshot=request.snapshot, expires=request.expires)
        return self._errand(
            call, about, lambda tell: self._do.archive.take(request.name, request.snapshot, request.expires, tell)
        )

    def RestoreSnapshot(self, request: pb.RestoreSnapshotRequest, call: Call) -> Iterator[pb.Progress]:
        """The files of then are back."""
        safety = not request.no_safety
        about = _about(request.name, snapshot=request.snapshot, no_safety="" if safety else "true")
        return self._errand(
            call, about, lambda tell: self._do.archive.go_back(request.name, request.snapshot, tell, safety=safety)
        )

    def DeleteSnapshot(self, request: pb.DeleteSnapshotRequest, call: Call) -> Iterator[pb.Progress]:
        """One less."""
        about = _about(request.name, snapshot=request.snapshot)
        return self._errand(call, about, lambda _tell: self._do.archive.drop(request.name, request.snapshot))

    def ListSessions(self, request: pb.ListSessionsRequest, call: Call) -> pb.Document:
        """Who is connected."""
        return pb.Document(document=json.dumps(self._do.trail.sessions(request.name)))

    def ListAudit(self, request: pb.ListAuditRequest, call: Call) -> pb.Document:
        """Who did what."""
        found = self._do.trail.audit(request.name, request.since, request.until)
        return pb.Document(document=json.dumps(found))

    def _errand(self, call: Call, about: dict[str, str], do: Callable[[Tell], str]) -> Iterator[pb.Progress]:
        return self._told(self._do.errand(call, about, do))

    def _told(self, steps: Iterator[Step]) -> Iterator[pb.Progress]:
        failed = False
        for step in steps:
            failed |= step.state is State.FAILED
            yield _progress(step)
        yield pb.Progress(state=pb.Progress.STATE_END, exit_code=_FAILED if failed else 0)

    def _end(self, only: list[str], *, failed: bool) -> pb.Progress:
        """How it stands at the end, by the controller's own status."""
        status = self._do.status()
        code = _FAILED if failed else 0
        if status is not None:
            interlocks = [i for i in status.interlocks if not only or set(only).intersection(i.environments)]
            problems = [p for p in status.problems if not only or p.environment in only]
            wanting = [e for e in status.environments if e.wanting and (not only or e.name in only)]
            if any(interlock.digest for interlock in interlocks):
                code = _UNSAFE
            elif interlocks or problems or wanting:
                code = _FAILED
        message = status.last_pass.sentence if status is not None else ""
        return pb.Progress(state=pb.Progress.STATE_END, message=message, exit_code=code)


def _about(name: str, **more: str) -> dict[str, str]:
    """What the audit says of it, without what was left open."""
    return {"environment": name, **{key: value for key, value in more.items() if value}}


def _progress(step: Step) -> pb.Progress:
    return pb.Progress(
        environment=step.environment,
        verb=step.verb,
        action=step.action,
        message=step.message,
        state=_STATES[step.state],
    )


def _event(data: dict[str, Any]) -> pb.Event:
    fields = data.get("fields")
    return pb.Event(
        time=str(data.get("time", "")),
        reason=str(data.get("reason", "")),
        environment=str(data.get("environment") or ""),
        message=str(data.get("message") or ""),
        fields=[str(field) for field in fields] if isinstance(fields, list) else [],
        by=str(data.get("by") or ""),
        pass_id=str(data.get("pass_id") or data.get("pass") or ""),
    )
