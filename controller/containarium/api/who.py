"""Who calls, and what they may do."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum


class Role(StrEnum):
    """A viewer may look at everything that is no secret; an admin may change it."""

    ADMIN = "admin"
    VIEWER = "viewer"


@dataclass(frozen=True, slots=True)
class Who:
    """A caller whose identity was proven: by the kernel (``uid``), or by a certificate (``fingerprint``)."""

    name: str
    role: Role
    uid: int | None = None
    fingerprint: str = ""
    address: str = ""
    """Where the call came from, as ``192.0.2.1:4711``; empty on the unix socket."""

    @property
    def key(self) -> str:
        """What one caller has in common over all of their calls."""
        return self.fingerprint or f"uid {self.uid}"

    def __str__(self) -> str:
        if self.uid is not None:
            return f"{self.name} (uid {self.uid})"
        return f"{self.name} (certificate {self.fingerprint[:23]}, from {self.address})"


Audit = Callable[[Who, str, Mapping[str, str]], None]
"""Is told every change when its call ends: who, the call's name, what it is about (no secrets), and ``result``:
``ok``, ``failed``, ``refused``, or ``unattended`` where the client did not wait for the end."""
