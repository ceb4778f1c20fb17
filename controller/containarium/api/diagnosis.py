"""Why a connection over mutual TLS does not come about, in one line.

grpcio says little more than that it is unavailable. So the connection is tried once more with Python's own ssl, which
tells what exactly each side did not like.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509

from containarium.api import certificates
from containarium.api.store import SOON
from containarium.model.host import HostError, RetryableError, TerminalError

_PATIENCE = 5.0


_ALERTS = {
    "CERTIFICATE_EXPIRED": ("the server says that your certificate has expired", "ask an admin for a new one"),
    "UNKNOWN_CA": ("your certificate is of another authority than the server's", "use the one made for this server"),
    "BAD_CERTIFICATE": ("the server does not accept your certificate", "ask an admin for a new one"),
    "CERTIFICATE_REVOKED": ("your certificate was revoked", "ask an admin for a new one"),
    "CERTIFICATE_REQUIRED": ("the server wants a certificate and got none", "give --certs-dir"),
}
_PLAIN = (
    "WRONG_VERSION_NUMBER",
    "UNSUPPORTED_PROTOCOL",
    "HTTP_REQUEST",
    "RECORD_LAYER_FAILURE",
    "PACKET_LENGTH_TOO_LONG",
)


def why_not(host: str, port: int, folder: Path, now: datetime | None = None) -> HostError:
    """Try it, and say what is wrong. Where nothing is, the server was away for a moment."""
    now = now or datetime.now(UTC)
    server = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    try:
        context = _context(folder)
        connection = socket.create_connection((host, port), _PATIENCE)
    except (ValueError, ssl.SSLError) as error:
        return _certificate(f"the certificates in {folder} cannot be used: {error}", "copy them from the host anew")
    except socket.gaierror:
        return TerminalError(f"there is no host {host}", remedy="correct --server", reason="NoHost")
    except ConnectionRefusedError:
        return RetryableError(
            f"nobody listens on {server}",
            remedy="is that the right port? There: systemctl status containarium-api, with --mtls in its options",
            reason="NoServer",
        )
    except OSError as error:
        return RetryableError(
            f"{server} cannot be reached: {error.strerror or error}",
            remedy="see network and firewall",
            reason="NoServer",
        )
    with connection:
        return _handshake(context, connection, host, server, folder, now)


def warning(folder: Path, now: datetime | None = None) -> str:
    """What to say beside a command while its certificate still holds; empty where it holds for long."""
    now = now or datetime.now(UTC)
    try:
        until = x509.load_pem_x509_certificate((folder / "client.crt").read_bytes()).not_valid_after_utc
    except (OSError, ValueError):
        return ""
    if not now < until <= now + SOON:
        return ""
    return f"Your certificate ends on {until:%Y-%m-%d}: ask an admin to renew it (containarium cert renew NAME)."


def _context(folder: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(folder / "ca.crt")
    context.load_cert_chain(folder / "client.crt", folder / "client.key")
    context.set_alpn_protocols(["h2"])
    return context


def _handshake(
    context: ssl.SSLContext, connection: socket.socket, host: str, server: str, folder: Path, now: datetime
) -> HostError:
    try:
        with context.wrap_socket(connection, server_hostname=host) as wrapped:
            # With TLS 1.3 a server says only after the handshake that it does not like a certificate.
            wrapped.recv(1)
    except ssl.SSLCertVerificationError as error:
        return _unverified(error, host, server)
    except ssl.SSLError as error:
        return _refused(error, server, folder, now)
    except TimeoutError:
        return RetryableError(f"{server} accepts connections and says nothing", remedy="try again", reason="NoServer")
    except OSError:
        return _own(folder, now) or RetryableError(
            f"{server} ended the connection", remedy="try again", reason="NoServer"
        )
    return _own(folder, now) or RetryableError(f"{server} was away for a moment", remedy="try again", reason="NoServer")


def _unverified(error: ssl.SSLCertVerificationError, host: str, server: str) -> HostError:
    match error.verify_code:
        case 10:
            return _certificate(f"the certificate of {server} has expired", "there: containarium cert renew server")
        case 9:
            return _certificate(f"the certificate of {server} is not valid yet", "set the clocks right")
        case 62 | 64:
            return _certificate(
                f"the certificate of {server} is not for the name {host}",
                "use a name that it has, or there: containarium cert generate --dns or --server-ip, in a new folder",
            )
    return _certificate(
        f"{server} has a certificate of another authority than your ca.crt", "copy ca.crt from the host anew"
    )


def _refused(error: ssl.SSLError, server: str, folder: Path, now: datetime) -> HostError:
    reason = error.reason or ""
    if any(word in reason for word in _PLAIN):
        return _certificate(f"{server} does not speak TLS", "is that the right port? Nothing is sent in plain text")
    own = _own(folder, now)
    if own is not None:
        return own
    for word, (message, remedy) in _ALERTS.items():
        if word in reason:
            return _certificate(f"{server}: {message}", remedy)
    return _certificate(f"{server} refuses the connection ({reason or error})", "ask an admin for a new certificate")


def _own(folder: Path, now: datetime) -> HostError | None:
    """What is wrong with the client's certificate by itself."""
    with contextlib.suppress(OSError, ValueError):
        own = x509.load_pem_x509_certificate((folder / "client.crt").read_bytes())
        authority = x509.load_pem_x509_certificate((folder / "ca.crt").read_bytes())
        if now >= own.not_valid_after_utc:
            return _certificate(
                f"your certificate has expired on {own.not_valid_after_utc:%Y-%m-%d}",
                f"there: containarium cert renew {certificates.name_of(own) or 'NAME'}, and copy it here",
            )
        if own.issuer != authority.subject or not _signed(own, authority):
            return _certificate(
                "your certificate is of another authority than the ca.crt beside it", "copy both from the host anew"
            )
    return None


def _signed(certificate: x509.Certificate, authority: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(authority)
    except Exception:  # noqa: BLE001 - InvalidSignature and what else cryptography raises
        return False
    return True


def _certificate(message: str, remedy: str) -> TerminalError:
    return TerminalError(message, remedy=remedy, reason="BadCertificate")
