from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class WhoAmIRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class WhoAmIResponse(_message.Message):
    __slots__ = ("name", "role", "server_version", "hostname")
    NAME_FIELD_NUMBER: _ClassVar[int]
    ROLE_FIELD_NUMBER: _ClassVar[int]
    SERVER_VERSION_FIELD_NUMBER: _ClassVar[int]
    HOSTNAME_FIELD_NUMBER: _ClassVar[int]
    name: str
    role: str
    server_version: str
    hostname: str
    def __init__(self, name: _Optional[str] = ..., role: _Optional[str] = ..., server_version: _Optional[str] = ..., hostname: _Optional[str] = ...) -> None: ...

class PlanRequest(_message.Message):
    __slots__ = ("shallow", "approve", "restart")
    SHALLOW_FIELD_NUMBER: _ClassVar[int]
    APPROVE_FIELD_NUMBER: _ClassVar[int]
    RESTART_FIELD_NUMBER: _ClassVar[int]
    shallow: bool
    approve: _containers.RepeatedScalarFieldContainer[str]
    restart: bool
    def __init__(self, shallow: _Optional[bool] = ..., approve: _Optional[_Iterable[str]] = ..., restart: _Optional[bool] = ...) -> None: ...

class PlanResponse(_message.Message):
    __slots__ = ("text", "document", "pending", "unsafe", "blocked")
    TEXT_FIELD_NUMBER: _ClassVar[int]
    DOCUMENT_FIELD_NUMBER: _ClassVar[int]
    PENDING_FIELD_NUMBER: _ClassVar[int]
    UNSAFE_FIELD_NUMBER: _ClassVar[int]
    BLOCKED_FIELD_NUMBER: _ClassVar[int]
    text: str
    document: str
    pending: bool
    unsafe: bool
    blocked: bool
    def __init__(self, text: _Optional[str] = ..., document: _Optional[str] = ..., pending: _Optional[bool] = ..., unsafe: _Optional[bool] = ..., blocked: _Optional[bool] = ...) -> None: ...

class ApplyRequest(_message.Message):
    __slots__ = ("only", "approve", "restart")
    ONLY_FIELD_NUMBER: _ClassVar[int]
    APPROVE_FIELD_NUMBER: _ClassVar[int]
    RESTART_FIELD_NUMBER: _ClassVar[int]
    only: _containers.RepeatedScalarFieldContainer[str]
    approve: _containers.RepeatedScalarFieldContainer[str]
    restart: bool
    def __init__(self, only: _Optional[_Iterable[str]] = ..., approve: _Optional[_Iterable[str]] = ..., restart: _Optional[bool] = ...) -> None: ...

class Progress(_message.Message):
    __slots__ = ("environment", "verb", "action", "message", "state", "exit_code")
    class State(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        STATE_UNSPECIFIED: _ClassVar[Progress.State]
        STATE_WORKING: _ClassVar[Progress.State]
        STATE_DONE: _ClassVar[Progress.State]
        STATE_FAILED: _ClassVar[Progress.State]
        STATE_END: _ClassVar[Progress.State]
    STATE_UNSPECIFIED: Progress.State
    STATE_WORKING: Progress.State
    STATE_DONE: Progress.State
    STATE_FAILED: Progress.State
    STATE_END: Progress.State
    ENVIRONMENT_FIELD_NUMBER: _ClassVar[int]
    VERB_FIELD_NUMBER: _ClassVar[int]
    ACTION_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    EXIT_CODE_FIELD_NUMBER: _ClassVar[int]
    environment: str
    verb: str
    action: str
    message: str
    state: Progress.State
    exit_code: int
    def __init__(self, environment: _Optional[str] = ..., verb: _Optional[str] = ..., action: _Optional[str] = ..., message: _Optional[str] = ..., state: _Optional[_Union[Progress.State, str]] = ..., exit_code: _Optional[int] = ...) -> None: ...

class ApproveRequest(_message.Message):
    __slots__ = ("digest",)
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    digest: str
    def __init__(self, digest: _Optional[str] = ...) -> None: ...

class ApproveResponse(_message.Message):
    __slots__ = ("verb", "environments")
    VERB_FIELD_NUMBER: _ClassVar[int]
    ENVIRONMENTS_FIELD_NUMBER: _ClassVar[int]
    verb: str
    environments: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, verb: _Optional[str] = ..., environments: _Optional[_Iterable[str]] = ...) -> None: ...

class WatchRequest(_message.Message):
    __slots__ = ("environments",)
    ENVIRONMENTS_FIELD_NUMBER: _ClassVar[int]
    environments: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, environments: _Optional[_Iterable[str]] = ...) -> None: ...

class ListEventsRequest(_message.Message):
    __slots__ = ("environment", "limit")
    ENVIRONMENT_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    environment: str
    limit: int
    def __init__(self, environment: _Optional[str] = ..., limit: _Optional[int] = ...) -> None: ...

class ListEventsResponse(_message.Message):
    __slots__ = ("events",)
    EVENTS_FIELD_NUMBER: _ClassVar[int]
    events: _containers.RepeatedCompositeFieldContainer[Event]
    def __init__(self, events: _Optional[_Iterable[_Union[Event, _Mapping]]] = ...) -> None: ...

class Event(_message.Message):
    __slots__ = ("time", "reason", "environment", "message", "fields", "by", "pass_id")
    TIME_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    ENVIRONMENT_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    FIELDS_FIELD_NUMBER: _ClassVar[int]
    BY_FIELD_NUMBER: _ClassVar[int]
    PASS_ID_FIELD_NUMBER: _ClassVar[int]
    time: str
    reason: str
    environment: str
    message: str
    fields: _containers.RepeatedScalarFieldContainer[str]
    by: str
    pass_id: str
    def __init__(self, time: _Optional[str] = ..., reason: _Optional[str] = ..., environment: _Optional[str] = ..., message: _Optional[str] = ..., fields: _Optional[_Iterable[str]] = ..., by: _Optional[str] = ..., pass_id: _Optional[str] = ...) -> None: ...

class GetStatusRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListEnvironmentsRequest(_message.Message):
    __slots__ = ("live",)
    LIVE_FIELD_NUMBER: _ClassVar[int]
    live: bool
    def __init__(self, live: _Optional[bool] = ...) -> None: ...

class GetEnvironmentRequest(_message.Message):
    __slots__ = ("name", "deep")
    NAME_FIELD_NUMBER: _ClassVar[int]
    DEEP_FIELD_NUMBER: _ClassVar[int]
    name: str
    deep: bool
    def __init__(self, name: _Optional[str] = ..., deep: _Optional[bool] = ...) -> None: ...

class Document(_message.Message):
    __slots__ = ("document", "remarks")
    DOCUMENT_FIELD_NUMBER: _ClassVar[int]
    REMARKS_FIELD_NUMBER: _ClassVar[int]
    document: str
    remarks: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, document: _Optional[str] = ..., remarks: _Optional[_Iterable[str]] = ...) -> None: ...

class CreateEnvironmentRequest(_message.Message):
    __slots__ = ("manifest",)
    MANIFEST_FIELD_NUMBER: _ClassVar[int]
    manifest: str
    def __init__(self, manifest: _Optional[str] = ...) -> None: ...

class DeleteEnvironmentRequest(_message.Message):
    __slots__ = ("names", "force", "backup", "approve")
    NAMES_FIELD_NUMBER: _ClassVar[int]
    FORCE_FIELD_NUMBER: _ClassVar[int]
    BACKUP_FIELD_NUMBER: _ClassVar[int]
    APPROVE_FIELD_NUMBER: _ClassVar[int]
    names: _containers.RepeatedScalarFieldContainer[str]
    force: bool
    backup: bool
    approve: str
    def __init__(self, names: _Optional[_Iterable[str]] = ..., force: _Optional[bool] = ..., backup: _Optional[bool] = ..., approve: _Optional[str] = ...) -> None: ...

class SuspendRequest(_message.Message):
    __slots__ = ("name",)
    NAME_FIELD_NUMBER: _ClassVar[int]
    name: str
    def __init__(self, name: _Optional[str] = ...) -> None: ...

class SuspendResponse(_message.Message):
    __slots__ = ("changed",)
    CHANGED_FIELD_NUMBER: _ClassVar[int]
    changed: bool
    def __init__(self, changed: _Optional[bool] = ...) -> None: ...

class ResumeRequest(_message.Message):
    __slots__ = ("name",)
    NAME_FIELD_NUMBER: _ClassVar[int]
    name: str
    def __init__(self, name: _Optional[str] = ...) -> None: ...

class ResumeResponse(_message.Message):
    __slots__ = ("changed",)
    CHANGED_FIELD_NUMBER: _ClassVar[int]
    changed: bool
    def __init__(self, changed: _Optional[bool] = ...) -> None: ...

class DoctorRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class DoctorResponse(_message.Message):
    __slots__ = ("findings",)
    FINDINGS_FIELD_NUMBER: _ClassVar[int]
    findings: _containers.RepeatedCompositeFieldContainer[Finding]
    def __init__(self, findings: _Optional[_Iterable[_Union[Finding, _Mapping]]] = ...) -> None: ...

class Finding(_message.Message):
    __slots__ = ("check", "level", "message", "remedy")
    CHECK_FIELD_NUMBER: _ClassVar[int]
    LEVEL_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    REMEDY_FIELD_NUMBER: _ClassVar[int]
    check: str
    level: str
    message: str
    remedy: str
    def __init__(self, check: _Optional[str] = ..., level: _Optional[str] = ..., message: _Optional[str] = ..., remedy: _Optional[str] = ...) -> None: ...

class GetAccessRequest(_message.Message):
    __slots__ = ("name",)
    NAME_FIELD_NUMBER: _ClassVar[int]
    name: str
    def __init__(self, name: _Optional[str] = ...) -> None: ...

class GetAccessResponse(_message.Message):
    __slots__ = ("address", "jump_host", "jump_host_keys", "guest_keys", "jump_port")
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    JUMP_HOST_FIELD_NUMBER: _ClassVar[int]
    JUMP_HOST_KEYS_FIELD_NUMBER: _ClassVar[int]
    GUEST_KEYS_FIELD_NUMBER: _ClassVar[int]
    JUMP_PORT_FIELD_NUMBER: _ClassVar[int]
    address: str
    jump_host: str
    jump_host_keys: _containers.RepeatedScalarFieldContainer[str]
    guest_keys: _containers.RepeatedScalarFieldContainer[str]
    jump_port: int
    def __init__(self, address: _Optional[str] = ..., jump_host: _Optional[str] = ..., jump_host_keys: _Optional[_Iterable[str]] = ..., guest_keys: _Optional[_Iterable[str]] = ..., jump_port: _Optional[int] = ...) -> None: ...

class BackupRequest(_message.Message):
    __slots__ = ("name", "stop")
    NAME_FIELD_NUMBER: _ClassVar[int]
    STOP_FIELD_NUMBER: _ClassVar[int]
    name: str
    stop: bool
    def __init__(self, name: _Optional[str] = ..., stop: _Optional[bool] = ...) -> None: ...

class RestoreRequest(_message.Message):
    __slots__ = ("name", "backup")
    NAME_FIELD_NUMBER: _ClassVar[int]
    BACKUP_FIELD_NUMBER: _ClassVar[int]
    name: str
    backup: str
    def __init__(self, name: _Optional[str] = ..., backup: _Optional[str] = ...) -> None: ...

class UndeleteRequest(_message.Message):
    __slots__ = ("name",)
    NAME_FIELD_NUMBER: _ClassVar[int]
    name: str
    def __init__(self, name: _Optional[str] = ...) -> None: ...

class ListSnapshotsRequest(_message.Message):
    __slots__ = ("name",)
    NAME_FIELD_NUMBER: _ClassVar[int]
    name: str
    def __init__(self, name: _Optional[str] = ...) -> None: ...

class CreateSnapshotRequest(_message.Message):
    __slots__ = ("name", "snapshot", "expires")
    NAME_FIELD_NUMBER: _ClassVar[int]
    SNAPSHOT_FIELD_NUMBER: _ClassVar[int]
    EXPIRES_FIELD_NUMBER: _ClassVar[int]
    name: str
    snapshot: str
    expires: str
    def __init__(self, name: _Optional[str] = ..., snapshot: _Optional[str] = ..., expires: _Optional[str] = ...) -> None: ...

class RestoreSnapshotRequest(_message.Message):
    __slots__ = ("name", "snapshot", "no_safety")
    NAME_FIELD_NUMBER: _ClassVar[int]
    SNAPSHOT_FIELD_NUMBER: _ClassVar[int]
    NO_SAFETY_FIELD_NUMBER: _ClassVar[int]
    name: str
    snapshot: str
    no_safety: bool
    def __init__(self, name: _Optional[str] = ..., snapshot: _Optional[str] = ..., no_safety: _Optional[bool] = ...) -> None: ...

class DeleteSnapshotRequest(_message.Message):
    __slots__ = ("name", "snapshot")
    NAME_FIELD_NUMBER: _ClassVar[int]
    SNAPSHOT_FIELD_NUMBER: _ClassVar[int]
    name: str
    snapshot: str
    def __init__(self, name: _Optional[str] = ..., snapshot: _Optional[str] = ...) -> None: ...

class ListSessionsRequest(_message.Message):
    __slots__ = ("name",)
    NAME_FIELD_NUMBER: _ClassVar[int]
    name: str
    def __init__(self, name: _Optional[str] = ...) -> None: ...

class ListAuditRequest(_message.Message):
    __slots__ = ("name", "since", "until")
    NAME_FIELD_NUMBER: _ClassVar[int]
    SINCE_FIELD_NUMBER: _ClassVar[int]
    UNTIL_FIELD_NUMBER: _ClassVar[int]
    name: str
    since: str
    until: str
    def __init__(self, name: _Optional[str] = ..., since: _Optional[str] = ..., until: _Optional[str] = ...) -> None: ...
