"""Errors as Incus 6.0 really worded them, and what they mean to us."""

from __future__ import annotations

from pathlib import Path

import pytest

from containarium.host.faults import classify, clean, unreachable
from containarium.model.host import HostError, RetryableError, TerminalError, WaitingError

RECORDED: list[tuple[int, str, type[HostError], str]] = [
    (404, 'Failed to fetch instance "nope" in project "default": Instance not found', TerminalError, "NotFound"),
    (404, "Storage pool volume not found", TerminalError, "NotFound"),
    (
        500,
        (
            "Failed creating instance record: Add instance info to the database: Failed to create "
            '"instances" entry: UNIQUE constraint failed: instances.project_id, instances.name'
        ),
        RetryableError,
        "Conflict",
    ),
    (412, "ETag doesn't match: 24a4c9 vs abc", RetryableError, "Conflict"),
    (500, "setting cgroup item for the container failed", WaitingError, "MemoryInUse"),
    (500, "Invalid config: Unknown configuration key: limits.nope", TerminalError, "InvalidConfiguration"),
    (500, "Image not provided for instance creation", RetryableError, "ImageUnavailable"),
    (
        500,
        (
            "Failed getting remote image info: Failed getting image: Failed parsing stream: "
            'Get "https://images.linuxcontainers.org/streams/v1/index.json": lookup: no such host'
        ),
        RetryableError,
        "ImageUnavailable",
    ),
    (
        500,
        "Failed getting remote image info: Failed getting image: The requested image couldn't be found",
        TerminalError,
        "ImageUnavailable",
    ),
    (
        409,
        'Failed start validation for device "eth0": IP address "10.123.3.100" already defined on another NIC',
        TerminalError,
        "AddressInUse",
    ),
    (
        500,
        (
            'Failed to update device "root": Failed to run: btrfs qgroup limit: (ERROR: unable to limit requested '
            "quota group: Disk quota exceeded)"
        ),
        TerminalError,
        "QuotaExceeded",
    ),
    (500, "saving config file for the container failed", TerminalError, "QuotaExceeded"),
    (500, 'Instance is busy running a "stop" operation', RetryableError, "Busy"),
    (400, "Instance is running", RetryableError, "Busy"),
    (500, "The instance is already running", RetryableError, "Busy"),
    (400, "Instance is not running", RetryableError, "NotRunning"),
    (400, "Command not found", TerminalError, "CommandMissing"),
    (500, "Failed to retrieve PID of executing child process", RetryableError, "GuestCommandLost"),
    (500, 'Cannot update root disk device pool name to "nopool"', TerminalError, "InvalidConfiguration"),
    (
        500,
        (
            "Failed creating instance record: Failed initializing instance: Failed getting root disk: "
            "No root device could be found"
        ),
        TerminalError,
        "HostNotPrepared",
    ),
    (403, "not authorized", TerminalError, "IncusForbidden"),
    (500, "something nobody has seen before", RetryableError, "IncusError"),
]


@pytest.mark.parametrize(("status", "message", "kind", "reason"), RECORDED)
def test_recorded_messages(status: int, message: str, kind: type[HostError], reason: str) -> None:
    error = classify(status, message)
    assert (type(error), error.reason) == (kind, reason)
    assert error.remedy
    assert "\n" not in str(error)


def test_memory_in_use_is_tried_again_much_later() -> None:
    error = classify(500, "setting cgroup item for the container failed")
    assert isinstance(error, WaitingError)
    assert error.retry_after >= 60


def test_a_message_is_one_printable_line() -> None:
    assert clean("a\x1b[31mred\nb\tc\u202e") == "a [31mred b c"
    assert clean("a\ud800b\udfff") == "a b"
    assert len(clean("x" * 10_000)) == 300


@pytest.mark.parametrize(
    ("error", "kind", "reason"),
    [
        (ConnectionError("[Errno 2] No such file or directory"), RetryableError, "IncusUnreachable"),
        (ConnectionError("[Errno 111] Connection refused"), RetryableError, "IncusUnreachable"),
        (ConnectionError("[Errno 13] Permission denied"), TerminalError, "IncusForbidden"),
    ],
)
def test_nobody_behind_the_socket(error: Exception, kind: type[HostError], reason: str) -> None:
    judged = unreachable(Path("/run/x.socket"), error)
    assert (type(judged), judged.reason) == (kind, reason)
    assert "/run/x.socket" in judged.message
