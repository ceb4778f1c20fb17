"""X.509 certificates as this project makes and reads them. Nothing here touches a file or a clock.

A client's role is its subject's organizational unit, ``containarium-admin`` or ``containarium-viewer``: every tool
shows it (``openssl x509 -subject``), and an authority that is not ours can issue it too.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from ipaddress import IPv4Address, IPv6Address

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, ExtensionOID, NameOID

from containarium.api.who import Role

UNITS = {"containarium-admin": Role.ADMIN, "containarium-viewer": Role.VIEWER}
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}")
"""What a client may be called: it names a folder, too."""
SKEW = timedelta(minutes=5)
"""By how much other clocks may be behind ours."""
_CA_NAME = "Containarium CA"


@dataclass(frozen=True, slots=True)
class Pair:
    """A certificate and its private key."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @property
    def certificate_pem(self) -> str:
        """The certificate in PEM."""
        return pem(self.certificate)

    @property
    def key_pem(self) -> str:
        """The key in PEM, PKCS #8, unencrypted."""
        return self.key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        ).decode("ascii")


def pem(certificate: x509.Certificate) -> str:
    """A certificate in PEM."""
    return certificate.public_bytes(serialization.Encoding.PEM).decode("ascii")


def make_authority(now: datetime, lifetime: timedelta, key: ec.EllipticCurvePrivateKey | None = None) -> Pair:
    """An authority that signs itself; with the ``key`` of the one before, what that has issued stays good."""
    key = key or ec.generate_private_key(ec.SECP256R1())
    name = _subject(_CA_NAME)
    usage = _usage(key_cert_sign=True, crl_sign=True, digital_signature=False)
    builder = (
        _builder(name, name, key.public_key(), now, lifetime)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
    )
    return Pair(builder.sign(key, hashes.SHA256()), key)


def make_server(
    authority: Pair, dns: Sequence[str], addresses: Sequence[IPv4Address | IPv6Address], now: datetime,
    lifetime: timedelta,
) -> Pair:  # fmt: skip
    """A server's certificate for these names and addresses, of which there has to be one."""
    names: list[x509.GeneralName] = [x509.DNSName(name) for name in dns]
    names += [x509.IPAddress(address) for address in addresses]
    key = ec.generate_private_key(ec.SECP256R1())
    subject = _subject((*dns, *map(str, addresses))[0][:64])
    builder = (
        _issued(authority, subject, key, now, lifetime)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
    )
    return Pair(builder.sign(authority.key, hashes.SHA256()), key)


def make_client(authority: Pair, name: str, role: Role, now: datetime, lifetime: timedelta) -> Pair:
    """A client's certificate. ``name`` is as ``NAME`` allows."""
    unit = next(unit for unit, of in UNITS.items() if of is role)
    key = ec.generate_private_key(ec.SECP256R1())
    builder = _issued(authority, _subject(name, unit), key, now, lifetime).add_extension(
        x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False
    )
    return Pair(builder.sign(authority.key, hashes.SHA256()), key)


def make_revocations(authority: Pair, revoked: Collection[tuple[int, datetime]], now: datetime) -> str:
    """A revocation list in PEM of these serial numbers and when each was revoked."""
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(authority.certificate.subject)
        .last_update(now)
        # It lies beside the server and is replaced by each revocation: its age says nothing.
        .next_update(authority.certificate.not_valid_after_utc)
    )
    for serial, when in sorted(revoked):
        entry = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(when).build()
        builder = builder.add_revoked_certificate(entry)
    made = builder.sign(authority.key, hashes.SHA256())
    return made.public_bytes(serialization.Encoding.PEM).decode("ascii")


def read_revocations(text: bytes, authority: x509.Certificate) -> dict[int, datetime]:
    """When each serial number was revoked. Raises ValueError for what is no list of this authority's."""
    found = x509.load_pem_x509_crl(text)
    key = authority.public_key()
    try:
        genuine = isinstance(key, ec.EllipticCurvePublicKey) and found.is_signature_valid(key)
    except (InvalidSignature, TypeError):
        genuine = False
    if not genuine:
        raise ValueError("it is not signed by the authority beside it")
    return {entry.serial_number: entry.revocation_date_utc for entry in found}


def load_pair(certificate: bytes, key: bytes) -> Pair:
    """Read both. Raises ValueError where they cannot be read or do not belong together."""
    loaded, private = x509.load_pem_x509_certificate(certificate), serialization.load_pem_private_key(key, None)
    if not isinstance(private, ec.EllipticCurvePrivateKey):
        raise ValueError("its key is of another kind than ours are (ECDSA)")
    if loaded.public_key() != private.public_key():
        raise ValueError("the key is not the certificate's")
    return Pair(loaded, private)


def role_of(certificate: x509.Certificate) -> Role | None:
    """The role that a client's certificate gives; None where it gives none, or more than one."""
    units = certificate.subject.get_attributes_for_oid(NameOID.ORGANIZATIONAL_UNIT_NAME)
    roles = [UNITS[str(unit.value)] for unit in units if unit.value in UNITS]
    return roles[0] if len(roles) == 1 and is_for(certificate, client=True) else None


def is_for(certificate: x509.Certificate, *, client: bool) -> bool:
    """Whether a certificate is for clients, or for servers."""
    wanted = ExtendedKeyUsageOID.CLIENT_AUTH if client else ExtendedKeyUsageOID.SERVER_AUTH
    try:
        usage = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except (x509.ExtensionNotFound, ValueError):
        return False
    return wanted in usage


def name_of(certificate: x509.Certificate) -> str:
    """The common name, empty where there is none."""
    names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(names[0].value) if names else ""


def names_for(certificate: x509.Certificate) -> tuple[list[str], list[IPv4Address | IPv6Address]]:
    """The host names and addresses that a server's certificate is for."""
    try:
        found = certificate.extensions.get_extension_for_oid(ExtensionOID.SUBJECT_ALTERNATIVE_NAME).value
    except x509.ExtensionNotFound:
        return [], []
    if not isinstance(found, x509.SubjectAlternativeName):
        return [], []
    addresses = [a for a in found.get_values_for_type(x509.IPAddress) if isinstance(a, IPv4Address | IPv6Address)]
    return found.get_values_for_type(x509.DNSName), addresses


def fingerprint(certificate: x509.Certificate) -> str:
    """``SHA256:`` and the digest in hexadecimal digits."""
    return f"SHA256:{hashlib.sha256(certificate.public_bytes(serialization.Encoding.DER)).hexdigest()}"


def _issued(
    authority: Pair, subject: x509.Name, key: ec.EllipticCurvePrivateKey, now: datetime, lifetime: timedelta
) -> x509.CertificateBuilder:
    issuer = authority.certificate
    identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.key.public_key())
    return (
        _builder(subject, issuer.subject, key.public_key(), now, lifetime, issuer.not_valid_after_utc)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(digital_signature=True), critical=True)
        .add_extension(identifier, critical=False)
    )


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, now: datetime, lifetime: timedelta,
    latest: datetime | None = None,
) -> x509.CertificateBuilder:  # fmt: skip
    until = now + lifetime
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(min(now, until) - SKEW)
        .not_valid_after(min(until, latest) if latest is not None else until)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _subject(name: str, unit: str = "") -> x509.Name:
    attributes = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Containarium")]
    if unit:
        attributes.append(x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, unit))
    return x509.Name([*attributes, x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _usage(*, digital_signature: bool, key_cert_sign: bool = False, crl_sign: bool = False) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=digital_signature,
        key_cert_sign=key_cert_sign,
        crl_sign=crl_sign,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
