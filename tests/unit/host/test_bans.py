"""What fail2ban says, and what it is when it says nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

import pytest

from containarium.host.bans import bans
from containarium.host.command import Completed
from containarium.model.host import HostError, RetryableError, TerminalError

STATUS = "Status\n|- Number of jail:\t3\n`- Jail list:\tnginx, recidive, sshd\n"
BANNED = """10.0.0.5 \t2026-11-22 08:00:00 + 3600 = 2026-11-22 09:00:00
2001:db8::1 \t2026-11-22 08:00:00 + -1 = 9999-12-31 23:59:59
\x1b[31mevil
999.1.1.1 \t2026-11-22 08:00:00 + 3600 = 2026-11-22 09:00:00
"""


class FakeClient:
    def __init__(self, status: Completed | HostError, listed: str = "") -> None:
        self.status = status
        self.listed = listed
        self.asked: list[list[str]] = []

    def __call__(
        self,
        args: Sequence[str],
        *,
        timeout: float,
        stdin: str = "",
        check: bool = True,
        env: Mapping[str, str] | None = None,
    ) -> Completed:
        self.asked.append(list(args))
        if args[1] == "status":
            if isinstance(self.status, HostError):
                raise self.status
            return self.status
        return Completed(0, self.listed if args[2] == "sshd" else "", "")


def test_who_is_banned_and_for_how_long() -> None:
    client = FakeClient(Completed(0, STATUS, ""), BANNED)
    found = bans(client)
    assert found.unknown == ""
    first, second = found.found
    assert (first.address, first.jail) == ("10.0.0.5", "sshd")
    assert first.until == datetime(2026, 11, 22, 9).astimezone()
    assert second.address == "2001:db8::1"
    assert [args[2] for args in client.asked[1:]] == ["recidive", "sshd"], "other services' jails are nobody's here"


@pytest.mark.parametrize(
    ("status", "said"),
    [
        (TerminalError("cannot run fail2ban-client", reason="CommandMissing"), "not installed"),
        (RetryableError("fail2ban-client did not end within 20 s", reason="CommandTimeout"), "did not end"),
        (Completed(255, "", "Failed to access socket path: /run/fail2ban.sock"), "Failed to access"),
    ],
)
def test_where_nobody_knows_that_is_said(status: Completed | HostError, said: str) -> None:
    found = bans(FakeClient(status))
    assert found.found == ()
    assert said in found.unknown
