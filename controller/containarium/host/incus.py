"""A thin client of Incus' REST API: small methods, typed errors, and a bound on every wait.

pylxd's object model is not safe for a controller (it hides failures and reverts other writers), so only its raw API
is used; it is imported at the first change, since that costs more than most commands take. Objects are read without it.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from containarium.host.cancel import NEVER, CancelledError, Never
from containarium.host.command import Completed
from containarium.host.faults import classify, clean
from containarium.host.lateimports import put_off
from containarium.host.reader import Reply, read
from containarium.host.settings import HostSettings
from containarium.model.host import HostError, Progress, RetryableError, TerminalError, silent

if TYPE_CHECKING:
    from containarium.host.transport import Transport

REQUEST_TIMEOUT = 30.0
_REMOTE_ONLY = ("cryptography.x509", "cryptography.hazmat.primitives.hashes")
"""What pylxd imports for certificates of remote servers: 8 MiB, and half of the time that its import takes."""
EXEC_KEEP = 64 * 1024
"""How many last bytes of a guest command's output are kept."""
_GUEST_ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/root",
    "LC_ALL": "C.UTF-8",
}
_WAIT_SLICE = 1.0
"""Longest single wait for an operation; between two of them its progress is read, and whether to go on at all."""
_GRACE = 10.0
"""How much longer than the wait itself its answer may take."""


@dataclass(frozen=True, slots=True)
class Versioned:
    """An object together with the ETag that a later change can be bound to."""

    value: Any
    etag: str


@dataclass(frozen=True, slots=True)
class GuestFile:
    """A file of a guest. ``kind`` is ``file``, ``directory`` or ``symlink``; ``data`` is empty for the latter two.

    ``whole`` is false when the file was larger than the limit.
    """

    kind: str
    uid: int
    gid: int
    mode: int
    data: bytes = b""
    whole: bool = True


class Incus:
    """One Incus daemon. Safe to share between threads; it survives the daemon's restarts."""

    def __init__(self, settings: HostSettings, timeout: float = REQUEST_TIMEOUT, cancellation: Never = NEVER) -> None:
        """Connects at the first use. ``timeout`` bounds every single request, in seconds.

        ``cancellation`` ends waits and guest commands with CancelledError, and lets no change begin; reading goes on.
        """
        self.socket = settings.incus_socket
        self.timeout = timeout
        self.cancellation = cancellation
        self._lock = threading.Lock()
        self._transport: Transport | None = None
        self._server: Mapping[str, Any] | None = None

    def server(self) -> Mapping[str, Any]:
        """What Incus says of itself, asked once."""
        if self._server is None:
            self._server = self.get()
        return self._server

    def close(self) -> None:
        """Close idle connections. The client may be used again afterwards."""
        with self._lock:
            if self._transport is not None:
                self._transport.close()
                self._transport = None

    def get(self, *path: str, timeout: float | None = None, **params: str) -> Any:
        """The metadata of an object or a list. Parameters are spelled with _ where Incus has a hyphen."""
        asked = {key.replace("_", "-"): value for key, value in params.items()}
        return _metadata(read(self.socket, path, asked, timeout=timeout or self.timeout))

    def get_versioned(self, *path: str) -> Versioned:
        """An object with its ETag."""
        reply = read(self.socket, path, timeout=self.timeout)
        return Versioned(_metadata(reply), reply.header("ETag"))

    def find(self, *path: str) -> Any:
        """The metadata of an object, None where there is none."""
        try:
            return self.get(*path)
        except TerminalError as error:
            if error.reason == "NotFound":
                return None
            raise

    def exists(self, *path: str) -> bool:
        """Whether there is such an object."""
        return self.find(*path) is not None

    def patch(self, *path: str, body: Any, etag: str = "", timeout: float | None = None) -> None:
        """Merge into an object. With an ``etag``, fails with reason Conflict when somebody changed it since."""
        headers = {"If-Match": etag} if etag else {}
        self._change("PATCH", path, body, timeout=timeout or self.timeout, headers=headers)

    def post(
        self,
        *path: str,
        body: Any,
        timeout: float | None = None,
        progress: Progress = silent,
        headers: Mapping[str, str] | None = None,
    ) -> Any:
        """Create something, and wait until its operation is over. Returns the operation's own metadata."""
        return self._change("POST", path, body, timeout=timeout or self.timeout, headers=headers, progress=progress)

    def put(self, *path: str, body: Any, timeout: float | None = None, etag: str = "") -> Any:
        """Replace something (or its state), and wait until the operation is over. ``etag`` as for ``patch``."""
        headers = {"If-Match": etag} if etag else {}
        return self._change("PUT", path, body, timeout=timeout or self.timeout, headers=headers)

    def delete(self, *path: str, timeout: float | None = None) -> None:
        """Delete something, and wait until it is gone."""
        self._change("DELETE", path, None, timeout=timeout or self.timeout)

    def begin(self, *path: str, body: Any) -> Mapping[str, Any]:
        """POST without the wait: returns the running operation."""
        self.cancellation.check()
        operation: Mapping[str, Any] = _metadata(self._connected().send("POST", path, body=body))
        return operation

    def wait(
        self, operation: str, timeout: float, progress: Progress = silent, check: Callable[[], None] = lambda: None
    ) -> Mapping[str, Any]:
        """Wait for an operation (its id) for at most ``timeout`` seconds and return it. ``check`` is called now and
        then, and ends the wait by raising.

        Its failure raises the fitting HostError. When it does not end in time it is cancelled, as far as it can
        be, and RetryableError raised; likewise, with CancelledError, when nothing is to go on. An operation that Incus
        forgot (a restart) raises RetryableError.
        """
        deadline = time.monotonic() + timeout
        while True:
            left = deadline - time.monotonic()
            current = self._look_at(operation, max(0.1, min(_WAIT_SLICE, left)))
            if current["status_code"] == 200:
                return current
            if current["status_code"] >= 400:
                raise classify(int(current["status_code"]), str(current.get("err") or current.get("status")))
            if time.monotonic() >= deadline:
                self.cancel(operation)
                raise RetryableError(
                    f"Incus was still busy after {timeout:.0f} s: {current.get('description', 'operation')}",
                    remedy="it is tried again; see `incus operation list`",
                    reason="IncusTimeout",
                )
            if self.cancellation.cancelled:
                self.cancel(operation)
                raise CancelledError
            check()
            _tell(current, progress)

    def cancel(self, operation: str) -> None:
        """Ask for an operation's end; most cannot be cancelled, and that is no error."""
        with contextlib.suppress(HostError):
            self._connected().send("DELETE", ("operations", operation), timeout=_GRACE)

    def execute(
        self,
        instance: str,
        args: Sequence[str],
        *,
        timeout: float,
        env: Mapping[str, str] | None = None,
        keep: int = EXEC_KEEP,
    ) -> Completed:
        """Run a command in a running guest as root, without a shell and with an empty standard input.

        The last ``keep`` bytes of each output are returned with the exit code, whatever that is. After ``timeout``
        seconds the command is killed and RetryableError raised.
        """
        from containarium.host.guestexec import execute

        return execute(self, instance, args, timeout=timeout, env={**_GUEST_ENVIRONMENT, **(env or {})}, keep=keep)

    def read_file(self, instance: str, path: str, limit: int) -> GuestFile | None:
        """A file of a guest, None where there is none. At most ``limit`` bytes are read; links are not followed
        in the last component.

        Nothing is opened before its size is known to be above zero: reading a pipe that a guest put there would
        hang.
        """
        where = ("instances", instance, "files")
        send = self._connected().send
        try:
            head = send("HEAD", where, params={"path": path})
            kind = head.headers.get("X-Incus-type", "file")
            if kind != "file" or int(head.headers.get("Content-Length") or 0) == 0:
                return _guest_file(head, kind, b"", limit)
            reply = send("GET", where, params={"path": path}, limit=limit)
        except TerminalError as error:
            if error.reason == "NotFound":
                return None
            raise
        return _guest_file(reply, kind, reply.body, limit)

    def write_file(self, instance: str, path: str, data: bytes, *, uid: int, gid: int, mode: int) -> None:
        """Write a file of a guest. Owner and mode take effect on new files only, and the write is not atomic: write
        beside the file, then move.
        """
        self._push(instance, path, data, _ownership("file", uid, gid, mode))

    def make_folder(self, instance: str, path: str, *, uid: int, gid: int, mode: int) -> None:
        """Make a folder in a guest; one that is there already stays as it is."""
        self._push(instance, path, b"", _ownership("directory", uid, gid, mode))

    def remove_file(self, instance: str, path: str) -> None:
        """Remove a file of a guest, if it is there."""
        try:
            self._connected().send("DELETE", ("instances", instance, "files"), params={"path": path})
        except TerminalError as error:
            if error.reason != "NotFound":
                raise

    def _push(self, instance: str, path: str, data: bytes, headers: Mapping[str, str]) -> None:
        # Incus takes the body of any other content type for a form, and writes an empty file
        headers = {**headers, "Content-Type": "application/octet-stream"}
        where = ("instances", instance, "files")
        self._connected().send("POST", where, params={"path": path}, body=data, headers=headers)

    def _connected(self) -> Transport:
        with self._lock:
            if self._transport is None:
                put_off(*_REMOTE_ONLY)
                from containarium.host.transport import Transport

                self._transport = Transport(self.socket, self.timeout)
            return self._transport

    def _change(
        self,
        method: str,
        path: tuple[str, ...],
        body: Any,
        *,
        timeout: float,
        headers: Mapping[str, str] | None = None,
        progress: Progress = silent,
    ) -> Any:
        self.cancellation.check()
        reply = self._connected().send(method, path, body=body, headers=headers, timeout=timeout).json()
        if reply.get("type") != "async":
            return reply.get("metadata")
        return self.wait(reply["metadata"]["id"], timeout, progress).get("metadata")

    def _look_at(self, operation: str, patience: float) -> Mapping[str, Any]:
        """The operation after it ended, or as it stands when ``patience`` seconds are over.

        A wait that expires and an operation that fails look alike, so the operation itself is asked then.
        """
        send = self._connected().send
        where = ("operations", operation)
        wait = {"timeout": str(max(1, round(patience)))}
        try:
            answer = send("GET", (*where, "wait"), params=wait, timeout=patience + _GRACE).json()
            if answer.get("type") == "error":
                if answer.get("error") != "context deadline exceeded":
                    raise classify(int(answer["error_code"]), str(answer["error"]))
                answer = send("GET", where).json()
        except TerminalError as error:
            if error.reason != "NotFound" or "peration" not in error.message:
                raise
            raise RetryableError(
                "Incus forgot the operation: it was restarted meanwhile",
                remedy="it is tried again",
                reason="OperationLost",
            ) from error
        current: Mapping[str, Any] = answer["metadata"]
        return current


def _metadata(reply: Reply) -> Any:
    answer = reply.json()
    if answer.get("type") == "error":
        raise classify(int(answer.get("error_code") or 500), str(answer.get("error")))
    return answer.get("metadata")


def _ownership(kind: str, uid: int, gid: int, mode: int) -> dict[str, str]:
    return {
        "X-Incus-type": kind,
        "X-Incus-uid": str(uid),
        "X-Incus-gid": str(gid),
        "X-Incus-mode": f"{mode:04o}",
    }


def _guest_file(reply: Reply, kind: str, data: bytes, limit: int) -> GuestFile:
    headers = reply.headers
    return GuestFile(
        kind=kind,
        uid=int(headers.get("X-Incus-uid") or 0),
        gid=int(headers.get("X-Incus-gid") or 0),
        mode=int(headers.get("X-Incus-mode") or "0", 8),
        data=data[:limit],
        whole=len(data) <= limit,
    )


def _tell(operation: Mapping[str, Any], progress: Progress) -> None:
    details = operation.get("metadata")
    if isinstance(details, Mapping):
        for key in ("download_progress", "create_instance_from_image_unpack_progress"):
            if key in details:
                progress(f"{'fetching' if 'download' in key else 'unpacking'} the image: {details[key]}")
        if "fs_progress" in details:
            progress(f"fetching {clean(str(details['fs_progress']))}")
