"""SSH public keys: read to the last byte, so that what reaches authorized_keys is one valid, strong key and no more."""

from __future__ import annotations

import binascii
import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from containarium.model.base import InvalidValueError, shown

RSA_MIN_BITS: Final = 2048
RSA_MAX_BITS: Final = 16384
COMMENT_MAX: Final = 128
TEXT_MAX: Final = 16384
"""Longest line that is looked at; a 16384-bit RSA key takes about 2800 characters."""

_MAKE_ONE = "make one with ssh-keygen -t ed25519 and write the line of its .pub file"
_WRITE_PUB = "write the whole line of the .pub file: type, key, comment"
_REVOKE = (
    "treat it as stolen: remove it wherever it is accepted, delete it from the file and its history, "
    "make a new one with ssh-keygen -t ed25519 and write the line of its .pub file"
)


@dataclass(frozen=True, slots=True)
class SSHKey:
    """One public key. ``blob`` is its canonical base64; ``comment`` is printable and at most COMMENT_MAX long."""

    type: str
    blob: str
    comment: str = ""

    @classmethod
    def parse(cls, text: str) -> SSHKey:
        """Parse one line of a .pub file. Raises InvalidValueError, a ValueError, with a remedy."""
        text = text.strip(" \t\r\n")
        refuse_other_formats(text)
        _check_line(text)
        kind, _, rest = text.replace("\t", " ").partition(" ")
        check = _CHECKS.get(kind)
        if check is None:
            raise _wrong_type(text, kind)
        encoded, _, comment = rest.lstrip(" ").partition(" ")
        if not encoded:
            raise InvalidValueError(f"after {kind} the key itself is missing", _WRITE_PUB)
        try:
            wire = binascii.a2b_base64(encoded, strict_mode=True)
        except (binascii.Error, ValueError):
            raise InvalidValueError("the key is not whole: its middle part is not base64", _WRITE_PUB) from None
        blob = binascii.b2a_base64(wire, newline=False).decode("ascii")
        if blob != encoded:
            raise InvalidValueError("the key's base64 has stray bits at its end", _WRITE_PUB)
        reader = _Wire(wire)
        inner = reader.string()
        if inner != kind.encode("ascii"):
            raise InvalidValueError(f"the line says {kind}, but the key inside is {_inner_name(inner)}", _WRITE_PUB)
        check(reader)
        reader.end()
        return cls(kind, blob, _clean(comment))

    @property
    def identity(self) -> str:
        """What makes two keys the same one: ``type blob``."""
        return f"{self.type} {self.blob}"

    @property
    def line(self) -> str:
        """The line for authorized_keys: ``type blob comment``."""
        return f"{self.type} {self.blob} {self.comment}" if self.comment else f"{self.type} {self.blob}"

    @property
    def fingerprint(self) -> str:
        """``SHA256:...``, as ssh-keygen -l prints it."""
        digest = hashlib.sha256(binascii.a2b_base64(self.blob)).digest()
        return "SHA256:" + binascii.b2a_base64(digest, newline=False).decode("ascii").rstrip("=")


def refuse_other_formats(text: str) -> None:
    """Refuse what is no OpenSSH public key but often mistaken for one. Raises InvalidValueError."""
    if "PRIVATE KEY" in text or text.startswith(_PRIVATE_MAGIC):
        raise InvalidValueError("this is a private key, and whoever can read this file now has it", _REVOKE)
    if "PuTTY-User-Key-File" in text:
        raise InvalidValueError("this is a PuTTY file with a private key in it", _REVOKE)
    if "BEGIN SSH2 PUBLIC KEY" in text:
        raise InvalidValueError("this is PuTTY's format", "convert it with ssh-keygen -i -f FILE and write that line")
    if "BEGIN PUBLIC KEY" in text or "BEGIN RSA PUBLIC KEY" in text:
        form = "PKCS8" if "BEGIN PUBLIC KEY" in text else "PEM"
        raise InvalidValueError("this is PEM", f"convert it with ssh-keygen -i -m {form} -f FILE and write that line")


def _check_line(text: str) -> None:
    if not text:
        raise InvalidValueError("the key is empty", _MAKE_ONE)
    if len(text) > TEXT_MAX:
        raise InvalidValueError("the key is too long to be one", _WRITE_PUB)
    if "\n" in text or "\r" in text:
        raise InvalidValueError("the key is more than one line", "write one key per entry, each on one line")
    if _CONTROL.search(text):
        raise InvalidValueError("the key has control characters in it", "copy it again from the .pub file")


_PRIVATE_MAGIC: Final = "b3BlbnNzaC1rZXktdjE"
"""Base64 of "openssh-key-v1", which every OpenSSH private key begins with."""

_CONTROL: Final = re.compile(r"[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029]")


def _wrong_type(text: str, kind: str) -> InvalidValueError:
    if "-cert-v01@" in kind:
        return InvalidValueError("this is a certificate", "write the public key itself, not its -cert.pub file")
    if kind == "ssh-dss":
        return InvalidValueError("DSA keys are broken and sshd refuses them", _MAKE_ONE)
    if kind.startswith("SHA256:") or kind.startswith("MD5:"):
        return InvalidValueError("this is a key's fingerprint, not the key", _WRITE_PUB)
    if any(word in _CHECKS or word == "ssh-dss" for word in text.split()):
        return InvalidValueError(
            "there are options before the key's type", "leave them out: what a key may do is not set per key"
        )
    if kind.startswith("AAAA"):
        return InvalidValueError("the key's type is missing", _WRITE_PUB)
    return InvalidValueError(f"{shown(kind)} is not a type of key that is accepted", f"use one of {', '.join(_CHECKS)}")


def _clean(comment: str) -> str:
    words = "".join(c if c.isprintable() else " " for c in comment).split()
    return " ".join(words)[:COMMENT_MAX].rstrip()


def _inner_name(inner: bytes) -> str:
    name = inner.decode("ascii", "replace")
    return name if name in _CHECKS or name == "ssh-dss" else "something else"


class _Wire:
    """Reads the wire format of RFC 4251: every length is checked before it is used."""

    __slots__ = ("_at", "_data")

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def string(self) -> bytes:
        start = self._at + 4
        end = start + int.from_bytes(self._data[self._at : start], "big")
        if start > len(self._data) or end > len(self._data):
            raise InvalidValueError("the key is cut short", _WRITE_PUB)
        self._at = end
        return self._data[start:end]

    def mpint(self) -> int:
        raw = self.string()
        number = int.from_bytes(raw, "big")
        if not raw or raw[0] & 0x80 or len(raw) != number.bit_length() // 8 + 1:
            raise InvalidValueError("a number in the key is not written as SSH writes it", _MAKE_ONE)
        return number

    def end(self) -> None:
        if self._at != len(self._data):
            raise InvalidValueError("there is something after the end of the key", _WRITE_PUB)


_P25519 = 2**255 - 19
_ORDER_8 = 0x5FC536D880238B13933C6D305ACDFD5F098EFF289F4C345B027B2C28F95E826
_SMALL_ORDER = frozenset({0, 1, _P25519 - 1, _P25519, _P25519 + 1, _ORDER_8, _P25519 - _ORDER_8})
"""y of the points of order 1, 2, 4 and 8: anybody can sign for a key that is one of these."""


def _ed25519(wire: _Wire) -> None:
    point = wire.string()
    if len(point) != 32:
        raise InvalidValueError(f"an Ed25519 key has 32 bytes, this one has {len(point)}", _WRITE_PUB)
    if int.from_bytes(point, "little") & (2**255 - 1) in _SMALL_ORDER:
        raise InvalidValueError("anybody can sign for this Ed25519 key (a point of small order)", _MAKE_ONE)


def _rsa(wire: _Wire) -> None:
    exponent, modulus = wire.mpint(), wire.mpint()
    bits = modulus.bit_length()
    if bits < RSA_MIN_BITS:
        raise InvalidValueError(f"an RSA key of {bits} bits is too weak", _MAKE_ONE)
    if bits > RSA_MAX_BITS:
        raise InvalidValueError(f"an RSA key of {bits} bits is more than sshd takes ({RSA_MAX_BITS})", _MAKE_ONE)
    if exponent < 3 or not exponent & 1 or exponent.bit_length() > 64 or not modulus & 1:
        raise InvalidValueError("the numbers in this RSA key cannot be right", _MAKE_ONE)


@dataclass(frozen=True, slots=True)
class _Curve:
    """A NIST curve y^2 = x^3 - 3x + b over the field of p (FIPS 186-4, D.1.2)."""

    name: str
    bits: int
    p: int
    b: int

    def check(self, wire: _Wire) -> None:
        if wire.string() != self.name.encode("ascii"):
            raise InvalidValueError(f"the curve inside the key is not {self.name}", _WRITE_PUB)
        point = wire.string()
        size = (self.bits + 7) // 8
        if len(point) != 1 + 2 * size or point[0] != 4:
            raise InvalidValueError(f"the point in the key has not the length of {self.name}", _WRITE_PUB)
        x = int.from_bytes(point[1 : 1 + size], "big")
        y = int.from_bytes(point[1 + size :], "big")
        if x >= self.p or y >= self.p or (y * y - (x * x * x - 3 * x + self.b)) % self.p:
            raise InvalidValueError(f"the point in the key is not on {self.name}", _MAKE_ONE)


_P256 = _Curve(
    "nistp256",
    256,
    2**256 - 2**224 + 2**192 + 2**96 - 1,
    0x5AC635D8AA3A93E7B3EBBD55769886BC651D06B0CC53B0F63BCE3C3E27D2604B,
)
_P384 = _Curve(
    "nistp384",
    384,
    2**384 - 2**128 - 2**96 + 2**32 - 1,
    int(
        "b3312fa7e23ee7e4988e056be3f82d19181d9c6efe8141120314088f5013875ac656398d8a2ed19d2a85c8edd3ec2aef",
        16,
    ),
)
_P521 = _Curve(
    "nistp521",
    521,
    2**521 - 1,
    int(
        "0051953eb9618e1c9a1f929a21a0b68540eea2da725b99b315f3b8b489918ef1"
        "09e156193951ec7e937b1652c0bd3bb1bf073573df883d2c34f1ef451fd46b503f00",
        16,
    ),
)


def _application(wire: _Wire) -> None:
    name = wire.string()
    if not name.startswith(b"ssh:") or len(name) > 256 or not name.isascii():
        raise InvalidValueError("this security key was not made for SSH", "make one with ssh-keygen -t ed25519-sk")


def _sk_ed25519(wire: _Wire) -> None:
    _ed25519(wire)
    _application(wire)


def _sk_ecdsa(wire: _Wire) -> None:
    _P256.check(wire)
    _application(wire)


_CHECKS: Final[dict[str, Callable[[_Wire], None]]] = {
    "ssh-ed25519": _ed25519,
    "sk-ssh-ed25519@openssh.com": _sk_ed25519,
    "ecdsa-sha2-nistp256": _P256.check,
    "ecdsa-sha2-nistp384": _P384.check,
    "ecdsa-sha2-nistp521": _P521.check,
    "sk-ecdsa-sha2-nistp256@openssh.com": _sk_ecdsa,
    "ssh-rsa": _rsa,
}
