from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ContainerState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    CONTAINER_STATE_UNSPECIFIED: _ClassVar[ContainerState]
    CONTAINER_STATE_RUNNING: _ClassVar[ContainerState]
    CONTAINER_STATE_STOPPED: _ClassVar[ContainerState]
    CONTAINER_STATE_FROZEN: _ClassVar[ContainerState]
    CONTAINER_STATE_CREATING: _ClassVar[ContainerState]
    CONTAINER_STATE_ERROR: _ClassVar[ContainerState]
CONTAINER_STATE_UNSPECIFIED: ContainerState
CONTAINER_STATE_RUNNING: ContainerState
CONTAINER_STATE_STOPPED: ContainerState
CONTAINER_STATE_FROZEN: ContainerState
CONTAINER_STATE_CREATING: ContainerState
CONTAINER_STATE_ERROR: ContainerState

class ResourceLimits(_message.Message):
    __slots__ = ("cpu", "memory", "disk")
    CPU_FIELD_NUMBER: _ClassVar[int]
    MEMORY_FIELD_NUMBER: _ClassVar[int]
    DISK_FIELD_NUMBER: _ClassVar[int]
    cpu: str
    memory: str
    disk: str
    def __init__(self, cpu: _Optional[str] = ..., memory: _Optional[str] = ..., disk: _Optional[str] = ...) -> None: ...

class NetworkInfo(_message.Message):
    __slots__ = ("ip_address", "mac_address", "interface", "bridge")
    IP_ADDRESS_FIELD_NUMBER: _ClassVar[int]
    MAC_ADDRESS_FIELD_NUMBER: _ClassVar[int]
    INTERFACE_FIELD_NUMBER: _ClassVar[int]
    BRIDGE_FIELD_NUMBER: _ClassVar[int]
    ip_address: str
    mac_address: str
    interface: str
    bridge: str
    def __init__(self, ip_address: _Optional[str] = ..., mac_address: _Optional[str] = ..., interface: _Optional[str] = ..., bridge: _Optional[str] = ...) -> None: ...

class Container(_message.Message):
    __slots__ = ("name", "username", "state", "resources", "ssh_keys", "network", "created_at", "updated_at", "labels", "image", "docker_enabled")
    class LabelsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    NAME_FIELD_NUMBER: _ClassVar[int]
    USERNAME_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    RESOURCES_FIELD_NUMBER: _ClassVar[int]
    SSH_KEYS_FIELD_NUMBER: _ClassVar[int]
    NETWORK_FIELD_NUMBER: _ClassVar[int]
    CREATED_AT_FIELD_NUMBER: _ClassVar[int]
    UPDATED_AT_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    IMAGE_FIELD_NUMBER: _ClassVar[int]
    DOCKER_ENABLED_FIELD_NUMBER: _ClassVar[int]
    name: str
    username: str
    state: ContainerState
    resources: ResourceLimits
    ssh_keys: _containers.RepeatedScalarFieldContainer[str]
    network: NetworkInfo
    created_at: int
    updated_at: int
    labels: _containers.ScalarMap[str, str]
    image: str
    docker_enabled: bool
    def __init__(self, name: _Optional[str] = ..., username: _Optional[str] = ..., state: _Optional[_Union[ContainerState, str]] = ..., resources: _Optional[_Union[ResourceLimits, _Mapping]] = ..., ssh_keys: _Optional[_Iterable[str]] = ..., network: _Optional[_Union[NetworkInfo, _Mapping]] = ..., created_at: _Optional[int] = ..., updated_at: _Optional[int] = ..., labels: _Optional[_Mapping[str, str]] = ..., image: _Optional[str] = ..., docker_enabled: _Optional[bool] = ...) -> None: ...

class CreateContainerRequest(_message.Message):
    __slots__ = ("username", "resources", "ssh_keys", "labels", "image", "enable_docker")
    class LabelsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    USERNAME_FIELD_NUMBER: _ClassVar[int]
    RESOURCES_FIELD_NUMBER: _ClassVar[int]
    SSH_KEYS_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    IMAGE_FIELD_NUMBER: _ClassVar[int]
    ENABLE_DOCKER_FIELD_NUMBER: _ClassVar[int]
    username: str
    resources: ResourceLimits
    ssh_keys: _containers.RepeatedScalarFieldContainer[str]
    labels: _containers.ScalarMap[str, str]
    image: str
    enable_docker: bool
    def __init__(self, username: _Optional[str] = ..., resources: _Optional[_Union[ResourceLimits, _Mapping]] = ..., ssh_keys: _Optional[_Iterable[str]] = ..., labels: _Optional[_Mapping[str, str]] = ..., image: _Optional[str] = ..., enable_docker: _Optional[bool] = ...) -> None: ...

class CreateContainerResponse(_message.Message):
    __slots__ = ("container", "message", "ssh_command")
    CONTAINER_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    SSH_COMMAND_FIELD_NUMBER: _ClassVar[int]
    container: Container
    message: str
    ssh_command: str
    def __init__(self, container: _Optional[_Union[Container, _Mapping]] = ..., message: _Optional[str] = ..., ssh_command: _Optional[str] = ...) -> None: ...

class ListContainersRequest(_message.Message):
    __slots__ = ("state", "username", "label_filter")
    class LabelFilterEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    STATE_FIELD_NUMBER: _ClassVar[int]
    USERNAME_FIELD_NUMBER: _ClassVar[int]
    LABEL_FILTER_FIELD_NUMBER: _ClassVar[int]
    state: ContainerState
    username: str
    label_filter: _containers.ScalarMap[str, str]
    def __init__(self, state: _Optional[_Union[ContainerState, str]] = ..., username: _Optional[str] = ..., label_filter: _Optional[_Mapping[str, str]] = ...) -> None: ...

class ListContainersResponse(_message.Message):
    __slots__ = ("containers", "total_count")
    CONTAINERS_FIELD_NUMBER: _ClassVar[int]
    TOTAL_COUNT_FIELD_NUMBER: _ClassVar[int]
    containers: _containers.RepeatedCompositeFieldContainer[Container]
    total_count: int
    def __init__(self, containers: _Optional[_Iterable[_Union[Container, _Mapping]]] = ..., total_count: _Optional[int] = ...) -> None: ...

class GetContainerRequest(_message.Message):
    __slots__ = ("username",)
    USERNAME_FIELD_NUMBER: _ClassVar[int]
    username: str
    def __init__(self, username: _Optional[str] = ...) -> None: ...

class GetContainerResponse(_message.Message):
    __slots__ = ("container", "metrics")
    CONTAINER_FIELD_NUMBER: _ClassVar[int]
    METRICS_FIELD_NUMBER: _ClassVar[int]
    container: Container
    metrics: ContainerMetrics
    def __init__(self, container: _Optional[_Union[Container, _Mapping]] = ..., metrics: _Optional[_Union[ContainerMetrics, _Mapping]] = ...) -> None: ...

class DeleteContainerRequest(_message.Message):
    __slots__ = ("username", "force")
    USERNAME_FIELD_NUMBER: _ClassVar[int]
    FORCE_FIELD_NUMBER: _ClassVar[int]
    username: str
    force: bool
    def __init__(self, username: _Optional[str] = ..., force: _Optional[bool] = ...) -> None: ...

class DeleteContainerResponse(_message.Message):
    __slots__ = ("message", "container_name")
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    CONTAINER_NAME_FIELD_NUMBER: _ClassVar[int]
    message: str
    container_name: str
    def __init__(self, message: _Optional[str] = ..., container_name: _Optional[str] = ...) -> None: ...

class StartContainerRequest(_message.Message):
    __slots__ = ("username",)
    USERNAME_FIELD_NUMBER: _ClassVar[int]
    username: str
    def __init__(self, username: _Optional[str] = ...) -> None: ...

class StartContainerResponse(_message.Message):
    __slots__ = ("message", "container")
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    CONTAINER_FIELD_NUMBER: _ClassVar[int]
    message: str
    container: Container
    def __init__(self, message: _Optional[str] = ..., container: _Optional[_Union[Container, _Mapping]] = ...) -> None: ...

class StopContainerRequest(_message.Message):
    __slots__ = ("username", "force", "timeout")
    USERNAME_FIELD_NUMBER: _ClassVar[int]
    FORCE_FIELD_NUMBER: _ClassVar[int]
    TIMEOUT_FIELD_NUMBER: _ClassVar[int]
    username: str
    force: bool
    timeout: int
    def __init__(self, username: _Optional[str] = ..., force: _Optional[bool] = ..., timeout: _Optional[int] = ...) -> None: ...

class StopContainerResponse(_message.Message):
    __slots__ = ("message", "container")
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    CONTAINER_FIELD_NUMBER: _ClassVar[int]
    message: str
    container: Container
    def __init__(self, message: _Optional[str] = ..., container: _Optional[_Union[Container, _Mapping]] = ...) -> None: ...

class AddSSHKeyRequest(_message.Message):
    __slots__ = ("username", "ssh_public_key")
    USERNAME_FIELD_NUMBER: _ClassVar[int]
    SSH_PUBLIC_KEY_FIELD_NUMBER: _ClassVar[int]
    username: str
    ssh_public_key: str
    def __init__(self, username: _Optional[str] = ..., ssh_public_key: _Optional[str] = ...) -> None: ...

class AddSSHKeyResponse(_message.Message):
    __slots__ = ("message", "total_keys")
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    TOTAL_KEYS_FIELD_NUMBER: _ClassVar[int]
    message: str
    total_keys: int
    def __init__(self, message: _Optional[str] = ..., total_keys: _Optional[int] = ...) -> None: ...

class RemoveSSHKeyRequest(_message.Message):
    __slots__ = ("username", "ssh_public_key")
    USERNAME_FIELD_NUMBER: _ClassVar[int]
    SSH_PUBLIC_KEY_FIELD_NUMBER: _ClassVar[int]
    username: str
    ssh_public_key: str
    def __init__(self, username: _Optional[str] = ..., ssh_public_key: _Optional[str] = ...) -> None: ...

class RemoveSSHKeyResponse(_message.Message):
    __slots__ = ("message", "total_keys")
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    TOTAL_KEYS_FIELD_NUMBER: _ClassVar[int]
    message: str
    total_keys: int
    def __init__(self, message: _Optional[str] = ..., total_keys: _Optional[int] = ...) -> None: ...

class GetMetricsRequest(_message.Message):
    __slots__ = ("username",)
    USERNAME_FIELD_NUMBER: _ClassVar[int]
    username: str
    def __init__(self, username: _Optional[str] = ...) -> None: ...

class GetMetricsResponse(_message.Message):
    __slots__ = ("metrics",)
    METRICS_FIELD_NUMBER: _ClassVar[int]
    metrics: _containers.RepeatedCompositeFieldContainer[ContainerMetrics]
    def __init__(self, metrics: _Optional[_Iterable[_Union[ContainerMetrics, _Mapping]]] = ...) -> None: ...

class ContainerMetrics(_message.Message):
    __slots__ = ("name", "cpu_usage_percent", "memory_usage_bytes", "memory_limit_bytes", "disk_usage_bytes", "disk_limit_bytes", "network_rx_bytes", "network_tx_bytes", "process_count")
    NAME_FIELD_NUMBER: _ClassVar[int]
    CPU_USAGE_PERCENT_FIELD_NUMBER: _ClassVar[int]
    MEMORY_USAGE_BYTES_FIELD_NUMBER: _ClassVar[int]
    MEMORY_LIMIT_BYTES_FIELD_NUMBER: _ClassVar[int]
    DISK_USAGE_BYTES_FIELD_NUMBER: _ClassVar[int]
    DISK_LIMIT_BYTES_FIELD_NUMBER: _ClassVar[int]
    NETWORK_RX_BYTES_FIELD_NUMBER: _ClassVar[int]
    NETWORK_TX_BYTES_FIELD_NUMBER: _ClassVar[int]
    PROCESS_COUNT_FIELD_NUMBER: _ClassVar[int]
    name: str
    cpu_usage_percent: float
    memory_usage_bytes: int
    memory_limit_bytes: int
    disk_usage_bytes: int
    disk_limit_bytes: int
    network_rx_bytes: int
    network_tx_bytes: int
    process_count: int
    def __init__(self, name: _Optional[str] = ..., cpu_usage_percent: _Optional[float] = ..., memory_usage_bytes: _Optional[int] = ..., memory_limit_bytes: _Optional[int] = ..., disk_usage_bytes: _Optional[int] = ..., disk_limit_bytes: _Optional[int] = ..., network_rx_bytes: _Optional[int] = ..., network_tx_bytes: _Optional[int] = ..., process_count: _Optional[int] = ...) -> None: ...

class GetSystemInfoRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GetSystemInfoResponse(_message.Message):
    __slots__ = ("info",)
    INFO_FIELD_NUMBER: _ClassVar[int]
    info: SystemInfo
    def __init__(self, info: _Optional[_Union[SystemInfo, _Mapping]] = ...) -> None: ...

class SystemInfo(_message.Message):
    __slots__ = ("incus_version", "os", "kernel_version", "total_cpus", "total_memory_bytes", "available_memory_bytes", "total_disk_bytes", "available_disk_bytes", "containers_running", "containers_stopped", "containers_total", "hostname", "uptime_seconds")
    INCUS_VERSION_FIELD_NUMBER: _ClassVar[int]
    OS_FIELD_NUMBER: _ClassVar[int]
    KERNEL_VERSION_FIELD_NUMBER: _ClassVar[int]
    TOTAL_CPUS_FIELD_NUMBER: _ClassVar[int]
    TOTAL_MEMORY_BYTES_FIELD_NUMBER: _ClassVar[int]
    AVAILABLE_MEMORY_BYTES_FIELD_NUMBER: _ClassVar[int]
    TOTAL_DISK_BYTES_FIELD_NUMBER: _ClassVar[int]
    AVAILABLE_DISK_BYTES_FIELD_NUMBER: _ClassVar[int]
    CONTAINERS_RUNNING_FIELD_NUMBER: _ClassVar[int]
    CONTAINERS_STOPPED_FIELD_NUMBER: _ClassVar[int]
    CONTAINERS_TOTAL_FIELD_NUMBER: _ClassVar[int]
    HOSTNAME_FIELD_NUMBER: _ClassVar[int]
    UPTIME_SECONDS_FIELD_NUMBER: _ClassVar[int]
    incus_version: str
    os: str
    kernel_version: str
    total_cpus: int
    total_memory_bytes: int
    available_memory_bytes: int
    total_disk_bytes: int
    available_disk_bytes: int
    containers_running: int
    containers_stopped: int
    containers_total: int
    hostname: str
    uptime_seconds: int
    def __init__(self, incus_version: _Optional[str] = ..., os: _Optional[str] = ..., kernel_version: _Optional[str] = ..., total_cpus: _Optional[int] = ..., total_memory_bytes: _Optional[int] = ..., available_memory_bytes: _Optional[int] = ..., total_disk_bytes: _Optional[int] = ..., available_disk_bytes: _Optional[int] = ..., containers_running: _Optional[int] = ..., containers_stopped: _Optional[int] = ..., containers_total: _Optional[int] = ..., hostname: _Optional[str] = ..., uptime_seconds: _Optional[int] = ...) -> None: ...

class ResizeContainerRequest(_message.Message):
    __slots__ = ("username", "cpu", "memory", "disk")
    USERNAME_FIELD_NUMBER: _ClassVar[int]
    CPU_FIELD_NUMBER: _ClassVar[int]
    MEMORY_FIELD_NUMBER: _ClassVar[int]
    DISK_FIELD_NUMBER: _ClassVar[int]
    username: str
    cpu: str
    memory: str
    disk: str
    def __init__(self, username: _Optional[str] = ..., cpu: _Optional[str] = ..., memory: _Optional[str] = ..., disk: _Optional[str] = ...) -> None: ...

class ResizeContainerResponse(_message.Message):
    __slots__ = ("message", "container")
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    CONTAINER_FIELD_NUMBER: _ClassVar[int]
    message: str
    container: Container
    def __init__(self, message: _Optional[str] = ..., container: _Optional[_Union[Container, _Mapping]] = ...) -> None: ...
