"""Runs inside the disposable host while it boots: waits until every guest's sshd greets. Prints JSON."""

from __future__ import annotations

import json
import socket
import sys
import threading
import time

AGAIN = 0.1
"""Seconds between two attempts at one guest, and half of what one attempt may take where nobody answers."""


def greet(address: str, end: float, found: dict[str, float]) -> None:
    """Note when a guest's port 22 says what it is, in seconds since 1970."""
    while time.time() < end:
        try:
            with socket.create_connection((address, 22), timeout=2 * AGAIN) as connection:
                connection.settimeout(2)
                if connection.recv(4) == b"SSH-":
                    found[address] = time.time()
                    return
        except OSError:
            pass
        time.sleep(AGAIN)


def main(patience: float, addresses: list[str]) -> dict[str, float]:
    """When each of them greeted; who did not is missing."""
    found: dict[str, float] = {}
    end = time.time() + patience
    threads = [threading.Thread(target=greet, args=(address, end, found)) for address in addresses]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


if __name__ == "__main__":
    print(json.dumps(main(float(sys.argv[1]), sys.argv[2:])))
