"""A folder of certificates: an authority, a server's, clients', and which of them were revoked.

    ca.crt ca.key            the authority
    server.crt server.key    this server's
    clients/NAME/            what client NAME needs, to be copied to its computer: ca.crt client.crt client.key
    issued/SERIAL.crt        every certificate that was ever issued
    crl.pem                  the revocation list
    index.json               all of them with their dates, for those who have no eyes for X.509
    .lock                    held by whoever changes any of it

Private keys have mode 0600 from their first byte on, and ``clients`` is for its owner alone.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

from cryptography import x509

from containarium.api import certificates
from containarium.api.certificatefiles import PRIVATE, PUBLIC, CertificateFiles
from containarium.api.certificates import NAME, Pair
from containarium.api.who import Role
from containarium.host.files import make_folder
from containarium.model.host import TerminalError

AUTHORITY_LIFETIME = timedelta(days=3650)
LIFETIME = timedelta(days=365)
SOON = timedelta(days=30)
"""Before a certificate ends, for so long it is warned of."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One certificate. ``kind`` is ``ca``, ``server`` or ``client``; ``current`` is false for what was replaced."""

    kind: str
    name: str
    role: str
    serial: str
    fingerprint: str
    not_before: datetime
    not_after: datetime
    revoked: datetime | None
    current: bool

    def state(self, now: datetime) -> str:
        """``valid``, ``expiring``, ``expired``, ``revoked`` or ``replaced`` (by a newer one, and good nevertheless)."""
        if self.revoked is not None:
            return "revoked"
        if now >= self.not_after:
            return "expired"
        if not self.current:
            return "replaced"
        return "expiring" if now >= self.not_after - SOON else "valid"


@dataclass(frozen=True, slots=True)
class CertificateStore:
    """Every method may raise TerminalError with what to do about it; those that change something RetryableError
    (Locked) as well, for one at a time does so."""

    folder: Path
    clock: Callable[[], datetime] = lambda: datetime.now(UTC)

    # Looking

    def entries(self) -> list[Entry]:
        """All certificates, the authority first, then the server's, then clients' by name, newest first."""
        authority = self._files.certificate("ca.crt")
        revoked = self._revoked(authority)
        current = {self._serial_of(self.folder / "server.crt")}
        current |= {self._serial_of(path) for path in (self.folder / "clients").glob("*/client.crt")}
        found = [_entry("ca", authority, {}, {authority.serial_number})]
        for path in (self.folder / "issued").glob("*.crt"):
            certificate = self._files.certificate(str(path.relative_to(self.folder)))
            kind = "client" if certificates.is_for(certificate, client=True) else "server"
            found.append(_entry(kind, certificate, revoked, current))
        order = ("ca", "server", "client")
        return sorted(found, key=lambda e: (order.index(e.kind), e.name, not e.current, -e.not_after.timestamp()))

    # Changing

    def generate(
        self, dns: Sequence[str], addresses: Sequence[IPv4Address | IPv6Address], lifetime: timedelta
    ) -> list[str]:
        """Make what is missing: the authority, the server's certificate, and the client ``admin``.

        Returns what was made. What is there stays as it is.
        """
        files = self._files
        if not (files.there("server.crt") or dns or addresses):
            raise TerminalError(
                "a server's certificate has to name its server", remedy="give --server-ip or --dns, or both"
            )
        self._make_folder()
        with files.changing():
            made = []
            if not files.there("ca.crt"):
                fresh = certificates.make_authority(self.clock(), max(AUTHORITY_LIFETIME, lifetime))
                files.write("ca.key", fresh.key_pem, PRIVATE)
                files.write("ca.crt", fresh.certificate_pem, PUBLIC)
                made.append("the authority")
            authority = self._authority()
            if self._complete(authority):
                made.append("the revocation list, of what index.json says")
            if not files.there("server.crt"):
                self._put_server(certificates.make_server(authority, dns, addresses, self.clock(), lifetime))
                made.append("the server's certificate")
            if not any(entry.kind == "client" for entry in self.entries()):
                self._put_client(certificates.make_client(authority, "admin", Role.ADMIN, self.clock(), lifetime))
                made.append("the client admin")
            self._write_index()
        return made

    def issue(self, name: str, role: Role, lifetime: timedelta) -> Path:
        """A certificate for a new client. Returns the folder to copy to its computer."""
        if not NAME.fullmatch(name):
            raise TerminalError(
                f"{name!r} is no name for a client", remedy="use letters, digits and . _ @ -, 64 at most"
            )
        with self._changing() as authority:
            if any(entry.kind == "client" and entry.name == name and entry.revoked is None for entry in self.entries()):
                raise TerminalError(
                    f"there is a client {name} already", remedy=f"containarium cert renew {name}, or revoke it first"
                )
            return self._put_client(certificates.make_client(authority, name, role, self.clock(), lifetime))

    def renew(self, what: str, lifetime: timedelta | None = None) -> Path:
        """A new certificate with a new key in the place of one: ``server``, ``ca`` (same key), or a client's name.

        It is for the same names or role, and for as long, unless a ``lifetime`` is given. The one before stays good
        until it ends; revoke a client's where its key may have got away. Returns where it was written.
        """
        with self._changing() as authority:
            now = self.clock()
            if what == "ca":
                return self._renew_authority(authority, lifetime)
            if what == "server":
                old = self._files.certificate("server.crt")
                dns, addresses = certificates.names_for(old)
                return self._put_server(
                    certificates.make_server(authority, dns, addresses, now, lifetime or _length(old))
                )
            last = self._last(what)
            role = certificates.role_of(last)
            if role is None:
                raise TerminalError(
                    f"the certificate of {what} has no role", remedy="issue a new one under another name"
                )
            return self._put_client(certificates.make_client(authority, what, role, now, lifetime or _length(last)))

    def revoke(self, what: str) -> list[str]:
        """Revoke every certificate of a client, or one by its serial number. Returns the serial numbers."""
        wanted = what.lower().replace(":", "")
        with self._changing() as authority:
            chosen = [
                entry
                for entry in self.entries()
                if entry.kind != "ca" and ((entry.kind == "client" and entry.name == what) or entry.serial == wanted)
            ]
            if not chosen:
                raise TerminalError(
                    f"there is no client and no serial number {what}",
                    remedy="containarium cert list shows those there are",
                )
            new, now = [entry.serial for entry in chosen if entry.revoked is None], self.clock()
            revoked = self._revoked(authority.certificate) | {int(serial, 16): now for serial in new}
            self._files.write("crl.pem", certificates.make_revocations(authority, revoked.items(), now), PUBLIC)
            return new

    # Files

    @property
    def _files(self) -> CertificateFiles:
        return CertificateFiles(self.folder)

    @contextmanager
    def _changing(self) -> Iterator[Pair]:
        """Alone, with a whole revocation list; the index is written when the block has ended."""
        with self._files.changing():
            authority = self._authority()
            self._complete(authority)
            yield authority
            self._write_index()

    def _complete(self, authority: Pair) -> bool:
        """Make the revocation list where it is missing. Returns whether it had been there before, with others."""
        if self._files.there("crl.pem"):
            return False
        revoked = self._revoked(authority.certificate)
        self._files.write("crl.pem", certificates.make_revocations(authority, revoked.items(), self.clock()), PUBLIC)
        return self._has_issued()

    def _make_folder(self) -> None:
        try:
            make_folder(self.folder, 0o755)
        except OSError as error:
            raise TerminalError(f"cannot make {self.folder}: {error.strerror}", remedy="run it as root") from error

    def _authority(self) -> Pair:
        try:
            return certificates.load_pair(self._files.read("ca.crt"), self._files.read("ca.key"))
        except ValueError as error:
            raise self._files.unusable("ca.crt", error) from error

    def _renew_authority(self, authority: Pair, lifetime: timedelta | None) -> Path:
        length = lifetime or _length(authority.certificate)
        renewed = certificates.make_authority(self.clock(), length, authority.key)
        where = self._files.write("ca.crt", renewed.certificate_pem, PUBLIC)
        for path in (self.folder / "clients").glob("*/ca.crt"):
            self._files.write(str(path.relative_to(self.folder)), renewed.certificate_pem, PUBLIC)
        return where

    def _put_server(self, pair: Pair) -> Path:
        self._keep(pair.certificate)
        # The key first: until the certificate follows, whoever reads both finds that they differ, and waits.
        self._files.write("server.key", pair.key_pem, PRIVATE)
        return self._files.write("server.crt", pair.certificate_pem, PUBLIC)

    def _put_client(self, pair: Pair) -> Path:
        self._keep(pair.certificate)
        name = certificates.name_of(pair.certificate)
        make_folder(self.folder / "clients", 0o700)
        make_folder(self.folder / "clients" / name, 0o700)
        self._files.write(f"clients/{name}/ca.crt", self._files.read("ca.crt").decode(), PUBLIC)
        self._files.write(f"clients/{name}/client.key", pair.key_pem, PRIVATE)
        return self._files.write(f"clients/{name}/client.crt", pair.certificate_pem, PUBLIC).parent

    def _keep(self, certificate: x509.Certificate) -> None:
        make_folder(self.folder / "issued", 0o755)
        self._files.write(f"issued/{_serial(certificate)}.crt", certificates.pem(certificate), PUBLIC)

    def _write_index(self) -> None:
        plain = [
            {key: value.isoformat() if isinstance(value, datetime) else value for key, value in asdict(entry).items()}
            for entry in self.entries()
        ]
        self._files.write("index.json", json.dumps(plain, indent=1) + "\n", PUBLIC)

    def _last(self, name: str) -> x509.Certificate:
        """The newest certificate of a client."""
        newest = [e for e in self.entries() if e.kind == "client" and e.name == name]
        newest.sort(key=lambda entry: (entry.current, entry.not_before))
        if not newest:
            raise TerminalError(f"there is no client {name}", remedy="containarium cert list shows those there are")
        return self._files.certificate(f"issued/{newest[-1].serial}.crt")

    def _revoked(self, authority: x509.Certificate) -> dict[int, datetime]:
        """Where certificates were issued there was a list: one that is missing is not an empty one."""
        if not self._files.there("crl.pem"):
            return self._files.recorded() if self._has_issued() else {}
        try:
            return certificates.read_revocations(self._files.read("crl.pem"), authority)
        except ValueError as error:
            raise self._files.unusable("crl.pem", error) from error

    def _has_issued(self) -> bool:
        return any((self.folder / "issued").glob("*.crt"))

    def _serial_of(self, path: Path) -> int:
        name = str(path.relative_to(self.folder))
        return self._files.certificate(name).serial_number if path.exists() else 0


def expiring(entries: Sequence[Entry], now: datetime) -> Iterator[Entry]:
    """Those in use that end soon or have ended."""
    return (entry for entry in entries if entry.current and entry.state(now) in ("expiring", "expired"))


def _entry(kind: str, certificate: x509.Certificate, revoked: dict[int, datetime], current: set[int]) -> Entry:
    role = certificates.role_of(certificate)
    return Entry(
        kind=kind,
        name=certificates.name_of(certificate),
        role=role.value if role is not None else "",
        serial=_serial(certificate),
        fingerprint=certificates.fingerprint(certificate),
        not_before=certificate.not_valid_before_utc,
        not_after=certificate.not_valid_after_utc,
        revoked=revoked.get(certificate.serial_number),
        current=certificate.serial_number in current,
    )


def _serial(certificate: x509.Certificate) -> str:
    return f"{certificate.serial_number:x}"


def _length(certificate: x509.Certificate) -> timedelta:
    return certificate.not_valid_after_utc - certificate.not_valid_before_utc - certificates.SKEW
