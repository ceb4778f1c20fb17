"""What this machine is called among the declared hosts."""

from __future__ import annotations

import socket


def own_name() -> str:
    """Its host name up to the first dot, in lower case, as Host manifests say it."""
    return socket.gethostname().partition(".")[0].lower()
