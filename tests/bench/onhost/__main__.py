"""``python -m onhost WHAT ...``: does one thing on this host, and prints what came of it as JSON."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from typing import Any

from . import clearing, create, fleet, passes, people


def declare(count: str, running: str, image: str) -> None:
    """Put so many manifests there, of which so many are to run."""
    names = people.names(int(count))
    people.declare(names[: int(running)], image)
    people.declare(names[int(running) :], image, running=False)


COMMANDS: dict[str, Callable[..., Any]] = {
    "ours": create.ours,
    "by-hand": lambda name, template, address: create.by_hand(name, json.loads(template), address),
    "template": create.template,
    "placed": lambda template, address: create.placed(json.loads(template), address),
    "address": lambda: create.free_addresses(1)[0],
    "greets": lambda address, patience: people.wait_greeting(address, time.time() + float(patience)),
    "boxes": create.boxes,
    "fleet": lambda count, image, tried=fleet.SAMPLE: fleet.ours(int(count), image, int(tried)),
    "servers": fleet.servers,
    "fleet-by-hand": lambda count, hands, template: fleet.by_hand(int(count), int(hands), json.loads(template)),
    "disk": lambda count: fleet.disk(int(count)),
    "metadata": fleet.metadata,
    "declare": declare,
    "settled": lambda count: people.wait_settled(int(count)),
    "passes": lambda runs: passes.measure(int(runs), people.FOLDER),
    "purge": clearing.purge,
}


if __name__ == "__main__":
    print(json.dumps(COMMANDS[sys.argv[1]](*sys.argv[2:])))
