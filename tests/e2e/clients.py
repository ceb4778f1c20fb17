"""Clients of the API that are too large, too many or too slow, for the laptop: clients.py WHAT SERVER CERTIFICATES."""

from __future__ import annotations

import json
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc

LIST = "/containarium.v1.ContainerService/ListContainers"
CREATE = "/containarium.v1.ContainerService/CreateContainer"
CLIENTS, HANGING = 200, 40


def channel(server: str, certificates: Path) -> grpc.Channel:
    """As any program makes one, with none of our own code."""
    texts = [(certificates / name).read_bytes() for name in ("ca.crt", "client.key", "client.crt")]
    # Channels with the same arguments would share one connection.
    apart = (("grpc.use_local_subchannel_pool", 1),)
    return grpc.secure_channel(server, grpc.ssl_channel_credentials(*texts), options=apart)


def code(call: Any) -> str:
    """How a call ended."""
    error = call.exception(timeout=60)
    return "OK" if error is None else str(error.code().name)


def huge(server: str, certificates: Path) -> dict[str, Any]:
    """A request of 100 MB, and then a small one."""
    with channel(server, certificates) as made:
        return {
            "huge": code(made.unary_unary(CREATE, None, None).future(bytes(100 << 20), timeout=60)),
            "then": _looked(made),
        }


def crowd(server: str, certificates: Path) -> dict[str, Any]:
    """200 clients, each with a connection of its own, that ask at the same moment."""
    with ThreadPoolExecutor(CLIENTS) as pool:
        together = threading.Barrier(CLIENTS)

        def one(_number: int) -> str:
            with channel(server, certificates) as made:
                together.wait(60)
                return _looked(made)

        began = time.monotonic()
        codes = Counter(pool.map(one, range(CLIENTS)))
    return {"codes": codes, "seconds": time.monotonic() - began}


def hang(server: str, certificates: Path) -> dict[str, Any]:
    """Clients that begin a call and never send their request, and somebody else who does."""
    never = threading.Event()

    def silence() -> Iterator[bytes]:
        never.wait(60)
        yield from ()

    with channel(server, certificates) as made, channel(server, certificates.with_name("vera")) as other:
        hanging = [made.stream_unary(LIST, None, None).future(silence(), timeout=50) for _ in range(HANGING)]
        then = _looked(other)
        codes = Counter(code(call) for call in hanging)
        never.set()
    return {"then": then, "codes": codes}


def _looked(made: grpc.Channel) -> str:
    return code(made.unary_unary(LIST, None, None).future(b"", timeout=60))


if __name__ == "__main__":
    what, server, folder = sys.argv[1:]
    print(json.dumps({"huge": huge, "crowd": crowd, "hang": hang}[what](server, Path(folder))))
