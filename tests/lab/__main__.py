"""Command line of the lab: `python -m tests.lab up|down|status|host NAME`."""

from __future__ import annotations

import argparse
import sys
import time

from tests.lab import recipes
from tests.lab.command import LabError
from tests.lab.host import LabHost
from tests.lab.images import ImageStore
from tests.lab.outer import Outer

KINDS = ("host", "bare")


def main() -> int:
    """Parse, call, say what happened."""
    parser = argparse.ArgumentParser(prog="python -m tests.lab", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("up", help="start the outer Incus and build the images; twice is fine")
    down = commands.add_parser("down", help="delete the lab's hosts and stop the outer Incus")
    down.add_argument("--wipe", action="store_true", help="delete its state as well; cached images stay")
    commands.add_parser("status", help="show what runs")
    host = commands.add_parser("host", help="make a host with the working tree on it, which stays until `down`")
    host.add_argument("name")
    host.add_argument("--kind", choices=KINDS, default="host")
    args = parser.parse_args()
    started = time.monotonic()
    outer = Outer()
    try:
        if args.command == "down":
            outer.down(wipe=args.wipe)
        elif args.command == "status":
            return _status(outer)
        else:
            outer.up()
            ImageStore(outer).ensure_all([recipes.host(), recipes.GUEST])
            if args.command == "host":
                _make_host(outer, args.name, args.kind)
    except LabError as error:
        print(f"lab: {error}", file=sys.stderr)
        return 1
    print(f"lab: {args.command} done in {time.monotonic() - started:.1f} s")
    return 0


def _make_host(outer: Outer, name: str, kind: str) -> None:
    host = LabHost(outer, name, recipe=recipes.BARE if kind == "bare" else recipes.host(), keep=True)
    host.create()
    if kind == "host":
        host.install_project()
    print(f"lab: {host.name} at {host.address}; a shell on it:")
    print(f"INCUS_DIR={outer.settings.incus_dir} INCUS_CONF={outer.settings.client_dir} incus exec {host.name} -- bash")


def _status(outer: Outer) -> int:
    if not outer.is_up():
        print("lab: down")
        return 3
    print(f"lab: up, INCUS_DIR={outer.settings.incus_dir}")
    for instance in outer.instances():
        print(f"{instance['name']}: {instance['status']}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
