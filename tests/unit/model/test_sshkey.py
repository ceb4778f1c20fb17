"""SSH keys, judged beside the real ssh-keygen."""

from __future__ import annotations

import base64
import shutil
import struct
import subprocess
import time
from pathlib import Path

import pytest

from containarium.model.base import InvalidValueError
from containarium.model.sshkey import COMMENT_MAX, SSHKey

KINDS = ["ed25519", "ecdsa-256", "ecdsa-384", "ecdsa-521", "rsa-2048", "rsa-3072", "rsa-1024"]


def wire(*parts: bytes) -> bytes:
    return b"".join(struct.pack(">I", len(part)) + part for part in parts)


def line(kind: str, *parts: bytes, tail: bytes = b"", comment: str = "a@b") -> str:
    return f"{kind} {base64.b64encode(wire(kind.encode(), *parts) + tail).decode()} {comment}"


def mpint(number: int) -> bytes:
    return number.to_bytes(number.bit_length() // 8 + 1, "big")


POINT = bytes(range(1, 33))
GOOD = line("ssh-ed25519", POINT)
CURVE_256 = bytes.fromhex(
    "046b17d1f2e12c4247f8bce6e563a440f277037d812deb33a0f4a13945d898c296"
    "4fe342e2fe1a7f9b8ee7eb4a7c0f9e162bce33576b315ececbb6406837bf51f5"
)
"""The generator of P-256 (FIPS 186-4, D.1.2.3): a valid point."""


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One public key of every kind, made by ssh-keygen."""
    if shutil.which("ssh-keygen") is None:
        pytest.skip("no ssh-keygen here")
    folder = tmp_path_factory.mktemp("keys")
    files = {}
    for kind in KINDS:
        name, _, bits = kind.partition("-")
        file = folder / kind
        size = ["-b", bits] if bits else []
        subprocess.run(
            ["ssh-keygen", "-q", "-t", name, *size, "-N", "", "-C", f"{kind} of alice@laptop", "-f", str(file)],
            check=True,
        )
        files[kind] = file.with_suffix(".pub")
    return files


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "rsa-1024"])
def test_agrees_with_ssh_keygen(made: dict[str, Path], kind: str) -> None:
    text = made[kind].read_text()
    told = subprocess.run(["ssh-keygen", "-lf", made[kind]], check=True, capture_output=True, text=True).stdout
    key = SSHKey.parse(text)
    assert key.line == text.strip()
    assert key.comment == f"{kind} of alice@laptop"
    assert key.fingerprint == told.split()[1]


def test_refuses_a_short_rsa_key(made: dict[str, Path]) -> None:
    with pytest.raises(InvalidValueError, match="1024 bits is too weak; make one with ssh-keygen"):
        SSHKey.parse(made["rsa-1024"].read_text())


def test_refuses_a_private_key(made: dict[str, Path]) -> None:
    private = made["ed25519"].with_suffix("").read_text()
    for text in (private, private.replace("\n", " "), "".join(private.splitlines()[1:-1])):
        with pytest.raises(InvalidValueError, match=r"this is a private key.*treat it as stolen") as caught:
            SSHKey.parse(text)
        assert private.splitlines()[1][16:] not in str(caught.value)


@pytest.mark.parametrize("form", ["RFC4716", "PKCS8", "PEM"])
def test_names_other_formats(made: dict[str, Path], form: str) -> None:
    kind = "rsa-2048" if form == "PEM" else "ed25519" if form == "RFC4716" else "ecdsa-256"
    text = subprocess.run(
        ["ssh-keygen", "-e", "-m", form, "-f", made[kind]], check=True, capture_output=True, text=True
    ).stdout
    with pytest.raises(InvalidValueError, match="convert it with ssh-keygen -i"):
        SSHKey.parse(text)


@pytest.mark.parametrize(
    "text",
    [
        GOOD,
        f"  {GOOD}\n",
        GOOD.replace(" ", "\t"),
        line("sk-ssh-ed25519@openssh.com", POINT, b"ssh:"),
        line("sk-ecdsa-sha2-nistp256@openssh.com", b"nistp256", CURVE_256, b"ssh:work"),
        line("ecdsa-sha2-nistp256", b"nistp256", CURVE_256),
        line("ssh-rsa", mpint(65537), mpint(2**2047 + 1)),
        line("ssh-rsa", mpint(3), mpint(2**16383 + 1)),
    ],
)
def test_accepts(text: str) -> None:
    key = SSHKey.parse(text)
    assert SSHKey.parse(key.line) == key
    assert key.identity == " ".join(text.split()[:2])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the key is empty"),
        ("ssh-ed25519", "the key itself is missing"),
        ("ssh-ed25519 AAAA!", "is not base64"),
        (GOOD.split()[0] + " " + GOOD.split()[1][:-4], "cut short"),
        (GOOD.split()[0] + " " + GOOD.split()[1][:-1], "is not base64"),
        (GOOD.split()[1], "the key's type is missing"),
        ("SHA256:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU", "a key's fingerprint"),
        ("hello", "'hello' is not a type of key"),
        (line("ssh-dss", b"x"), "DSA keys are broken"),
        (line("ssh-ed25519-cert-v01@openssh.com", b"x"), "this is a certificate"),
        (f'command="ls" {GOOD}', "options before the key's type"),
        (f"no-pty {GOOD}", "options before the key's type"),
        (f"{GOOD}\n{GOOD}", "more than one line"),
        (f"{GOOD}\x1b[2J", "control characters"),
        (f"{GOOD}\x00", "control characters"),
        ("PuTTY-User-Key-File-2: ssh-rsa", "PuTTY file with a private key"),
        (GOOD.replace("ssh-ed25519", "ssh-rsa", 1), "the line says ssh-rsa, but the key inside is ssh-ed25519"),
        (line("ssh-ed25519", POINT[:31]), "has 32 bytes, this one has 31"),
        (line("ssh-ed25519", POINT + b"x"), "has 32 bytes, this one has 33"),
        (line("ssh-ed25519", POINT, tail=b"x"), "after the end of the key"),
        (line("ssh-ed25519"), "cut short"),
        (line("ssh-ed25519", bytes(32)), "anybody can sign"),
        (line("ssh-ed25519", b"\x01" + bytes(31)), "anybody can sign"),
        (line("ssh-ed25519", b"\x01" + bytes(30) + b"\x80"), "anybody can sign"),
        (line("ecdsa-sha2-nistp256", b"nistp384", CURVE_256), "the curve inside the key is not nistp256"),
        (line("ecdsa-sha2-nistp256", b"nistp256", CURVE_256[:-1]), "has not the length"),
        (line("ecdsa-sha2-nistp256", b"nistp256", CURVE_256[:-1] + b"\x00"), "not on nistp256"),
        (line("ecdsa-sha2-nistp256", b"nistp256", b"\x04" + b"\xff" * 64), "not on nistp256"),
        (line("sk-ssh-ed25519@openssh.com", POINT, b"https://example.com"), "not made for SSH"),
        (line("ssh-rsa", mpint(65537), mpint(2**2046 + 1)), "2047 bits is too weak"),
        (line("ssh-rsa", mpint(65537), mpint(2**16384 + 1)), "16385 bits is more than sshd takes"),
        (line("ssh-rsa", mpint(1), mpint(2**2047 + 1)), "cannot be right"),
        (line("ssh-rsa", mpint(65537), mpint(2**2047)), "cannot be right"),
        (line("ssh-rsa", mpint(65537), b"\x00" + mpint(2**2047 + 1)), "not written as SSH writes it"),
        (line("ssh-rsa", mpint(65537), b"\xff" * 256), "not written as SSH writes it"),
        (line("ssh-rsa", b"", mpint(2**2047 + 1)), "not written as SSH writes it"),
        ("ssh-rsa " + "A" * 20000, "too long"),
    ],
)
def test_refuses(text: str, message: str) -> None:
    with pytest.raises(InvalidValueError) as caught:
        SSHKey.parse(text)
    assert message in str(caught.value)
    assert caught.value.remedy


def test_base64_has_one_spelling_only() -> None:
    """Else a key could be given to two people unnoticed."""
    kind, blob = line("ecdsa-sha2-nistp256", b"nistp256", CURVE_256).split()[:2]
    assert blob.endswith("U=")
    stray = blob[:-2] + "V="
    assert base64.b64decode(stray) == base64.b64decode(blob)
    with pytest.raises(InvalidValueError, match="stray bits"):
        SSHKey.parse(f"{kind} {stray}")


def test_comment_is_harmless() -> None:
    key = SSHKey.parse(GOOD.replace("a@b", "Zo\u00eb  \u202e evil\u200b " + "x" * 500))
    assert key.comment.startswith("Zo\u00eb evil xxx")
    assert len(key.comment) <= COMMENT_MAX


def test_two_hundred_keys_are_parsed_quickly(made: dict[str, Path]) -> None:
    text = made["ed25519"].read_text()
    start = time.perf_counter()
    for _ in range(200):
        SSHKey.parse(text)
    assert time.perf_counter() - start < 0.1  # 1 ms on an idle machine
