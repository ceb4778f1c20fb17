"""A manifest packed into one line of text for a mark on the instance, and back.

JSON of the environment with its keys written in, compressed, in base64. What the manifest leaves to the defaults is
not packed: it goes on following them.
"""

from __future__ import annotations

import base64
import json
import zlib
from typing import Any, Final

from containarium.model.environment import Environment
from containarium.model.manifest import Manifest

MAX_PACKED: Final = 16 << 10
"""Longest text that is written onto an instance."""
_MAX_PLAIN: Final = 1 << 20
"""Most bytes that are unpacked, whatever the text holds."""


def plain(environment: Environment) -> dict[str, Any]:
    """A manifest as plain data in the order of its schema, without what it leaves to the defaults."""
    return environment.model_dump(mode="json", by_alias=True, exclude_unset=True)


def pack(manifest: Manifest) -> str:
    """One line of at most ``MAX_PACKED`` characters; empty where the manifest is larger than that.

    Keys that are in files are written in, for the files may go with the manifest.
    """
    data = plain(manifest.environment)
    data["spec"]["sshKeys"] = [key.line for key in manifest.keys]
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"))
    packed = base64.b64encode(zlib.compress(text.encode())).decode("ascii")
    return packed if len(packed) <= MAX_PACKED else ""


def unpack(packed: str) -> Environment:
    """The manifest in a packed text. Raises ValueError for anything that ``pack`` did not write."""
    if len(packed) > MAX_PACKED:
        raise ValueError(f"it is longer than {MAX_PACKED} characters")
    reader = zlib.decompressobj()
    try:
        text = reader.decompress(base64.b64decode(packed, validate=True), _MAX_PLAIN)
    except zlib.error as error:
        raise ValueError(str(error)) from error
    if not reader.eof:
        raise ValueError("it is not whole, or too large")
    try:
        return Environment.model_validate(json.loads(text))
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
