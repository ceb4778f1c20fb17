"""What hosts say to one another: one line of JSON each way. Nothing of it is believed before it was read to its end.

Another host may have been taken over. So sizes are bounded, every part has to be what it claims to be, and one part
that is not makes the whole answer none.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import AddressValueError, IPv4Address
from typing import Any, Final

from containarium.host.faults import clean
from containarium.model.fields import check_name
from containarium.model.fleet import Box, Presence
from containarium.model.host import RetryableError, TerminalError
from containarium.model.hostmanifest import HostManifest, check_host_name
from containarium.model.sshkey import SSHKey

LIST: Final = "list"
OFFER: Final = "offer"
KEYS: Final = "keys"
REQUEST_LINE: Final = 4096
"""Bytes that a request may have."""
ANSWER_LINE: Final = 1 << 20
"""Bytes that an answer may have."""
MOST_BOXES: Final = 4096
_MOST_KEYS = 16
_MOST_CONFIG = 512
_LONGEST_VALUE = 128 << 10

_OPERATION = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_SECRET_NAME = re.compile(r"[a-z]{1,16}")
_SECRET = re.compile(r"[0-9A-Za-z]{16,128}")
_CERTIFICATE = re.compile(r"-----BEGIN CERTIFICATE-----\n[A-Za-z0-9+/=\n]{64,16384}\n-----END CERTIFICATE-----\n*")
_ARCHITECTURE = re.compile(r"[a-z0-9_]{1,16}")
_IMAGE = re.compile(r"[0-9a-f]{64}|")
_VERSION = re.compile(r"[0-9A-Za-z.+-]{1,40}")
_CONFIG_KEY = re.compile(r"[A-Za-z0-9_.:/-]{1,256}")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")
_INSTANCE_ID = re.compile(r"[0-9A-Za-z-]{1,64}|")


@dataclass(frozen=True, slots=True)
class Request:
    """A question. ``caller`` is the host that asks, by the key that it came with; ``name`` an environment's.

    ``disk`` is how large its disk will be there, in bytes; 0 where that is not said.
    """

    caller: str
    ask: str
    name: str = ""
    disk: int = 0


@dataclass(frozen=True, slots=True)
class Told:
    """The answer to LIST. ``clock`` is the other host's, in seconds since 1970."""

    boxes: Mapping[str, Box]
    version: str
    clock: float


@dataclass(frozen=True, slots=True)
class Offer:
    """The answer to OFFER: what Incus wants of whoever fetches an instance, and what the instance was set to."""

    operation: str
    secrets: Mapping[str, str] = field(repr=False)
    certificate: str = field(repr=False)
    config: Mapping[str, str]
    architecture: str
    image: str = ""
    instance_id: str = ""
    """What cloud-init in the guest takes for its machine: with another one it would make new host keys."""


def parse_request(line: bytes) -> Request:
    """What the relay hands on. Raises TerminalError (BadRequest)."""
    try:
        raw = json.loads(line)
        asked = raw["request"]
        request = Request(str(raw["from"]), str(asked["ask"]), str(asked.get("name", "")), int(asked.get("disk", 0)))
        check_host_name(request.caller)
        if request.ask not in (LIST, OFFER, KEYS) or request.disk < 0:
            raise ValueError
        if request.ask != LIST:
            check_name(request.name)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, OverflowError) as error:
        raise TerminalError("this request makes no sense", reason="BadRequest") from error
    return request


def parse_told(line: bytes, host: HostManifest) -> Told:
    """The answer to LIST. Raises RetryableError (PeerRefused, PeerUnclear)."""
    raw = _answer(line, host.name)
    try:
        listed = raw["boxes"]
        if not isinstance(listed, list) or len(listed) > MOST_BOXES:
            raise _unclear(host.name, f"a list of more than {MOST_BOXES} environments, or none at all")
        boxes = [_box(item, host) for item in listed]
        found = {box.name: box for box in boxes}
        if len(found) < len(boxes):
            raise _unclear(host.name, "an environment that it has twice")
        clock = raw["clock"]
        if isinstance(clock, bool) or not isinstance(clock, int | float) or not 0 <= clock < 1e11:
            raise ValueError
        return Told(found, _matching(_VERSION, raw["version"]), float(clock))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise _unclear(host.name, "a list that makes no sense") from error


def parse_offer(line: bytes, host: HostManifest) -> Offer:
    """The answer to OFFER. Raises RetryableError (PeerRefused, PeerUnclear)."""
    raw = _answer(line, host.name)
    try:
        secrets, config = raw["secrets"], raw["config"]
        if not 1 <= len(secrets) <= _MOST_KEYS or len(config) > _MOST_CONFIG:
            raise ValueError
        return Offer(
            operation=_matching(_OPERATION, raw["operation"]),
            secrets={_matching(_SECRET_NAME, key): _matching(_SECRET, value) for key, value in secrets.items()},
            certificate=_matching(_CERTIFICATE, raw["certificate"]),
            config={_matching(_CONFIG_KEY, key): _value(value) for key, value in config.items()},
            architecture=_matching(_ARCHITECTURE, raw["architecture"]),
            image=_matching(_IMAGE, raw["image"]),
            instance_id=_matching(_INSTANCE_ID, raw["instance_id"]),
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise _unclear(host.name, "an offer that makes no sense") from error


def parse_keys(line: bytes, host: HostManifest) -> tuple[str, ...]:
    """The answer to KEYS, each as ``TYPE BASE64``. Raises RetryableError (PeerRefused, PeerUnclear)."""
    raw = _answer(line, host.name)
    try:
        if not isinstance(raw["keys"], list) or len(raw["keys"]) > _MOST_KEYS:
            raise ValueError
        return tuple(SSHKey.parse(str(key)).identity for key in raw["keys"])
    except (ValueError, KeyError, TypeError) as error:
        raise _unclear(host.name, "host keys that make no sense") from error


def _answer(line: bytes, name: str) -> Mapping[str, Any]:
    try:
        raw = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise _unclear(name, "something that is no JSON") from error
    if not isinstance(raw, dict):
        raise _unclear(name, "something that is no answer")
    if raw.get("error"):
        raise RetryableError(
            f"{name} says: {clean(str(raw['error']), 300)}",
            remedy=clean(str(raw.get("remedy") or ""), 200),
            reason="PeerRefused",
        )
    return raw


def _box(item: Any, host: HostManifest) -> Box:
    name, other = item["name"], item.get("other", "")
    if not isinstance(name, str) or not isinstance(other, str):
        raise TypeError
    if other:
        check_host_name(other)
    return Box(check_name(name), Presence(item["presence"]), _address(item.get("address", ""), host, name), other)


def _address(text: Any, host: HostManifest, name: str) -> str:
    """An address of the host's own subnet: jump accounts lead nowhere else, whatever it says."""
    if text == "":
        return ""
    try:
        address = IPv4Address(text if isinstance(text, str) else "")
    except AddressValueError as error:
        raise _unclear(host.name, f"an address for {name} that is none") from error
    network, bridge = host.network, host.spec.network.subnet.ip
    if address not in network or address in (network.network_address, network.broadcast_address, bridge):
        raise _unclear(host.name, f"that {name} has {address}, which is not of its subnet {network}")
    return str(address)


def _matching(pattern: re.Pattern[str], value: Any) -> str:
    if not isinstance(value, str) or not pattern.fullmatch(value):
        raise ValueError
    return value


def _value(value: Any) -> str:
    if not isinstance(value, str) or len(value) > _LONGEST_VALUE or _CONTROL.search(value):
        raise ValueError
    return value


def _unclear(name: str, what: str) -> RetryableError:
    return RetryableError(
        f"{name} told {what}; nothing of it is believed",
        remedy=f"look after {name}: containarium doctor there",
        reason="PeerUnclear",
    )
