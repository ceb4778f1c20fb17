"""Who is connected, found by connections of the test's own."""

from __future__ import annotations

import os
import socket
import subprocess
from datetime import UTC, datetime

from containarium.host.connections import connections

UID = os.geteuid() or 4711


def test_a_process_that_holds_a_connection_to_us_is_found_with_its_way_on() -> None:
    ours, guests = socket.create_server(("127.0.0.1", 0)), socket.create_server(("127.0.0.1", 0))
    with ours, guests, socket.create_connection(ours.getsockname()) as client:
        came, _ = ours.accept()
        on = socket.create_connection(guests.getsockname())
        far, _ = guests.accept()
        guests.close()  # as another machine's: nothing listens there on this one
        with came, on, far:
            somebody = UID if os.geteuid() == 0 else None
            holder = subprocess.Popen(["sleep", "60"], user=somebody, pass_fds=[came.fileno(), on.fileno()])
            bystander = subprocess.Popen(["sleep", "60"], user=somebody)
            try:
                found = [one for one in connections({"alice": UID, "bob": UID + 1}) if one.pid != os.getpid()]
            finally:
                for child in (holder, bystander):
                    child.kill()
                    child.wait()
            (one,) = found
            assert (one.name, one.pid) == ("alice", holder.pid)
            assert (one.source, one.port) == client.getsockname()
            assert one.forwards == 1
            assert abs((datetime.now(UTC) - one.since).total_seconds()) < 60


def test_root_is_nobody() -> None:
    assert connections({}) == ()
    assert connections({"root": 0}) == ()
