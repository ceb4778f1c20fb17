"""The files of a folder of certificates: read with errors in words, written whole, changed by one at a time."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from cryptography import x509

from containarium.host.filelock import locked
from containarium.host.files import write_atomically
from containarium.model.host import RetryableError, TerminalError

PRIVATE = 0o600
PUBLIC = 0o644
_LARGEST = 1 << 20
_WAIT = 30.0
"""Seconds for which others may keep the folder locked; they need a fraction of one."""


@dataclass(frozen=True, slots=True)
class CertificateFiles:
    """Names are relative to ``folder``. Every method may raise TerminalError with what to do about it."""

    folder: Path

    @contextmanager
    def changing(self) -> Iterator[None]:
        """Nobody else changes anything while the block runs. Raises RetryableError (Locked). Not to be nested.

        A file that only its owner opens is locked, not the folder: whoever may read that could keep it locked.
        """
        path = self.folder / ".lock"
        with ExitStack() as held:
            try:
                held.enter_context(locked(path, _WAIT))
            except FileNotFoundError as error:
                raise self._missing("ca.crt") from error
            except TimeoutError as error:
                raise RetryableError(
                    f"somebody else is changing the certificates in {self.folder}",
                    remedy=f"wait until they are through; fuser {path} shows who it is",
                    reason="Locked",
                ) from error
            except OSError as error:
                raise TerminalError(f"cannot lock {path}: {error.strerror}", remedy="run it as root") from error
            yield

    def there(self, name: str) -> bool:
        """Whether there is such a file."""
        return (self.folder / name).exists()

    def read(self, name: str) -> bytes:
        """What is in a file, 1 MiB of it at most."""
        try:
            with (self.folder / name).open("rb") as file:
                return file.read(_LARGEST)
        except FileNotFoundError as error:
            raise self._missing(name) from error
        except OSError as error:
            raise TerminalError(f"cannot read {self.folder / name}: {error.strerror}") from error

    def certificate(self, name: str) -> x509.Certificate:
        """A certificate of a file."""
        try:
            return x509.load_pem_x509_certificate(self.read(name))
        except ValueError as error:
            raise self.unusable(name, error) from error

    def write(self, name: str, text: str, mode: int) -> Path:
        """Replace a file, whole or not at all. Returns where it is."""
        path = self.folder / name
        try:
            write_atomically(path, text, mode)
        except OSError as error:
            raise TerminalError(f"cannot write {path}: {error.strerror}") from error
        return path

    def recorded(self) -> dict[int, datetime]:
        """When each serial number was revoked, as ``index.json`` says. For where the list itself is gone.

        Raises TerminalError (NoRevocations) where it does not say so: that nobody was revoked is nothing to assume.
        """
        try:
            rows = json.loads(self.read("index.json"))
            found = {int(row["serial"], 16): row["revoked"] for row in rows}
            return {serial: datetime.fromisoformat(when) for serial, when in found.items() if when is not None}
        except (TerminalError, ValueError, TypeError, KeyError, RecursionError) as error:
            raise TerminalError(
                f"there is no {self.folder / 'crl.pem'}, and index.json beside it does not say who was revoked",
                remedy="put one of them back from a backup, or begin anew in another folder: "
                "containarium cert generate --output-dir FOLDER",
                reason="NoRevocations",
            ) from error

    def unusable(self, name: str, error: Exception) -> TerminalError:
        """A file that holds something else than it ought to."""
        return TerminalError(
            f"{self.folder / name} cannot be used: {error}",
            remedy="put the right file there, or begin anew in another folder with containarium cert generate",
            reason="BadCertificates",
        )

    def _missing(self, name: str) -> TerminalError:
        return TerminalError(
            f"there is no {self.folder / name}",
            remedy="make it with containarium cert generate, or name another folder",
            reason="NoCertificates",
        )
