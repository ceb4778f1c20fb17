"""The server's side of mutual TLS: certificates that are read anew when their files change, and who a client is."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
from cryptography import x509
from cryptography.exceptions import InvalidSignature

from containarium.api import certificates
from containarium.api.errors import CallError
from containarium.api.store import SOON
from containarium.api.who import Who
from containarium.model.host import TerminalError
from containarium.report.log import Logger

_LARGEST = 1 << 20
_FILES = ("ca.crt", "server.crt", "server.key", "crl.pem")
_LOOK = 1.0
"""Seconds between two looks at the files, at least."""
_REMIND = timedelta(days=1)
_KEPT = 512
"""Certificates of callers that are kept read."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """What one state of the files holds."""

    stamp: tuple[Any, ...]
    pems: tuple[bytes, bytes, bytes]
    """The authority, the server's certificate, its key."""
    authority: x509.Certificate
    trusted: tuple[x509.Certificate, ...]
    """Every authority of ca.crt, ours first: in a handshake each of them counts."""
    server: x509.Certificate
    revoked: Mapping[int, datetime]


class Tls:
    """Certificates of a folder as ``store`` lays it out. Safe to share between threads.

    Files that change are taken over when they fit together; until then the ones before are kept, which is logged.
    """

    def __init__(
        self,
        folder: Path,
        logger: Logger,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        ticks: Callable[[], float] = time.monotonic,
    ) -> None:
        """Raises TerminalError where the files are not there, or cannot be used."""
        self._folder = folder
        self._logger = logger
        self._clock = clock
        self._ticks = ticks
        self._lock = threading.Lock()
        self._looked = ticks()
        self._refused = ""
        self._reminded: datetime | None = None
        self._known: dict[bytes, x509.Certificate] = {}
        self._issued: dict[tuple[bytes, bytes], bool] = {}
        """By authority and certificate, both in PEM."""
        self._loaded = self._offered = self._load()
        self._warn()

    def credentials(self) -> grpc.ServerCredentials:
        """For a server that wants a certificate of everybody; looks for new files at every connection."""
        self._offered = self._loaded
        return grpc.dynamic_ssl_server_credentials(_configuration(self._offered), self._fetch, True)

    def who(self, context: grpc.ServicerContext) -> Who:
        """Whose call this is.

        Raises CallError: no role; or since the connection was made, revoked, expired, or not our authority's any more.
        """
        text, found = self._certificate(context)
        loaded = self.current()
        name, print_ = certificates.name_of(found), certificates.fingerprint(found)
        if not self._is_ours(loaded, text, found):
            raise _unknown(
                "OtherAuthority", f"the certificate of {name} is of another authority than this server's is now",
                "ask an admin for a new one", name, print_,
            )  # fmt: skip
        if found.serial_number in loaded.revoked:
            raise _unknown(
                "CertificateRevoked",
                f"the certificate of {name} was revoked",
                "ask an admin for a new one",
                name,
                print_,
            )
        if self._clock() >= found.not_valid_after_utc:
            raise _unknown(
                "CertificateExpired", f"the certificate of {name} has expired", "ask an admin to renew it", name, print_
            )
        role = certificates.role_of(found)
        if role is None:
            raise _unknown(
                "NoRole", f"the certificate of {name or 'nobody'} is no client's of ours",
                "use one that containarium cert client has made", name, print_,
            )  # fmt: skip
        return Who(name, role, fingerprint=print_, address=_address(context.peer()))

    def current(self) -> Loaded:
        """What holds now; looks at the files at most once in a second."""
        with self._lock:
            now = self._ticks()
            if now - self._looked >= _LOOK:
                self._looked = now
                self._look_again()
                self._warn()
            return self._loaded

    def _fetch(self) -> Any:
        """For grpcio, before a handshake: what to use from now on, None where nothing is new.

        It takes what it gets as its own and frees it: the same object may never be handed out twice.
        """
        loaded = self.current()
        with self._lock:
            if loaded is self._offered:
                return None
            self._offered = loaded
        return _configuration(loaded)

    def _look_again(self) -> None:
        try:
            if self._stamp() == self._loaded.stamp:
                return
            self._loaded = self._load()
        except TerminalError as error:
            # Between two files of a renewal they do not fit. What was revoked stays so in any case.
            if str(error) != self._refused:
                self._logger.warning("new certificates not taken over", error=str(error))
            self._refused = str(error)
            return
        self._refused = ""
        self._logger.info("new certificates", server=certificates.fingerprint(self._loaded.server))

    def _stamp(self) -> tuple[Any, ...]:
        found = []
        for name in _FILES:
            try:
                stat = (self._folder / name).stat()
                found.append((name, stat.st_ino, stat.st_mtime_ns, stat.st_size))
            except OSError:
                found.append((name, 0, 0, 0))
        return tuple(found)

    def _load(self) -> Loaded:
        stamp = self._stamp()
        try:
            authority_pem = self._read("ca.crt")
            trusted = tuple(x509.load_pem_x509_certificates(authority_pem))
            authority = trusted[0]
            certificate_pem, key_pem = self._read("server.crt"), self._read("server.key")
            server = certificates.load_pair(certificate_pem, key_pem).certificate
            server.verify_directly_issued_by(authority)
            revoked = certificates.read_revocations(self._read("crl.pem"), authority)
        except OSError as error:
            raise TerminalError(
                f"cannot read {error.filename}: {error.strerror}",
                remedy="make it with containarium cert generate, or name another --certs-dir",
                reason="NoCertificates",
            ) from error
        except Exception as error:  # ValueError, TypeError, InvalidSignature and what else cryptography raises
            raise TerminalError(
                f"the certificates in {self._folder} cannot be used: {error or type(error).__name__}",
                remedy="see containarium cert list",
                reason="BadCertificates",
            ) from error
        return Loaded(stamp, (authority_pem, certificate_pem, key_pem), authority, trusted, server, revoked)

    def _read(self, name: str) -> bytes:
        with (self._folder / name).open("rb") as file:
            return file.read(_LARGEST)

    def _is_ours(self, loaded: Loaded, text: bytes, found: x509.Certificate) -> bool:
        key = (loaded.pems[0], text)
        known = self._issued.get(key)
        if known is None:
            known = any(_issued_by(found, authority) for authority in loaded.trusted)
            if len(self._issued) >= _KEPT:
                self._issued.clear()
            self._issued[key] = known
        return known

    def _certificate(self, context: grpc.ServicerContext) -> tuple[bytes, x509.Certificate]:
        """As it came, in PEM, and read."""
        offered: Mapping[Any, Any] = context.auth_context()
        found = offered.get("x509_pem_cert") or ()
        text: bytes = next(iter(found), b"")
        known = self._known.get(text)
        if known is None:
            try:
                known = x509.load_pem_x509_certificate(text)
            except ValueError:
                raise _unknown(
                    "NoCertificate", "the call came without a certificate", "give --certs-dir", "", ""
                ) from None
            if len(self._known) >= _KEPT:
                self._known.clear()
            self._known[text] = known
        return text, known

    def _warn(self) -> None:
        """Once a day for what ends soon."""
        now = self._clock()
        if self._reminded is not None and now - self._reminded < _REMIND:
            return
        for what, certificate in (("server", self._loaded.server), ("ca", self._loaded.authority)):
            until = certificate.not_valid_after_utc
            if now >= until - SOON:
                self._reminded = now
                self._logger.warning(
                    "certificate ends soon" if now < until else "certificate has expired",
                    certificate=what, until=until.isoformat(), remedy=f"containarium cert renew {what}",
                )  # fmt: skip


def _configuration(loaded: Loaded) -> Any:
    authority, certificate, key = loaded.pems
    return grpc.ssl_server_certificate_configuration([(key, certificate)], authority)


def _issued_by(found: x509.Certificate, authority: x509.Certificate) -> bool:
    try:
        found.verify_directly_issued_by(authority)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def _unknown(reason: str, message: str, remedy: str, name: str, print_: str) -> CallError:
    return CallError(
        grpc.StatusCode.UNAUTHENTICATED, message, remedy,
        reason=reason, details={"name": name, "fingerprint": print_},
    )  # fmt: skip


def _address(peer: str) -> str:
    """``192.0.2.1:4711`` of what grpc calls a peer."""
    return peer.partition(":")[2].replace("%5B", "[").replace("%5D", "]")
