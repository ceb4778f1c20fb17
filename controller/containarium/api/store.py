"""A folder of certificates: an authority, a server's, clients', and which of them were revoked.

    ca.crt ca.key            the authority
    server.crt server.key    this server's
    clients/NAME/            what client NAME needs, to be copied to its computer: ca.crt client.crt client.key
    issued/SERIAL.crt        every certificate that was ever issued
    crl.pem                  the revocation list
    index.json               all of them with their dates, for those who have no eyes for X.509

Private keys have mode 0600 from their first byte on, and ``clients`` is for its owner alone.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

from cryptography import x509

from containarium.api import certificates
from containarium.api.certificates import NAME, Pair
from containarium.api.who import Role
from containarium.host.files import make_folder, write_atomically
from containarium.model.host import TerminalError

AUTHORITY_LIFETIME = timedelta(days=3650)
LIFETIME = timedelta(days=365)
SOON = timedelta(days=30)
"""Before a certificate ends, for so long it is warned of."""
_LARGEST = 1 << 20
_PRIVATE = 0o600
_PUBLIC = 0o644


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
    """Every method may raise TerminalError with what to do about it."""

    folder: Path
    clock: Callable[[], datetime] = lambda: datetime.now(UTC)

    # Looking

    def entries(self) -> list[Entry]:
        """All certificates, the authority first, then the server's, then clients' by name, newest first."""
        authority = self._load_certificate("ca.crt")
        revoked = self._revoked(authority)
        current = {self._serial_of(self.folder / "server.crt")}
        current |= {self._serial_of(path) for path in (self.folder / "clients").glob("*/client.crt")}
        found = [_entry("ca", authority, {}, {authority.serial_number})]
        for path in (self.folder / "issued").glob("*.crt"):
            certificate = self._load_certificate(str(path.relative_to(self.folder)))
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
        made = []
        if not (self.folder / "ca.crt").exists():
            authority = certificates.make_authority(self.clock(), max(AUTHORITY_LIFETIME, lifetime))
            make_folder(self.folder, 0o755)
            self._write("ca.key", authority.key_pem, _PRIVATE)
            self._write("ca.crt", authority.certificate_pem, _PUBLIC)
            made.append("the authority")
        authority = self._authority()
        if not (self.folder / "crl.pem").exists():
            self._write("crl.pem", certificates.make_revocations(authority, (), self.clock()), _PUBLIC)
        if not (self.folder / "server.crt").exists():
            if not (dns or addresses):
                raise TerminalError(
                    "a server's certificate has to name its server", remedy="give --server-ip or --dns, or both"
                )
            self._put_server(certificates.make_server(authority, dns, addresses, self.clock(), lifetime))
            made.append("the server's certificate")
        if not any(entry.kind == "client" for entry in self.entries()):
            self.issue("admin", Role.ADMIN, lifetime)
            made.append("the client admin")
        self._write_index()
        return made

    def issue(self, name: str, role: Role, lifetime: timedelta) -> Path:
        """A certificate for a new client. Returns the folder to copy to its computer."""
        if not NAME.fullmatch(name):
            raise TerminalError(
                f"{name!r} is no name for a client", remedy="use letters, digits and . _ @ -, 64 at most"
            )
        if any(entry.kind == "client" and entry.name == name and entry.revoked is None for entry in self.entries()):
            raise TerminalError(
                f"there is a client {name} already", remedy=f"containarium cert renew {name}, or revoke it first"
            )
        folder = self._put_client(certificates.make_client(self._authority(), name, role, self.clock(), lifetime))
        self._write_index()
        return folder

    def renew(self, what: str, lifetime: timedelta | None = None) -> Path:
        """A new certificate with a new key in the place of one: ``server``, ``ca`` (same key), or a client's name.

        It is for the same names or role, and for as long, unless a ``lifetime`` is given. The one before stays good
        until it ends; revoke a client's where its key may have got away. Returns where it was written.
        """
        authority, now = self._authority(), self.clock()
        if what == "ca":
            renewed = certificates.make_authority(now, lifetime or _length(authority.certificate), authority.key)
            self._write("ca.crt", renewed.certificate_pem, _PUBLIC)
            for path in (self.folder / "clients").glob("*/ca.crt"):
                write_atomically(path, renewed.certificate_pem, _PUBLIC)
            where = self.folder / "ca.crt"
        elif what == "server":
            old = self._load_certificate("server.crt")
            dns, addresses = certificates.names_for(old)
            where = self._put_server(certificates.make_server(authority, dns, addresses, now, lifetime or _length(old)))
        else:
            last = self._last(what)
            role = certificates.role_of(last)
            if role is None:
                raise TerminalError(
                    f"the certificate of {what} has no role", remedy="issue a new one under another name"
                )
            where = self._put_client(certificates.make_client(authority, what, role, now, lifetime or _length(last)))
        self._write_index()
        return where

    def revoke(self, what: str) -> list[str]:
        """Revoke every certificate of a client, or one by its serial number. Returns the serial numbers."""
        authority = self._authority()
        revoked = self._revoked(authority.certificate)
        wanted = what.lower().replace(":", "")
        chosen = [
            entry
            for entry in self.entries()
            if entry.kind != "ca" and ((entry.kind == "client" and entry.name == what) or entry.serial == wanted)
        ]
        if not chosen:
            raise TerminalError(
                f"there is no client and no serial number {what}", remedy="containarium cert list shows those there are"
            )
        new = [entry.serial for entry in chosen if entry.revoked is None]
        now = self.clock()
        revoked |= {int(serial, 16): now for serial in new}
        self._write("crl.pem", certificates.make_revocations(authority, revoked.items(), now), _PUBLIC)
        self._write_index()
        return new

    # Files

    def _authority(self) -> Pair:
        try:
            return certificates.load_pair(self._read("ca.crt"), self._read("ca.key"))
        except ValueError as error:
            raise self._unusable("ca.crt", error) from error

    def _put_server(self, pair: Pair) -> Path:
        self._keep(pair.certificate)
        # The key first: until the certificate follows, whoever reads both finds that they differ, and waits.
        self._write("server.key", pair.key_pem, _PRIVATE)
        return self._write("server.crt", pair.certificate_pem, _PUBLIC)

    def _put_client(self, pair: Pair) -> Path:
        self._keep(pair.certificate)
        name = certificates.name_of(pair.certificate)
        make_folder(self.folder / "clients", 0o700)
        make_folder(self.folder / "clients" / name, 0o700)
        self._write(f"clients/{name}/ca.crt", self._read("ca.crt").decode(), _PUBLIC)
        self._write(f"clients/{name}/client.key", pair.key_pem, _PRIVATE)
        return self._write(f"clients/{name}/client.crt", pair.certificate_pem, _PUBLIC).parent

    def _keep(self, certificate: x509.Certificate) -> None:
        make_folder(self.folder / "issued", 0o755)
        self._write(f"issued/{_serial(certificate)}.crt", certificates.pem(certificate), _PUBLIC)

    def _write_index(self) -> None:
        plain = [
            {key: value.isoformat() if isinstance(value, datetime) else value for key, value in asdict(entry).items()}
            for entry in self.entries()
        ]
        self._write("index.json", json.dumps(plain, indent=1) + "\n", _PUBLIC)

    def _last(self, name: str) -> x509.Certificate:
        """The newest certificate of a client."""
        newest = [e for e in self.entries() if e.kind == "client" and e.name == name]
        newest.sort(key=lambda entry: (entry.current, entry.not_before))
        if not newest:
            raise TerminalError(f"there is no client {name}", remedy="containarium cert list shows those there are")
        return self._load_certificate(f"issued/{newest[-1].serial}.crt")

    def _revoked(self, authority: x509.Certificate) -> dict[int, datetime]:
        if not (self.folder / "crl.pem").exists():
            return {}
        try:
            return certificates.read_revocations(self._read("crl.pem"), authority)
        except ValueError as error:
            raise self._unusable("crl.pem", error) from error

    def _serial_of(self, path: Path) -> int:
        return self._load_certificate(str(path.relative_to(self.folder))).serial_number if path.exists() else 0

    def _load_certificate(self, name: str) -> x509.Certificate:
        try:
            return x509.load_pem_x509_certificate(self._read(name))
        except ValueError as error:
            raise self._unusable(name, error) from error

    def _read(self, name: str) -> bytes:
        try:
            with (self.folder / name).open("rb") as file:
                return file.read(_LARGEST)
        except FileNotFoundError as error:
            raise TerminalError(
                f"there is no {self.folder / name}",
                remedy="make it with containarium cert generate, or name another folder",
                reason="NoCertificates",
            ) from error
        except OSError as error:
            raise TerminalError(f"cannot read {self.folder / name}: {error.strerror}") from error

    def _write(self, name: str, text: str, mode: int) -> Path:
        path = self.folder / name
        try:
            write_atomically(path, text, mode)
        except OSError as error:
            raise TerminalError(f"cannot write {path}: {error.strerror}") from error
        return path

    def _unusable(self, name: str, error: Exception) -> TerminalError:
        return TerminalError(
            f"{self.folder / name} cannot be used: {error}",
            remedy="put the right file there, or begin anew in another folder with containarium cert generate",
            reason="BadCertificates",
        )


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
