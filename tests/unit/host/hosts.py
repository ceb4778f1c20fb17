"""Host manifests for tests: written as files and read as the product reads them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from containarium.model.manifest import Declaration
from containarium.sources.ownhost import only_host
from tests.builders import public_key

NAME = "jump-1"


def declare(folder: Path, name: str = NAME, **spec: Any) -> Declaration:
    """What the machine is declared to be by one Host manifest, written to ``host.yaml`` in a folder."""
    file = folder / "host.yaml"
    document = {"apiVersion": "containarium.dev/v1", "kind": "Host", "metadata": {"name": name}, "spec": spec}
    file.write_text(yaml.safe_dump(document))
    own = only_host(file, name)
    return Declaration(own, (own,))


def admin(name: str) -> dict[str, Any]:
    """An admin with a key of their own."""
    return {"name": name, "sshKeys": [public_key(name)]}
