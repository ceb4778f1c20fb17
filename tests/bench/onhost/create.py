"""One environment, from nothing until its person is in; and the same container by hand until its port answers."""

from __future__ import annotations

import json
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from ipaddress import IPv4Address, IPv4Interface
from typing import Any

from . import clearing, incus, people

UNIT = "containarium.service"
PATIENCE = 900.0
"""Seconds: the first one may have to bake its image."""
LOGIN_PATIENCE = 30.0
_UNWANTED = ("user.", "volatile.", "image.")
_OWN = ("hwaddr", "host_name")
"""Of a NIC, what only one container can have."""


def ours(name: str, image: str) -> dict[str, Any]:
    """Declare somebody; moments in seconds after the manifest was there: ``door`` (account and keys), ``greets``,
    ``begins`` and ``login`` (the first login that works, begun and ended), ``tries``; and the log's lines of it.

    A login is tried as soon as it can work: when the account has its keys and port 22 greets.
    """
    start = people.declare([name], image)
    end = start + PATIENCE
    address, opened = people.wait_door(name, end)
    greets = people.wait_greeting(address, end)
    end, tries, begins = greets + LOGIN_PATIENCE, 1, time.time()
    while said := people.log_in(name, address):
        if time.time() > end:
            raise SystemExit(f"{name} cannot log in: {said}")
        tries, begins = tries + 1, time.time()
    moments = {"door": opened, "greets": greets, "begins": begins, "login": time.time()}
    return {
        **{what: moment - start for what, moment in moments.items()},
        "tries": tries, "address": address, "log": log_of(name, start),
    }  # fmt: skip


def by_hand(name: str, template: dict[str, Any], address: str) -> dict[str, float]:
    """``incus launch`` of the same image with the same limits and devices; seconds until its port 22 greets."""
    with ThreadPoolExecutor(1) as pool:
        start = time.time()
        launched = pool.submit(launch, name, template, address)
        greets = people.wait_greeting(address, start + PATIENCE)
        launched.result()
    return {"greets": greets - start}


def launch(name: str, template: dict[str, Any], address: str) -> None:
    """Make and start a container, and wait for ``incus launch`` to end."""
    body = json.dumps(placed(template, address))
    incus.client("launch", template["fingerprint"], name, "--no-profiles", input=body)


def template(environment: str) -> dict[str, Any]:
    """What somebody's container is made of, without what is its own: ``fingerprint``, ``config``, ``devices``."""
    instance = incus.get(f"/1.0/instances/{environment}-container")
    config = {key: value for key, value in instance["config"].items() if not key.startswith(_UNWANTED)}
    config["boot.autostart"] = "false"
    devices = {
        name: {key: value for key, value in device.items() if key not in _OWN}
        for name, device in instance["devices"].items()
    }
    return {"fingerprint": instance["config"]["volatile.base_image"], "config": config, "devices": devices}


def placed(template: dict[str, Any], address: str) -> dict[str, Any]:
    """The template's config and devices, at this address."""
    # The same hardware address whenever the address is the same: what the host remembers of it stays true.
    own = ":".join(f"{byte:02x}" for byte in IPv4Address(address).packed[1:])
    nic = {**template["devices"]["eth0"], "ipv4.address": address, "hwaddr": f"00:16:3e:{own}"}
    return {"config": {**template["config"], clearing.MARK: "true"}, "devices": {**template["devices"], "eth0": nic}}


def boxes() -> list[dict[str, Any]]:
    """Every container of the bench's as Ansible is told of it: ``name``, ``state``, ``config``, ``devices``."""
    declared = clearing.own_manifests()
    return [
        {
            "name": name,
            "state": "started" if instance["status"] == "Running" else "stopped",
            "config": {key: value for key, value in instance["config"].items() if not key.startswith(_UNWANTED)},
            "devices": instance["devices"],
        }
        for name, instance in sorted(incus.instances().items())
        if name in clearing.own_boxes({name: instance}, declared)
    ]


def free_addresses(count: int, bridge: str = "incusbr0") -> list[str]:
    """So many addresses of the bridge that nobody has, the highest first."""
    network = IPv4Interface(incus.get(f"/1.0/networks/{bridge}")["config"]["ipv4.address"]).network
    taken = {
        device.get("ipv4.address")
        for instance in incus.instances().values()
        for device in instance["expanded_devices"].values()
    }
    found = (str(network[-2 - back]) for back in range(network.num_addresses - 3))
    return [address for address, _ in zip((a for a in found if a not in taken), range(count), strict=False)]


def log_of(name: str, start: float) -> list[dict[str, Any]]:
    """What the controller has said of an environment since then, until it was done with it: event, action, seconds."""
    end = time.monotonic() + 10
    while True:
        command = ["journalctl", "--unit", UNIT, f"--since=@{int(start)}", "--output=cat", "--no-pager"]
        text = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60).stdout
        lines = [json.loads(line) for line in text.splitlines() if line.startswith("{")]
        found = [
            {"event": line["event"], "action": line.get("action", ""), "at": _moment(line) - start}
            for line in lines
            if line.get("environment") == name and line["event"] in ("action", "done") and _moment(line) > start
        ]
        if any(line["event"] == "done" for line in found) or time.monotonic() > end:
            return found
        time.sleep(0.2)


def _moment(line: dict[str, Any]) -> float:
    return datetime.fromisoformat(line["timestamp"]).timestamp()
